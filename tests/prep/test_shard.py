"""The preparation run: one set of bytes, whatever the threads, the memory or the interruptions."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

import bgeprep


def corpus(folder: Path, rows: int = 4000) -> Path:
    """Three sources with duplicates within and across, one of them compressed, one in two files."""
    folder.mkdir()
    lines = [
        json.dumps(
            {"query": f"question {n * 7919 % (rows - rows // 10)}", "pos": [f"answer {n % 700} " + "word " * 30]}
        )
        for n in range(rows)
    ]
    (folder / "plain.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with gzip.open(folder / "packed.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines[: rows // 4]) + "\n" + "\n".join(lines).replace("question", "demande"))
    (folder / "parts").mkdir()
    for number in (2, 10):
        frame = pl.DataFrame({"question": [f"q {n} {number}" for n in range(900)], "answer": ["a b c"] * 900})
        frame.write_csv(folder / "parts" / f"part-{number}.csv")
    return folder


def bytes_of(shards: Path) -> dict[str, bytes]:
    files = (file for file in shards.rglob("*") if file.is_file() and file.name != "run.json")
    return {file.relative_to(shards).as_posix(): file.read_bytes() for file in files}


SMALL_PARTS = bgeprep.PrepConfig(shard=bgeprep.ShardConfig(part_bytes=100_000))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus") / "pairs")


@pytest.fixture(scope="module")
def shards(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set") / "shards"
    bgeprep.shard(pairs, out, config=SMALL_PARTS, threads=1)
    return out


def test_counts_balance_and_sources_are_named(shards: Path) -> None:
    found = bgeprep.inspect(shards)
    assert [source["name"] for source in found["sources"]] == ["packed", "parts", "plain"]
    assert found["rows_read"] == 4000 + 5000 + 1800
    assert found["rows_read"] == found["rows_kept"] + sum(found["dropped"].values())
    for source in found["sources"]:
        assert source["rows_read"] == source["rows"] + sum(source["dropped"].values())
    rejects = pl.read_parquet(shards / "rejects" / "*.parquet")
    assert rejects.filter(part="row").height == sum(found["dropped"].values())


def test_a_text_is_as_the_user_wrote_it_and_knows_its_origin(pairs: Path, shards: Path) -> None:
    for row in list(bgeprep.open(shards))[::97]:
        if row["source"] == "plain":
            line = (pairs / row["origin_file"]).read_text(encoding="utf-8").splitlines()[row["origin_line"] - 1]
            record = json.loads(line)
            assert (row["query"], row["pos"]) == (record["query"], [text.strip() for text in record["pos"]])
        if row["source"] == "parts":
            # The header is line 1, so row n of the file stands on line n + 2.
            assert row["query"].split()[1] == str(row["origin_line"] - 2)


@pytest.mark.parametrize(("threads", "memory"), [(2, "64MiB"), (8, "256MiB")])
def test_same_bytes_for_any_threads_and_memory(
    pairs: Path, shards: Path, tmp_path: Path, threads: int, memory: str
) -> None:
    bgeprep.shard(pairs, tmp_path / "again", config=SMALL_PARTS, threads=threads, memory=memory)
    assert bytes_of(tmp_path / "again") == bytes_of(shards)


def test_another_seed_is_another_order_of_the_same_rows(pairs: Path, shards: Path, tmp_path: Path) -> None:
    other = bgeprep.PrepConfig(shard=bgeprep.ShardConfig(part_bytes=100_000, seed=7))
    bgeprep.shard(pairs, tmp_path / "other", config=other)
    places = [[(row["origin_file"], row["origin_line"]) for row in bgeprep.open(one)]
              for one in (shards, tmp_path / "other")]  # fmt: skip
    assert places[0] != places[1]
    assert sorted(places[0]) == sorted(places[1])


def test_shuffled_rows_have_no_trend(shards: Path) -> None:
    lines = [row["origin_line"] for row in bgeprep.open(shards) if row["source"] == "plain"]
    half = len(lines) // 2
    mean = sum(lines) / len(lines)
    assert abs(sum(lines[:half]) / half - mean) < 0.05 * mean


RUN = """
import sys, bgeprep
from tests.prep.test_shard import SMALL_PARTS
pairs, out, threads, memory = sys.argv[1:]
bgeprep.shard(pairs, out, config=SMALL_PARTS, threads=int(threads), memory=memory)
"""


def start(repository: Path, pairs: Path, out: Path, threads: int, memory: str) -> subprocess.Popen[bytes]:
    """A run in a process of its own, on its way: its work folder is there."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), *sys.path])}
    command = [sys.executable, "-c", RUN, str(pairs), str(out), str(threads), memory]
    process = subprocess.Popen(command, env=environment)
    while not (out / ".work").exists() and process.poll() is None:
        time.sleep(0.001)
    return process


@pytest.mark.timeout(600)
def test_killed_at_any_moment_and_started_again_comes_to_the_same_bytes(tmp_path: Path, repository: Path) -> None:
    pairs = corpus(tmp_path / "pairs", rows=12_000)
    process = start(repository, pairs, tmp_path / "whole", 2, "256MiB")
    began = time.monotonic()
    assert process.wait() == 0
    duration = time.monotonic() - began
    expected = bytes_of(tmp_path / "whole")
    chance = random.Random(4)
    killed = resumed = 0
    for moment in range(50):
        out = tmp_path / f"out-{moment}"
        process = start(repository, pairs, out, chance.choice([1, 2, 3]), chance.choice(["64MiB", "256MiB"]))
        time.sleep(chance.uniform(0, duration))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if (out / "manifest.json").exists():
            assert bytes_of(out).keys() >= expected.keys()
        result = bgeprep.shard(
            pairs, out, config=SMALL_PARTS, threads=chance.choice([1, 2, 4]), memory=chance.choice(["64MiB", "1GiB"])
        )
        resumed += result.resumed
        assert bytes_of(out) == expected, moment
        shutil.rmtree(out)
    assert killed > 20
    assert resumed > 20


def test_what_was_done_is_not_done_again(tmp_path: Path, repository: Path) -> None:
    """A run that has read all of a file goes on without it: the journal says so, and the file's chunks are skipped."""
    pairs = corpus(tmp_path / "pairs", rows=12_000)
    process = start(repository, pairs, tmp_path / "out", 1, "64MiB")
    while not (tmp_path / "out" / ".work" / "read.json").exists():
        assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    for file in pairs.rglob("*.jsonl*"):
        # Same size and time of change, so that the listing is the same: only who reads it would see the damage.
        size, times = file.stat().st_size, (file.stat().st_atime_ns, file.stat().st_mtime_ns)
        file.write_bytes(b"x" * size)
        os.utime(file, ns=times)
    result = bgeprep.shard(pairs, tmp_path / "out", config=SMALL_PARTS)
    assert result.resumed
    assert result.rows_read == 12_000 + 15_000 + 1800


def test_the_same_command_again_is_up_to_date(pairs: Path, tmp_path: Path) -> None:
    first = bgeprep.shard(pairs, tmp_path / "out")
    again = bgeprep.shard(pairs, tmp_path / "out", threads=1)
    assert not first.up_to_date
    assert again.up_to_date
    assert again.hash == first.hash
    with pytest.raises(bgeprep.ShardError, match="already holds a shard set"):
        bgeprep.shard(pairs, tmp_path / "out", config=SMALL_PARTS)
    replaced = bgeprep.shard(pairs / "plain.jsonl", tmp_path / "out", overwrite=True)
    assert replaced.hash != first.hash
    assert not (tmp_path / "out" / "packed").exists()
    assert bgeprep.verify(tmp_path / "out")["ok"]


def test_work_files_beside_a_whole_set_are_swept(pairs: Path, tmp_path: Path) -> None:
    bgeprep.shard(pairs, tmp_path / "out")
    left = tmp_path / "out" / ".work" / "near"
    left.mkdir(parents=True)
    (left / "candidates").write_text("as a run leaves them that is killed behind its last step")
    assert bgeprep.shard(pairs, tmp_path / "out").up_to_date
    assert not (tmp_path / "out" / ".work").exists()


def test_frames_and_streams_are_sources(tmp_path: Path) -> None:
    frame = pl.DataFrame({"query": [f"q {n}" for n in range(300)], "pos": [[f"p {n}"] for n in range(300)]})
    for number, stream in enumerate([frame, frame.lazy(), frame.to_arrow()]):
        out = tmp_path / str(number)
        result = bgeprep.shard({"mine": stream}, out)
        assert (result.rows_kept, result.sources) == (300, ("mine",))
        assert {row["origin_file"] for row in bgeprep.open(out)} == {"mine"}
        assert not list(out.glob(".work*"))
    with pytest.raises(bgeprep.CorpusError, match="mine"):
        bgeprep.shard({"mine": 3}, tmp_path / "x")


def test_work_files_can_lie_elsewhere(pairs: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    bgeprep.shard(pairs, tmp_path / "out", config=SMALL_PARTS, tmp=tmp_path / "tmp")
    assert bytes_of(tmp_path / "out") == bytes_of(shards)
    assert not list((tmp_path / "tmp").iterdir())


def test_a_mix_file_names_sources(pairs: Path, tmp_path: Path) -> None:
    mix = pairs.parent / "mix.toml"
    mix.write_text(
        """
        [clean]
        min_query_chars = 3

        [[sources]]
        name = "csv"
        path = "pairs/parts/*.csv"
        task = "symmetric"
        language = "en"
        weight = 2.5
        columns = { query = "answer", pos = ["question"] }

        [[sources]]
        name = "lines"
        path = ["pairs/plain.jsonl"]
        instruction = "find: "
        """
    )
    bgeprep.shard([], tmp_path / "out", config=mix)
    csv, lines = bgeprep.open(tmp_path / "out").manifest["sources"]
    assert (csv["name"], csv["task"], csv["language"], csv["weight"]) == ("csv", "symmetric", "en", 2.5)
    assert (lines["name"], lines["instruction"]) == ("lines", "find: ")
    first = next(row for row in bgeprep.open(tmp_path / "out") if row["source"] == "csv")
    assert (first["query"], first["pos"][0][:2]) == ("a b c", "q ")


def test_row_types_become_sub_sources(tmp_path: Path) -> None:
    lines = [{"query": f"q {n}", "pos": [f"p {n}"], "neg": [], "type": kind, "prompt": "do: "}
             for n, kind in enumerate(["normal", "symmetric_sts", "symmetric_class", "normal"])]  # fmt: skip
    (tmp_path / "mixed.jsonl").write_text("\n".join(map(json.dumps, lines)))
    bgeprep.shard(tmp_path / "mixed.jsonl", tmp_path / "out")
    found = [(one["name"], one["task"], one["rows"]) for one in bgeprep.open(tmp_path / "out").manifest["sources"]]
    assert found == [
        ("mixed", "retrieval", 2),
        ("mixed-symmetric", "symmetric", 1),
        ("mixed-classification", "classification", 1),
    ]
    assert {row["prompt"] for row in bgeprep.open(tmp_path / "out")} == {"do: "}


def test_interrupting_stops_and_can_go_on(tmp_path: Path) -> None:
    lines = [json.dumps({"query": f"question {n}", "pos": ["word " * 200 + str(n)]}) for n in range(2000)]
    (tmp_path / "many.jsonl").write_text(("\n".join(lines) + "\n") * 60)
    calls = []

    def stop(*counters: object) -> None:
        calls.append(counters)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bgeprep.shard(tmp_path / "many.jsonl", tmp_path / "out", threads=1, report=stop)
    assert len(calls) == 1
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert bgeprep.shard(tmp_path / "many.jsonl", tmp_path / "out").rows_kept == 2000


def test_a_run_that_ended_among_its_last_moves_goes_on(tmp_path: Path) -> None:
    pairs, out = tmp_path / "pairs", tmp_path / "out"
    pairs.mkdir()
    for name in ("first", "second"):
        rows = (f'{{"query": "what is {name} {i}", "pos": ["{name} is number {i}"]}}\n' for i in range(50))
        (pairs / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    out.mkdir()
    # what lies in the way of the second folder stops the run when the first is in its place
    (out / "second").write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError, match="second"):
        bgeprep.shard(pairs, out)
    assert (out / "first").is_dir()
    (out / "second").unlink()
    bgeprep.shard(pairs, out)
    bgeprep.shard(pairs, tmp_path / "whole")
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    assert not (out / ".work").exists()
