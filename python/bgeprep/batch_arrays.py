"""What a `BatchLoader` and a plan yield: `Batch`, the padded rectangles of `layout="padded"`, and `GlobalBatch`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Batch", "Chunk", "GlobalBatch"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GlobalBatch:
    """The rows that one optimiser step trains on, over all ranks: n rows and their documents, k negatives in all.

    Attributes:
        step: counts over the run, from 0.
        epoch: from 0.
        source: name of the source all rows come from; None where a batch mixes sources.
        rows: uint64[n], places of the rows in the shard set, in the order they were placed.
        positives: int32[n], the place of each row's positive in its `pos`.
        negatives: int32[k], the places of all chosen negatives in their rows' `neg`, row after row.
        negative_offsets: int64[n + 1]; row i owns `negatives[negative_offsets[i]:negative_offsets[i + 1]]`.
    """

    step: int
    epoch: int
    source: str | None
    rows: npt.NDArray[np.uint64]
    positives: npt.NDArray[np.int32]
    negatives: npt.NDArray[np.int32]
    negative_offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def negatives_of(self, place: int) -> npt.NDArray[np.int32]:
        """Places of the negatives of the row at a place of the batch, in its `neg`."""
        return self.negatives[self.negative_offsets[place] : self.negative_offsets[place + 1]]

    def as_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON: `{"step", "epoch", "source", "rows", "positives", "negatives"}`, a list a row."""
        negatives, ends = self.negatives.tolist(), self.negative_offsets.tolist()
        return {
            "step": self.step,
            "epoch": self.epoch,
            "source": self.source,
            "rows": self.rows.tolist(),
            "positives": self.positives.tolist(),
            "negatives": [negatives[start:end] for start, end in pairwise(ends)],
        }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chunk:
    """b texts of a batch, padded to one length L, longest first. The attention mask follows from `lengths`.

    Attributes:
        rows: int64[b], places of the texts in the batch: of rows for queries, of documents for documents.
        input_ids: int32[b, L], special tokens included; the tokenizer's padding id stands behind the end of a text.
        lengths: int32[b], tokens of each text.
    """

    rows: npt.NDArray[np.int64]
    input_ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """One rank's rows of one global batch, as numpy arrays that share no memory with anything else.

    n rows, m documents, k known keys, Tq and Td tokens. A rank may have no row at all (n = m = 0): it takes part in
    collective operations all the same.

    Attributes:
        step: global batch of the run, from 0.
        epoch: from 0.
        source: name of the source all rows come from; None where a batch mixes sources.
        task: `retrieval`, `symmetric` or `classification`; a `classification` batch is planned for training without
            in-batch negatives. None where a batch mixes sources.
        global_rows: rows of the global batch over all ranks.
        row_ids: uint64[n], places of the rows in the shard set; longest row (in bytes) first.
        source_ids: uint32[n], each row's source, as an index into the manifest's sources.
        query_ids: int32[Tq], tokens of all queries with instruction and special tokens, not padded.
        query_offsets: int64[n + 1]; row i owns `query_ids[query_offsets[i]:query_offsets[i + 1]]`.
        doc_ids: int32[Td], tokens of all documents with special tokens.
        doc_offsets: int64[m + 1]; document j owns `doc_ids[doc_offsets[j]:doc_offsets[j + 1]]`.
        doc_rows: int64[m], the row (0 to n - 1) each document belongs to. A row's documents are contiguous, its
            positive first.
        doc_is_positive: bool[m].
        doc_scores: float32[m], teacher scores; NaN where there is none.
        query_keys: uint64[n]. Equal keys mean equal texts, for the purpose of batching.
        doc_keys: uint64[m].
        known_keys: uint64[k], keys of all positives of each row's query, chosen or not.
        known_offsets: int64[n + 1]; row i owns `known_keys[known_offsets[i]:known_offsets[i + 1]]`.
        query_chunks: with `layout="padded"`, all queries as padded rectangles, longest first; else None.
        doc_chunks: the same of all documents.
        state_json: `state` as text.
    """

    step: int
    epoch: int
    source: str | None
    task: str | None
    global_rows: int
    row_ids: npt.NDArray[np.uint64]
    source_ids: npt.NDArray[np.uint32]
    query_ids: npt.NDArray[np.int32]
    query_offsets: npt.NDArray[np.int64]
    doc_ids: npt.NDArray[np.int32]
    doc_offsets: npt.NDArray[np.int64]
    doc_rows: npt.NDArray[np.int64]
    doc_is_positive: npt.NDArray[np.bool_]
    doc_scores: npt.NDArray[np.float32]
    query_keys: npt.NDArray[np.uint64]
    doc_keys: npt.NDArray[np.uint64]
    known_keys: npt.NDArray[np.uint64]
    known_offsets: npt.NDArray[np.int64]
    query_chunks: list[Chunk] | None
    doc_chunks: list[Chunk] | None
    state_json: str

    @property
    def state(self) -> dict[str, Any]:
        """Where to resume behind this batch: give it to `load_state_dict` or `BatchLoader(state=…)`.

        Plain JSON values. `step` counts the batches yielded so far, this one included.
        """
        state: dict[str, Any] = json.loads(self.state_json)
        return state
