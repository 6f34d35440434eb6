"""Vectors, pairs and pool that every mining job works on; what a bench makes once.

`python mining.py FOLDER PASSAGES QUERIES DIM`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def passage(number: int) -> str:
    """A passage's text, which carries its number."""
    return f"passage {number} " + " ".join(f"w{(number * 7 + place * place) % 5000}" for place in range(60))


def main() -> None:
    """Random unit vectors; query i is near passage i."""
    folder, (passages, queries, dim) = Path(sys.argv[1]), map(int, sys.argv[2:5])
    generator = np.random.default_rng(42)
    pool = generator.standard_normal((passages, dim), dtype=np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    asked = pool[:queries] + generator.standard_normal((queries, dim), dtype=np.float32) * np.float32(1.5 / dim**0.5)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    np.save(folder / "pool.npy", pool)
    np.save(folder / "queries.npy", asked)
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for number in range(queries):
            file.write(json.dumps({"query": f"query {number}", "pos": [passage(number)]}) + "\n")
    with (folder / "pool.jsonl").open("w", encoding="utf-8") as file:
        for number in range(passages):
            file.write(json.dumps({"text": passage(number)}) + "\n")


if __name__ == "__main__":
    main()
