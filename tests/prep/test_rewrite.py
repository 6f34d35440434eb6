"""A set with other negatives keeps its rows, order and origins; a set goes out as JSON lines and comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bgeprep
from bgeprep.cli import main
from bgeprep.errors import ConfigError, ShardError
from bgeprep.jsonl import write_jsonl
from bgeprep.rewrite import rewrite
from tests.prep.test_reshard import pairs, rows_of, shards

__all__ = ["pairs", "shards"]

KEYS = {"query_key", "pos_keys", "neg_keys", "also_pos_keys"}


def unchanged(_: int, row: dict[str, Any]) -> dict[str, Any]:
    return row


def test_rows_that_are_not_changed_are_the_same_set(shards: Path, tmp_path: Path) -> None:
    result = rewrite(shards, tmp_path / "again", unchanged)
    assert rows_of(tmp_path / "again") == rows_of(shards)
    assert (result.rows_read, result.rows_kept) == (len(rows_of(shards)),) * 2
    assert bgeprep.verify(tmp_path / "again")["ok"]


def test_negatives_are_replaced_and_nothing_else(shards: Path, tmp_path: Path) -> None:
    def change(place: int, row: dict[str, Any]) -> dict[str, Any]:
        neg = [f"a passage about {place}", f"another that is not near it, number {place}"]
        return {**row, "neg": neg, "neg_scores": [0.5, 0.25]}

    rewrite(shards, tmp_path / "mined", change)
    before, after = rows_of(shards), rows_of(tmp_path / "mined")
    kept = {"query", "pos", "pos_scores", "id", "prompt", "source", "origin_file", "origin_line", "query_key"}
    assert [{name: row[name] for name in kept} for row in after] == [
        {name: row[name] for name in kept} for row in before
    ]
    assert all(change(place, row)["neg"] == row["neg"] for place, row in enumerate(after))
    assert all(row["neg_scores"] == [0.5, 0.25] for row in after)


def test_a_negative_that_nearly_equals_the_positive_does_not_come_in(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(80))
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"query": "which words", "pos": [text]}) + "\n", encoding="utf-8")
    bgeprep.shard(source, tmp_path / "set")
    rewrite(tmp_path / "set", tmp_path / "out", lambda _, row: {**row, "neg": [f"{text} more", "another text"]})
    (row,) = rows_of(tmp_path / "out")
    assert row["neg"] == ["another text"]


def test_near_keys_stay_where_a_set_kept_those_of_an_earlier_one(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(80))
    source = tmp_path / "in.jsonl"
    rows = [{"query": "which words are these", "pos": [text]}, {"query": "quite another one", "pos": [f"{text} more"]}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    bgeprep.shard(source, tmp_path / "first")
    bgeprep.shard(tmp_path / "first", tmp_path / "second")
    assert bgeprep.open(tmp_path / "second").manifest["config"]["dedup"]["mode"] == "none"
    rewrite(tmp_path / "second", tmp_path / "third", unchanged)
    assert rows_of(tmp_path / "third") == rows_of(tmp_path / "first")
    assert len({tuple(row["pos_keys"]) for row in rows_of(tmp_path / "third")}) == 1


def test_scores_that_some_lack_stay(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    row = {"query": "a question", "pos": ["first answer", "second one"], "pos_scores": [0.5, None]}
    source.write_text(json.dumps(row) + "\n", encoding="utf-8")
    bgeprep.shard(source, tmp_path / "set")
    rewrite(tmp_path / "set", tmp_path / "out", unchanged)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "set")
    assert rows_of(tmp_path / "out")[0]["pos_scores"] == [0.5, None]


def test_two_rows_of_one_file_and_line_both_stay(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "in.jsonl").write_text(json.dumps({"query": f"of {name}", "pos": [f"answer {name}"]}) + "\n")
        bgeprep.shard(folder, tmp_path / f"set-{name}")
    bgeprep.shard([tmp_path / "set-a", tmp_path / "set-b"], tmp_path / "both")
    rewrite(tmp_path / "both", tmp_path / "out", unchanged)
    assert sorted(row["query"] for row in rows_of(tmp_path / "out")) == ["of a", "of b"]
    assert {(row["origin_file"], row["origin_line"]) for row in rows_of(tmp_path / "out")} == {("in.jsonl", 1)}


def test_what_cannot_be_rewritten(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the set that is read"):
        rewrite(shards, shards, unchanged)
    with pytest.raises(ShardError, match=r"no manifest\.json"):
        rewrite(tmp_path / "absent", tmp_path / "out", unchanged)
    (tmp_path / "t.jsonl").write_text('{"text": "a document"}\n', encoding="utf-8")
    bgeprep.shard(tmp_path / "t.jsonl", tmp_path / "texts")
    with pytest.raises(ShardError, match="set of texts"):
        rewrite(tmp_path / "texts", tmp_path / "out", unchanged)


def test_a_set_goes_out_as_json_lines_and_comes_back(shards: Path, tmp_path: Path) -> None:
    written, bare = write_jsonl(shards, tmp_path / "train.jsonl")
    before = rows_of(shards)
    assert (written, bare) == (len(before), sum(not row["neg"] for row in before))
    records = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["query"], one["pos"], one["neg"]) for one in records] == [
        (row["query"], row["pos"], row["neg"]) for row in before
    ]
    assert {one["type"] for one in records} == {"normal"}
    bgeprep.shard(tmp_path / "train.jsonl", tmp_path / "back")
    texts = ("query", "pos", "neg", "pos_scores", "neg_scores", "id", "prompt")
    assert sorted([row[name] for name in texts] for row in rows_of(tmp_path / "back")) == sorted(
        [row[name] for name in texts] for row in before
    )


def test_task_and_instruction_of_the_source_stand_in_the_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("asked", "alike"):
        line = json.dumps({"query": f"text {name}", "pos": [f"other {name}"]})
        (tmp_path / f"{name}.jsonl").write_text(line + "\n", encoding="utf-8")
    sources = tuple(
        bgeprep.SourceConfig(name=name, path=(str(tmp_path / f"{name}.jsonl"),), task=task, instruction="find: ")
        for name, task in (("asked", "retrieval"), ("alike", "symmetric"))
    )
    bgeprep.shard(out=tmp_path / "set", config=bgeprep.PrepConfig(sources=sources))
    assert main(["export", str(tmp_path / "set")]) == 0
    asked, alike = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (asked["type"], asked["prompt"]) == ("normal", "find: ")
    assert alike["type"] == "symmetric_sts"
    assert "prompt" not in alike

    assert main(["export", str(tmp_path / "set"), "--only", "alike", "--out", str(tmp_path / "one.jsonl")]) == 0
    assert "1 rows, 1 of them without a negative" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "set"), "--only", "nothing"]) == 1
    assert "has no source nothing; it has asked, alike" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "set"), "--out", str(tmp_path / "no" / "one.jsonl")]) == 1
