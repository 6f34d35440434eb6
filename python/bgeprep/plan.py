"""Which rows share a global batch: the plan, on keys alone.

```
BatchPlan(shards, batch_size=…)      the batches of a whole run, without a tokenizer or a rank
├── iteration  → GlobalBatch: rows, positives, negatives as numpy arrays
├── report()   → what became of every row
└── state_dict() / load_state_dict()
audit(shards, batch_size=…)          the plan's promise, checked batch by batch on keys and on texts
```

`BatchLoader` takes the same options and yields this very plan, tokenised.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

from bgeprep import _native
from bgeprep.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bgeprep.batch_arrays import GlobalBatch

__all__ = ["BatchPlan", "HasPath", "PlanKeywords", "PlanOptions", "audit", "check_ranges", "plan_options"]


class HasPath(Protocol):
    """An open shard set."""

    @property
    def path(self) -> Path:
        """Its folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """What decides the global batches, as the native module reads it, attribute by attribute."""

    batch_size: int
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
    top_up: bool
    groups: dict[str, str]
    mixed: bool
    clusters: bytes | None
    cluster_share: float


_LIMITS = {"seed": 2**64, "num_epochs": 2**63, "max_steps": 2**63}


def check_ranges(section: str, **numbers: int | None) -> None:
    """Refuses whole numbers that the native module could not even take; it refuses the rest itself.

    Raises:
        ConfigError: names the option.
    """
    for name, value in numbers.items():
        limit = _LIMITS.get(name, 2**31)
        if value is not None and not 0 <= value < limit:
            raise ConfigError(f"{section}.{name}: expected a number from 0 to {limit - 1}, found {value}")


class PlanKeywords(TypedDict, total=False):
    """The optional arguments of `plan_options`."""

    seed: int
    num_epochs: int | None
    max_steps: int | None
    weights: Mapping[str, float] | Literal["all_rows"] | None
    alpha: float | None
    train_group_size: int
    negative_choice: Literal["sample", "top"]
    drop_last: bool
    min_fill: float
    top_up: bool
    groups: Mapping[str, str] | None
    batch_by: Literal["source", "mixed", "cluster"]
    clusters: str | os.PathLike[str] | None
    cluster_share: float


def plan_options(
    shards: str | os.PathLike[str] | HasPath,
    *,
    batch_size: int,
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
) -> tuple[Path, PlanOptions]:
    """The set's folder, and the options checked and brought into the form that the native module takes.

    Args:
        shards: folder of a shard set, or an open `ShardSet`.
        batch_size: rows of a **global** batch, over all ranks.
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
            sources at once, in proportion; sources trained without in-batch negatives keep to themselves. "cluster":
            from one source, and `cluster_share` of the rows in batches of one topic cluster, or as few as fill it.
        clusters: Parquet file of the topic cluster of each row, as `write_clusters` makes it; for "cluster".
        cluster_share: share of the rows of a pass that come in batches drawn within clusters.

    Raises:
        ConfigError: an option that cannot work; the message names it and what was expected.
    """
    if train_group_size < 1:
        raise ConfigError(f"batch.train_group_size: expected at least 1 (the positive), found {train_group_size}")
    if num_epochs == 0:
        raise ConfigError("batch.num_epochs: expected at least 1, or None with max_steps, found 0")
    if batch_by not in ("source", "mixed", "cluster"):
        raise ConfigError(f'batch.batch_by: expected "source", "mixed" or "cluster", found {batch_by!r}')
    if (batch_by == "cluster") != (clusters is not None):
        found = "none" if clusters is None else f"{os.fspath(clusters)} and batch_by={batch_by!r}"
        raise ConfigError(f'batch.clusters: expected a file with batch_by="cluster", and only then, found {found}')
    path = Path(shards if isinstance(shards, str | os.PathLike) else shards.path)
    ids: bytes | None = None
    if clusters is not None:
        # Here, because polars takes half a second to import.
        from bgeprep.clusters import read_clusters

        ids = read_clusters(clusters, path).tobytes()
    check_ranges(
        "batch",
        batch_size=batch_size,
        seed=seed,
        num_epochs=num_epochs,
        max_steps=max_steps,
        train_group_size=train_group_size,
    )
    mix, by_source = _mix(weights, alpha)
    options = PlanOptions(
        batch_size=batch_size,
        seed=seed,
        num_epochs=num_epochs,
        max_steps=max_steps,
        mix=mix,
        weights=by_source,
        alpha=float(alpha or 0.0),
        negatives=train_group_size - 1,
        negative_choice=negative_choice,
        drop_last=drop_last,
        min_fill=min_fill,
        top_up=top_up,
        groups=dict(groups or {}),
        mixed=batch_by == "mixed",
        clusters=ids,
        cluster_share=cluster_share,
    )
    return path, options


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


class BatchPlan:
    """Iterates over the global batches of a run.

    Each is a `GlobalBatch`: row ids (places in the shard set), for each row the place of its positive in `pos`, and the
    places of its negatives in `neg`, as numpy arrays; its `as_dict` has plain lists.

    A plan is a function of the shard set and the options; ranks, threads and machine have no part in it. It costs a
    fraction of a microsecond a row, and no text is read.
    """

    def __init__(
        self,
        shards: str | os.PathLike[str] | HasPath,
        *,
        batch_size: int,
        state: Mapping[str, Any] | None = None,
        **options: Unpack[PlanKeywords],
    ) -> None:
        """Opens the set and checks the options, which are those of `plan_options`.

        Raises:
            ConfigError: an option that cannot work, or a state of another set, version or plan.
            ShardError: the folder holds no complete shard set.
        """
        self._native = _native.PlanReader(*plan_options(shards, batch_size=batch_size, **options))
        if state is not None:
            self.load_state_dict(state)

    def __iter__(self) -> Iterator[GlobalBatch]:
        """Goes on behind the batch yielded last."""
        return self

    def __next__(self) -> GlobalBatch:
        """The next global batch.

        Raises:
            ConfigError: no batch can be formed.
            StopIteration: the run is over.
        """
        if (batch := self._native.next()) is None:
            raise StopIteration
        # Here, because every verb of the command line imports this module and few need numpy.
        from bgeprep.batch_arrays import GlobalBatch

        return GlobalBatch(**batch)

    def state_dict(self) -> dict[str, Any]:
        """The state behind the batch yielded last: plain JSON values, small but for waiting rows."""
        state: dict[str, Any] = json.loads(self._native.state_json())
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes behind the batch that a state describes, a `BatchLoader`'s as well; nothing is replayed.

        Raises:
            ConfigError: the state is of another shard set, version or plan, or is damaged.
        """
        self._native.restore(json.dumps(dict(state)))

    def report(self) -> list[dict[str, Any]]:
        """What became of the rows so far, one entry a source; see `BatchLoader.report`."""
        report: list[dict[str, Any]] = json.loads(self._native.report_json())
        return report


def audit(
    shards: str | os.PathLike[str] | HasPath,
    *,
    batch_size: int,
    report: Callable[..., None] | None = None,
    **options: Unpack[PlanKeywords],
) -> dict[str, Any]:
    """Plans a whole run and checks the rules of batches on every one of them.

    The check shares nothing with the planner: it collects the positives of each query from the exact keys of all rows,
    and sorts and merges the keys of a batch. The same is done with batching keys, which hold known near duplicates
    together. In batches 0, 1, 3, 7, 15 … the texts are compared too, by exact Jaccard similarity: near duplicates there
    are those that near dedup missed, so their rate has to agree with its measured recall.

    Args:
        shards: folder of a shard set, or an open `ShardSet`.
        batch_size: rows of a global batch.
        report: called about ten times a second with the counters of the native run, for a progress bar.
        options: see `plan_options`.

    Returns:
        `{"plan": {"batches", "rows", "smallest", "exact", "by_key", "examples", "near"}, "sources": […],
        "unplaced": [{"row", "source", "pass", "reason"}]}`. `exact` and `by_key` are
        `{"queries", "documents", "own"}`, numbers of violations; `near` is `{"batches", "threshold", "queries",
        "documents"}`, the last two the rate of rows with a near duplicate in their batch, with its 95 % interval.
    """
    path, settings = plan_options(shards, batch_size=batch_size, **options)
    found: dict[str, Any] = json.loads(_native.audit(path, settings, report))
    return found
