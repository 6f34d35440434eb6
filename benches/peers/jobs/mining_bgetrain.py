"""`bgetrain mine` behind the encoder: vectors, a shard set and a pool on disk → JSON lines with 15 negatives a row.

`--search` times the search alone. The candidates are checked for near copies of positives with `--near`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class Mapped:
    """An array on disk with the face of `bgetrain.vectors.Vectors`."""

    def __init__(self, vectors: np.ndarray, order: np.ndarray | None = None) -> None:
        """Vectors, and the row of each text where the texts have another order."""
        self._vectors, self._order = vectors, order
        self.rows, self.dim = (len(vectors) if order is None else len(order)), vectors.shape[1]
        self.manifest = dict.fromkeys(("model", "texts", "prompt", "max_length", "dtype", "precision"), "bench")

    def parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """See `Vectors`."""
        for first in range(0, self.rows, 65_536):
            yield first, self._vectors[first : first + 65_536]

    def rows_at(self, places: np.ndarray) -> np.ndarray:
        """See `Vectors`."""
        return np.asarray(self._vectors[places if self._order is None else self._order[places]], dtype=np.float32)


def main() -> None:
    """Times one of the two."""
    from bgetrain.neighbours import QUERY_BLOCK, Neighbours

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("depth", type=int)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--near", type=float)
    arguments = parser.parse_args()
    folder = arguments.folder
    pool, queries = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pool", "queries"))
    began = time.perf_counter()
    if arguments.search:
        found = Neighbours(Mapped(pool))
        for start in range(0, len(queries), QUERY_BLOCK):
            found.search(np.asarray(queries[start : start + QUERY_BLOCK]), arguments.depth)
    else:
        whole(arguments, pool, queries)
    print(json.dumps({"pairs": len(queries), "seconds": time.perf_counter() - began, "version": ""}))


def whole(arguments: argparse.Namespace, pool: np.ndarray, queries: np.ndarray) -> None:
    """From vectors to the file."""
    from bgeprep.jsonl import lines
    from bgeprep.shardset import ShardSet
    from bgetrain.gather import Ranks
    from bgetrain.mine import _Change
    from bgetrain.mining import Mining, mine_blocks
    from bgetrain.negatives import Rules
    from bgetrain.neighbours import SearchOptions
    from bgetrain.pool import KnownPositives, PositiveTexts, TextStore, keys_of, places_of
    from bgetrain.texts import ShardTexts, open_texts

    folder, work = arguments.folder, arguments.folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shards = folder / "shards"
    asked, answers = ShardTexts(shards, "queries"), PositiveTexts(shards)
    texts = open_texts(folder / "pool.jsonl", "passages")
    store, answer_store = TextStore(work, texts), TextStore(work, answers)
    known = KnownPositives(shards, asked)
    rules = Rules(last=arguments.depth)
    mining = Mining(
        queries=Mapped(queries, np.array([int(text.split()[1]) for _, text in asked])),  # type: ignore[arg-type]
        pool=Mapped(pool),  # type: ignore[arg-type]
        pool_keys=keys_of(texts, store, folder / "pool.jsonl"),
        exact_keys=np.asarray(store.exact_keys),
        known=known,
        positives=Mapped(pool, np.array([int(text.split()[1]) for _, text in answers])),  # type: ignore[arg-type]
        positive_places=places_of(known.positives, np.asarray(answer_store.exact_keys)),
        rules=rules,
        search=SearchOptions(),
        near=arguments.near,
        pool_texts=store,
        positive_texts=answer_store,
    )
    chosen = mine_blocks(mining, work / "chosen", ranks=Ranks())
    change = _Change(chosen, known, store, rules, "replace", scores=False)
    with (work / "mined.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(lines(ShardSet.open(shards), change=change))


if __name__ == "__main__":
    main()
