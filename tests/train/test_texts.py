"""Sources of texts: each text once, in one order, whatever is asked for; and files that are none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import bgeprep
from bgetrain.texts import TextList, TextsError, open_texts, roles_of

PAIRS = Path(__file__).parents[2] / "examples" / "demo" / "data" / "pairs" / "topics.jsonl"
RANGES = [range(0, 3), range(3, 4), range(7, 7), range(10, 15)]


def _in_ranges(rows: list[Any]) -> list[Any]:
    return [row for places in RANGES for row in rows[places.start : places.stop]]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real rows; queries and passages stand in several, and some rows have no negative."""
    folder = tmp_path_factory.mktemp("set")
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()[:60]]
    rows = [{"query": question, "pos": [answer]} for question, answer in rows]
    for place in range(0, 40, 3):
        rows[place]["neg"] = [rows[(place + 20) % 60]["pos"][0], rows[(place * 7) % 60]["pos"][0].upper()]
    rows += [{"query": rows[place]["query"], "pos": rows[place + 1]["pos"]} for place in range(5)]
    (folder / "pairs").mkdir()
    (folder / "pairs" / "topics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    bgeprep.shard(folder / "pairs", folder / "shards", threads=1)
    return folder / "shards"


@pytest.mark.parametrize("role", ["queries", "passages"])
def test_a_shard_set_gives_each_text_once_where_it_stands_first(shards: Path, role: Any) -> None:
    expected: dict[int, str] = {}
    occurrences = 0
    for row in bgeprep.open(shards):
        found = [(row["query_exact_key"], row["query"])]
        if role == "passages":
            found = [*zip(row["pos_exact_keys"], row["pos"]), *zip(row["neg_exact_keys"], row["neg"])]  # noqa: B905
        occurrences += len(found)
        for key, text in found:
            expected.setdefault(key, text)
    texts = open_texts(shards, role)
    assert occurrences > len(expected) > 50, "the control: some texts stand in several rows"
    assert list(texts) == list(expected.items())
    assert len(texts) == len(expected)
    assert list(texts.read(RANGES)) == _in_ranges(list(expected.items()))
    assert texts.fingerprint == open_texts(str(shards), role).fingerprint
    assert texts.fingerprint != open_texts(shards, "queries" if role == "passages" else "passages").fingerprint


def test_a_set_of_texts_gives_title_and_text(tmp_path: Path) -> None:
    rows = [{"title": f"Title {place}", "text": f"The text of number {place}."} for place in range(4)] + [
        {"text": "One without a title."}
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bgeprep.shard(tmp_path / "in", tmp_path / "shards", threads=1)
    assert roles_of(tmp_path / "shards") == ["passages"]
    found = sorted(text for _, text in open_texts(tmp_path / "shards", "passages"))
    assert found == ["One without a title.", *(f"Title {n} The text of number {n}." for n in range(4))]
    with pytest.raises(TextsError, match="has no queries"):
        open_texts(tmp_path / "shards", "queries")


ROWS = [("a", "肝细胞癌 is\ta tumour"), ("b", "one"), ("c", "naïve"), ("d", "")] + [
    (f"x{place}", f"text {place}") for place in range(14)
]


def _write(folder: Path, form: str) -> Path:
    path = folder / f"texts.{form}"
    objects = "".join(json.dumps({"_id": key, "text": text}) + "\n\n" for key, text in ROWS)
    if form == "jsonl":
        path.write_text("\ufeff" + objects, encoding="utf-8")
    elif form == "jsonl.gz":
        path.write_bytes(gzip.compress(objects.encode()))
    elif form == "parquet":
        pl.DataFrame({"id": [key for key, _ in ROWS], "text": [text for _, text in ROWS]}).write_parquet(path)
    elif form == "beir":
        path.mkdir()
        (path / "corpus.jsonl").write_text(objects, encoding="utf-8")
        return path
    return path


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet", "beir"])
def test_a_file_gives_its_ids_and_texts_in_order(tmp_path: Path, form: str) -> None:
    texts = open_texts(_write(tmp_path, form), "passages")
    assert list(texts) == ROWS
    assert list(texts) == ROWS, "a source can be read again"
    assert len(texts) == len(ROWS)
    assert list(texts.read(RANGES)) == _in_ranges(ROWS)
    (tmp_path / "other").mkdir()
    assert open_texts(_write(tmp_path / "other", form), "passages").fingerprint == texts.fingerprint


def test_titles_stand_before_texts_and_rows_without_ids_are_called_by_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"title": "T", "text": "x"}\n\n"only"\n{"title": null, "text": " kept "}\n')
    assert list(open_texts(path, "passages")) == [(1, "T x"), (3, "only"), (4, "kept")]
    path = tmp_path / "texts.txt"
    path.write_text("first\r\n \nthird\n")
    assert list(open_texts(path, "passages")) == [(1, "first"), (3, "third")]
    path = tmp_path / "texts.parquet"
    pl.DataFrame({"passage": ["x", "y"], "title": ["T", None]}).write_parquet(path)
    assert list(open_texts(path, "passages")) == [(1, "T x"), (2, "y")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": 5}\n', r"a\.jsonl:2: expected"),
        ("a.jsonl", b'{"text": "x"}\nnot json\n', r"a\.jsonl:2: not valid JSON"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1: expected"),
        ("a.jsonl", b'{"_id": 1, "text": "x"}\n{"text": "y"}\n', r"a\.jsonl:2: found no id"),
        ("a.jsonl", b'{"text": "x"}\n{"_id": 1, "text": "y"}\n', r"a\.jsonl:2: found an id"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', r"a\.jsonl:1: half a surrogate"),
        ("a.jsonl", b"\n  \n", "no texts"),
        ("a.txt", b"", "no texts"),
        ("a.txt", b"caf\xe9\n", "not valid UTF-8"),
        ("a.txt.gz", gzip.compress(b"one\n" * 999)[:-9], "broken gzip"),
        ("a.parquet", b"PAR1 and no more", "not readable as Parquet"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TextsError, match=message):
        list(open_texts(path, "passages"))


def test_other_columns_of_parquet_are_named(tmp_path: Path) -> None:
    pl.DataFrame({"a": ["x"], "b": ["y"]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(TextsError, match=r"expected a column `text`, found a \(String\), b \(String\)"):
        open_texts(tmp_path / "a.parquet", "passages")
    pl.DataFrame({"text": ["x", None]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(TextsError, match="row 2 has no text"):
        list(open_texts(tmp_path / "b.parquet", "passages"))


def test_no_source_at_all(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "nothing", "no such file or folder"), (tmp_path, "neither a shard set nor")):
        with pytest.raises(TextsError, match=message):
            roles_of(path)
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "x"}\n')
    assert roles_of(tmp_path) == ["passages"]
    with pytest.raises(TextsError, match="has no queries"):
        open_texts(tmp_path, "queries")


def test_a_file_that_grew_shorter_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    texts = open_texts(path, "passages")
    path.write_text("one\n")
    with pytest.raises(TextsError, match="changed while it was read"):
        list(texts)


def test_texts_in_memory() -> None:
    texts = TextList(["x", "y", "z"])
    assert list(texts) == [(0, "x"), (1, "y"), (2, "z")]
    assert list(texts.read([range(1, 3)])) == [(1, "y"), (2, "z")]
    others = [TextList(["x", "y"]), TextList(["x", "yz"]), TextList(["x", "y", "z"], ["a", "b", "c"])]
    assert len({one.fingerprint for one in [texts, *others]}) == 4
    with pytest.raises(ValueError, match="1 keys for 2 texts"):
        TextList(["x", "y"], ["a"])
