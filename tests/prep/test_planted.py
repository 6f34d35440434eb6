"""What near duplicates are judged by: the slow reference, the planted corpus of the benches, the measures on it."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

import bgeprep
from benches.peers import planted, truth
from benches.peers.corpus import TEXTS
from benches.peers.jobs import passages
from tests.reference.near import jaccard, near_pairs, passage_shingles, query_shingles, tokens

ROWS = {"short": 3000, "long": 800}


@pytest.fixture(scope="module", params=list(ROWS))
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    """A corpus of each shape, and its truth."""
    folder = tmp_path_factory.mktemp(request.param)
    written = planted.write_planted(
        folder / "rows.jsonl", folder / "truth.parquet", ROWS[request.param], request.param, 7, TEXTS
    )
    found = pl.read_parquet(folder / "truth.parquet")
    assert written.exact == (found["kind"] == "exact").sum()
    assert written.near == found.height - written.exact
    assert written.bytes == (folder / "rows.jsonl").stat().st_size
    return folder / "rows.jsonl", found


def texts_of(path: Path) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert all(list(row) == ["query", "pos"] and len(row["pos"]) == 1 for row in rows)
    return [(row["query"], row["pos"][0]) for row in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't  PANIC, it's 42.5!", ["don", "t", "panic", "it", "s", "42", "5"]),
        ("snake_case x2y", ["snake", "case", "x2y"]),
        ("天空の色、TCP/IP協定", ["天", "空", "の", "色", "tcp", "ip", "協", "定"]),
        ("カー々〇𠀀", ["カ", "ー", "々", "〇", "𠀀"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("Straße ＡＢＣ ①", ["strasse", "abc", "1"]),
        ("नमस्ते", ["नमस्ते"]),
        ("x\u0301y 天\u0301", ["x\u0301y", "天\u0301"]),
        ("\u0301 !? …", []),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_shingles_and_similarity() -> None:
    assert passage_shingles("a b c d e f") == {("a", "b", "c", "d", "e"), ("b", "c", "d", "e", "f")}
    assert passage_shingles("A, b!") == {("a", "b")}
    assert query_shingles("why why not") == {("why",), ("not",), ("why", "why"), ("why", "not")}
    assert jaccard(passage_shingles("a b c d e f"), passage_shingles("a b c d e g")) == 1 / 3
    assert jaccard(passage_shingles("?!"), passage_shingles("?!")) == 0.0
    texts = ["a b c d e f", "x", "A b c d e f.", "a b c d e f g h i"]
    assert near_pairs(texts, "passage", 0.4) == [(0, 2, 1.0), (0, 3, 0.4), (2, 3, 0.4)]
    assert near_pairs(["what is rust", "what is rust?", "what was rust"], "query", 0.8) == [(0, 1, 1.0)]


def test_recorded_similarities_are_those_of_the_reference(corpus: tuple[Path, pl.DataFrame]) -> None:
    path, found = corpus
    texts = texts_of(path)
    for row in found.iter_rows(named=True):
        original, copy = texts[row["line_a"] - 1], texts[row["line_b"] - 1]
        assert row["line_a"] < row["line_b"]
        assert row["j_query"] == jaccard(query_shingles(original[0]), query_shingles(copy[0])), original
        assert row["j_passage"] == jaccard(passage_shingles(original[1]), passage_shingles(copy[1])), original
        assert (original == copy) == (row["kind"] == "exact")
        assert any("\u4e00" <= one <= "\u9fff" for one in original[1]) == (row["language"] == "zh")


def test_kinds_languages_and_the_spread_of_similarities(corpus: tuple[Path, pl.DataFrame]) -> None:
    path, found = corpus
    rows = len(texts_of(path))
    kinds = Counter(found["kind"])
    assert 0.08 * rows < kinds["exact"] < 0.12 * rows
    assert 0.08 * rows < kinds["both"] + kinds["passage"] + kinds["query"] < 0.12 * rows
    assert kinds["both"] > max(kinds["passage"], kinds["query"]) > 0.01 * rows
    assert 0.08 < (found["language"] == "zh").mean() < 0.22
    for side, other in (("query", "passage"), ("passage", "query")):
        near = found.filter(pl.col("kind").is_in(["both", side]))[f"j_{side}"]
        assert near.min() >= 0.5
        assert near.max() < 1
        assert min(Counter(int(one * 10) for one in near)[tenth] for tenth in range(5, 10)) > 0
        assert found.filter(pl.col("kind") == other)[f"j_{side}"].max() < 0.5


def test_the_seed_decides_every_byte_and_fewer_rows_are_the_first(tmp_path: Path) -> None:
    def write(name: str, rows: int, seed: int) -> tuple[bytes, pl.DataFrame]:
        path, beside = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.parquet"
        planted.write_planted(path, beside, rows, "short", seed, TEXTS)
        return path.read_bytes(), pl.read_parquet(beside)

    all_rows, all_found = write("all", 9000, 3)
    again, found_again = write("again", 9000, 3)
    assert all_rows == again
    assert all_found.equals(found_again)
    first, first_found = write("first", 500, 3)
    assert all_rows.startswith(first)
    assert all_found.filter(pl.col("line_b") <= 500).equals(first_found)
    assert not all_rows.startswith(write("other", 500, 4)[0])


def test_the_quick_shingles_of_the_benches_are_those_of_the_reference() -> None:
    texts = ["", "a", "One, two; THREE four five six", "气象站 No. 7 的观测数据", "x_y-z ²", "カナ text ひら 々"]
    for text in texts:
        if tokens(text):
            assert planted.shingles(text, is_query=True) == query_shingles(text)
            assert planted.shingles(text, is_query=False) == passage_shingles(text)
        assert set(passages.shingles(text)) == {" ".join(one) for one in passage_shingles(text) or {()}}


def test_measures_of_a_perfect_a_blind_and_a_careless_tool(corpus: tuple[Path, pl.DataFrame]) -> None:
    path, found = corpus
    lines = range(1, len(texts_of(path)) + 1)
    perfect, careless = {line: line for line in lines}, {line: line // 2 for line in lines}
    for row in found.sort("line_b").iter_rows(named=True):
        if row["j_passage"] >= 0.8:
            perfect[row["line_b"]] = perfect[row["line_a"]]

    def measure(clusters: dict[int, int]) -> dict[str, list[int]]:
        judged = truth.judge(path, found, truth.Found({"passage": clusters}), 0.8, 1000)
        return {key: [one[key] for one in judged["measures"]] for key in ("planted", "found", "checked", "right")}

    expected = found.filter(pl.col("kind") != "exact", pl.col("j_passage") >= 0.8)
    best = measure(perfect)
    assert sum(best["planted"]) == expected.height
    assert best["found"] == best["planted"]
    assert best["right"] == best["checked"]
    assert min(best["checked"]) > 0
    assert measure({line: line for line in lines})["found"] == [0, 0]
    wrong = measure(careless)
    assert sum(wrong["right"]) < 0.05 * sum(wrong["checked"])
    shuffled = list(lines)
    random.Random(1).shuffle(shuffled)
    without = {line: perfect[line] for line in shuffled[: len(shuffled) // 2]}
    judged = truth.recall(truth.Found({"passage": without}), found, 0.8)
    assert sum(one.planted + one.left_out for one in judged) == expected.height
    assert all(one.left_out > 0 for one in judged)


def test_measures_of_a_shard_set(corpus: tuple[Path, pl.DataFrame], tmp_path: Path) -> None:
    path, found = corpus
    config = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"))
    bgeprep.shard(path, tmp_path / "set", config=config)
    seen = truth.read_set(tmp_path / "set")
    exact = found.filter(pl.col("kind") == "exact")
    for row in exact.iter_rows(named=True):
        for clusters in seen.clusters.values():
            assert clusters[row["line_a"]] == clusters[row["line_b"]]
    judged = truth.judge(path, found, seen, 0.8, 1000)
    assert judged["drops"]["all"] == 0
    assert sum(one["found"] for one in judged["measures"]) == 0


def test_dropped_rows_stand_where_the_row_stands_that_was_kept_for_them(tmp_path: Path) -> None:
    rows = [json.dumps({"query": f"what is {one}", "pos": [f"this is about {one}"]}) for one in "aabbcd"]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "set/rows").mkdir(parents=True)
    (tmp_path / "set/rejects").mkdir()
    kept = {"origin_line": [1, 3, 6], "query_key": [10, 30, 60], "pos_keys": [[11], [31], [61]]}
    pl.DataFrame(kept).write_ipc(tmp_path / "set/rows/part-00000.arrow")
    rejects = pl.DataFrame(
        [
            (2, "row", "near_duplicate", 1),
            (4, "row", "duplicate", 5),
            (5, "row", "near_duplicate", 3),
            (1, "negative", "duplicate", 3),
        ],
        schema=["origin_line", "part", "reason", "twin_line"],
        orient="row",
    )
    rejects.write_parquet(tmp_path / "set/rejects/rows.parquet")
    (tmp_path / "set/manifest.json").write_text(json.dumps({"near": {"spaces": []}}), encoding="utf-8")

    found = truth.read_set(tmp_path / "set")
    assert found.clusters["query"] == {1: 10, 2: 10, 3: 30, 4: 30, 5: 30, 6: 60}
    assert found.clusters["passage"] == {1: 11, 2: 11, 3: 31, 4: 31, 5: 31, 6: 61}
    assert found.dropped == {2: 1, 5: 3}
    planted_pairs = pl.DataFrame(
        [(1, 2, "both", "en", 0.9, 0.9), (3, 6, "both", "en", 0.9, 0.9), (4, 5, "query", "en", 0.8, 0.1)],
        schema=["line_a", "line_b", "kind", "language", "j_query", "j_passage"],
        orient="row",
    )
    judged = truth.judge(tmp_path / "rows.jsonl", planted_pairs, found, 0.8, 10)
    # Lines 1 and 2 are equal, line 5 is not near line 3.
    assert judged["drops"] == {"all": 2, "checked": 2, "right": 1, "planted": 2, "found": 1}
    english = {one["side"]: (one["planted"], one["found"]) for one in judged["measures"] if one["language"] == "en"}
    assert english == {"query": (3, 2), "passage": (2, 1)}
    assert judged["own"] == {"spaces": []}


def test_a_text_without_near_copies_is_given_up() -> None:
    english = planted.read_languages(TEXTS)[0]
    assert planted._change(random.Random(1), english, "( \u2014 xyzzy \u2014 )", is_query=True) is None
    assert planted._change(random.Random(1), english, "one of a few", is_query=True) is not None
