"""Bare faiss: an exact index of all passages, all queries searched in it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import faiss
import numpy as np


def main() -> None:
    """Times index and search."""
    folder, depth = Path(sys.argv[1]), int(sys.argv[2])
    pool, queries = np.load(folder / "pool.npy"), np.load(folder / "queries.npy")
    began = time.perf_counter()
    index = faiss.IndexFlatIP(pool.shape[1])
    index.add(pool)
    index.search(queries, depth)
    seconds = time.perf_counter() - began
    print(json.dumps({"pairs": len(queries), "seconds": seconds, "version": faiss.__version__}))


if __name__ == "__main__":
    main()
