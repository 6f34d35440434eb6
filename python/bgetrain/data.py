"""From the planner's numpy batches to what a training step takes. Alone knows both `bgeprep` and torch.

1. `describe_shards` reads from the manifest what the trainer must know of a shard set.
2. `open_loader` opens the planned, tokenised batches of this rank.
3. `BatchStream` turns them into `TrainBatch`es, groups those of one step, and times the waiting.

The trainer pads by itself, queries and documents in common rectangles; who takes the loader's rectangles instead
(`BatchLoader(layout="padded")`) makes tensors of them with `chunk_tensors`.

Keys and row ids are unsigned in the shard set; torch compares them as the int64 of the same bits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from bgetrain.errors import TrainingError
from bgetrain.padding import TokenRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from bgeprep import Chunk
    from bgetrain.config import TrainConfig

__all__ = [
    "Batch",
    "BatchStream",
    "Loader",
    "ShardFacts",
    "TrainBatch",
    "chunk_tensors",
    "describe_shards",
    "open_loader",
    "train_batch",
]

N = TypeVar("N")
B = TypeVar("B")
Out = TypeVar("Out", covariant=True)


class Batch(Protocol):
    """What `bgeprep.BatchLoader` yields: the rows of one global batch that fall to this rank.

    n rows, m documents, k known positives; the documents of a row are contiguous, its positive first.
    """

    @property
    def step(self) -> int:
        """Global batch of the run, from 0."""

    @property
    def epoch(self) -> int:
        """Pass over the data, from 0."""

    @property
    def source(self) -> str | None:
        """Name of the source, None where several are mixed."""

    @property
    def global_rows(self) -> int:
        """Rows over all ranks."""

    @property
    def row_ids(self) -> NDArray[np.uint64]:
        """Places in the shard set, [n]."""

    @property
    def source_ids(self) -> NDArray[np.uint32]:
        """Index into the manifest's sources, [n]."""

    @property
    def query_ids(self) -> NDArray[np.int32]:
        """Tokens of all queries."""

    @property
    def query_offsets(self) -> NDArray[np.int64]:
        """[n + 1]."""

    @property
    def doc_ids(self) -> NDArray[np.int32]:
        """Tokens of all documents."""

    @property
    def doc_offsets(self) -> NDArray[np.int64]:
        """[m + 1]."""

    @property
    def doc_rows(self) -> NDArray[np.int64]:
        """The row of each document, [m]."""

    @property
    def doc_is_positive(self) -> NDArray[np.bool_]:
        """[m]."""

    @property
    def query_keys(self) -> NDArray[np.uint64]:
        """[n]."""

    @property
    def doc_keys(self) -> NDArray[np.uint64]:
        """[m]."""

    @property
    def doc_scores(self) -> NDArray[np.float32]:
        """[m], not a number where the row has none."""

    @property
    def known_keys(self) -> NDArray[np.uint64]:
        """Known positives of all rows, [k]."""

    @property
    def known_offsets(self) -> NDArray[np.int64]:
        """[n + 1]."""

    @property
    def state(self) -> dict[str, Any]:
        """Where to resume behind this batch."""


class Loader(Protocol[Out]):
    """The part of `bgeprep.BatchLoader` and `bgeprep.TextLoader` that training uses."""

    def __iter__(self) -> Iterator[Out]:
        """The batches of this rank from the present state on."""

    def __len__(self) -> int:
        """Global batches of the whole run."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after the batch that `state` describes."""

    def close(self) -> None:
        """Ends the threads."""


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What the trainer needs to know of a shard set.

    Attributes:
        hash: identifies the set.
        kind: `pairs` or `text`.
        names: name of each source, in manifest order.
        tasks: `retrieval`, `symmetric` or `classification` of each source, in manifest order; empty for texts.
        instruction: the query instruction all retrieval sources share, or empty.
        languages: languages the sources name, sorted.
        source_rows: rows of each source, in manifest order.
    """

    hash: str
    kind: str
    names: tuple[str, ...]
    tasks: tuple[str, ...]
    instruction: str
    languages: tuple[str, ...]
    source_rows: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows of the set."""
        return sum(self.source_rows)


def describe_shards(path: str | Path) -> ShardFacts:
    """Reads the manifest of a shard set.

    Raises:
        bgeprep.errors.ShardError: no shard set, an incomplete or a damaged one.
    """
    from bgeprep import ShardSet

    manifest = ShardSet.open(path).manifest
    sources = manifest["sources"]
    instructions = {source.get("instruction") or "" for source in sources if source.get("task") == "retrieval"}
    return ShardFacts(
        hash=str(manifest["hash"]),
        kind=str(manifest["kind"]),
        names=tuple(source["name"] for source in sources),
        tasks=tuple(source.get("task") or "" for source in sources),
        instruction=instructions.pop() if len(instructions) == 1 else "",
        languages=tuple(sorted({source.get("language") or "" for source in sources} - {""})),
        source_rows=tuple(int(source["rows"]) for source in sources),
    )


def open_loader(
    config: TrainConfig, *, tokenizer: Path, batch_size: int, accumulation: int, rank: int, world_size: int
) -> Loader[Batch]:
    """Opens the batches of this rank.

    Args:
        config: what to read and for how long.
        tokenizer: a folder that holds tokenizer.json, or that file.
        batch_size: rows of a global batch.
        accumulation: batches of a step, since the loader counts batches.
        rank: of this process.
        world_size: number of processes.

    Raises:
        bgeprep.errors.BgeprepError: the shard set or the tokenizer cannot be used.
    """
    from bgeprep import BatchLoader

    data, run = config.data, config.run
    instruction = data.query_instruction_for_retrieval
    return BatchLoader(
        data.train_data,
        tokenizer,
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
        seed=run.seed,
        train_group_size=data.train_group_size,
        query_max_len=data.query_max_len,
        passage_max_len=data.passage_max_len,
        num_epochs=run.num_train_epochs,
        max_steps=run.max_steps * accumulation if run.max_steps > 0 else None,
        alpha=data.source_alpha,
        batch_by=data.batch_by,  # type: ignore[arg-type]
        clusters=data.clusters,
        cluster_share=data.cluster_share,
        top_up=data.top_up,
        # not given means: what the shard set says of each source
        query_instruction=True if instruction is None else instruction,
        prefetch=data.dataloader_prefetch_factor,
        threads=data.dataloader_num_workers or None,
    )


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """The rows of one global batch that fall to this rank; n rows, m documents.

    Attributes:
        epoch: pass over the data, from 0.
        source: its name, or None for a batch of several.
        global_rows: rows over all ranks.
        queries: token rows [n].
        documents: token rows [m].
        row_ids: int64 [n].
        source_ids: int64 [n], index into the shard set's sources.
        query_keys: int64 [n].
        in_batch: bool [n], whether documents of other rows are negatives.
        symmetric: bool [n], whether query and document could change places.
        any_symmetric: whether any source of the shard set is symmetric: the same on every rank.
        own_rows: int64 [p], ascending, the row of each positive; every row has at least one.
        own: int64 [p], index of each positive among the local documents.
        known_keys: int64 [k].
        known_rows: int64 [k], the row of each known positive.
        document_keys: int64 [m].
        document_rows: int64 [m], ascending, the row of each document.
        document_scores: float32 [m], what a teacher or an annotator gave; not a number where nobody did.
        read_state: where the loader stands after this batch; read only for a checkpoint, since it is text inside.
    """

    epoch: int
    source: str | None
    global_rows: int
    queries: TokenRows
    documents: TokenRows
    row_ids: Tensor
    source_ids: Tensor
    query_keys: Tensor
    in_batch: Tensor
    symmetric: Tensor
    any_symmetric: bool
    own_rows: Tensor
    own: Tensor
    known_keys: Tensor
    known_rows: Tensor
    document_keys: Tensor
    document_rows: Tensor
    document_scores: Tensor
    read_state: Callable[[], dict[str, Any]]


def train_batch(batch: Batch, tasks: tuple[str, ...]) -> TrainBatch:
    """Turns one numpy batch into tensors on the CPU.

    Args:
        batch: from the loader.
        tasks: of each source, by source id.

    Raises:
        TrainingError: a row without a document, or whose first document is not its positive.
    """
    rows = np.arange(len(batch.row_ids), dtype=np.int64)
    first = np.searchsorted(batch.doc_rows, rows)
    has_document = (first < len(batch.doc_rows)) & (batch.doc_rows[np.minimum(first, len(batch.doc_rows) - 1)] == rows)
    if not (has_document.all() and batch.doc_is_positive[first].all()):
        raise TrainingError(f"batch {batch.step} of source {batch.source}: a row does not begin with its positive")
    positives = np.flatnonzero(batch.doc_is_positive)
    return TrainBatch(
        epoch=batch.epoch,
        source=batch.source,
        global_rows=batch.global_rows,
        queries=TokenRows(batch.query_ids, batch.query_offsets),
        documents=TokenRows(batch.doc_ids, batch.doc_offsets),
        row_ids=_bits(batch.row_ids),
        source_ids=torch.from_numpy(batch.source_ids.astype(np.int64)),
        query_keys=_bits(batch.query_keys),
        in_batch=_of_sources(batch, [task != "classification" for task in tasks]),
        symmetric=_of_sources(batch, [task == "symmetric" for task in tasks]),
        any_symmetric="symmetric" in tasks,
        own_rows=torch.from_numpy(batch.doc_rows[positives].astype(np.int64)),
        own=torch.from_numpy(positives.astype(np.int64)),
        known_keys=_bits(batch.known_keys),
        known_rows=torch.from_numpy(np.repeat(rows, np.diff(batch.known_offsets))),
        document_keys=_bits(batch.doc_keys),
        document_rows=torch.from_numpy(batch.doc_rows.astype(np.int64)),
        document_scores=torch.from_numpy(np.array(batch.doc_scores, dtype=np.float32)),
        read_state=lambda: batch.state,
    )


def _of_sources(batch: Batch, flags: list[bool]) -> Tensor:
    return torch.from_numpy(np.array(flags, dtype=np.bool_)[batch.source_ids])


def _bits(values: NDArray[np.uint64]) -> Tensor:
    # a copy, since torch cannot hold the read-only arrays that a loader may hand out
    return torch.from_numpy(values.astype(np.uint64).view(np.int64))


def chunk_tensors(chunk: Chunk) -> tuple[Tensor, Tensor]:
    """Turns a padded rectangle into what an encoder takes.

    Args:
        chunk: b texts padded to length L.

    Returns:
        input_ids int32 [b, L], which shares the memory of the chunk, and attention_mask bool [b, L].
    """
    input_ids = torch.from_numpy(chunk.input_ids)
    return input_ids, torch.arange(input_ids.shape[1]) < torch.from_numpy(chunk.lengths)[:, None]


class BatchStream(Generic[B]):
    """The batches of this rank, those of one step together.

    Attributes:
        steps: optimiser steps of the whole run.
        waited: seconds the trainer has waited for batches since it last took the value.
    """

    def __init__(self, loader: Loader[N], convert: Callable[[N], B], *, accumulation: int) -> None:
        """Wraps a loader, which the stream closes at its end.

        Args:
            loader: yields batches of numpy arrays.
            convert: makes of one what a training step takes.
            accumulation: batches of a step.
        """
        self._loader = loader
        self._convert = convert
        self._accumulation = accumulation
        self.steps = -(-len(loader) // accumulation)
        self._waited = 0.0

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on after the batch that `state` describes."""
        self._loader.load_state_dict(state)

    def __iter__(self) -> Iterator[list[B]]:
        """Lists of the batches of one step; the last step of a run may hold fewer."""
        batches = iter(self._loader)
        while True:
            started = time.perf_counter()
            group = []
            for batch in batches:
                group.append(self._convert(batch))
                if len(group) == self._accumulation:
                    break
            self._waited += time.perf_counter() - started
            if not group:
                return
            yield group

    def take_waited(self) -> float:
        """Seconds spent waiting for batches since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited

    def close(self) -> None:
        """Ends the loader's threads."""
        self._loader.close()
