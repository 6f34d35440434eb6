"""Peak memory, time and spilled bytes of `bgeprep shard` as the input grows: the first is to stay where it is.

python -m benches.peers.memory --rows 200000 1000000
python -m benches.peers.memory --rows 1000000 3000000 10000000 --dedup near

With near dedup the input is the short rows of `benches.peers.planted`, else those of `benches.peers.corpus`. The work
files go to a folder of their own, whose size on disk is looked at every fifth of a second. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from benches.peers.corpus import TEXTS
from benches.peers.measure import DiskPeak, run
from benches.peers.report import machine, table


def _make(source: Path, rows: int, arguments: argparse.Namespace) -> float:
    """Writes a corpus; its size in megabytes."""
    flags = {"--rows": rows, "--seed": arguments.seed, "--texts": arguments.texts, "--out": source}
    module = "corpus"
    if arguments.dedup == "near":
        module = "planted"
        flags |= {"--shape": "short", "--truth": source.with_suffix(".parquet")}
    words = [str(word) for flag in flags.items() for word in flag]
    return json.loads(run([sys.executable, "-m", f"benches.peers.{module}", *words]).output)["bytes"] / 1e6


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 1_000_000], help="sizes (200000 1000000)")
    parser.add_argument("--memory", nargs="+", default=[], help="values of --memory to try (bgeprep's default)")
    parser.add_argument("--threads", type=int, help="worker threads (all cores)")
    parser.add_argument("--dedup", choices=["exact", "near"], default="exact", help="mode of bgeprep (exact)")
    parser.add_argument("--seed", type=int, default=42, help="decides the corpus (42)")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="folder the sentences come from (the demo's data)")
    parser.add_argument("--work", type=Path, help="folder for corpus and shards (a temporary one)")
    arguments = parser.parse_args()

    command = str(Path(sys.executable).parent / "bgeprep")
    rows: list[list[str]] = []
    for count in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bgeprep-memory-") as folder:
            source = Path(folder) / "corpus.jsonl"
            sys.stderr.write(f"making {count:,} rows\n")
            megabytes = _make(source, count, arguments)
            hashes = set()
            for memory in arguments.memory or [""]:
                target, work = Path(folder) / "shards", Path(folder) / "work"
                flags = ["--dedup", arguments.dedup, "--tmp", str(work), "--quiet"]
                flags += ["--memory", memory] if memory else []
                flags += ["--threads", str(arguments.threads)] if arguments.threads else []
                with DiskPeak(work) as spilled:
                    measured = run([command, "shard", "--in", str(source), "--out", str(target), *flags])
                hashes.add(json.loads(run([command, "inspect", str(target), "--json"]).output)["hash"])
                shutil.rmtree(target)
                rows.append(
                    [
                        f"{count:,}",
                        f"{megabytes:.0f}",
                        memory or "default",
                        f"{measured.peak / 1e6:.0f}",
                        f"{measured.wall:.2f}",
                        f"{megabytes / measured.wall:.0f}",
                        f"{count / measured.wall:,.0f}",
                        f"{spilled.peak / 1e6:.0f}",
                        f"{spilled.peak / 1e6 / megabytes:.2f}",
                    ]
                )
                sys.stderr.write(f"{count:,} rows, --memory {memory or 'default'}: {measured.peak / 1e6:.0f} MB\n")
            if len(hashes) != 1:
                raise SystemExit(
                    f"error: {count:,} rows: --memory changed the bytes of the shard set: {sorted(hashes)}"
                )
    header = ["rows", "MB", "--memory", "peak MB", "wall s", "MB/s", "rows/s", "spilled MB, peak", "spilled ÷ input"]
    sys.stdout.write(f"{machine()}\n\n--dedup {arguments.dedup}\n\n{table(header, rows)}\n")


if __name__ == "__main__":
    main()
