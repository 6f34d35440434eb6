"""Shards become batches: which rows train together, and their token ids.

```
BatchLoader(shards, tokenizer, batch_size=…)      one per rank, same arguments but `rank`
├── iteration        → Batch, this rank's rows of the next global batch
├── plan()           → the global batches themselves, `GlobalBatch`
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
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from bgeprep._native import BatchReader
from bgeprep.batch_arrays import Batch, Chunk, GlobalBatch
from bgeprep.errors import SlowTokenizerWarning
from bgeprep.plan import HasPath, PlanOptions, check_ranges, plan_options

__all__ = ["Batch", "BatchLoader"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    """What `_native.BatchReader` reads, attribute by attribute."""

    plan: PlanOptions
    tokenizer: Path
    rank: int
    world_size: int
    query_max_len: int
    passage_max_len: int
    instruction: str
    retrieval_instruction: str
    source_instructions: dict[str, str]
    prefetch: int
    threads: int
    layout: str
    max_tokens: int
    pad_multiple_of: int


class BatchLoader:
    """Iterates over one rank's batches of a shard set, tokenised ahead by threads of its own.

    **Epochs.** Without weights an epoch is one pass over every source: each row comes once. Sources take turns in
    proportion to the batches they hold. With weights (given, or set in the manifest) a source's share of the batches is
    `weight * rows ** alpha`; an epoch is then only a number of steps, as many as one pass over the sources used would
    take: a source sampled less goes on in the next epoch where it stopped, one sampled more begins another pass. Every
    pass has an order of its own.

    **Rows that do not fit** a batch, because they share a key with one of its rows, wait and go first into the next
    batch that takes them. Rows that share a key with others stand evenly over a pass, so that few ever wait. A batch
    that its source cannot fill (many questions on few passages, or the end of its pass) is topped up with rows of its
    group; what is still short is a short batch, unless `drop_last`. When fewer than `min_fill * batch_size` rows (and
    fewer than 2) fit together, they are given up for this pass, counted, and listed by `report()`. A hard negative that
    would be a false negative for any row of the batch gives way to another of its list, or is left out; it never makes
    a row wait.

    **Documents.** Each visit of a row shows one of its positives, the next one in the next pass, and up to
    `train_group_size - 1` of its negatives: fewer where the list has fewer, never one text twice.

    **State.** Every `Batch` carries the state behind it, and `state_dict()` is that of the batch yielded last, whatever
    is prepared ahead. Resuming replays nothing, and may use another `world_size`, number of threads or length.

    **Threads** start with the first batch and end with `close()`, the end of the `with` block, the end of the run, or
    the object. The GIL is released while waiting and Ctrl-C interrupts it. After a fork, or where a loader is given to
    a spawned process, the child starts threads of its own and goes on from the last batch yielded before.

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
        top_up: bool = True,
        groups: Mapping[str, str] | None = None,
        batch_by: Literal["source", "mixed", "cluster"] = "source",
        clusters: str | os.PathLike[str] | None = None,
        cluster_share: float = 0.5,
        query_max_len: int = 64,
        passage_max_len: int = 256,
        query_instruction: str | Mapping[str, str] | bool | None = True,
        prefetch: int = 4,
        threads: int | None = None,
        layout: Literal["packed", "padded"] = "packed",
        max_tokens: int = 16_384,
        pad_multiple_of: int = 1,
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
            top_up: fill a batch that its source cannot fill with rows of its group.
            groups: names of groups by source. Sources not named are of one group with those of their task and language.
            batch_by: "source": the rows of a batch come from one source (but for what tops it up). "mixed": from all
                sources at once, in proportion; sources trained without in-batch negatives keep to themselves.
                "cluster": from one source, and `cluster_share` of the rows in batches of one topic cluster, or as few
                as fill it.
            clusters: Parquet file of the topic cluster of each row, as `write_clusters` makes it; for "cluster".
            cluster_share: share of the rows of a pass that come in batches drawn within clusters.
            query_max_len: tokens of a query, its instruction and the special tokens, at most. Longer ones are cut at
                the end, so that the instruction stays.
            passage_max_len: tokens of a document with the special tokens, at most.
            query_instruction: text put directly before queries. True: the row's own `prompt`, else the instruction of
                its source in the manifest. A text: the row's own `prompt`, else this text for sources of task
                `retrieval`. A mapping: texts by source name. None, False or "": no instruction at all.
            prefetch: batches to keep ready or in work.
            threads: tokenising threads; None for one a core, shared by the ranks of this machine
                (`LOCAL_WORLD_SIZE`), at most 16.
            layout: "padded" gives the texts as padded rectangles (`Batch.query_chunks`, `Batch.doc_chunks`) too: sorted
                by length and cut by `max_tokens`, by the rule of `bgetrain.padding.length_sorted_chunks`.
            max_tokens: tokens of a rectangle at most, padding included; a longer text is one of its own.
            pad_multiple_of: the length of a rectangle is a multiple of this.
            state: where to resume, as `state_dict()` or `Batch.state` gave it.

        Raises:
            ConfigError: an option that cannot work, an instruction that leaves no room for a query, or a state of
                another shard set, version or plan; the message names what differs.
            ShardError: the folder holds no complete shard set.
            TokenizerError: the tokenizer file is missing or not a fast tokenizer.

        Warns:
            SlowTokenizerWarning: the tokenizer is not a BERT WordPiece, or has something that is not understood here;
                the `tokenizers` crate does the work, several times slower. The message names what it is.
        """
        path, plan = plan_options(
            shards,
            batch_size=batch_size,
            seed=seed,
            num_epochs=num_epochs,
            max_steps=max_steps,
            weights=weights,
            alpha=alpha,
            train_group_size=train_group_size,
            negative_choice=negative_choice,
            drop_last=drop_last,
            min_fill=min_fill,
            top_up=top_up,
            groups=groups,
            batch_by=batch_by,
            clusters=clusters,
            cluster_share=cluster_share,
        )
        instruction, text, by_source = _instruction(query_instruction)
        threads = default_threads() if threads is None else threads
        check_ranges(
            "batch",
            rank=rank,
            world_size=world_size,
            query_max_len=query_max_len,
            passage_max_len=passage_max_len,
            prefetch=prefetch,
            threads=threads,
            max_tokens=max_tokens,
            pad_multiple_of=pad_multiple_of,
        )
        options = _Options(
            plan=plan,
            tokenizer=Path(tokenizer),
            rank=rank,
            world_size=world_size,
            query_max_len=query_max_len,
            passage_max_len=passage_max_len,
            instruction=instruction,
            retrieval_instruction=text,
            source_instructions=by_source,
            prefetch=prefetch,
            threads=threads,
            layout=layout,
            max_tokens=max_tokens,
            pad_multiple_of=pad_multiple_of,
        )
        self.__setstate__({"shards": path, "options": options, "state": state})
        if (why_not := self._native.tokenizer_engine()[1]) is not None:
            message = f"{os.fspath(tokenizer)}: {why_not}; the tokenizers crate does the work, which is slow"
            warnings.warn(message, SlowTokenizerWarning, stacklevel=2)

    def __getstate__(self) -> dict[str, Any]:
        """What a process that is spawned needs: it opens the set again and goes on behind the batch yielded last."""
        return {"shards": self._shards, "options": self._options, "state": self.state_dict()}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        """Opens the set."""
        self._shards, self._options = kept["shards"], kept["options"]
        self._native = BatchReader(self._shards, self._options)
        self._engine = self._native.tokenizer_engine()[0]
        self._steps: int | None = None
        if kept["state"] is not None:
            self.load_state_dict(kept["state"])

    def __iter__(self) -> Iterator[Batch]:
        """Goes on behind the batch yielded last."""
        return self

    def __next__(self) -> Batch:
        """The next batch of this rank.

        Raises:
            ShardError: a part is damaged; the message names part, record batch, row and both checksums.
            ConfigError: a row's own prompt leaves no room for its query, or no batch can be formed.
            StopIteration: the run is over.
        """
        found = self._native.next()
        if found is None:
            raise StopIteration
        for name in ("query_chunks", "doc_chunks"):
            if found[name] is not None:
                found[name] = [Chunk(rows=rows, input_ids=ids, lengths=n) for rows, ids, n in found[name]]
        return Batch(**found)

    def __len__(self) -> int:
        """Global batches of the whole run, those already yielded included; the same on every rank.

        Known at once with `max_steps` or weights. Otherwise how many batches a pass gives depends on which rows
        collide: the run is planned on keys alone, once, at some million rows a second and epoch.
        """
        if self._steps is None:
            self._steps = self._native.count_steps()
        return self._steps

    @property
    def tokenizer_engine(self) -> str:
        """What tokenises: `wordpiece`, which is fast, or `tokenizers`, the crate of that name."""
        return self._engine

    def plan(self) -> Iterator[GlobalBatch]:
        """Yields the global batches of the whole run from its beginning, without tokenising anything."""
        reader = self._native.plan()
        while (batch := reader.next()) is not None:
            yield GlobalBatch(**batch)

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
            `{"steps", "sources": [{"name", "passes", "waiting", "batches", "rows", "lent_rows", "short_batches",
            "waited", "unplaced_conflict", "unplaced_last_batch", "negatives_swapped", "negatives_left_out"}],
            "unplaced": [{"row", "source", "pass", "reason"}], "tokens", "padded_tokens", "unsorted_padded_tokens"}`.
            Counts are of the whole run; the list of unplaced rows, and tokens, are of this object's part of it.
            `reason` is `conflict` or `last_batch`. `padded_tokens` is what was handed out, padding included; the last
            is what it had been with one rectangle for all queries of a batch and one for all its documents.
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
