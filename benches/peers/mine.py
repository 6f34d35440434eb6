"""`bgetrain mine` behind the encoder, beside bare faiss and `mine_hard_negatives` of sentence-transformers.

python -m benches.peers.mine --rounds 3

Random unit vectors of passages and queries lie on disk; nothing is embedded. Bare faiss builds an exact index and
searches it. The two miners also take what scores at most 0.95 of the positive's, 15 a query: sentence-transformers
into a dataset in memory, bgetrain into a file of JSON lines. Imports and the reading of texts are not timed, but stand
in the CPU seconds; peak memory is that of the whole process, imports included. bgetrain runs without torch here, as it
does behind an encoder in a process of its own, and once with it. Tools take turns in every round. The peer runs in an
environment of its own where this one lacks datasets. Prints Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
from pathlib import Path

from benches.peers.environments import interpreter
from benches.peers.loader import JOBS, Tool, take_turns
from benches.peers.measure import run
from benches.peers.report import machine, table


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=100_000, help="passages in the pool (100000)")
    parser.add_argument("--queries", type=int, default=10_000, help="queries (10000)")
    parser.add_argument("--dim", type=int, default=384, help="of the vectors (384)")
    parser.add_argument("--top", type=int, default=200, help="ranks looked at (200)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each tool (3)")
    parser.add_argument("--work", type=Path, help="folder for the vectors (a temporary one)")
    parser.add_argument("--without-peer", action="store_true", help="do not measure sentence-transformers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bgetrain-peers-") as folder:
        sizes = [str(size) for size in (arguments.passages, arguments.queries, arguments.dim)]
        run([sys.executable, str(JOBS / "mining.py"), folder, *sizes])
        given = [folder, str(arguments.top)]
        ours = [sys.executable, str(JOBS / "mining_bgetrain.py"), *given]
        tools = [
            Tool("faiss, IndexFlatIP", [sys.executable, str(JOBS / "mining_faiss.py"), *given]),
            Tool("bgetrain, search alone", [*ours, "--search"]),
            Tool("bgetrain, to the file", ours),
            Tool("bgetrain, with texts compared", [*ours, "--near", "0.5"]),
            Tool("bgetrain, to the file with torch loaded", [*ours, "--torch"]),
        ]
        if not arguments.without_peer:
            job = JOBS / "mining_sentence_transformers.py"
            tools.append(Tool("sentence-transformers, mine_hard_negatives", [_peer(), str(job), *given]))
        take_turns(tools, arguments.rounds)
    base, peer = tools[0], None if arguments.without_peer else tools[-1]
    rows = [
        [
            tool.versioned,
            f"{tool.rate:,.0f}",
            f"{tool.rate / base.rate:.2f}",
            f"{tool.rate / peer.rate:.2f}" if peer else "",
            f"{statistics.median(one.cpu for one in tool.runs):.1f}",
            f"{max(one.peak for one in tool.runs) / 1e6:,.0f}",
            f"{_peak(tool) / _peak(peer):.2f}" if peer else "",
        ]
        for tool in tools
    ]
    head = [
        "mining",
        "queries/s, median",
        "÷ bare faiss",
        "÷ the peer",
        "CPU s, imports included",
        "peak MB",
        "÷ the peer",
    ]
    sys.stdout.write(
        f"{machine()}\n\n{arguments.passages:,} passages x {arguments.dim}, {arguments.queries:,} queries, top "
        f"{arguments.top}, {arguments.rounds} rounds in turns.\n\n{table(head, rows)}\n"
    )


def _peak(tool: Tool) -> int:
    return max(one.peak for one in tool.runs)


def _peer() -> str:
    """A Python that has sentence-transformers, datasets and faiss: this one, or one made for it."""
    if all(importlib.util.find_spec(name) for name in ("faiss", "sentence_transformers", "datasets")):
        return sys.executable
    return str(interpreter("mining"))


if __name__ == "__main__":
    main()
