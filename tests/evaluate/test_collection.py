"""The BEIR layout in the shapes in which it is found, and what is said when it is broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bgetrain.collection import CollectionError, find_collections, open_collection

CORPUS = [
    {"_id": "d1", "title": "Wings", "text": "lift"},
    {"_id": "d2", "text": "drag"},
    {"_id": 3, "title": None, "text": ""},
]
QUERIES = [{"_id": "q1", "text": "what lifts"}, {"_id": "q2", "text": "what drags"}, {"_id": "q3", "text": "unjudged"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t1\n"


def write(folder: Path, corpus: str | None = None, queries: str | None = None, qrels: str = QRELS) -> Path:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    (folder / "corpus.jsonl").write_text(corpus if corpus is not None else lines(CORPUS))
    (folder / "queries.jsonl").write_text(queries if queries is not None else lines(QUERIES))
    (folder / "qrels" / "test.tsv").write_text(qrels)
    return folder


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_reads_ids_texts_and_judgements(tmp_path: Path) -> None:
    collection = open_collection(write(tmp_path / "wings"))
    assert (collection.name, collection.split, collection.judgements) == ("wings", "test", 3)
    assert collection.document_ids == ["d1", "d2", "3"]
    assert list(collection.documents(2)) == [["Wings lift", "drag"], [""]]
    assert collection.queries == {"q1": "what lifts", "q2": "what drags"}
    assert collection.qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}
    assert collection.unjudged_queries == 1
    assert collection.warnings() == []


@pytest.mark.parametrize(
    "qrels",
    [
        "q1\td1\t2\nq1\td2\t0\nq2\td2\t1\n",
        "q1 0 d1 2\nq1 0 d2 0\n\nq2 0 d2 1",
        "q1\tQ0\td1\t2\r\nq1\tQ0\td2\t0\r\nq2\tQ0\td2\t1\r\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t2.0\nq1\td2\t0\nq1\td2\t0\nq2\td2\t1\n",
    ],
    ids=["no header", "trec", "trec tabs crlf", "floats and a repeated line"],
)
def test_every_form_of_judgements_reads_the_same(tmp_path: Path, qrels: str) -> None:
    assert open_collection(write(tmp_path, qrels=qrels)).qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}


def test_gzip_and_a_byte_order_mark(tmp_path: Path) -> None:
    plain = open_collection(write(tmp_path / "plain"))
    folder = write(tmp_path / "zipped")
    for name in ("corpus.jsonl", "queries.jsonl"):
        data = b"\xef\xbb\xbf" + (folder / name).read_bytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        (folder / name).unlink()
    zipped = open_collection(folder)
    assert zipped.document_ids == plain.document_ids
    assert list(zipped.documents(9)) == list(plain.documents(9))
    assert zipped.queries == plain.queries


def test_missing_ids_are_counted_and_named(tmp_path: Path) -> None:
    collection = open_collection(write(tmp_path, qrels=QRELS + "q9\td1\t1\nq2\td8\t1\nq3\td1\t0\n"))
    assert collection.missing_queries == ["q9"]
    assert collection.missing_documents == ["d8"]
    assert "q9" not in collection.qrels
    # A judged document that cannot be found still counts: trec_eval divides by it.
    assert collection.qrels["q2"] == {"d2": 1, "d8": 1}
    first, second, third = collection.warnings()
    assert first.endswith("1 judged queries are missing and not searched: q9")
    assert second.endswith("1 judged documents are missing and counted as not found: d8")
    assert third.endswith("1 queries have no relevant document and score 0: q3")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"corpus": '{"_id": "d1", "text": "a"}\nnot json\n'}, r"corpus\.jsonl:2: not valid JSON"),
        ({"corpus": '{"text": "a"}\n'}, r"corpus\.jsonl:1: expected an object with _id"),
        ({"corpus": "[1]\n"}, r"corpus\.jsonl:1: expected an object, found list"),
        ({"corpus": '{"_id": "d1", "text": "\\ud800"}\n'}, r"corpus\.jsonl:1: half a surrogate pair"),
        ({"corpus": '{"_id": "d1", "text": "a"}\n' * 2}, r"corpus\.jsonl:2: id 'd1' stands twice"),
        ({"corpus": ""}, r"corpus\.jsonl: no documents"),
        ({"queries": '{"_id": "q1", "text": 5}\n'}, r"queries\.jsonl:1: expected text under 'text', found int"),
        ({"queries": '{"_id": "q1"}\n'}, r"queries\.jsonl:1: expected text under 'text', found nothing"),
        (
            {"queries": '{"_id": "other", "text": "a"}\n'},
            r"test\.tsv: none of its 2 queries is in queries\.jsonl \(q1, q2\)",
        ),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, r"test\.tsv: no judgements"),
        ({"qrels": "q1\td1\n"}, r"test\.tsv:1: expected 3 columns \(query, document, grade\) or 4, found 2"),
        ({"qrels": "q1\td1\t1\nq1\td2\tgood\n"}, r"test\.tsv:2: expected a whole number as grade, found 'good'"),
        ({"qrels": "q1\td1\t0.5\n"}, r"test\.tsv:1: expected a whole number as grade, found '0\.5'"),
        ({"qrels": "q1\td1\t1\nq1\td1\t2\n"}, r"test\.tsv:2: q1 d1 has grade 2 here and 1 before"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(CollectionError, match=message):
        open_collection(write(tmp_path, **files))


def test_a_text_that_is_no_text_is_found_when_it_is_read(tmp_path: Path) -> None:
    collection = open_collection(write(tmp_path, corpus=lines(CORPUS) + '{"_id": "d4", "text": ["a"]}\n'))
    with pytest.raises(CollectionError, match=r"corpus\.jsonl:4: expected text under 'text', found list"):
        list(collection.documents(10))


def test_a_corpus_that_changes_while_it_is_read(tmp_path: Path) -> None:
    collection = open_collection(write(tmp_path))
    (tmp_path / "corpus.jsonl").write_text(lines(CORPUS[:1]))
    with pytest.raises(CollectionError, match="changed while it was read"):
        list(collection.documents(10))


def test_a_cut_gzip_file_and_wrong_encoding(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(lines(CORPUS * 50).encode())[:-12])
    with pytest.raises(CollectionError, match=r"corpus\.jsonl\.gz"):
        open_collection(folder)
    (folder / "corpus.jsonl").write_bytes('{"_id": "d1", "text": "é"}'.encode("latin-1"))
    with pytest.raises(CollectionError, match=r"corpus\.jsonl: not valid UTF-8"):
        open_collection(folder)


def test_what_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="no such folder"):
        find_collections(tmp_path / "nowhere")
    with pytest.raises(CollectionError, match=r"no collection: expected corpus\.jsonl"):
        find_collections(tmp_path)
    folder = write(tmp_path / "one")
    with pytest.raises(CollectionError, match=r"dev\.tsv: no such file, .* \(splits found: test\)") as error:
        open_collection(folder, "dev")
    assert error.value.hint
    (folder / "queries.jsonl").unlink()
    with pytest.raises(CollectionError, match=r"queries\.jsonl: no such file, and no queries\.jsonl\.gz either"):
        open_collection(folder)
    write(tmp_path / "another")
    assert [path.name for path in find_collections(tmp_path)] == ["another", "one"]
    assert find_collections(folder) == [folder]


def write_flag(folder: Path, qrels: str | None = None, *, zipped: bool = False) -> Path:
    """The same collection as FlagEmbedding's custom evaluation has it."""
    folder.mkdir(parents=True, exist_ok=True)
    rename = [{("id" if key == "_id" else key): value for key, value in row.items()} for row in CORPUS]
    queries = [{("id" if key == "_id" else key): value for key, value in row.items()} for row in QUERIES]
    judgements = [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d2", 1)]
    written = [{"qid": query, "docid": document, "relevance": grade} for query, document, grade in judgements]
    files = {
        "corpus.jsonl": lines(rename),
        "test_queries.jsonl": lines(queries),
        "test_qrels.jsonl": lines(written) if qrels is None else qrels,
    }
    for name, text in files.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_the_layout_of_flag_embedding_says_the_same(tmp_path: Path, zipped: bool) -> None:
    ours = open_collection(write(tmp_path / "beir" / "wings"))
    theirs = open_collection(write_flag(tmp_path / "flag" / "wings", zipped=zipped))
    for field in ("name", "split", "document_ids", "queries", "qrels", "missing_documents", "unjudged_queries"):
        assert getattr(theirs, field) == getattr(ours, field), field
    assert list(theirs.documents(9)) == list(ours.documents(9))
    assert [path.name for path in find_collections(tmp_path / "flag")] == ["wings"]
    assert theirs.texts_of(["3", "d1", "absent"]) == {"d1": "Wings lift", "3": ""}


def test_a_split_is_found_in_either_layout(tmp_path: Path) -> None:
    folder = write_flag(write(tmp_path / "both"))
    (folder / "dev_qrels.jsonl").write_text('{"qid": "q9", "docid": "d1", "relevance": "1.0"}\n')
    (folder / "dev_queries.jsonl").write_text('{"id": "q9", "text": "of dev"}\n')
    assert open_collection(folder).queries == {"q1": "what lifts", "q2": "what drags"}
    dev = open_collection(folder, "dev")
    assert (dev.queries, dev.qrels) == ({"q9": "of dev"}, {"q9": {"d1": 1}})
    with pytest.raises(CollectionError, match=r"no train_qrels\.jsonl either \(splits found: dev, test\)"):
        open_collection(folder, "train")


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ('{"qid": "q1", "docid": "d1"}\n', r'test_qrels\.jsonl:1: expected {"qid": .*, found qid, docid'),
        ('{"query-id": "q1"}\n', r"found query-id"),
        ('{"qid": "q1", "docid": "d1", "relevance": true}\n', r"test_qrels\.jsonl:1: expected"),
        ('{"qid": "q1", "docid": "d1", "relevance": NaN}\n', "expected a whole number as grade, found 'nan'"),
        ('{"qid": "q1", "docid": "d1", "relevance": 0.5}\n', "expected a whole number as grade, found '0.5'"),
        ("q1\td1\t1\n", r"test_qrels\.jsonl:1: not valid JSON"),
        ("\n", r"test_qrels\.jsonl: no judgements"),
    ],
)
def test_broken_judgements_of_flag_embedding_are_named(tmp_path: Path, qrels: str, message: str) -> None:
    with pytest.raises(CollectionError, match=message):
        open_collection(write_flag(tmp_path / "wings", qrels))


def test_missing_queries_of_flag_embedding_are_named(tmp_path: Path) -> None:
    folder = write_flag(tmp_path / "wings")
    (folder / "test_queries.jsonl").unlink()
    with pytest.raises(CollectionError, match=r"test_queries\.jsonl: no such file"):
        open_collection(folder)
