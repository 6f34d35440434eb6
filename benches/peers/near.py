"""`bgeprep shard --dedup near` beside rensa, datasketch, text-dedup and datatrove: one file, one run.

python -m benches.peers.near --rows 200000 --shapes short

Each finds near duplicates among the passages of the same JSONL file in a process of its own and writes what stays.
bgeprep does it for queries too, verifies candidates by their true similarity, and does all else that `shard` does. A
peer that would take hours is given the first rows of the file (`--prefix`) and compared by rows a second: its index
stays smaller, which is to its favour. All use 128 permutations, the peers in 16 bands of 8; rensa and datasketch check
candidates by their estimated similarity, text-dedup and datatrove do not check. Peak memory is that of
the largest process of a tool. Prints Markdown.
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
from itertools import islice
from pathlib import Path

from benches.peers.corpus import TEXTS
from benches.peers.environments import interpreter
from benches.peers.measure import Measured, run
from benches.peers.report import machine, seconds, table

JOBS = Path(__file__).resolve().parent / "jobs"
# Rows that each peer is given at most.
PREFIXES = {"rensa": 200_000, "datasketch": 50_000, "text-dedup": 50_000, "datatrove": 50_000}


@dataclass(frozen=True)
class Tool:
    """One contestant: its command for (input, output), how to ask for rows kept and version, the most rows it gets."""

    name: str
    command: Callable[[str, str], list[str]]
    made: Callable[[Measured, str], tuple[int, str]]
    most_rows: int | None


@dataclass
class Outcome:
    """All runs of a tool on one file, and what the truth says of its output."""

    rows: int
    bytes: int
    runs: list[Measured]
    kept: int = 0
    version: str = ""
    judged: dict | None = None


def _bgeprep(arguments: argparse.Namespace) -> Tool:
    # The environment's folder, not what its python links to: the command lies beside the link.
    command = str(Path(sys.executable).parent / "bgeprep")
    flags = ["--dedup", arguments.dedup, "--threads", str(arguments.threads), "--memory", arguments.memory, "--quiet"]

    def made(_: Measured, target: str) -> tuple[int, str]:
        found = json.loads(run([command, "inspect", target, "--json"]).output)
        return found["rows_kept"], run([command, "--version"]).output.split()[1]

    return Tool(
        "bgeprep", lambda source, target: [command, "shard", "--in", source, "--out", target, *flags], made, None
    )


def _peer(name: str, most_rows: int) -> Tool:
    python = str(interpreter(name))
    job = str(JOBS / f"near_{name.replace('-', '_')}.py")

    def made(measured: Measured, _: str) -> tuple[int, str]:
        said = json.loads(measured.output.splitlines()[-1])
        return said["kept"], said["version"]

    return Tool(name, lambda source, target: [python, job, source, target], made, most_rows)


def _first_rows(source: Path, rows: int) -> Path:
    """The file with the first rows of another, made when first asked for."""
    path = source.with_name(f"{source.stem}-{rows}.jsonl")
    if not path.exists():
        with source.open("rb") as file, path.open("wb") as out:
            out.writelines(islice(file, rows))
    return path


def _judge(source: Path, truth: Path, target: Path, rows: int) -> dict:
    command = [sys.executable, "-m", "benches.peers.truth", "--corpus", source, "--truth", truth, "--found", target]
    return json.loads(run([*map(str, command), "--rows", str(rows)]).output)


def measure(
    arguments: argparse.Namespace, tools: list[Tool], shape: str, folder: Path
) -> tuple[str, dict[str, Outcome]]:
    """Runs every tool in every round on one file, the rounds interleaved; says what the file is."""
    source, truth = folder / f"{shape}.jsonl", folder / f"{shape}.parquet"
    sys.stderr.write(f"making {arguments.rows:,} {shape} rows\n")
    flags = {"--rows": arguments.rows, "--shape": shape, "--seed": arguments.seed, "--texts": arguments.texts}
    flags |= {"--out": source, "--truth": truth}
    words = [str(word) for flag in flags.items() for word in flag]
    planted = json.loads(run([sys.executable, "-m", "benches.peers.planted", *words]).output)
    outcomes: dict[str, Outcome] = {}
    files: dict[str, Path] = {}
    for tool in tools:
        rows = min(arguments.rows, tool.most_rows or arguments.rows)
        files[tool.name] = source if rows == arguments.rows else _first_rows(source, rows)
        outcomes[tool.name] = Outcome(rows, files[tool.name].stat().st_size, [])
    for round_number in range(arguments.rounds):
        # Another tool goes first each time: what the machine does besides falls on all alike.
        first = round_number % len(tools)
        for tool in tools[first:] + tools[:first]:
            target, outcome = folder / "output", outcomes[tool.name]
            measured = run(tool.command(str(files[tool.name]), str(target)))
            outcome.runs.append(measured)
            sys.stderr.write(f"{shape}, round {round_number + 1}: {tool.name}: {measured.wall:.2f} s\n")
            if outcome.judged is None:
                outcome.kept, outcome.version = tool.made(measured, str(target))
                outcome.judged = _judge(files[tool.name], truth, target, outcome.rows)
            shutil.rmtree(target)
    source.unlink()
    about = (
        f"**{shape}**: {planted['rows']:,} rows, {planted['bytes'] / 1e6:.0f} MB of JSONL "
        f"({planted['bytes'] / planted['rows']:.0f} bytes a row), {planted['exact']:,} exact and "
        f"{planted['near']:,} near copies planted, seed {arguments.seed}; {arguments.rounds} interleaved rounds."
    )
    return about, outcomes


def render_speed(outcomes: dict[str, Outcome]) -> str:
    """Table of figures and ratios."""
    rates = {name: one.rows / statistics.median(run.wall for run in one.runs) for name, one in outcomes.items()}
    rows = []
    for name, one in outcomes.items():
        wall = statistics.median(run.wall for run in one.runs)
        rows.append(
            [
                f"{name} {one.version}",
                f"{one.rows:,}",
                seconds(one.runs),
                f"{rates[name]:,.0f}",
                f"{one.bytes / 1e6 / wall:.1f}",
                f"{statistics.median(run.cpu for run in one.runs):.2f}",
                f"{max(run.peak for run in one.runs) / 1e6:.0f}",
                f"{one.kept:,}",
                f"{rates['bgeprep'] / rates[name]:.1f}",
            ]
        )
    header = ["whole process", "rows", "wall s, median", "rows/s", "MB/s", "CPU s", "peak MB", "rows kept"]
    return table([*header, "bgeprep's rows/s ÷ its"], rows)


def render_truth(outcomes: dict[str, Outcome]) -> str:
    """Table of recall and precision by side and language."""
    rows = []
    for name, one in outcomes.items():
        judged = one.judged or {}
        for found in judged["measures"]:
            left_out = f", {found['left_out']} left out" if found["left_out"] else ""
            rows.append(
                [
                    name,
                    f"{found['side']} {found['language']}",
                    f"{_share(found['found'], found['planted'])} ({found['planted']:,}{left_out})",
                    f"{_share(found['right'], found['checked'])} ({found['checked']:,})",
                ]
            )
        drops = judged["drops"]
        if drops["all"]:
            gone = f"{_share(drops['found'], drops['planted'])} ({drops['planted']:,})"
            right = f"{_share(drops['right'], drops['checked'])} ({drops['checked']:,} of {drops['all']:,})"
            rows.append([name, "rows dropped, both sides near", gone, right])
        rows += [
            [name, f"{space['name']}, its own estimate", _own(space["recall"]), _own(space["precision"])]
            for space in (judged["own"] or {}).get("spaces", [])
        ]
    return table(["found", "side", "recall at J ≥ 0.8 (planted)", "precision (checked)"], rows)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else "none"


def _own(estimate: dict | None) -> str:
    if not estimate:
        return "none"
    return f"{estimate['rate']:.4f} ({estimate['low']:.4f}-{estimate['high']:.4f}, {estimate['pairs']:,} pairs)"


def _prefix(text: str) -> tuple[str, int]:
    name, _, rows = text.partition("=")
    if name not in PREFIXES or not rows.isdigit():
        raise argparse.ArgumentTypeError(f"expected PEER=ROWS with a peer of {', '.join(PREFIXES)}, found {text!r}")
    return name, int(rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of each file (1000000)")
    parser.add_argument("--shapes", nargs="+", default=["short", "long"], help="lengths of rows (short long)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each tool (3)")
    parser.add_argument("--threads", type=int, default=2, help="worker threads of bgeprep (2)")
    parser.add_argument("--memory", default="256MiB", help="memory limit of bgeprep (256MiB)")
    parser.add_argument("--dedup", default="near", help="mode of bgeprep; exact as a control that finds none (near)")
    parser.add_argument("--seed", type=int, default=42, help="decides the corpus (42)")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="folder the sentences come from (the demo's data)")
    parser.add_argument("--work", type=Path, help="folder for the corpus and the outputs (a temporary one)")
    parser.add_argument("--only", nargs="*", help=f"peers to run: {', '.join(PREFIXES)} (all)")
    parser.add_argument(
        "--prefix",
        nargs="+",
        type=_prefix,
        default=[],
        metavar="PEER=ROWS",
        help="first rows that a peer gets (" + " ".join(f"{name}={rows}" for name, rows in PREFIXES.items()) + ")",
    )
    arguments = parser.parse_args()

    tools = [_bgeprep(arguments)]
    for name, most_rows in (PREFIXES | dict(arguments.prefix)).items():
        if arguments.only is None or name in arguments.only:
            try:
                tools.append(_peer(name, most_rows))
            except subprocess.CalledProcessError as error:
                sys.stderr.write(f"warning: {name} is not measured: its environment could not be made: {error}\n")
    sys.stdout.write(f"{machine()}\n")
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bgeprep-near-") as folder:
            about, outcomes = measure(arguments, tools, shape, Path(folder))
        sys.stdout.write(f"\n{about}\n\n{render_speed(outcomes)}\n\n{render_truth(outcomes)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
