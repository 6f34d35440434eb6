"""`bgetrain mine` behind the encoder, beside bare faiss and `mine_hard_negatives` of sentence-transformers.

python -m benches.peers.mine --rounds 3

Random unit vectors of passages and queries lie on disk; nothing is embedded. Bare faiss builds an exact index and
searches it. The two miners also take what scores at most 0.95 of the positive's, 15 a query: sentence-transformers
into a dataset in memory, bgetrain into a file of JSON lines. Peak memory is that of the whole process. Tools take turns
in every round. Run it with a Python that has faiss-cpu, sentence-transformers and datasets. Prints Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

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
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bgetrain-peers-") as folder:
        sizes = [str(size) for size in (arguments.passages, arguments.queries, arguments.dim)]
        run([sys.executable, str(JOBS / "mining.py"), folder, *sizes])
        shards = ["--in", f"{folder}/pairs.jsonl", "--out", f"{folder}/shards", "--dedup", "exact", "--quiet"]
        run([sys.executable, "-m", "bgeprep", "shard", *shards])
        given = [folder, str(arguments.top)]
        jobs = {
            "faiss, IndexFlatIP": ["mining_faiss.py", *given],
            "bgetrain, search alone": ["mining_bgetrain.py", *given, "--search"],
            "bgetrain, to the file": ["mining_bgetrain.py", *given],
            "bgetrain, with texts compared": ["mining_bgetrain.py", *given, "--near", "0.5"],
            "sentence-transformers, mine_hard_negatives": ["mining_sentence_transformers.py", *given],
        }
        tools = [Tool(name, [sys.executable, str(JOBS / job), *flags]) for name, (job, *flags) in jobs.items()]
        take_turns(tools, arguments.rounds)
    base = statistics.median(said["seconds"] for said in tools[0].said)
    rows = [
        [tool.versioned, f"{tool.rate:,.0f}", f"{max(one.peak for one in tool.runs) / 1e6:,.0f}",
         f"{base / tool.median('seconds'):.2f}"]
        for tool in tools
    ]  # fmt: skip
    head = ["mining", "queries/s, median", "peak MB", "÷ bare faiss"]
    sys.stdout.write(f"{machine()}\n\n{table(head, rows)}\n")


if __name__ == "__main__":
    main()
