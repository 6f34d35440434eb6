"""Vectors, pairs and pool that every mining job works on; what a bench makes once.

`python mining.py FOLDER PASSAGES QUERIES DIM`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import bgeprep
from bgetrain.mine_run import Embedded
from bgetrain.pool import PositiveTexts, TextStore
from bgetrain.resumable import shared_parts
from bgetrain.texts import ShardTexts, Texts, open_texts
from bgetrain.vectors import _names, _rows_of_a_part, _write_part


def passage(number: int) -> str:
    """A passage's text, which carries its number."""
    return f"passage {number} " + " ".join(f"w{(number * 7 + place * place) % 5000}" for place in range(60))


def texts_of(folder: Path) -> dict[str, Texts]:
    """Queries and positives of the folder's set, and its pool."""
    return {
        "queries": ShardTexts(folder / "shards", "queries"),
        "positives": PositiveTexts(folder / "shards"),
        "passages": open_texts(folder / "pool.jsonl", "passages"),
    }


def embedded(folder: Path, note: str = "bench") -> Embedded:
    """What `bgetrain mine` finds behind the encoder: vectors and texts, each opened by its path."""
    paths = json.loads((folder / "stores.json").read_text(encoding="utf-8"))
    stores = {role: Path(path) for role, path in paths.items()}
    return Embedded(note=note, vectors={role: folder / "vectors" / role for role in stores}, stores=stores)


def leave(folder: Path, vectors: Callable[[str, Texts], np.ndarray]) -> None:
    """Writes what `embedded` opens: vectors as `bgetrain encode` leaves them, and the stores of the texts."""
    stores = {}
    for role, texts in texts_of(folder).items():
        write_vectors(folder / "vectors" / role, texts, vectors(role, texts))
        stores[role] = str(TextStore.make(folder / "texts", texts))
    (folder / "stores.json").write_text(json.dumps(stores), encoding="utf-8")


def write_vectors(folder: Path, texts: Texts, vectors: np.ndarray) -> None:
    """Vectors in the order of the texts, part by part."""
    size = _rows_of_a_part(len(texts), 512)
    starts = range(0, len(texts), size)
    said = dict.fromkeys(("model", "texts", "prompt", "max_length", "precision"), "bench")
    work = said | {"dtype": "float32", "rows": len(texts), "dim": vectors.shape[1], "part_rows": size}
    files = [_names(number) for number in range(len(starts))]
    keys = [key for key, _ in texts]
    with shared_parts(folder, "vectors", work, files, ranks=None, overwrite=True) as own:
        for number in own:
            here = slice(starts[number], starts[number] + size)
            _write_part(folder, number, vectors[here], keys[here])


def main() -> None:
    """Random unit vectors; query i is near passage i."""
    folder, (passages, queries, dim) = Path(sys.argv[1]), map(int, sys.argv[2:5])
    generator = np.random.default_rng(42)
    pool = generator.standard_normal((passages, dim), dtype=np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    near = pool[np.arange(queries) % passages]
    asked = near + generator.standard_normal((queries, dim), dtype=np.float32) * np.float32(1.5 / dim**0.5)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    np.save(folder / "pool.npy", pool)
    np.save(folder / "queries.npy", asked)
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for number in range(queries):
            file.write(json.dumps({"query": f"query {number}", "pos": [passage(number % passages)]}) + "\n")
    with (folder / "pool.jsonl").open("w", encoding="utf-8") as file:
        for number in range(passages):
            file.write(json.dumps({"text": passage(number)}) + "\n")
    once = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"))
    bgeprep.shard(folder / "pairs.jsonl", folder / "shards", config=once)

    def looked_up(role: str, texts: Texts) -> np.ndarray:
        numbers = [int(text.split()[1]) for _, text in texts]
        return (asked if role == "queries" else pool)[numbers]

    leave(folder, looked_up)


if __name__ == "__main__":
    main()
