"""New data against sets that exist already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import bgeprep
from bgeprep import _native
from bgeprep.cli import main
from tests.prep.test_shard import bytes_of


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A set whose rows have moved: its file and lines are those of the raw data."""
    records = [
        {"query": f"Question {n}", "pos": [f"answer {n}", f"other answer {n}"], "id": f"o{n}"} for n in range(50)
    ]
    records.append({"query": "what is rust", "pos": ["a language"], "neg": ["iron oxide"]})
    bgeprep.shard(write(tmp_path / "raw" / "old.jsonl", records), tmp_path / "old")
    return tmp_path / "old"


NEW: list[dict[str, Any]] = [
    {"query": "question 1", "pos": ["ANSWER 1"], "neg": ["no"]},  # goes: the same pair in another form
    {"query": "question 2", "pos": ["answer 2", "a new answer"]},  # loses one positive
    {"query": "question 3", "pos": ["quite another answer"]},  # stays, and learns two answers
    {"query": "question 4", "pos": ["new 4"], "neg": ["other answer 4", "no 4"]},  # loses a negative
    {"query": "new question", "pos": ["answer 5"]},  # stays: the pair is new
    {"query": "what is rust", "pos": ["iron oxide"]},  # stays: a negative there is no row
    {"query": "new question", "pos": ["answer 5"]},  # goes: an earlier row of its own
]


@pytest.mark.parametrize("mode", ["exact", "near"])
def test_what_is_there_already_goes(old: Path, tmp_path: Path, mode: str) -> None:
    new = write(tmp_path / "new.jsonl", NEW)
    before = bytes_of(old)
    out = tmp_path / "out"
    assert main(["shard", "--in", str(new), "--against", str(old), "--out", str(out), "--dedup", mode]) == 0
    assert bytes_of(old) == before
    rows = {row["origin_line"]: row for row in bgeprep.open(out)}
    assert sorted(rows) == [2, 3, 4, 5, 6]
    assert rows[2]["pos"] == ["a new answer"]
    key = _native.text_key
    assert set(rows[3]["also_pos_keys"]) == {key("answer 3"), key("other answer 3")}
    assert set(rows[2]["also_pos_keys"]) == {key("answer 2"), key("other answer 2")}
    assert rows[4]["neg"] == ["no 4"]
    assert rows[5]["also_pos_keys"] == []
    assert rows[6]["also_pos_keys"] == [key("a language")]

    found = bgeprep.inspect(out)
    assert [source["name"] for source in found["sources"]] == ["new"]
    assert (found["rows_read"], found["rows_kept"], found["dropped"]) == (7, 5, {"duplicate": 2})
    assert found["removed"] == {"positives": {"duplicate": 1}, "negatives": {"negative_is_positive": 1}}
    columns = ("origin_line", "part", "reason", "twin_source", "twin_file", "twin_line")
    rejects = pl.read_parquet(out / "rejects" / "new.parquet").select(columns).rows()
    assert rejects == [
        (1, "row", "duplicate", "old", "old.jsonl", 2),
        (2, "positive", "duplicate", "old", "old.jsonl", 3),
        (4, "negative", "negative_is_positive", "old", "old.jsonl", 5),
        (7, "row", "duplicate", "new", "new.jsonl", 5),
    ]
    assert bgeprep.verify(out)["ok"]
    # The control: without the old set nothing of this goes.
    bgeprep.shard(new, tmp_path / "alone", config=bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode=mode)))
    assert bgeprep.inspect(tmp_path / "alone")["dropped"] == {"duplicate": 1}
    assert bgeprep.inspect(tmp_path / "alone")["removed"] == {"positives": {}, "negatives": {}}


def test_it_is_as_if_the_old_set_stood_in_front(old: Path, tmp_path: Path) -> None:
    """The new rows that stay are those that stay when both are sharded together, old ones first."""
    new = write(tmp_path / "new.jsonl", NEW)
    config = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"))
    bgeprep.shard([old, new], tmp_path / "both", config=config)
    together = [row for row in bgeprep.open(tmp_path / "both") if row["source"] == "new"]
    config = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"), against=(str(old),))
    for threads in (1, 3):
        out = tmp_path / f"out{threads}"
        bgeprep.shard(new, out, config=config, threads=threads)
        assert list(bgeprep.open(out)) == together
    assert bytes_of(tmp_path / "out1") == bytes_of(tmp_path / "out3")


def test_priority_and_scores_do_not_save_a_row(old: Path, tmp_path: Path) -> None:
    config = bgeprep.PrepConfig(
        sources=(bgeprep.SourceConfig(name="new", path=(str(tmp_path / "new.jsonl"),), priority=0),),
        against=(str(old),),
    )
    write(tmp_path / "new.jsonl", [{"query": "question 1", "pos": ["answer 1"], "pos_scores": [9.0]},
                                   {"query": "question 1", "pos": ["answer x"]}])  # fmt: skip
    bgeprep.shard([], tmp_path / "out", config=config)
    assert [row["pos"] for row in bgeprep.open(tmp_path / "out")] == [["answer x"]]


def test_symmetric_pairs_are_known_from_both_ends(tmp_path: Path) -> None:
    overrides = {"task": "symmetric"}
    old = write(tmp_path / "old.jsonl", [{"query": "how are you", "pos": ["how do you do"]}])
    bgeprep.shard(old, tmp_path / "old", source_overrides=overrides)
    new = write(tmp_path / "new.jsonl", [{"query": "how do you do", "pos": ["how are you"]},
                                         {"query": "how do you do", "pos": ["good morning"]}])  # fmt: skip
    config = bgeprep.PrepConfig(against=(str(tmp_path / "old"),))
    bgeprep.shard(new, tmp_path / "out", config=config, source_overrides=overrides)
    assert [row["pos"] for row in bgeprep.open(tmp_path / "out")] == [["good morning"]]


def test_a_set_against_another_and_the_sources_of_both(old: Path, tmp_path: Path) -> None:
    """A set as input is compared like raw files; a source of the same name is another source."""
    bgeprep.shard(write(tmp_path / "more" / "old.jsonl", NEW), tmp_path / "more-set")
    result = bgeprep.shard(
        tmp_path / "more-set", tmp_path / "out", config=bgeprep.PrepConfig(against=(str(old),)), only_sources=["old"]
    )
    assert (result.sources, result.rows_read, result.rows_kept) == (("old",), 6, 5)
    config = bgeprep.open(tmp_path / "out").manifest["config"]
    assert config["against"] == [bgeprep.open(old).manifest["hash"]]
    assert config["dedup"]["mode"] == "near"


def test_what_cannot_work_is_an_error(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = write(tmp_path / "new.jsonl", NEW)
    twice = write(tmp_path / "twice.jsonl", NEW[:1])
    flags = ["shard", "--in", str(new), "--out", str(tmp_path / "out"), "--against"]
    for more, code, message in [
        ([str(old), "--dedup", "none"], 2, "dedup.mode: expected exact or near with --against"),
        ([str(new)], 2, "against: expected shard sets, found"),
        ([str(old), str(old)], 2, "is given twice"),
    ]:
        assert main([*flags, *more]) == code, more
        assert message in capsys.readouterr().err
    assert main(["shard", "--in", str(twice), "--out", str(tmp_path / "none"), "--against", str(old)]) == 1
    assert "no row is left of 1 read" in capsys.readouterr().err
    part = next(old.glob("*/part-*.arrow"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(bytes(content))
    assert main([*flags, str(old)]) == 1
    assert "damaged" in capsys.readouterr().err


def test_near_duplicates_of_what_is_there_go(tmp_path: Path) -> None:
    """Near texts of a set that is compared with are verified like those of the run, and cluster with them."""
    query = "which metals does a strong magnet pull towards itself when it is held right above the wooden table"
    passage = " ".join(f"fact number {n}" for n in range(40))
    old = [{"query": query, "pos": [f"{passage} first"]}]
    old += [{"query": f"question {n}", "pos": [f"answer {n}"]} for n in range(30)]
    bgeprep.shard(write(tmp_path / "raw" / "old.jsonl", old), tmp_path / "old")
    close = f"{query} today"
    new = write(
        tmp_path / "new.jsonl",
        [
            {"query": close, "pos": [f"{passage} second"]},
            {"query": close, "pos": ["an answer of its own"], "neg": [f"{passage} third"]},
            {"query": "a question of its own", "pos": ["another answer"]},
        ],
    )
    before = bytes_of(tmp_path / "old")
    for threads in (1, 3):
        out = tmp_path / f"out{threads}"
        config = bgeprep.PrepConfig(against=(str(tmp_path / "old"),))
        bgeprep.shard(new, out, config=config, threads=threads)
        rows = {row["origin_line"]: row for row in bgeprep.open(out)}
        assert sorted(rows) == [2, 3]
        (old_row,) = [row for row in bgeprep.open(tmp_path / "old") if row["query"] == query]
        assert rows[2]["query_key"] == min(old_row["query_exact_key"], rows[2]["query_exact_key"])
        assert len(rows[2]["also_pos_keys"]) == 1
        found = bgeprep.inspect(out)
        assert (found["rows_read"], found["dropped"]) == (3, {"near_duplicate": 1})
        rejects = pl.read_parquet(out / "rejects" / "new.parquet").filter(reason="near_duplicate")
        assert rejects.select("origin_line", "twin_source", "twin_file", "twin_line").rows() == [
            (1, "old", "old.jsonl", 1)
        ]
        assert 0.8 <= rejects["similarity"][0] < 1
        assert bgeprep.verify(out)["ok"]
    assert bytes_of(tmp_path / "out1") == bytes_of(tmp_path / "out3")
    assert bytes_of(tmp_path / "old") == before
    # The control: the row is no duplicate of anything of its own.
    bgeprep.shard(new, tmp_path / "alone")
    assert bgeprep.inspect(tmp_path / "alone")["dropped"] == {}
