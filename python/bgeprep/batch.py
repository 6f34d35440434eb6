"""Shards become batches: which rows train together, and their token ids.

```
BatchLoader(shards, tokenizer, batch_size=…)      one per rank, same arguments but `rank`
├── iteration        → Batch, this rank's rows of the next global batch
├── plan()           → the global batches themselves, row ids only
├── len()            → steps of the whole run
├── state_dict() / load_state_dict()
└── report()         → what became of every row
```

A global batch is the set of rows that one optimiser step trains on, over all ranks. Which rows those are is a function
of the shard set, the seed and the options below; the number of ranks and threads only decides who tokenises what.
In one global batch no two rows share a query, and no document (positive or hard negative) of a row is a known positive,
or the query, of another row; see `BatchLoader` for what happens to rows that do not fit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from bgeprep._native import BatchReader
from bgeprep.errors import ConfigError

__all__ = ["Batch", "BatchLoader"]


class HasPath(Protocol):
    """An open shard set, or whatever else knows the folder of one."""

    @property
    def path(self) -> Path: ...


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
    state_json: str

    @property
    def state(self) -> dict[str, Any]:
        """Where to resume behind this batch: give it to `load_state_dict` or `BatchLoader(state=…)`.

        Plain JSON values. `step` counts the batches yielded so far, this one included.
        """
        state: dict[str, Any] = json.loads(self.state_json)
        return state


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    """What `_native.BatchReader` reads, attribute by attribute."""

    tokenizer: Path
    batch_size: int
    rank: int
    world_size: int
    seed: int
    num_epochs: int | None
    max_steps: int | None
    mix: str
    weights: dict[str, float] | None
    alpha: float
    negatives: int
    negative_choice: str
    drop_last: bool
    min_fill: float
    query_max_len: int
    passage_max_len: int
    instruction: str
    retrieval_instruction: str
    source_instructions: dict[str, str]
    prefetch: int
    threads: int


_LIMITS = {"seed": 2**64, "num_epochs": 2**63, "max_steps": 2**63}


class BatchLoader:
    """Iterates over one rank's batches of a shard set, tokenised ahead by threads of its own.

    **Epochs.** Without weights an epoch is one pass over every source: each row comes once. Sources take turns in
    proportion to the batches they hold. With weights (given, or set in the manifest) a source's share of the batches is
    `weight * rows ** alpha`; an epoch is then only a number of steps, as many as one pass over the sources used would
    take: a source sampled less goes on in the next epoch where it stopped, one sampled more begins another pass. Every
    pass has an order of its own.

    **Rows that do not fit** a batch, because they share a key with one of its rows, wait and go first into the next
    batch that takes them. At the end of a pass batches get shorter; when fewer than `min_fill * batch_size` (and at
    least 2) of the waiting rows fit together, they are given up for this pass, counted, and listed by `report()`.
    What simply remains at the end of a pass is a short last batch, unless `drop_last`. A hard negative that would be
    a false negative for any row of the batch gives way to another of its list, or is left out; it never makes a row
    wait.

    **Documents.** Each visit of a row shows one of its positives, the next one in the next pass, and up to
    `train_group_size - 1` of its negatives: fewer where the list has fewer, never one text twice.

    **State.** Every `Batch` carries the state behind it, and `state_dict()` is that of the batch yielded last, whatever
    is prepared ahead. Resuming replays nothing, and may use another `world_size`, number of threads or length.

    **Threads** start with the first batch and end with `close()`, the end of the `with` block, the end of the run, or
    the object. The GIL is released while waiting and Ctrl-C interrupts it. After a fork the child starts threads of its
    own and goes on from the last batch yielded to it.

    Iterating again goes on where the last iteration stopped; behind the end of the run there is nothing more, until
    `load_state_dict`.
    """

    def __init__(
        self,
        shards: str | os.PathLike[str] | HasPath,
        tokenizer: str | os.PathLike[str],
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 42,
        num_epochs: int | None = 1,
        max_steps: int | None = None,
        weights: Mapping[str, float] | Literal["all_rows"] | None = None,
        alpha: float | None = None,
        train_group_size: int = 8,
        negative_choice: Literal["sample", "top"] = "sample",
        drop_last: bool = False,
        min_fill: float = 0.01,
        query_max_len: int = 64,
        passage_max_len: int = 256,
        query_instruction: str | Mapping[str, str] | bool | None = True,
        prefetch: int = 4,
        threads: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Opens the set and checks the options; reads no row yet.

        Args:
            shards: folder of a shard set, or an open `ShardSet`.
            tokenizer: a `tokenizer.json`, or a model folder that holds one.
            batch_size: rows of a **global** batch, over all ranks.
            rank: this rank, from 0.
            world_size: number of ranks. Ranks get rows of balanced length; counts differ by one at most.
            seed: decides every random choice of the plan.
            num_epochs: epochs of the run; None to go on until `max_steps`.
            max_steps: steps of the run; overrides `num_epochs`.
            weights: share of the batches by source name (sources not named are not used), or "all_rows" to take every
                row once an epoch. None takes the weights of the manifest; if it has none, and no `alpha` is given,
                every row comes once an epoch.
            alpha: exponent of the row count in a source's share; 0 (the default where there are weights) takes the
                weights alone, 1 is in proportion to the rows, 0.5 favours small sources.
            train_group_size: documents a row at most: its positive and this many less one negatives.
            negative_choice: "sample" draws negatives without replacement, others in each pass; "top" takes the first of
                the list.
            drop_last: leave out batches shorter than `batch_size`.
            min_fill: smallest share of `batch_size` worth a batch when colliding rows are all that is left of a pass.
            query_max_len: tokens of a query, its instruction and the special tokens, at most. Longer ones are cut at
                the end, so that the instruction stays.
            passage_max_len: tokens of a document with the special tokens, at most.
            query_instruction: text put directly before queries. True: the row's own `prompt`, else the instruction of
                its source in the manifest. A text: the row's own `prompt`, else this text for sources of task
                `retrieval`. A mapping: texts by source name. None, False or "": no instruction at all.
            prefetch: batches to keep ready or in work.
            threads: tokenising threads; None for one a core, shared by the ranks of this machine
                (`LOCAL_WORLD_SIZE`), at most 16.
            state: where to resume, as `state_dict()` or `Batch.state` gave it.

        Raises:
            ConfigError: an option that cannot work, an instruction that leaves no room for a query, or a state of
                another shard set, version or plan; the message names what differs.
            ShardError: the folder holds no complete shard set.
            TokenizerError: the tokenizer file is missing or not a fast tokenizer.
        """
        if train_group_size < 1:
            raise ConfigError(f"batch.train_group_size: expected at least 1 (the positive), found {train_group_size}")
        path = shards if isinstance(shards, str | os.PathLike) else shards.path
        mix, mapping = _mix(weights, alpha)
        instruction, text, by_source = _instruction(query_instruction)
        options = _Options(
            tokenizer=Path(tokenizer),
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            seed=seed,
            num_epochs=num_epochs,
            max_steps=max_steps,
            mix=mix,
            weights=mapping,
            alpha=float(alpha or 0.0),
            negatives=train_group_size - 1,
            negative_choice=negative_choice,
            drop_last=drop_last,
            min_fill=min_fill,
            query_max_len=query_max_len,
            passage_max_len=passage_max_len,
            instruction=instruction,
            retrieval_instruction=text,
            source_instructions=by_source,
            prefetch=prefetch,
            threads=default_threads() if threads is None else threads,
        )
        for field in fields(options):
            value = getattr(options, field.name)
            if isinstance(value, int) and not 0 <= value < _LIMITS.get(field.name, 2**31):
                limit = _LIMITS.get(field.name, 2**31)
                raise ConfigError(f"batch.{field.name}: expected a number from 0 to {limit - 1}, found {value}")
        self._native = BatchReader(Path(path), options)
        self._steps: int | None = None
        if state is not None:
            self.load_state_dict(state)

    def __iter__(self) -> Iterator[Batch]:
        """Goes on behind the batch yielded last."""
        return self

    def __next__(self) -> Batch:
        """The next batch of this rank.

        Raises:
            ShardError: a part is damaged; the message names part and record batch.
            ConfigError: a row's own prompt leaves no room for its query, or no batch can be formed.
            StopIteration: the run is over.
        """
        found = self._native.next()
        if found is None:
            raise StopIteration
        return Batch(**found)

    def __len__(self) -> int:
        """Global batches of the whole run, those already yielded included; the same on every rank.

        Known at once with `max_steps` or weights. Otherwise how many batches a pass gives depends on which rows
        collide: the run is planned on keys alone, once, at about a million rows a second and epoch.
        """
        if self._steps is None:
            self._steps = self._native.count_steps()
        return self._steps

    def plan(self) -> Iterator[dict[str, Any]]:
        """Yields the global batches of the whole run from its beginning, without tokenising anything.

        Each is `{"step", "epoch", "source", "rows", "positives", "negatives"}`: row ids, for each row the place of its
        positive in `pos`, and for each row the places of its negatives in `neg`.
        """
        reader = self._native.plan()
        while (batch := reader.next()) is not None:
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The state behind the batch yielded last: plain JSON values, small but for waiting rows."""
        state: dict[str, Any] = json.loads(self._native.state_json())
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes behind the batch that a state describes; takes well below a second whatever the step.

        Raises:
            ConfigError: the state is of another shard set, version or plan, or is damaged.
        """
        self._native.restore(json.dumps(dict(state)))

    def report(self) -> dict[str, Any]:
        """What became of the rows up to the batch yielded last.

        Returns:
            `{"steps", "sources": [{"name", "passes", "waiting", "batches", "rows", "short_batches", "waited",
            "unplaced_conflict", "unplaced_last_batch", "negatives_swapped", "negatives_left_out"}],
            "unplaced": [{"row", "source", "pass", "reason"}]}`. Counts are of the whole run; the list of unplaced rows
            is of this object's part of it. `reason` is `conflict` or `last_batch`.
        """
        report: dict[str, Any] = json.loads(self._native.report_json())
        return report

    def close(self) -> None:
        """Stops and joins the threads. Iterating on starts them again behind the batch yielded last."""
        self._native.close()

    def __enter__(self) -> BatchLoader:
        """Nothing to do: threads start with the first batch."""
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the loader."""
        self.close()


def _mix(
    weights: Mapping[str, float] | Literal["all_rows"] | None, alpha: float | None
) -> tuple[str, dict[str, float] | None]:
    if isinstance(weights, str):
        if weights != "all_rows" or alpha is not None:
            found = f"{weights!r}" if alpha is None else f"{weights!r} and alpha={alpha}"
            raise ConfigError(f'batch.weights: expected weights by source name, "all_rows" or None, found {found}')
        return "all_rows", None
    if weights is not None:
        return "weighted", {name: float(weight) for name, weight in weights.items()}
    return ("manifest", None) if alpha is None else ("weighted", None)


def _instruction(given: str | Mapping[str, str] | bool | None) -> tuple[str, str, dict[str, str]]:
    if isinstance(given, Mapping):
        return "sources", "", dict(given)
    if given is True:
        return "manifest", "", {}
    return ("retrieval", given, {}) if given else ("off", "", {})


def default_threads() -> int:
    """One thread a core, shared by the ranks of this machine, at most 16."""
    ranks_here = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, cores // ranks_here))
