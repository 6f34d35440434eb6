"""The filter by scores: score → filter → shard again, joined by content."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bgeprep
from bgeprep.cli import main

Score = Callable[[str, str], float | None]


def score(query: str, pos: str) -> float:
    """A scorer: 0.00, 0.01 … 0.99, by the number at the end of the positive."""
    return int(pos.split()[-1]) % 100 / 100


def write_scores(folder: Path, rows: Iterable[tuple[str, str, float | None]], files: int = 2) -> Path:
    """Score files as the scorer writes them: one row a (query, positive)."""
    folder.mkdir(parents=True)
    rows = list(rows)
    for number in range(files):
        own = rows[number::files]
        table = pa.table(
            {
                "query_hash": pa.array([bgeprep.text_hash(row[0]) for row in own], pa.binary(16)),
                "pos_hash": pa.array([bgeprep.text_hash(row[1]) for row in own], pa.binary(16)),
                "score": pa.array([row[2] for row in own], pa.float32()),
                "origin_file": ["for information"] * len(own),
            }
        )
        pq.write_table(table, folder / f"scores-{number}.parquet")
    return folder


def scored(shards: Path, score: Score = score) -> list[tuple[str, str, float | None]]:
    return [(row["query"], pos, score(row["query"], pos)) for row in bgeprep.open(shards) for pos in row["pos"]]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of one to three positives, white space that cleaning takes away, Chinese, and a teacher's scores."""
    lines = []
    for n in range(600):
        count = n % 3 + 1
        pos = [f"  答案  number\t{n * 7 + item * 31}" for item in range(count)]
        lines.append({"query": f"question \n {n}", "pos": pos, "neg": [f"no {n}"], "pos_scores": [0.9] * count})
    path = tmp_path_factory.mktemp("corpus") / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shards(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set") / "shards"
    bgeprep.shard(pairs, out)
    return out


@pytest.fixture(scope="module")
def scores(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scores(tmp_path_factory.mktemp("scores") / "scores", scored(shards))


def expected(shards: Path, least: float, score: Score = score) -> list[dict[str, Any]]:
    """The rows of the set as the filter has to leave them."""
    rows = []
    for row in bgeprep.open(shards):
        values = [score(row["query"], pos) for pos in row["pos"]]
        stays = [item for item, value in enumerate(values) if value is None or value >= least]
        if stays:
            kept = {
                key: [row[key][item] for item in stays] for key in ("pos", "pos_scores", "pos_keys", "pos_exact_keys")
            }
            rows.append({**row, **kept})
    return rows


@pytest.mark.parametrize("threads", [1, 3])
def test_filtering_a_set_leaves_what_the_slow_way_leaves(
    shards: Path, scores: Path, tmp_path: Path, threads: int
) -> None:
    out = tmp_path / "out"
    arguments = ["--in", str(shards), "--scores", str(scores), "--min-score", "0.43", "--threads", str(threads)]
    assert main(["shard", *arguments, "--out", str(out)]) == 0
    rows = list(bgeprep.open(out))
    assert rows == expected(shards, 0.43)
    # Equal is kept; the filter's scores are not the teacher's.
    assert 43 in {int(pos.split()[-1]) % 100 for row in rows for pos in row["pos"]}
    assert all(value == pytest.approx(0.9) for row in rows for value in row["pos_scores"])

    values = [value for _, _, value in scored(shards)]
    report = bgeprep.open(out).manifest["scores"]
    below = sum(value < 0.43 for value in values if value is not None)
    assert {key: report[key] for key in ("pairs", "missing", "below", "threshold")} == {
        "pairs": len(values), "missing": 0, "below": below, "threshold": 0.43,
    }  # fmt: skip
    assert sum(count for _, count in report["histogram"]) == len(values)
    assert report["histogram"][0][0] == 0.0
    assert all(low == pytest.approx(place / 20) for place, (low, _) in enumerate(report["histogram"]))

    rejects = pl.read_parquet(out / "rejects" / "*.parquet")
    assert set(rejects["reason"]) == {"low_score"}
    gone = rejects.filter(part="row")
    assert gone.height == bgeprep.inspect(out)["dropped"]["low_score"] == len(bgeprep.open(shards)) - len(rows)
    lost = rejects.filter(part="positive")
    assert lost.height == bgeprep.inspect(out)["removed"]["positives"]["low_score"]
    for row in rejects.iter_rows(named=True):
        found = score(row["query"], row["text"])
        assert found < 0.43
        # A row is named after the first of its positives.
        assert row["detail"].endswith(f"score {found:g} is below 0.43")
        assert row["origin_file"] == "pairs.jsonl"
        assert row["query"] == f"question {row['origin_line'] - 1}"


def test_raw_files_and_the_set_made_from_them_join_alike(
    pairs: Path, shards: Path, scores: Path, tmp_path: Path
) -> None:
    config = bgeprep.PrepConfig(scores=bgeprep.ScoresConfig(path=str(scores), min_score=0.5))
    bgeprep.shard(pairs, tmp_path / "raw", config=config)
    bgeprep.shard(shards, tmp_path / "again", config=config)
    assert list(bgeprep.open(tmp_path / "raw")) == list(bgeprep.open(tmp_path / "again")) == expected(shards, 0.5)


def test_one_command_after_the_other_comes_to_the_same(shards: Path, scores: Path, tmp_path: Path) -> None:
    """Scores are keyed by content: a set that was filtered and sharded in another order still joins."""
    seed = bgeprep.ShardConfig(seed=7)
    at = lambda least: bgeprep.PrepConfig(scores=bgeprep.ScoresConfig(path=str(scores), min_score=least), shard=seed)  # noqa: E731
    bgeprep.shard(shards, tmp_path / "low", config=at(0.2))
    bgeprep.shard(tmp_path / "low", tmp_path / "high", config=at(0.7))
    bgeprep.shard(shards, tmp_path / "once", config=at(0.7))
    assert list(bgeprep.open(tmp_path / "high")) == list(bgeprep.open(tmp_path / "once"))


def test_missing_scores_are_an_error_unless_said_otherwise(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unseen: Score = lambda query, pos: None if int(query.split()[-1]) % 10 == 3 else score(query, pos)  # noqa: E731
    missing = sum(unseen(query, pos) is None for query, pos, _ in scored(shards))
    scores = write_scores(tmp_path / "scores", [row for row in scored(shards, unseen) if row[2] is not None])
    # A pair that is in the file without a score has none either, and NaN is none.
    with_null = write_scores(tmp_path / "nulls", [(q, p, float("nan") if v is None and "3 " in p else v)
                                                  for q, p, v in scored(shards, unseen)])  # fmt: skip

    for folder in (scores, with_null):
        flags = ["--in", str(shards), "--scores", str(folder), "--min-score", "0.5"]
        assert main(["shard", *flags, "--out", str(tmp_path / "error")]) == 1
        error = capsys.readouterr().err
        assert f"{missing} of {len(scored(shards))} (query, positive) pairs have no score" in error
        assert "pairs.jsonl:" in error
        assert "--missing-scores keep or drop" in error
        assert not (tmp_path / "error" / "manifest.json").exists()

        out = tmp_path / "out" / folder.name
        assert main(["shard", *flags, "--out", str(out / "keep"), "--missing-scores", "keep"]) == 0
        assert list(bgeprep.open(out / "keep")) == expected(shards, 0.5, unseen)
        assert bgeprep.open(out / "keep").manifest["scores"]["missing"] == missing
        assert main(["shard", *flags, "--out", str(out / "drop"), "--missing-scores", "drop"]) == 0
        rows = expected(shards, 0.5, lambda query, pos: -1.0 if unseen(query, pos) is None else score(query, pos))
        assert list(bgeprep.open(out / "drop")) == rows
        assert bgeprep.inspect(out / "drop")["dropped"]["no_score"] > 0
        capsys.readouterr()


def test_the_error_names_the_first_pairs_without_a_score(pairs: Path, shards: Path, tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", [row for row in scored(shards) if not row[0].endswith("7")])
    config = bgeprep.PrepConfig(scores=bgeprep.ScoresConfig(path=str(scores), min_score=0.5))
    for threads in (1, 4):
        with pytest.raises(bgeprep.CorpusError, match=r"first at pairs\.jsonl:8, pairs\.jsonl:18, pairs\.jsonl:28"):
            bgeprep.shard(pairs, tmp_path / "out", config=config, threads=threads)


def test_scores_of_other_texts_do_not_join(shards: Path, tmp_path: Path) -> None:
    """The hash is of the stored text: neither the raw one nor the compared one, and the two sides do not swap."""
    wrongs: list[Callable[[str, str], tuple[str, str]]] = [
        lambda query, pos: (query, f"  {pos}"),
        lambda query, pos: (query.upper(), pos),
        lambda query, pos: (pos, query),
    ]
    for number, wrong in enumerate(wrongs):
        rows = [(*wrong(query, pos), value) for query, pos, value in scored(shards)]
        scores = write_scores(tmp_path / str(number), rows)
        config = bgeprep.PrepConfig(scores=bgeprep.ScoresConfig(path=str(scores), min_score=0.0))
        total = len(scored(shards))
        with pytest.raises(bgeprep.CorpusError, match=f"{total} of {total}"):
            bgeprep.shard(shards, tmp_path / "out", config=config)


def test_logits_and_labelled_negatives(tmp_path: Path) -> None:
    """Scores may be any number; a row that is only a negative for others has no pair to be judged."""
    lines = [{"query": "why", "pos": ["because"], "label": 1}, {"query": "why", "pos": ["a shoe"], "label": 0},
             {"query": "who", "pos": ["nobody"], "label": 1}]  # fmt: skip
    path = tmp_path / "labelled.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    scores = write_scores(tmp_path / "scores", [("why", "because", -2.0), ("who", "nobody", -11.25)])
    config = bgeprep.PrepConfig(scores=bgeprep.ScoresConfig(path=str(scores), min_score=-3.0))
    bgeprep.shard(path, tmp_path / "out", config=config)
    (row,) = bgeprep.open(tmp_path / "out")
    assert (row["query"], row["pos"], row["neg"]) == ("why", ["because"], ["a shoe"])
    report = bgeprep.open(tmp_path / "out").manifest["scores"]
    assert (report["pairs"], report["histogram"]) == (2, [[-11.25, 1], [-2.0, 1]])


def test_what_cannot_work_is_said_before_anything_is_read(
    shards: Path, scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    cases = [
        (["--min-score", "0.5"], 2, "scores.min_score: given without scores"),
        (["--scores", str(scores)], 2, "scores.min_score: missing"),
        (
            ["--scores", str(tmp_path / "empty"), "--min-score", "0.5"],
            2,
            "expected Parquet files of scores, found none",
        ),
        (["--scores", str(scores), "--min-score", "much"], 2, "--scores.min_score: expected float, found 'much'"),
        (["--scores", str(scores), "--min-score", "0.5", "--missing-scores", "guess"], 2, "scores.missing"),
    ]
    pq.write_table(pa.table({"query_hash": ["a"], "pos_hash": ["b"], "score": [1.0]}), tmp_path / "text.parquet")
    cases.append((["--scores", str(tmp_path / "text.parquet"), "--min-score", "0"], 1, "expected FixedSizeBinary(16)"))
    (tmp_path / "cut.parquet").write_bytes((scores / "scores-0.parquet").read_bytes()[:-100])
    cases.append((["--scores", str(tmp_path / "cut.parquet"), "--min-score", "0"], 1, "not a readable Parquet file"))
    for flags, code, message in cases:
        assert main(["shard", "--in", str(shards), "--out", str(tmp_path / "out"), *flags]) == code, flags
        assert message in capsys.readouterr().err


def test_other_scores_are_another_input(shards: Path, scores: Path, tmp_path: Path) -> None:
    config = bgeprep.PrepConfig(scores=bgeprep.ScoresConfig(path=str(scores), min_score=0.5))
    assert not bgeprep.shard(shards, tmp_path / "out", config=config).up_to_date
    assert bgeprep.shard(shards, tmp_path / "out", config=config).up_to_date
    other = write_scores(tmp_path / "other", [(q, p, 1.0) for q, p, _ in scored(shards)])
    config = bgeprep.PrepConfig(scores=bgeprep.ScoresConfig(path=str(other), min_score=0.5))
    with pytest.raises(bgeprep.ShardError, match="already holds a shard set"):
        bgeprep.shard(shards, tmp_path / "out", config=config)
    assert str(scores) not in (tmp_path / "out" / "manifest.json").read_text()


def test_the_hash_is_the_canonical_one() -> None:
    """xxHash's own test value of the empty text, and a length of 16 bytes for others."""
    assert bgeprep.text_hash("").hex() == "99aa06d3014798d86001c324468d497f"
    assert len(bgeprep.text_hash("天空")) == 16
    assert bgeprep.text_hash("a") != bgeprep.text_hash("A")
