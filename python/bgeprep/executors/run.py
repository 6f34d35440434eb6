"""The run of `bgeprep.shard` on a cluster, from its plan to the set."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from bgeprep import _native
from bgeprep.errors import ConfigError
from bgeprep.executors import on_ray
from bgeprep.executors.tasks import Limits, Shared, carry_out, cut
from bgeprep.objects import is_url

if TYPE_CHECKING:
    from bgeprep.config import PrepConfig
    from bgeprep.exclude import Benchmark
    from bgeprep.inputs import Source
    from bgeprep.scores import Scores
    from bgeprep.shard import Made, Report

__all__ = ["Cluster", "Executor", "chosen", "make"]

Executor = Literal["threads", "ray"]

LEAST_TASK = 64 << 10
"""Bytes of text; for smaller tasks a run would be nothing but beginnings."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where a run's tasks go, and what each may take.

    Attributes:
        address: of the Ray cluster, see `on_ray.connected`.
        limits: what a task may take.
        scratch: folder for files of one task, on whichever machine does it; None for the one for temporary files.
    """

    address: str | None
    limits: Limits
    scratch: str | None


def chosen(
    executor: str, address: str | None, limits: Limits, scratch: str | os.PathLike[str] | None
) -> Cluster | None:
    """The cluster that a run is to use, None for the threads of this process.

    Raises:
        ConfigError: no such executor, or settings that do not go together.
    """
    if executor not in get_args(Executor):
        raise ConfigError(f"executor: expected threads or ray, found {executor}")
    if executor == "threads":
        if address is not None:
            raise ConfigError("address: expected none for the threads of this process; hint: --executor ray")
        return None
    if limits.task_bytes < LEAST_TASK:
        raise ConfigError(f"task_bytes: expected at least {LEAST_TASK >> 10} KiB, found {limits.task_bytes}")
    return Cluster(address=address, limits=limits, scratch=os.fspath(scratch) if scratch else None)


def make(
    cluster: Cluster,
    settings: PrepConfig,
    sources: list[Source],
    filters: tuple[list[Benchmark], Scores | None],
    resolved: str,
    out: str,
    fingerprint: str,
    log: str,
    report: Report | None,
) -> Made:
    """Makes the set `out`, a folder or a URL, on a cluster: the bytes that a run on one machine would write.

    Raises:
        ConfigError: no cluster, or one that is too small.
        ExecutorError: a task whose worker died each time it was begun.
        CorpusError, ShardError, OSError: as a run on one machine.
    """
    benchmarks, scores = filters
    work = f"{out}/.work" if is_url(out) else str(Path(out).absolute() / ".work")
    shared = Shared(
        settings=settings,
        sources=[_absolute(source) for source in sources],
        benchmarks=[_absolute_benchmark(one) for one in benchmarks],
        scores=_absolute_scores(scores),
        resolved=resolved,
        fingerprint=fingerprint,
        log=log,
        out=out if is_url(out) else str(Path(out).absolute()),
        place=f"{work}/tasks-{fingerprint[:16]}-{cluster.limits.task_bytes}",
        scratch=cluster.scratch or "",
        partitions=0,
        limits=cluster.limits,
    )
    sizes, shared = cut(shared)
    lock = None if is_url(out) else _native.WorkLock(work, fingerprint)
    finished = False
    try:
        if lock:
            Path(shared.place).mkdir(parents=True, exist_ok=True)
        with on_ray.connected(cluster.address), tempfile.TemporaryDirectory() as own:
            pool = on_ray.RayPool(shared, report)
            made = carry_out(shared, sizes, pool, report, bool(lock and lock.resumed))
            pool.tidy()
            if not lock:
                _native.clear_tasks(shared.place, own)
        finished = True
    finally:
        if lock:
            lock.close(remove=finished)
    return {**made, "discarded": bool(lock and lock.discarded)}


def _absolute(source: Source) -> Source:
    """The source with paths that are the same wherever a task runs, and without what cannot travel."""
    files = (
        file
        if is_url(os.fspath(file.path))
        else dataclasses.replace(file, path=Path(file.path).absolute(), set=file.set and file.set.absolute())
        for file in source.files
    )
    return dataclasses.replace(source, files=tuple(files), stream=None)


def _absolute_benchmark(benchmark: Benchmark) -> Benchmark:
    files = tuple(dataclasses.replace(file, path=Path(file.path).absolute()) for file in benchmark.files)
    return dataclasses.replace(benchmark, files=files)


def _absolute_scores(scores: Scores | None) -> Scores | None:
    if scores is None:
        return None
    return dataclasses.replace(scores, files=tuple(file.absolute() for file in scores.files))
