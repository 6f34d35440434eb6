"""A loader in memory that yields what `bgeprep.BatchLoader` yields, for tests of the trainer alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FakeRow:
    """One pair: token ids and keys."""

    row_id: int
    query: list[int]
    documents: list[list[int]]
    query_key: int
    document_keys: list[int]
    known: list[int]
    source: int = 0
    scores: list[float] | None = None


def random_rows(
    count: int, *, vocabulary: int, seed: int, negatives: int = 2, sources: int = 1, ragged: bool = True
) -> list[FakeRow]:
    """Rows of unequal length with planted repeats: shared documents, known positives as negatives, equal keys.

    Every row but each seventh has scores, as from a teacher. `ragged` rows hold up to `negatives`, others just as many.
    """
    rng = np.random.default_rng(seed)
    documents = [rng.integers(5, vocabulary, rng.integers(3, 14)).tolist() for _ in range(count + count // 2)]
    rows = []
    for index in range(count):
        # some rows share a positive with the row before: the same text, the same key, another query
        positive = index - 1 if index % 5 == 4 else index
        extra = int(rng.integers(0, negatives + 1)) if ragged else negatives
        chosen = [positive, *rng.integers(0, len(documents), extra).tolist()]
        known = [1000 + positive] + ([1000 + (index + 1) % count] if index % 3 == 0 else [])
        rows.append(
            FakeRow(
                row_id=7 * index + 3,
                query=rng.integers(5, vocabulary, rng.integers(3, 9)).tolist(),
                documents=[documents[place] for place in chosen],
                query_key=2**63 + index,
                document_keys=[1000 + place for place in chosen],
                known=known,
                source=index * sources // count,
                scores=None if index % 7 == 6 else rng.normal(size=len(chosen)).round(1).tolist(),
            )
        )
    return rows


def _flat(texts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *(len(text) for text in texts)], dtype=np.int64)
    return np.array([token for text in texts for token in text], dtype=np.int32), offsets


def make_batch(rows: list[FakeRow], *, step: int, epoch: int, global_rows: int, state: dict[str, Any]) -> Any:
    """The rows of one rank as a batch."""
    query_ids, query_offsets = _flat([row.query for row in rows])
    doc_ids, doc_offsets = _flat([document for row in rows for document in row.documents])
    _, known_offsets = _flat([row.known for row in rows])
    return SimpleNamespace(
        step=step,
        epoch=epoch,
        source=f"source-{rows[0].source}" if rows else None,
        global_rows=global_rows,
        row_ids=np.array([row.row_id for row in rows], dtype=np.uint64),
        source_ids=np.array([row.source for row in rows], dtype=np.uint32),
        query_ids=query_ids,
        query_offsets=query_offsets,
        doc_ids=doc_ids,
        doc_offsets=doc_offsets,
        doc_rows=np.repeat(np.arange(len(rows)), [len(row.documents) for row in rows]).astype(np.int64),
        doc_is_positive=np.array([i == 0 for row in rows for i in range(len(row.documents))], dtype=np.bool_),
        query_keys=np.array([row.query_key for row in rows], dtype=np.uint64),
        doc_keys=np.array([key for row in rows for key in row.document_keys], dtype=np.uint64),
        known_keys=np.array([key for row in rows for key in row.known], dtype=np.uint64),
        known_offsets=known_offsets,
        doc_scores=np.array(
            [score for row in rows for score in row.scores or [np.nan] * len(row.documents)], dtype=np.float32
        ),
        state=state,
    )


class FakeLoader:
    """Batches in a seeded order; a rank takes every `world_size`-th row of a batch."""

    def __init__(
        self,
        rows: list[FakeRow],
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        epochs: int = 1,
        max_steps: int | None = None,
    ) -> None:
        self.rows, self.batch_size, self.rank, self.world_size, self.seed = rows, batch_size, rank, world_size, seed
        self.per_epoch = -(-len(rows) // batch_size)
        self.steps = max_steps or self.per_epoch * epochs
        self.done = 0
        self.closed = False

    def __len__(self) -> int:
        return self.steps

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = int(state["done"])

    def close(self) -> None:
        self.closed = True

    def __iter__(self) -> Any:
        while self.done < self.steps:
            epoch, place = divmod(self.done, self.per_epoch)
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
            chosen = [self.rows[i] for i in order[place * self.batch_size : (place + 1) * self.batch_size]]
            self.done += 1
            yield make_batch(
                chosen[self.rank :: self.world_size],
                step=self.done - 1,
                epoch=epoch,
                global_rows=len(chosen),
                state={"done": self.done},
            )


def on_one_source(rows: list[FakeRow]) -> list[FakeRow]:
    """The same rows, all of source 0."""
    return [replace(row, source=0) for row in rows]
