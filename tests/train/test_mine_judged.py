"""Documents that a pool's judgements name are no negatives, whatever their text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bgeprep
from tests.train.mine_material import mine, pairs, written
from tests.train.tiny import write_tiny_bert

# all of the pool that may be taken
LOOSE = ("--max_relative", "off", "--near", "off", "--negative_number", 100)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A set whose rows have ids, and its rows."""
    rows = [{**row, "id": f"r{number}"} for number, row in enumerate(pairs())]
    folder = tmp_path_factory.mktemp("judged")
    bgeprep.shard(written(folder / "pairs.jsonl", rows), folder / "shards")
    return folder / "shards", list(bgeprep.open(folder / "shards"))


def pool_of(folder: Path, rows: list[dict[str, Any]], qrels: list[tuple[str, str, int]], names: dict[str, str]) -> Path:
    """A collection of documents that hold the words of a query, none of them with the key of a positive."""
    folder.mkdir()
    documents = [
        {"_id": f"d{number}", "title": "w9", "text": f"{row['query']} w{number % 50} w7"}
        for number, row in enumerate(rows)
    ]
    written(folder / "corpus.jsonl", documents)
    written(folder / "queries.jsonl", [{"_id": name, "text": text} for name, text in names.items()])
    if qrels:
        (folder / "qrels").mkdir()
        lines = "".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in qrels)
        (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)
    return folder


def mined(model: Path, shards: Path, pool: Path, out: Path) -> list[dict[str, Any]]:
    assert mine(model, "--data", shards, "--pool", pool, "--out", out, *LOOSE) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_relevant_documents_go_by_the_text_of_the_query_and_by_the_id_of_the_row(
    model: Path,
    asked: tuple[Path, list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    shards, rows = asked
    texts = [f"w9 {row['query']} w{number % 50} w7" for number, row in enumerate(rows)]
    free = mined(model, shards, pool_of(tmp_path / "free", rows, [], {}), tmp_path / "free.jsonl")
    own = {row["query"]: {text for text in texts if row["query"] in text} for row in rows}
    assert all(own[row["query"]] <= set(row["neg"]) for row in free)

    # by text, under ids of the collection's own
    names = {f"q{number}": row["query"] for number, row in enumerate(rows)}
    judged = [(f"q{number}", f"d{number}", 1) for number in range(len(rows))]
    by_text = mined(model, shards, pool_of(tmp_path / "text", rows, judged, names), tmp_path / "text.jsonl")
    assert all(set(row["neg"]) == set(texts) - own[row["query"]] for row in by_text)
    # by id alone
    judged = [(row["id"], f"d{number}", 2) for number, row in enumerate(rows)]
    by_id = mined(model, shards, pool_of(tmp_path / "id", rows, judged, {"other": "w1"}), tmp_path / "id.jsonl")
    assert by_id == by_text
    # not relevant, or judged for somebody else: stays
    judged = [(row["id"], f"d{number}", 0) for number, row in enumerate(rows)] + [("other", "d0", 1)]
    stays = mined(model, shards, pool_of(tmp_path / "zero", rows, judged, {"other": "w1"}), tmp_path / "zero.jsonl")
    assert stays == free


def test_other_judgements_are_another_run(
    model: Path, asked: tuple[Path, list[dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, rows = asked
    pool = pool_of(tmp_path / "pool", rows, [(rows[0]["id"], "d0", 1)], {})
    out = tmp_path / "out.jsonl"
    first = mined(model, shards, pool, out)
    assert mined(model, shards, pool, out) == first
    assert "up to date" in capsys.readouterr().out
    (pool / "qrels" / "train.tsv").write_text(f"{rows[1]['id']}\td1\t1\n")
    assert mine(model, "--data", shards, "--pool", pool, "--out", out, *LOOSE) == 1
    assert "made otherwise" in capsys.readouterr().err


def test_damaged_judgements_are_told(
    model: Path,
    asked: tuple[Path, list[dict[str, Any]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shards, rows = asked
    pool = pool_of(tmp_path / "pool", rows, [("q0", "d0", 1)], {})
    for text, told in (("q0\td0\n", "train.tsv:1: expected 3 columns"), ("q0\td0\tmuch\n", "a whole number as grade")):
        (pool / "qrels" / "train.tsv").write_text(text)
        assert mine(model, "--data", shards, "--pool", pool, "--out", tmp_path / "out.jsonl", *LOOSE) == 1
        assert told in capsys.readouterr().err
