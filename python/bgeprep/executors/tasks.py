"""The tasks of a preparation run, stage by stage: which there are, what each needs, and which are done already.

Every task reads what earlier stages left in one place that all machines see, and leaves one file there. So a stage is
a list of tasks that may run anywhere, in any order and more than once; only the stages follow each other.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict, get_args

from bgeprep import _native
from bgeprep.config import Task as TaskKind
from bgeprep.errors import ConfigError

if TYPE_CHECKING:
    from bgeprep.config import PrepConfig
    from bgeprep.exclude import Benchmark
    from bgeprep.inputs import Source
    from bgeprep.scores import Scores
    from bgeprep.shard import Made, Report

__all__ = [
    "Cut",
    "Done",
    "Limits",
    "Pool",
    "Shared",
    "Task",
    "carry_out",
    "cut",
    "do",
    "found",
    "job_tasks",
    "read_tasks",
]

MOST_SHARES = 16
"""Most tasks that read one file: each of them goes through all of its bytes."""

MOST_JOBS = 256
"""Most buckets or partitions of one task."""

MOST_PARTITIONS = 65_536

TASK_KINDS = len(get_args(TaskKind))

BAD_CHECK_ROWS = 10_000
"""Rows after which a run stops that is mostly unreadable; the local run judges from there on, too."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a task may take.

    Attributes:
        task_bytes: bytes of input text that a task works on, about.
        memory: bytes that it may hold.
        threads: threads of it, and CPUs it is given.
    """

    task_bytes: int
    memory: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all tasks of a run have in common; sent to a machine once.

    Attributes:
        settings: the config.
        sources: the sources, with absolute paths.
        benchmarks: what is kept out of the set.
        scores: the filter by scores, if there is to be one.
        resolved: the config as the manifest shows it.
        fingerprint: of input listing and config.
        log: what `run.json` says.
        out: folder of the set, or its URL.
        place: where tasks leave their files: a folder or a URL.
        scratch: folder for files of one task, on whichever machine does it; empty for the one for temporary files.
        partitions: key partitions.
        limits: what a task may take.
        version: of this package.
    """

    settings: PrepConfig
    sources: list[Source]
    benchmarks: list[Benchmark]
    scores: Scores | None
    resolved: str
    fingerprint: str
    log: str
    out: str
    place: str
    scratch: str
    partitions: int
    limits: Limits
    version: str = _native.__version__

    @property
    def plan(self) -> tuple[PrepConfig, list[Source], tuple[list[Benchmark], Scores | None], str]:
        """What the compiled half takes of a run."""
        return self.settings, self.sources, (self.benchmarks, self.scores), self.resolved


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        stage: what is done.
        number: its number within the stage.
        of: tasks of the stage.
        jobs: the first job of the stage that it does, and the one behind its last.
        shares: what it reads: file, turn, turns.
        memory: bytes that it may hold, where that is not what others may.
    """

    stage: str
    number: int
    of: int
    jobs: tuple[int, int]
    shares: tuple[tuple[int, int, int], ...] = ()
    memory: int | None = None

    @property
    def name(self) -> str:
        """What people read of it."""
        return f"bgeprep {self.stage} {self.number + 1}/{self.of}"


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a task, as the compiled half tells it."""

    bundle: str
    rows_read: int = 0
    rows_unreadable: int = 0
    rows_dropped: int = 0
    rows_kept: int = 0
    parts: int = 0
    bytes: int = 0
    clusters: int = 0
    hash: str = ""
    empty_files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Cut(TypedDict):
    """How a plan is cut, as the compiled half tells it.

    Text bytes of each file, how many jobs there are, and whether sets have batching keys to be brought together.
    """

    files: list[int]
    buckets: int
    partitions: int
    bands: int
    text_bytes: int
    unite: bool


class Pool(Protocol):
    """Whoever does tasks."""

    def run(self, tasks: Sequence[Task], inputs: Mapping[str, Sequence[str]]) -> Iterator[tuple[Task, Done] | None]:
        """Does all tasks of a stage; yields each with what came of it, in any order, and None while nothing happens.

        `inputs` are the bundles of earlier stages. Closing the iterator gives up the tasks that are left.
        """


def do(shared: Shared, task: Task, inputs: Mapping[str, Sequence[str]], scratch: Path) -> Done:
    """Does a task on this machine, with files of its own in `scratch`.

    Raises:
        ConfigError: this machine has another version, or does not see the place where tasks leave their files.
    """
    if shared.version != _native.__version__:
        message = f"expected version {shared.version}, that of the driver, found {_native.__version__}"
        raise ConfigError(f"bgeprep: {message}; hint: install the same version on all machines")
    if "://" not in shared.place and not Path(shared.place).is_dir():
        message = f"expected a folder that all machines see, found no {shared.place} on {os.uname().nodename}"
        raise ConfigError(f"out: {message}; hint: put --out on a shared file system, or in a store (s3://)")
    from bgeprep.shard import RunOptions

    options = RunOptions(
        threads=shared.limits.threads,
        memory=task.memory or shared.limits.memory,
        out=shared.out,
        work=scratch,
        fingerprint=shared.fingerprint,
        log=shared.log,
    )
    described = {
        "stage": task.stage,
        "number": task.number,
        "attempt": uuid.uuid4().hex[:12],
        "jobs": task.jobs,
        "shares": [{"file": file, "turn": turn, "of": of} for file, turn, of in task.shares],
        "inputs": {stage: list(names) for stage, names in inputs.items()},
        "place": shared.place,
        "partitions": shared.partitions,
    }
    return _done(_native.run_task(*shared.plan, options, json.dumps(described)))


def _done(text: str) -> Done:
    return Done(**json.loads(text))


def found(place: str, scratch: Path) -> dict[str, dict[int, Done]]:
    """What the tasks of a killed run left: by stage and number.

    Raises:
        ShardError: a file in the place is damaged.
        OSError: the place cannot be read.
    """
    stages: dict[str, dict[int, Done]] = {}
    for text in _native.found_tasks(place, scratch):
        done = _done(text)
        stage, _, rest = done.bundle.partition("/")
        stages.setdefault(stage, {})[int(rest.partition("-")[0])] = done
    return stages


def cut(shared: Shared) -> tuple[Cut, Shared]:
    """How many jobs each stage has; and `shared` with the number of key partitions that its limits ask for.

    Raises:
        ShardError: a set that is read is absent or damaged.
    """
    sizes = _native.cut(*shared.plan, None)
    partitions = min(max(sizes["partitions"], -(-sizes["text_bytes"] // shared.limits.task_bytes)), MOST_PARTITIONS)
    sizes["partitions"] = partitions
    return sizes, replace(shared, partitions=partitions)


def read_tasks(files: Sequence[int], task_bytes: int) -> list[Task]:
    """Files of so many bytes → tasks: small ones together, the chunks of a large one dealt out."""
    groups: list[list[tuple[int, int, int]]] = []
    held = task_bytes
    for file, size in enumerate(files):
        turns = min(-(-size // task_bytes), MOST_SHARES)
        if turns > 1:
            groups += [[(file, turn, turns)] for turn in range(turns)]
            held = task_bytes
            continue
        if not groups or held + size > task_bytes:
            groups.append([])
            held = 0
        groups[-1].append((file, 0, 1))
        held += size
    return [
        Task(stage="read", number=number, of=len(groups), jobs=(0, 0), shares=tuple(group))
        for number, group in enumerate(groups)
    ]


def job_tasks(stage: str, count: int, each: int = 1, memory: int | None = None) -> list[Task]:
    """`count` jobs → tasks of `each`."""
    starts = range(0, count, each)
    return [
        Task(stage=stage, number=number, of=len(starts), jobs=(start, min(start + each, count)), memory=memory)
        for number, start in enumerate(starts)
    ]


def carry_out(shared: Shared, sizes: Cut, pool: Pool, report: Report | None, resumed: bool) -> Made:
    """Has all tasks of a run done that are not done yet.

    Raises:
        CorpusError, ConfigError, ShardError, OSError: as a run on one machine.
    """
    run = _Run(shared, pool, report, sum(sizes["files"]), found(shared.place, Path(shared.scratch or ".")))
    limits, text = shared.limits, max(sizes["text_bytes"], 1)

    def each(count: int) -> int:
        return min(max(limits.task_bytes * count // text, 1), MOST_JOBS)

    buckets, partitions, bands = sizes["buckets"], sizes["partitions"], sizes["bands"]
    # A source has buckets for each task that its rows may have, and rows of one as a rule.
    bucket = each(max(buckets // TASK_KINDS, 1))
    scores = ["scores"] if shared.scores else []
    if scores:
        run.stage(job_tasks("scores", 1), [])
    run.stage(read_tasks(sizes["files"], limits.task_bytes), scores)
    settled = run.stage(job_tasks("settle-read", 1), ["read"])
    tables: list[str] = []
    if bands:
        candidates = run.stage(job_tasks("candidates", 2 * bands, each(2 * bands)), ["read"])
        # 16 bytes a pair, of which a text has one at least; it takes 12 bytes, and room to sort
        pairs = max(limits.memory, sum(one.bytes for one in candidates))
        run.stage(job_tasks("components", 2, memory=pairs), ["candidates"])
        run.stage(job_tasks("texts", buckets, bucket), ["read", "components"])
        # queries first, then passages: a task has partitions of one of them or of both
        run.stage(job_tasks("verify", 2 * partitions, each(partitions)), ["texts", "components"])
        run.stage(job_tasks("tables", 2), ["read", "settle-read", "verify"])
        tables = ["tables"]
        run.stage(job_tasks("families", partitions, each(partitions)), ["read", *tables])
    decide = ["read", *tables, *(["families"] if bands else [])]
    run.stage(job_tasks("decide", partitions, each(partitions)), decide)
    dedup = run.stage(job_tasks("settle-dedup", 1), ["settle-read", "decide"])
    settle = ["settle-read", "settle-dedup"]
    united: list[str] = []
    if sizes["unite"]:
        # clustered texts with their keys, to sort and to join; a quarter of a task's memory is for other things
        run.stage(job_tasks("unite", 2, memory=max(limits.memory, 4 * settled[0].clusters)), ["read", *tables])
        united = ["unite"]
    run.stage(job_tasks("transfers", buckets, bucket), ["read", "decide", *settle])
    parts = job_tasks("parts", dedup[0].parts, bucket)
    run.stage(parts, ["read", "decide", "transfers", *settle, *tables, *united])
    last = run.stage(job_tasks("commit", 1), ["read", "parts", *settle, *tables])[0]
    return {
        "hash": last.hash,
        "rows_read": last.rows_read,
        "rows_kept": last.rows_kept,
        "empty_files": settled[0].empty_files,
        "warnings": settled[0].warnings,
        "resumed": resumed,
        "discarded": False,
    }


class _Run:
    """What is done so far, and what is told of it."""

    def __init__(
        self, shared: Shared, pool: Pool, report: Report | None, text_bytes: int, known: dict[str, dict[int, Done]]
    ) -> None:
        self._shared = shared
        self._pool = pool
        self._report = report
        self._text_bytes = text_bytes
        self._known = known
        self._bundles: dict[str, list[str]] = {}
        self._rows_read = self._rows_kept = self._rows_dropped = self._rows_unreadable = 0

    def stage(self, tasks: Sequence[Task], needs: Iterable[str]) -> list[Done]:
        """Has the tasks of a stage done; what came of each, in their order."""
        stage = tasks[0].stage
        done = {number: one for number, one in self._known.get(stage, {}).items() if number < len(tasks)}
        for one in done.values():
            self._count(one)
        left = [task for task in tasks if task.number not in done]
        self._tell(stage, len(done), len(tasks))
        inputs = {name: self._bundles[name] for name in needs}
        running = self._pool.run(left, inputs) if left else iter(())
        for event in running:
            if event:
                task, one = event
                done[task.number] = one
                self._count(one)
                if stage == "read" and self._is_bad():
                    # The rest would come to the same: the verdict is spoken over what there is.
                    break
            self._tell(stage, len(done), len(tasks))
        close = getattr(running, "close", None)
        if close:
            close()
        ordered = [done[number] for number in sorted(done)]
        # Reports would be all of a driver's memory in the end: of most stages nobody asks for them again.
        self._bundles[stage] = [one.bundle for one in ordered]
        return ordered

    def _is_bad(self) -> bool:
        allowed = self._shared.settings.read.max_bad * self._rows_read
        return self._rows_read >= BAD_CHECK_ROWS and self._rows_unreadable > allowed

    def _count(self, one: Done) -> None:
        self._rows_read += 0 if one.hash else one.rows_read
        self._rows_kept += 0 if one.hash else one.rows_kept
        self._rows_dropped += one.rows_dropped
        self._rows_unreadable += one.rows_unreadable

    def _tell(self, stage: str, done: int, of: int) -> None:
        if self._report:
            share = done / of if stage == "read" else 1.0
            self._report(
                stage,
                int(self._text_bytes * share),
                self._text_bytes,
                self._rows_read,
                self._rows_kept,
                self._rows_dropped,
                done,
                of,
            )
