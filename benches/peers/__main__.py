"""`bgeprep shard --dedup exact` beside polars unique, duckdb distinct and HF datasets: one file, one run.

python -m benches.peers --rows 200000 --rounds 5

Rounds are interleaved. Each does the same job in a process of its own: read JSONL, trim, drop rows whose query or
positive is too short or equal, drop rows that repeat a (query, positive), shuffle, write. bgeprep does more of it
(every cleaning rule, Unicode normal forms, duplicates by normalised text, negatives that are positives, the list of
rejects, checksums); the others compare raw strings. Every tool must drop exactly the planted copies. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benches.peers.corpus import TEXTS, Planted, make_corpus
from benches.peers.environments import interpreter
from benches.peers.measure import Measured, run
from benches.peers.report import machine, seconds, table

JOBS = Path(__file__).resolve().parent / "jobs"


@dataclass(frozen=True)
class Tool:
    """One contestant: its command for (input, output), and how to ask what it made."""

    name: str
    command: Callable[[str, str], list[str]]
    made: Callable[[Measured, str], tuple[int, str]]


def _bgeprep() -> Tool:
    # The environment's folder, not what its python links to: the command lies beside the link.
    command = str(Path(sys.executable).parent / "bgeprep")

    def made(_: Measured, target: str) -> tuple[int, str]:
        found = json.loads(run([command, "inspect", target, "--json"]).output)
        return found["rows_kept"], run([command, "--version"]).output.split()[1]

    flags = ["--dedup", "exact", "--quiet"]
    return Tool(
        "bgeprep shard", lambda source, target: [command, "shard", "--in", source, "--out", target, *flags], made
    )


def _peer(name: str, environment: str, job: str) -> Tool:
    python = str(interpreter(environment))

    def made(measured: Measured, _: str) -> tuple[int, str]:
        said = json.loads(measured.output.splitlines()[-1])
        return said["rows"], said["version"]

    return Tool(name, lambda source, target: [python, str(JOBS / job), source, target], made)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the file (200000)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each tool (5)")
    parser.add_argument("--seed", type=int, default=42, help="decides the corpus (42)")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="folder the sentences come from (the demo's data)")
    parser.add_argument("--work", type=Path, help="folder for the corpus and the outputs (a temporary one)")
    parser.add_argument("--only", nargs="+", default=[], help="names of peers: polars, duckdb, datasets (all)")
    arguments = parser.parse_args()

    tools = [_bgeprep()]
    for name, environment, job in [
        ("polars unique", "polars", "polars_unique.py"),
        ("duckdb distinct", "duckdb", "duckdb_distinct.py"),
        ("HF datasets", "datasets", "datasets_filter.py"),
    ]:
        if not arguments.only or environment in arguments.only:
            try:
                tools.append(_peer(name, environment, job))
            except subprocess.CalledProcessError as error:
                sys.stderr.write(f"warning: {name} is not measured: its environment could not be made: {error}\n")

    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bgeprep-peers-") as folder:
        source = str(Path(folder) / "corpus.jsonl")
        sys.stderr.write(f"making {arguments.rows:,} rows\n")
        planted = make_corpus(Path(source), arguments.rows, arguments.seed, arguments.texts)
        runs: dict[str, list[Measured]] = {tool.name: [] for tool in tools}
        kept: dict[str, int] = {}
        versions: dict[str, str] = {}
        for round_number in range(arguments.rounds):
            # Another tool goes first each time: what the machine does besides falls on all alike.
            first = round_number % len(tools)
            for tool in tools[first:] + tools[:first]:
                target = Path(folder) / "output"
                _remove(target)
                measured = run(tool.command(source, str(target)))
                runs[tool.name].append(measured)
                kept[tool.name], versions[tool.name] = tool.made(measured, str(target))
                sys.stderr.write(f"round {round_number + 1}: {tool.name}: {measured.wall:.2f} s\n")
                _remove(target)
    sys.stdout.write(_render(planted, arguments.rounds, runs, kept, versions))


def _render(
    planted: Planted, rounds: int, runs: dict[str, list[Measured]], kept: dict[str, int], versions: dict[str, str]
) -> str:
    megabytes = planted.bytes / 1e6
    expected = planted.rows - planted.exact
    ours = statistics.median(one.wall for one in runs["bgeprep shard"])
    rows = []
    for name, measured in runs.items():
        wall = statistics.median(one.wall for one in measured)
        rows.append(
            [
                f"{name} {versions[name]}",
                seconds(measured),
                f"{megabytes / wall:.0f}",
                f"{planted.rows / wall:,.0f}",
                f"{statistics.median(one.cpu for one in measured):.2f}",
                f"{max(one.peak for one in measured) / 1e6:.0f}",
                f"{kept[name]:,}" + ("" if kept[name] == expected else f" (expected {expected:,})"),
                f"{wall / ours:.2f}",
            ]
        )
    header = ["whole process", "wall s, median", "MB/s", "rows/s", "CPU s", "peak MB", "rows kept", "wall ÷ bgeprep"]
    return (
        f"{machine()}\n\n"
        f"{planted.rows:,} rows, {megabytes:.0f} MB of JSONL ({planted.bytes / planted.rows:.0f} bytes a row), "
        f"{planted.exact:,} exact and {planted.near:,} near copies planted; {rounds} interleaved rounds.\n\n"
        f"{table(header, rows)}\n"
    )


if __name__ == "__main__":
    main()
