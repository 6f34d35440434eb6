"""What a `BatchLoader` yields: `Batch`, and the padded rectangles of `layout="padded"`, `Chunk`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Batch", "Chunk"]


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
