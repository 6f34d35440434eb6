"""A set comes from an S3 server to the machine that trains: verified, once, over a connection that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import bgeprep
from tests.system.faults import Request, every_request_fails_first, no_fault
from tests.system.test_store import Bench, same, set_on_disk
from tests.system.test_store import bench as bench
from tests.train.killing import ROOT, flags_for, losses, write_material

#: What a process of a machine that trains does: it asks for the set, and says where it is.
ASK = """
import sys
from pathlib import Path
from bgeprep.cache import held_set
from bgeprep.errors import BgeprepError
try:
    with held_set(sys.argv[1], folder=Path(sys.argv[2])) as folder:
        print(folder)
except BgeprepError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def ask(bench: Bench, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", ASK, url, str(bench.tmp / "cache")],
        env=bench.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def folder_of(process: subprocess.Popen[str]) -> Path:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return Path(out.strip())


@pytest.fixture
def stored(bench: Bench) -> tuple[str, dict[str, bytes]]:
    """A set of several parts in the store, and its files but the rejects."""
    for name in ("a", "b", "c"):
        rows = "\n".join(
            f'{{"query": "{name} {n}", "pos": ["{name} answer {n}", "{"word " * 40}{n}"]}}' for n in range(400)
        )
        (bench.tmp / "pairs").mkdir(exist_ok=True)
        (bench.tmp / "pairs" / f"{name}.jsonl").write_text(rows)
    bgeprep.shard(bench.tmp / "pairs", bench.tmp / "set", threads=1)
    url = bench.upload(bench.tmp / "set", "sets/one")
    return url, {name: data for name, data in set_on_disk(bench.tmp / "set").items() if "rejects" not in name}


def parts_asked(bench: Bench) -> list[str]:
    """The parts of which the first bytes were asked for, once for each time."""
    asked = [request for request in bench.proxy.requests if request.range.startswith("bytes=0-")]
    return sorted(request.path.rpartition("/sets/one/")[2] for request in asked if request.named(".arrow"))


PARTS = ["a/part-00000.arrow", "b/part-00000.arrow", "c/part-00000.arrow"]


def test_the_same_bytes_once_for_all_processes(bench: Bench, stored: tuple[str, dict[str, bytes]]) -> None:
    url, files = stored
    asking = [ask(bench, url) for _ in range(3)]
    (folder,) = {folder_of(process) for process in asking}
    assert same(set_on_disk(folder), files)
    assert parts_asked(bench) == PARTS
    bench.proxy.requests.clear()
    assert folder_of(ask(bench, url)) == folder
    assert parts_asked(bench) == []


def test_over_a_connection_that_fails(bench: Bench, stored: tuple[str, dict[str, bytes]]) -> None:
    url, files = stored
    bench.proxy.schedule = every_request_fails_first
    assert same(set_on_disk(folder_of(ask(bench, url))), files)
    assert {"drop", "busy"} & {fault for _, fault in bench.proxy.faults}
    assert len(parts_asked(bench)) > len(PARTS), "the control: requests did fail"


def test_a_damaged_part_is_an_error_that_names_it(bench: Bench, stored: tuple[str, dict[str, bytes]]) -> None:
    url, files = stored
    damaged = bytearray(files[PARTS[1]])
    damaged[len(damaged) // 2] ^= 1
    bench.s3.put_object(Bucket=bench.bucket, Key=f"sets/one/{PARTS[1]}", Body=bytes(damaged))
    process = ask(bench, url)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert f"ShardError: {url}/{PARTS[1]}: expected" in error
    assert "of xxh3-128" in error
    assert not list((bench.tmp / "cache").glob("*/manifest.json"))
    left = {path.name for path in (bench.tmp / "cache").rglob("*") if path.is_file()}
    assert not [name for name in left if name.endswith(".tmp")]
    # mended, it goes on with what was whole
    bench.s3.put_object(Bucket=bench.bucket, Key=f"sets/one/{PARTS[1]}", Body=files[PARTS[1]])
    assert same(set_on_disk(folder_of(ask(bench, url))), files)


def test_a_killed_fetch_goes_on(bench: Bench, stored: tuple[str, dict[str, bytes]]) -> None:
    url, files = stored
    running: list[subprocess.Popen[str]] = []

    def kill_at_the_last(request: Request, attempt: int) -> str | None:
        if request.named(PARTS[2]) and request.method == "GET":
            # the others are there by then, or on their way
            while not all((one / part).exists() for one in cache.glob("*/") for part in PARTS[:2]):
                time.sleep(0.01)
            running[0].send_signal(signal.SIGKILL)
            return "drop"
        return None

    cache = bench.tmp / "cache"
    bench.proxy.schedule = kill_at_the_last
    running.append(ask(bench, url))
    running[0].communicate(timeout=120)
    assert running[0].returncode == -signal.SIGKILL
    assert not list(cache.glob("*/manifest.json"))
    # what lies there under its name but is not whole is seen
    (found,) = cache.glob(f"*/{PARTS[0]}")
    found.write_bytes(b"x" * len(files[PARTS[0]]))
    bench.proxy.schedule = no_fault
    bench.proxy.requests.clear()
    assert same(set_on_disk(folder_of(ask(bench, url))), files)
    assert parts_asked(bench) == [PARTS[0], PARTS[2]]


def test_what_is_not_there_and_what_is_none(bench: Bench, stored: tuple[str, dict[str, bytes]]) -> None:
    def said(url: str) -> str:
        process = ask(bench, url)
        error = process.communicate(timeout=120)[1]
        assert process.returncode == 1
        assert "Traceback" not in error
        return error

    assert "no manifest.json: there is no complete shard set" in said(bench.url("sets/none"))
    bench.proxy.schedule = always_denied(lambda request: request.named(".arrow"))
    assert "StoreError: " in said(stored[0])
    bench.proxy.schedule = no_fault
    bench.s3.delete_object(Bucket=bench.bucket, Key=f"sets/one/{PARTS[0]}")
    assert f"{PARTS[0]}: expected" in said(stored[0])


def always_denied(when: Callable[[Request], bool]) -> Callable[[Request, int], str | None]:
    return lambda request, attempt: "denied" if when(request) else None


@pytest.mark.timeout(300)
def test_training_from_a_store_is_training_from_a_folder(bench: Bench, tmp_path: Path) -> None:
    """Two processes, one fetch; the settings that are kept name the store."""
    material = write_material(tmp_path)
    url = bench.upload(material / "shards", "sets/one")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**bench.environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.fspath(ROOT / "python")}

    def train(output: Path, *more: object) -> None:
        flags = flags_for(material, output, "--max_steps", 4, *more)
        command = [sys.executable, *torchrun, os.fspath(ROOT / "python" / "train.py"), *flags]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr

    train(tmp_path / "there")
    cache = ["--cache_dir", tmp_path / "sets"]
    train(tmp_path / "here", "--data", url, *cache, "--cache_limit", "1GB")
    assert losses(tmp_path / "here") == losses(tmp_path / "there")
    assert parts_asked(bench) == ["topics/part-00000.arrow"]
    assert f'train_data = "{url}"' in (tmp_path / "here" / "config.toml").read_text()
    bench.proxy.requests.clear()
    train(tmp_path / "here", "--resume_from_checkpoint", "last", "--max_steps", 6, "--data", url)
    assert len(losses(tmp_path / "here")) == 6
    assert parts_asked(bench) == []
