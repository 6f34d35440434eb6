"""Peak memory of `bgeprep shard` as the input grows: it is to stay where it is.

python -m benches.peers.memory --rows 200000 1000000

Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benches.peers.corpus import TEXTS, make_corpus
from benches.peers.measure import run
from benches.peers.report import machine, table


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 1_000_000], help="sizes (200000 1000000)")
    parser.add_argument("--memory", nargs="+", default=[], help="values of --memory to try (bgeprep's default)")
    parser.add_argument("--threads", type=int, help="worker threads (all cores)")
    parser.add_argument("--seed", type=int, default=42, help="decides the corpus (42)")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="folder the sentences come from (the demo's data)")
    parser.add_argument("--work", type=Path, help="folder for corpus and shards (a temporary one)")
    arguments = parser.parse_args()

    command = str(Path(sys.executable).parent / "bgeprep")
    rows: list[list[str]] = []
    for count in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bgeprep-memory-") as folder:
            source = Path(folder) / "corpus.jsonl"
            megabytes = make_corpus(source, count, arguments.seed, arguments.texts).bytes / 1e6
            hashes = set()
            for number, memory in enumerate(arguments.memory or [""]):
                target = str(Path(folder) / f"shards-{number}")
                flags = ["--memory", memory] if memory else []
                flags += ["--threads", str(arguments.threads)] if arguments.threads else []
                measured = run([command, "shard", "--in", str(source), "--out", target, "--quiet", *flags])
                hashes.add(json.loads(run([command, "inspect", target, "--json"]).output)["hash"])
                rows.append(
                    [
                        f"{count:,}",
                        f"{megabytes:.0f}",
                        memory or "default",
                        f"{measured.peak / 1e6:.0f}",
                        f"{measured.wall:.2f}",
                        f"{megabytes / measured.wall:.0f}",
                    ]
                )
                sys.stderr.write(f"{count:,} rows, --memory {memory or 'default'}: {measured.peak / 1e6:.0f} MB\n")
            if len(hashes) != 1:
                raise SystemExit(
                    f"error: {count:,} rows: --memory changed the bytes of the shard set: {sorted(hashes)}"
                )
    header = ["rows", "MB", "--memory", "peak MB", "wall s", "MB/s"]
    sys.stdout.write(f"{machine()}\n\n{table(header, rows)}\n")


if __name__ == "__main__":
    main()
