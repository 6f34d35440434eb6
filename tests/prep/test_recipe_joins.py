"""Joins of id files with texts on disk: equal to a slow join of dictionaries, whatever the order of the lines."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bgeprep import ConfigError, CorpusError, recipes
from bgeprep.recipes import join
from bgeprep.recipes.collection import Collection
from bgeprep.recipes.join import Chosen, id_rows, known_pairs
from bgeprep.recipes.raw import RawFile
from bgeprep.recipes.stream import Tally
from tests.reference import join as slow

QUERIES, PASSAGES = 60, 400


def _records(stream: recipes.Stream) -> list[tuple[str, list[str], list[str]]]:
    return [row[:3] for frame in stream for row in frame.iter_rows()]


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="module")
def world() -> dict[str, object]:
    """Ids that do not count through, texts with quotes and tabs, judgements, and negatives found twice."""
    draw = random.Random(3)
    passages = {str(7 * number + 3): f'passage {number} "quoted\t文本 {number}' for number in range(PASSAGES)}
    queries = {str(50_000 - number): f"问题 {number}" for number in range(QUERIES)}
    grades = [(query, draw.choice([*passages]), draw.randrange(4)) for query in queries for _ in range(8)]
    found = [(query, one) for query in queries for one in draw.sample([*passages], 90)]
    found += draw.sample(found, 500)
    return {"passages": passages, "queries": queries, "grades": grades, "found": found}


def _t2ranking(folder: Path, world: dict, order: int, header: bool) -> Path:
    found, grades = [*world["found"]], [*world["grades"]]
    random.Random(order).shuffle(found)
    data = folder / "data"
    _write(
        data / "collection.tsv", ["pid\tpassage"][: int(header)] + [f"{k}\t{v}" for k, v in world["passages"].items()]
    )
    _write(
        data / "queries.train.tsv", ["qid\tquery"][: int(header)] + [f"{k}\t{v}" for k, v in world["queries"].items()]
    )
    relevant = [f"{query}\t{passage}" for query, passage, grade in grades if grade >= 2]
    _write(data / "qrels.retrieval.train.tsv", ["qid\tpid"][: int(header)] + relevant)
    judged = [f"{query}\t0\t{passage}\t{grade}" for query, passage, grade in grades]
    _write(data / "qrels.train.tsv", ["qid\t-\tpid\trel"][: int(header)] + judged)
    rank = {pair: number % 90 for number, pair in enumerate(dict.fromkeys(world["found"]))}
    _write(data / "train.mined.tsv", [f"{query}\t{pid}\t{rank[query, pid]}\t0.5" for query, pid in found])
    return folder


def _expected(world: dict, limit: int, seed: int) -> list[tuple[str, list[str], list[str]]]:
    positives = [(query, passage) for query, passage, grade in world["grades"] if grade >= 2]
    a_little = [(query, passage) for query, passage, grade in world["grades"] if grade == 1]
    return slow.joined(world["queries"], world["passages"], positives, world["found"], limit, seed, a_little)


@pytest.mark.parametrize(("order", "header", "at_least", "block"), [(1, False, 1 << 20, 1 << 24), (2, True, 64, 999)])
def test_t2ranking_equals_a_join_of_dictionaries(
    tmp_path: Path, world: dict, monkeypatch: pytest.MonkeyPatch, order: int, header: bool, at_least: int, block: int
) -> None:
    """In blocks of 999 bytes and sorted every 64 pairs as in one go."""
    monkeypatch.setattr(join, "_AT_LEAST", at_least)
    monkeypatch.setattr(join, "_BLOCK", block)
    raw = _t2ranking(tmp_path, world, order, header)
    for limit, seed in ((5, 1), (5, 2), (1000, 1)):
        stream = recipes.read("t2ranking", raw, options={"num_negatives": str(limit), "seed": str(seed)})["t2ranking"]
        assert _records(stream) == _expected(world, limit, seed)
        assert _records(stream) == _records(stream), "each pass the same"
    assert _expected(world, 5, 1) != _expected(world, 5, 2), "the seed chooses"
    assert stream.tally.passed_over.keys() <= {"no_positive"}
    frame = pl.concat(list(stream))
    assert frame["origin_file"].unique().to_list() == ["data/queries.train.tsv"]
    lines = (raw / "data/queries.train.tsv").read_text(encoding="utf-8").splitlines()
    assert [lines[line - 1].split("\t")[1] for line in frame["origin_line"]] == frame["query"].to_list()


def test_ranks_and_files_of_negatives_are_chosen(tmp_path: Path, world: dict) -> None:
    raw = _t2ranking(tmp_path, world, 1, False)
    rank = {pair: number % 90 for number, pair in enumerate(dict.fromkeys(world["found"]))}
    within = {"found": [pair for pair in world["found"] if 10 <= rank[pair] <= 19]}
    stream = recipes.read("t2ranking", raw, options={"ranks": "10-19", "num_negatives": "100"})["t2ranking"]
    assert _records(stream) == _expected(world | within, 100, 1)
    none = recipes.read("t2ranking", raw, options={"negatives": "none"})["t2ranking"]
    assert {len(negatives) for _, _, negatives in _records(none)} == {0}
    for options, said in [
        ({"ranks": "x"}, "10-210"),
        ({"negatives": "all"}, "mined"),
        ({"seed": "-1"}, "whole number"),
    ]:
        with pytest.raises(ConfigError, match=said):
            recipes.read("t2ranking", raw, options=options)
    with pytest.raises(CorpusError, match=r"train\.bm25\.tsv"):
        recipes.read("t2ranking", raw, options={"negatives": "bm25"})


@pytest.mark.parametrize("order", [1, 2])
def test_mmarco_equals_a_join_of_dictionaries(tmp_path: Path, world: dict, order: int) -> None:
    """Triples in any order; an id without a text is counted, and a passage that is a positive elsewhere is none."""
    positives = [(query, passage) for query, passage, grade in world["grades"] if grade == 3]
    triples = [(query, passage, other) for query, passage in positives for q, other in world["found"] if q == query]
    triples += [(*positives[0], positives[0][1]), ("9", "3", "3"), (*positives[1], "1")]
    random.Random(order).shuffle(triples)
    google = tmp_path / "data/google"
    _write(google / "collections/chinese_collection.tsv", [f"{k}\t{v}" for k, v in world["passages"].items()])
    _write(google / "queries/train/chinese_queries.train.tsv", [f"{k}\t{v}" for k, v in world["queries"].items()])
    _write(tmp_path / "data/triples.train.ids.small.tsv", ["\t".join(triple) for triple in triples])
    stream = recipes.read("mmarco", tmp_path, options={"num_negatives": "6"})["mmarco"]
    expected = slow.joined(world["queries"], world["passages"], positives, [(q, n) for q, _, n in triples], 6, 1)
    assert _records(stream) == expected
    assert stream.tally.passed_over == {"no_positive": QUERIES - len(expected), "unknown_query": 1}
    assert stream.purpose.instruction == "为这个句子生成表示以用于检索相关文章："
    assert recipes.read("mmarco", tmp_path, options={"negatives": "none"})["mmarco"].tally.records == 0


def test_the_choice_is_the_same_for_any_order_and_repetition() -> None:
    draw = np.random.default_rng(5)
    pairs = (draw.integers(0, 50, 20_000).astype(np.uint64) << np.uint64(32)) | draw.integers(0, 900, 20_000).astype(
        np.uint64
    )
    kept = []
    for size in (20_000, 700, 1):
        one = Chosen(50, limit=9, seed=4)
        shuffled = draw.permutation(pairs)
        for start in range(0, len(pairs) if size > 1 else 2000, size):
            one.add(shuffled[start : start + size])
        if size == 1:
            one.add(pairs)
        kept.append(one.pairs().tolist())
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == 50 * 9
    distinct = {(int(pair) >> 32, int(pair) & 0xFFFFFFFF) for pair in pairs}
    by_query = {query: {passage for one, passage in distinct if one == query} for query in range(50)}
    expected = [(query << 32) | p for query in range(50) for p in slow.chosen(query, by_query[query], 9, 4)]
    assert kept[0] == expected


def _file(path: Path, content: bytes, encoding: str = "utf-8") -> RawFile:
    path.write_bytes(content)
    return RawFile(path, path.name, encoding=encoding)


def test_a_collection_takes_what_real_files_hold(tmp_path: Path) -> None:
    content = '\ufeffpid\tpassage\r\n7\ta "quote\tand a tab\r\n\r\n9\t乙\nbroken line\n'.encode()
    content += "10\t\n7\tagain\n\t无号\n8\tlast".encode()
    tally = Tally()
    found = Collection(_file(tmp_path / "collection.tsv", content), tally)
    assert list(found.texts(range(len(found)))) == ['a "quote\tand a tab', "乙", "again", "last"]
    assert found.places(np.array([9, 7, 8, 6, -5, 1 << 40])).tolist() == [1, 0, 3, -1, -1, -1]
    assert found.lines.tolist() == [2, 4, 7, 9]
    assert tally.passed_over == {"half_row": 3, "repeated_id": 1}
    named = Collection(_file(tmp_path / "named.tsv", b"d07\tseven\nd1\tone\n7\tnumber\n07\tother\n"), Tally())
    ids = np.array([b"07", b"d1", b"7", b"a-long-id-that-is-not-there"])
    assert named.places(ids).tolist() == [3, 1, 2, -1]
    assert named.places(np.array([7, 8])).tolist() == [2, -1], "numbers among other ids"
    assert found.places(np.array([b"9", b"07", b"d1", b"7"])).tolist() == [1, -1, -1, 0], "other ids among numbers"


def test_what_is_no_collection_says_so(tmp_path: Path) -> None:
    chinese = "".join(f"{number}\t这是第{number}段文字\n" for number in range(9))
    for content, said in [
        (b"", "found none"),
        (b"no tab at all\n", "found none"),
        (gzip.compress(chinese.encode()), "unpack it"),
        (chinese.encode("gb18030"), "encoding=gb18030"),
    ]:
        with pytest.raises(CorpusError, match=said):
            Collection(_file(tmp_path / "x.tsv", content), Tally())
    found = Collection(_file(tmp_path / "gbk.tsv", chinese.encode("gb18030"), "gb18030"), Tally())
    assert list(found.texts([8])) == ["这是第8段文字"]
    mixed = chinese.encode() + "9\t这是\n".encode("gb18030")
    tally = Tally()
    assert len(Collection(_file(tmp_path / "mixed.tsv", mixed), tally)) == 9
    assert tally.passed_over == {"wrong_encoding": 1}
    path = _file(tmp_path / "short.tsv", chinese.encode())
    found = Collection(path, Tally())
    path.path.write_bytes(chinese.encode()[:40])
    with pytest.raises(CorpusError, match="changed while it was read"):
        list(found.texts([8]))


def test_padded_ids_are_texts_to_a_collection_that_has_such(tmp_path: Path) -> None:
    queries = Collection(_file(tmp_path / "queries.tsv", b"1\tone\n2\ttwo\n"), Tally())
    passages = Collection(_file(tmp_path / "passages.tsv", b"001\tfirst\n002\tsecond\n10\ttenth\n"), Tally())
    assert (queries.numbered, passages.numbered) == (True, False)
    file, tally = _file(tmp_path / "qrels.tsv", b"1\t10\n2\t002\n1\t2\n"), Tally()
    (rows,) = id_rows(file, ("qid", "pid"), tally, numbers=False)
    pairs = known_pairs(rows, ("qid", queries), ("pid", passages), file, tally)
    assert [(int(pair) >> 32, int(pair) & 0xFFFFFFFF) for pair in pairs] == [(0, 2), (1, 1)]
    assert tally.passed_over == {"unknown_passage": 1}
    for name, lines in {
        "collection.tsv": ["001\tfirst", "002\tsecond"],
        "queries.train.tsv": ["1\tone", "2\ttwo"],
        "qrels.retrieval.train.tsv": ["qid\tpid", "1\t001", "2\t002"],
        "train.mined.tsv": ["1\t002\t40\t0.5"],
    }.items():
        _write(tmp_path / "t2" / name, lines)
    stream = recipes.read("t2ranking", tmp_path / "t2")["t2ranking"]
    assert _records(stream) == [("one", ["first"], ["second"]), ("two", ["second"], [])]


def test_id_files_lose_half_rows_and_keep_lines(tmp_path: Path) -> None:
    tally = Tally()
    content = b"qid\tpid\tindex\r\n1\t2\t3\t0.7\r\n4\t5\r\nx\t5\t6\n7\t8\t9"
    (frame,) = id_rows(_file(tmp_path / "ids.tsv", content), ("qid", "pid", "rank"), tally)
    assert frame.rows() == [(1, 2, 3, 2), (7, 8, 9, 5)]
    assert tally.passed_over == {"half_row": 2}
    (frame,) = id_rows(_file(tmp_path / "trec.txt", b"q1 Q0 d-7 1\nq2 Q0 d-8 0\n"), ("qid", "_", "pid", "grade"), tally)
    assert frame.select("qid", "pid", "grade").rows() == [("q1", "d-7", 1), ("q2", "d-8", 0)]
    (frame,) = id_rows(_file(tmp_path / "ids.tsv.gz", gzip.compress(content)), ("qid", "pid"), Tally())
    assert frame.height == 3
    with pytest.raises(CorpusError, match="expected 4 fields"):
        list(id_rows(_file(tmp_path / "few.tsv", b"1\t2\t3\n"), ("qid", "_", "pid", "grade"), tally))
    assert not list(id_rows(_file(tmp_path / "empty.tsv", b""), ("qid", "pid"), tally))
