"""`BatchLoader` beside the data paths of sentence-transformers and FlagEmbedding: one file, one run.

python -m benches.peers.loader --rows 200000 --rounds 5 --shards ten-million/shards

1. Pairs a second: rows of the corpus of `benches.peers.corpus` (1.2 KB) become padded tensors, queries of 64 tokens at
   most and positives of 256, with the tokenizer of one model. The peers run as their trainers run them, a collator in
   torch's DataLoader, once in the trainer's process and once in worker processes, one a core; bgeprep reads the shard
   set made of the file. Imports are not timed, nor what is made once for a file, which has a column of its own.
2. Time to the first batch and private memory above a bare `import torch`, by rows: the set just made and those given.
3. Batches without duplicates: the plan beside sentence-transformers' sampler, which knows equal texts only.

Tools take turns in every round. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benches.peers.corpus import TEXTS, make_corpus
from benches.peers.environments import interpreter
from benches.peers.measure import Measured, run
from benches.peers.report import machine, table
from bgetrain.model_folder import installed_demo_model

JOBS = Path(__file__).resolve().parent / "jobs"
# Both peers live in one environment, since FlagEmbedding needs the other.
PEERS = "flagembedding"
BATCHES_FOR_MEMORY = 50


@dataclass
class Tool:
    """One contestant: its command, and what its runs said of themselves."""

    name: str
    command: list[str]
    runs: list[Measured] = field(default_factory=list)
    said: list[dict] = field(default_factory=list)

    def go(self) -> dict:
        """Runs it once."""
        measured = run(self.command)
        self.runs.append(measured)
        self.said.append(json.loads(measured.output.splitlines()[-1]))
        return self.said[-1]

    def median(self, name: str) -> float:
        """Of what the runs said under a name."""
        return statistics.median(said[name] for said in self.said)

    @property
    def versioned(self) -> str:
        """Its name with the version of the library."""
        library, comma, variant = self.name.partition(",")
        return f"{library} {self.said[-1]['version']}{comma}{variant}"

    @property
    def rate(self) -> float:
        """Pairs a second, median."""
        return statistics.median(said["pairs"] / said["seconds"] for said in self.said)


def take_turns(tools: Sequence[Tool], rounds: int) -> None:
    """Runs every tool in every round, another one first each time: what the machine does besides falls on all alike."""
    for round_number in range(rounds):
        first = round_number % len(tools)
        for tool in [*tools[first:], *tools[:first]]:
            said = tool.go()
            sys.stderr.write(
                f"round {round_number + 1}: {tool.name}: {said['pairs'] / said['seconds']:,.0f} a second\n"
            )


def _loading_tools(
    arguments: argparse.Namespace, python: Path | None, source: Path, shards: Path, cache: Path
) -> list[Tool]:
    flags = ["--tokenizer", str(arguments.tokenizer), "--cache", str(cache), "--batch-size", str(arguments.batch_size)]
    flags += ["--group", str(arguments.group)]
    ours = [sys.executable, str(JOBS / "loading_bgeprep.py"), "--source", str(shards), *flags]
    tools = [Tool("bgeprep", ours)]
    if python is None:
        return tools
    for name in ("sentence-transformers", "FlagEmbedding"):
        job = JOBS / f"loading_{name.lower().replace('-', '_')}.py"
        most = ["--batches", str(arguments.peer_batches)] if arguments.peer_batches else []
        for workers in (0, len(os.sched_getaffinity(0))):
            command = [str(python), str(job), "--source", str(source), *flags, *most, "--workers", str(workers)]
            tools.append(Tool(f"{name}, {workers} workers", command))
    return tools


def render_loading(tools: Sequence[Tool]) -> str:
    """Table of pairs a second and padding."""
    rows = []
    for tool in tools:
        said = tool.said[-1]
        rows.append(
            [
                tool.versioned,
                f"{said['pairs']:,}",
                f"{tool.rate:,.0f}",
                f"{said['tokens'] / said['counted']:.0f}",
                f"{1 - said['tokens'] / said['padded']:.1%}",
                f"{tool.median('first'):.2f}",
                # The libraries find the copy of the first round again.
                f"{max(said['prepared'] for said in tool.said):.2f}",
                f"{statistics.median(one.cpu for one in tool.runs):.1f}",
                f"{max(one.peak for one in tool.runs) / 1e6:.0f}",
                f"{tools[0].rate / tool.rate:.1f}",
            ]
        )
    header = ["disk → padded tensors", "pairs", "pairs/s, median", "tokens a pair", "padding", "first batch s"]
    return table([*header, "made once s", "CPU s", "peak MB", "bgeprep's pairs/s ÷ its"], rows)


def render_memory(arguments: argparse.Namespace, sets: Sequence[Path]) -> str:
    """Table of time to the first batch and memory, each set in processes of its own, with its slope."""
    rows, points = [], []
    for shards in sets:
        base = [sys.executable, str(JOBS / "loader_memory.py"), str(shards), str(arguments.tokenizer)]
        base += [str(arguments.batch_size), str(BATCHES_FOR_MEMORY)]
        cold, warm = Tool("cold", [*base, "1"]), Tool("warm", [*base, "0"])
        for tool in [cold, *[warm] * arguments.rounds]:
            tool.go()
        count = warm.said[0]["rows"]
        above = {
            name: statistics.median(said["above"][name] for said in warm.said) for name in ("Anonymous", "Pss", "Rss")
        }
        points.append((count, above["Anonymous"]))
        sys.stderr.write(f"{count:,} rows: first batch {warm.median('first'):.2f} s\n")
        rows.append(
            [
                f"{count:,}",
                f"{warm.median('first'):.2f}",
                f"{cold.said[0]['first']:.2f}",
                f"{above['Anonymous'] / 1e6:.0f}",
                f"{above['Pss'] / 1e6:.0f}",
                f"{above['Rss'] / 1e6:.0f}",
            ]
        )
    header = ["rows", "first batch s, median", "parts not in memory", "private MB", "Pss MB", "RSS MB"]
    text = table(header, rows)
    (least, least_bytes), (most, most_bytes) = min(points), max(points)
    if most > least:
        slope = (most_bytes - least_bytes) / (most - least)
        text += f"\n\nPrivate memory grows by {slope:.1f} bytes a row from {least:,} to {most:,} rows."
    return text


def _sampler_tools(
    arguments: argparse.Namespace, python: Path | None, source: Path, shards: Path, cache: Path
) -> tuple[list[Tool], Tool]:
    plan = [sys.executable, str(JOBS / "plan_bgeprep.py"), str(shards)]
    tools = [Tool("bgeprep, plan", [*plan, "4096"])]
    if python is not None:
        job = [str(python), str(JOBS / "no_duplicates.py"), str(source), str(cache), "4096"]
        tools += [
            Tool(f"sentence-transformers, {variant}", [*job, variant])
            for variant in ("plain", "hashed")
            if variant not in arguments.without
        ]
    return tools, Tool("bgeprep, plan", [*plan, "32768"])


def render_samplers(tools: Sequence[Tool], large: Tool) -> str:
    """Table of pairs a second."""
    rows = [
        [
            tool.versioned,
            size,
            f"{tool.said[-1]['pairs']:,}",
            f"{tool.rate:,.0f}",
            f"{tools[0].rate / tool.rate:.1f}" if size == "4,096" else "",
        ]
        for tool, size in [*((tool, "4,096") for tool in tools), (large, "32,768")]
    ]
    return table(["no duplicates", "batch", "pairs", "pairs/s, median", "bgeprep's pairs/s ÷ its"], rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the file (200000)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each tool (5)")
    parser.add_argument("--batch-size", type=int, default=1024, help="pairs a batch (1024)")
    parser.add_argument("--group", type=int, default=1, choices=[1, 2], help="documents a row; 1: no negative (1)")
    parser.add_argument("--peer-batches", type=int, help="batches that a peer makes at most; the first ones (all)")
    parser.add_argument("--shards", type=Path, nargs="*", default=[], help="more shard sets for the table of memory")
    parser.add_argument("--tokenizer", type=Path, default=installed_demo_model(), help="model folder (the demo's)")
    parser.add_argument("--seed", type=int, default=42, help="decides the corpus (42)")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="folder the sentences come from (the demo's data)")
    parser.add_argument("--work", type=Path, help="folder for the corpus and the outputs (a temporary one)")
    choices = ["peers", "plain", "hashed", "loading", "memory", "samplers"]
    parser.add_argument("--without", nargs="*", default=[], choices=choices, help="what not to measure")
    arguments = parser.parse_args()
    if arguments.tokenizer is None:
        parser.error("the demo's model is not installed; name a model folder with --tokenizer")

    os.environ["HF_HUB_OFFLINE"] = "1"
    python = None
    if "peers" not in arguments.without:
        try:
            python = interpreter(PEERS)
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"warning: the peers are not measured: their environment could not be made: {error}\n")
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bgeprep-loader-") as folder:
        source, shards, cache = Path(folder) / "corpus.jsonl", Path(folder) / "shards", Path(folder) / "cache"
        sys.stderr.write(f"making {arguments.rows:,} rows\n")
        planted = make_corpus(source, arguments.rows, arguments.seed, arguments.texts)
        # The environment's folder, not what its python links to: the command lies beside the link.
        command = str(Path(sys.executable).parent / "bgeprep")
        prepared = run([command, "shard", "--in", str(source), "--out", str(shards), "--dedup", "exact", "--quiet"])
        sys.stdout.write(
            f"{machine()}\n\n{planted.rows:,} rows, {planted.bytes / planted.rows:.0f} bytes of JSONL a row, seed "
            f"{arguments.seed}; batches of {arguments.batch_size:,}; {arguments.rounds} interleaved rounds. "
            "Made once: for bgeprep the shard set, for the peers the Arrow copy.\n"
        )
        if "loading" not in arguments.without:
            tools = _loading_tools(arguments, python, source, shards, cache)
            take_turns(tools, arguments.rounds)
            tools[0].said = [said | {"prepared": prepared.wall} for said in tools[0].said]
            sys.stdout.write(f"\n{render_loading(tools)}\n")
            sys.stdout.flush()
        if "memory" not in arguments.without:
            sys.stdout.write(f"\n{render_memory(arguments, [shards, *arguments.shards])}\n")
            sys.stdout.flush()
        if "samplers" not in arguments.without:
            tools, large = _sampler_tools(arguments, python, source, shards, cache)
            take_turns([*tools, large], arguments.rounds)
            sys.stdout.write(f"\n{render_samplers(tools, large)}\n")
        shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
