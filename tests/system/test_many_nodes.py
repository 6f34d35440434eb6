"""Jobs of two machines: one that loses a machine and goes on with one, or two; and work that they share.

A launch of four processes takes some 20 s of processor time, to import torch.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

import pytest

import bgeprep
from bgetrain.__main__ import main
from tests.system.nodes import end, give_up, kill_node, start_nodes
from tests.train.killing import ROOT, flags_for, last_checkpoint, losses, wait_for, write_material
from tests.train.tiny import WORDS, write_tiny_bert

STEPS = 40
TRAIN = str(ROOT / "python" / "train.py")


@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes of a machine by /proc")
def test_a_lost_machine_ends_the_job_and_the_next_launch_goes_on(tmp_path: Path) -> None:
    material = write_material(tmp_path, dropout=0.0)
    said = [tmp_path / "first", tmp_path / "second"]

    def flags(output: Path, *more: object) -> list[str]:
        return [TRAIN, *flags_for(material, output, "--max_steps", STEPS, "--save_steps", 7, *more)]

    whole = tmp_path / "whole"
    end(start_nodes(flags(whole), said), said)
    expected = losses(whole)
    assert len(expected) == STEPS

    lost = tmp_path / "lost"
    nodes = start_nodes(flags(lost), said)
    try:
        wait_for(nodes[0], lost, 16)
        kill_node(nodes[1])
        died = time.monotonic()
        assert nodes[0].wait(timeout=90) not in (0, 130)
        assert time.monotonic() - died < 60
    finally:
        give_up(nodes)
    lines = said[0].read_text().splitlines()
    told = [number for number, line in enumerate(lines) if "another rank has ended in step" in line]
    assert told, lines
    assert all(lines[number].startswith("error: rank ") for number in told)
    assert any("--resume_from_checkpoint last" in line for line in lines if line.startswith("hint: "))
    assert "Traceback" not in "\n".join(lines[: told[-1] + 2])
    assert 7 <= last_checkpoint(lost) < STEPS

    # as many machines again, in a copy of what the lost job left
    again = tmp_path / "again"
    shutil.copytree(lost, again)
    end(start_nodes(flags(again, "--resume_from_checkpoint", "last"), said), said)
    assert losses(again) == expected

    end(start_nodes(flags(lost, "--resume_from_checkpoint", "last"), said[:1]), said[:1])
    assert "on 2 processes instead of 4" in said[0].read_text()
    found = losses(lost)
    assert found != expected, "the control: other sums are rounded otherwise"
    assert found == pytest.approx(expected, rel=1e-5)


def files_of(place: Path) -> dict[str, bytes]:
    """All files of a folder that hold data, or a file itself."""
    if place.is_file():
        return {place.name: place.read_bytes()}
    kept = [path for path in place.rglob("*") if path.suffix in {".npy", ".parquet"}]
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in kept}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and a set that is large enough for several parts of each kind of work."""
    folder = tmp_path_factory.mktemp("words")
    write_tiny_bert(folder / "model")
    draw = random.Random(5)
    rows = [
        {"query": " ".join(said[:6]), "pos": [" ".join(said)]}
        for said in (draw.choices(WORDS[5:], k=14) for _ in range(5000))
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bgeprep.shard(folder / "pairs.jsonl", folder / "shards", config=EXACT, threads=1)
    return folder


EXACT = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"))

WORK = {
    "encode": ["--out", "vectors"],
    "score": ["--out", "scores"],
    # an index is made once for all, and two that are made need not be the same
    "mine": ["--out", "mined.jsonl", "--index", "hnsw", "--near", "off"],
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("verb", sorted(WORK))
def test_work_that_two_machines_share_is_that_of_one(
    verb: str, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [verb, "--model", str(words / "model"), "--data", str(words / "shards"), "--use_cpu", "--quiet"]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    alone.mkdir()
    shared.mkdir()
    said = [shared / "first", shared / "second"]
    end(start_nodes(["-m", "bgetrain", *flags, *WORK[verb]], said, processes=1), said)
    monkeypatch.chdir(alone)
    assert main([*flags, *WORK[verb]]) == 0
    made = WORK[verb][1]
    found = files_of(shared / made)
    assert len(found) > 1 or verb == "mine"
    assert found == files_of(alone / made)
    assert not list(shared.rglob(".seen-*"))


@pytest.mark.timeout(300)
def test_a_folder_that_is_not_shared_is_told_at_the_start(words: Path, tmp_path: Path) -> None:
    """The same name on two machines, and another folder: here by where each of them stands."""
    flags = ["encode", "--model", str(words / "model"), "--data", str(words / "shards"), "--use_cpu", "--quiet"]
    said = [tmp_path / "one" / "said", tmp_path / "other" / "said"]
    for file in said:
        file.parent.mkdir()
    nodes = start_nodes(["-m", "bgetrain", *flags, "--out", "vectors"], said, processes=1)
    try:
        assert [node.wait(timeout=120) for node in nodes] == [1, 1]
    finally:
        give_up(nodes)
    for file in said:
        text = file.read_text()
        assert "error: vectors/queries: rank 1 of 2 cannot see what rank 0 wrote there" in text
        assert "hint: it has to be a folder that all machines share" in text
    assert not files_of(tmp_path / "one")
