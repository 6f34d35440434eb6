"""What the Ray executor costs on one machine, next to the local threads on the same files.

python -m benches.executors --rows 250000 1000000
python -m benches.executors --rows 5000000 --dedup exact
python -m benches.executors --rows 2000000 --again

Rows are those of `benches.peers.planted` (near) or `benches.peers.corpus` (exact), cut into files. Both executors get
the same number of CPUs and must write the same bytes. The cluster, one machine, is started before and is not part of
the time; its workers are new for every run. The driver's memory is the peak of its process. With --again the rows are a
shard set already, which is sharded again by the scores of its pairs, the step between the stages. Prints Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import bgeprep
from benches.peers.corpus import TEXTS
from benches.peers.measure import DiskPeak, Measured, run
from benches.peers.report import machine, table

GIB = 1 << 30
BGEPREP = str(Path(sys.executable).parent / "bgeprep")


@contextlib.contextmanager
def cluster(cpus: int, memory: int) -> Iterator[str]:
    """A Ray machine of its own on the loopback interface; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}"]
    command += ["--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", f"--memory={memory}"]
    command += [f"--object-store-memory={80 << 20}", "--include-dashboard=false", "--disable-usage-stats"]
    # Ray asks for a token where the home folder holds one; drivers that are given an address send it only if told to.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    head = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # an end by SIGTERM ends the cluster, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if time.monotonic() > deadline or head.poll() is not None:
                raise SystemExit("error: Ray did not start")
            time.sleep(0.2)
        time.sleep(5)  # the port is open before the machine has joined
        yield f"127.0.0.1:{port}"
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(timeout=60)


def corpus(folder: Path, rows: int, arguments: argparse.Namespace) -> float:
    """Writes a corpus as files of one folder; its size in megabytes."""
    whole = folder / "whole.jsonl"
    flags = {"--rows": rows, "--seed": 42, "--texts": TEXTS, "--out": whole}
    module = "corpus"
    if arguments.dedup == "near":
        module = "planted"
        flags |= {"--shape": "short", "--truth": folder / "truth.parquet"}
    words = [str(word) for flag in flags.items() for word in flag]
    size = json.loads(run([sys.executable, "-m", f"benches.peers.{module}", *words]).output)["bytes"]
    pairs = folder / "pairs"
    pairs.mkdir()
    run(["split", f"--number=l/{arguments.files}", "--numeric-suffixes", "--suffix-length=3",
         "--additional-suffix=.jsonl", str(whole), str(pairs / "part-")])  # fmt: skip
    whole.unlink()
    return size / 1e6


def scored(pairs: Path, folder: Path, flags: list[str]) -> tuple[Path, list[str]]:
    """A set of the pairs, and the flags that drop those of its pairs which a made-up scorer puts below 0.43."""
    target, scores = folder / "scored", folder / "scores"
    run([BGEPREP, "shard", "--in", str(pairs), "--out", str(target), "--quiet", *flags])
    scores.mkdir()
    # In a process of its own: what this one held at most would count as the peak of those that it starts.
    scorer = multiprocessing.get_context("spawn").Process(target=score, args=(target, scores / "scores.parquet"))
    scorer.start()
    scorer.join()
    if scorer.exitcode:
        raise SystemExit("error: the pairs could not be scored")
    return target, ["--scores", str(scores), "--min-score", "0.43"]


def score(target: Path, to: Path) -> None:
    """Writes a score for each pair of a set: the first byte of a hash."""
    hashes: list[tuple[bytes, bytes]] = []
    for row in bgeprep.open(target):
        query = bgeprep.text_hash(row["query"])
        hashes += [(query, bgeprep.text_hash(text)) for text in row["pos"]]
    queries, texts = zip(*hashes, strict=True)
    columns = {
        "query_hash": pa.array(queries, pa.binary(16)),
        "pos_hash": pa.array(texts, pa.binary(16)),
        "score": pa.array([text[0] / 256 for text in texts], pa.float32()),
    }
    pq.write_table(pa.table(columns), to)


def shard(source: Path, target: Path, flags: list[str]) -> tuple[Measured, float, str]:
    """A run, the most work files that lay on the disk in megabytes, and the hash of its set."""
    with DiskPeak(target) as disk:
        measured = run([BGEPREP, "shard", "--in", str(source), "--out", str(target), "--quiet", *flags])
    made = json.loads(run([BGEPREP, "inspect", str(target), "--json"]).output)["hash"]
    shutil.rmtree(target)
    return measured, disk.peak / 1e6, made


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 1_000_000], help="sizes (250000 1000000)")
    parser.add_argument("--files", type=int, default=16, help="files that the rows are cut into (16)")
    parser.add_argument("--dedup", choices=["exact", "near"], default="near", help="mode of both (near)")
    parser.add_argument("--cpus", type=int, default=len(os.sched_getaffinity(0)), help="of both (all cores)")
    parser.add_argument("--memory", default="256MiB", help="of the local run, and of each task (256MiB)")
    parser.add_argument("--task-bytes", default="256MiB", help="text a task works on (256MiB, as without the flag)")
    parser.add_argument("--again", action="store_true", help="shard a set of the rows again, filtered by scores")
    parser.add_argument("--work", type=Path, help="folder for corpus and sets (a temporary one)")
    arguments = parser.parse_args()

    rows: list[list[str]] = []
    with cluster(arguments.cpus, arguments.cpus * GIB) as address:
        executors = {
            "threads": ["--threads", str(arguments.cpus)],
            "ray": ["--executor", "ray", "--address", address, "--task-bytes", arguments.task_bytes],
        }
        for count in arguments.rows:
            with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bgeprep-executors-") as folder:
                sys.stderr.write(f"making {count:,} rows\n")
                megabytes = corpus(Path(folder), count, arguments)
                source, common = Path(folder) / "pairs", ["--dedup", arguments.dedup]
                if arguments.again:
                    source, common = scored(source, Path(folder), common)
                hashes, base = set(), 0.0
                for name, more in executors.items():
                    flags = [*common, "--memory", arguments.memory, *more]
                    measured, spilled, made = shard(source, Path(folder) / "set", flags)
                    hashes.add(made)
                    base = base or measured.wall
                    sys.stderr.write(f"{count:,} rows, {name}: {measured.wall:.1f} s\n")
                    rows.append(
                        [
                            f"{count:,}",
                            f"{megabytes:.0f}",
                            name,
                            f"{measured.wall:.1f}",
                            f"{count / measured.wall:,.0f}",
                            f"{(measured.wall / base - 1) * 100:+.0f} %",
                            f"{measured.peak / 1e6:.0f}",
                            f"{spilled:.0f}",
                        ]
                    )
                if len(hashes) != 1:
                    raise SystemExit(f"error: {count:,} rows: the executors wrote different sets: {sorted(hashes)}")
    print(machine())
    job = "a set by scores" if arguments.again else f"--dedup {arguments.dedup}"
    setting = f"{job}, {arguments.cpus} CPUs, tasks of {arguments.task_bytes}"
    print(f"\n{setting}, {arguments.files} files\n")
    header = ["rows", "MB", "executor", "s", "rows/s", "over threads", "peak of the process, MB", "set and work, MB"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
