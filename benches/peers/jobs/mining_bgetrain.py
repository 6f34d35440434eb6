"""`bgetrain mine` behind the encoder: vectors, a shard set and texts on disk → JSON lines with 15 negatives a row.

`--search` times the search alone. The candidates are checked for near copies of positives with `--near`, and torch is
imported beforehand with `--torch`, as where a process has embedded the texts itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np
from mining import embedded

from bgetrain.mine import add_arguments, work_of
from bgetrain.mine_run import mine
from bgetrain.neighbours import QUERY_BLOCK, Neighbours
from bgetrain.vectors import open_vectors


def main() -> None:
    """Times one of the two."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("depth", type=int)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--near", default="off")
    parser.add_argument("--torch", action="store_true")
    arguments = parser.parse_args()
    import faiss  # noqa: F401 - not timed, as in the other jobs

    if arguments.torch:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    folder = arguments.folder
    count = open_vectors(folder / "vectors" / "queries").rows
    began = time.perf_counter()
    if arguments.search:
        pool, queries = (open_vectors(folder / "vectors" / role) for role in ("passages", "queries"))
        found = Neighbours(pool)
        for start in range(0, count, QUERY_BLOCK):
            block = np.arange(start, min(start + QUERY_BLOCK, count))
            found.search(queries.rows_at(block), arguments.depth)
    else:
        whole(folder, arguments.depth, arguments.near)
    print(json.dumps({"pairs": count, "seconds": time.perf_counter() - began, "version": ""}))


def whole(folder: Path, depth: int, near: str) -> None:
    """From vectors to the file: all that the command does but for the model."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    out = folder / "mined.jsonl"
    for path in (out, out.with_name("mined.jsonl.mine.json")):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / "mined.jsonl.work", ignore_errors=True)
    flags = ["--model", "bench", "--data", str(folder / "shards"), "--pool", str(folder / "pool.jsonl")]
    flags += ["--out", str(out), "--range", f"0-{depth}", "--sampling", "top", "--near", near, "--quiet"]
    mine(work_of(parser.parse_args(flags)), embedded(folder))


if __name__ == "__main__":
    main()
