"""A sample is prepared as the whole would be, twice: all of it, and its first quarter.

A run leaves a marker behind each step that is done, and its work files lie in one folder; both are looked at twenty
times a second while it runs. What two sizes take tells what a run costs anyway, as starting and measuring its own
recall, from what each row costs.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bgeprep.errors import ConfigError, CorpusError
from bgeprep.leading import copy_leading_rows
from bgeprep.objects import is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bgeprep.config import PrepConfig

__all__ = ["Measured", "Measurement", "StepCost", "measure"]

PART = 0.25
"""Share of the sample that the smaller run takes."""

_LARGEST_PART = 0.7
"""A smaller run that is not smaller than this says nothing of what a run costs anyway."""

_STEPS = {
    "read": "read.json",
    "candidates": "near-candidates.json",
    "components": "near-components.json",
    "near texts": "near-texts.json",
    "verify": "near-verify.json",
    "near tables": "near.json",
    "dedup": "dedup.json",
}
"""The steps of a run, and the marker that each leaves when it is done; behind them come `shard` and `commit`."""

_OF_ONE_SIZE = "read/sample"
"""Files on which a run measures its recall: as large for any corpus."""

_NODE_BYTES = 8
"""Of a text that has a candidate, in the file that lists them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """What a step took.

    Attributes:
        seconds: by the clock.
        text_bytes: of work files that hold rows and texts, written in this step; packed.
        record_bytes: of other work files: keys, sketches, candidates, tables.
    """

    seconds: float
    text_bytes: int
    record_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One run.

    Attributes:
        rows: read.
        kept: in the set.
        bytes: of the input files, as they are packed.
        set_bytes: of the set.
        nodes: texts that have a near duplicate's candidate; 0 where near duplicates are not looked for.
        most_text_bytes: of work files with rows and texts that lay on disk at one time, the most.
        most_record_bytes: of other work files at that time.
        memory: bytes that the process held at most.
        steps: by name, in order.
    """

    rows: int
    kept: int
    bytes: int
    set_bytes: int
    nodes: int
    most_text_bytes: int
    most_record_bytes: int
    memory: int
    steps: dict[str, StepCost]

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Measured:
        """From what `dataclasses.asdict` made of one."""
        steps = {name: StepCost(**one) for name, one in plain["steps"].items()}
        return cls(**{**plain, "steps": steps})


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What was measured, and how.

    Attributes:
        whole: the run on all of the sample.
        part: on its beginning; None where no smaller sample could be made of it.
        threads: of both runs.
        limit: bytes that the runs were allowed to hold.
    """

    whole: Measured
    part: Measured | None
    threads: int
    limit: int

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Measurement:
        """From what `plain` gave.

        Raises:
            KeyError, TypeError: it is something else.
        """
        part = plain["part"]
        return cls(
            whole=Measured.of(plain["whole"]),
            part=Measured.of(part) if part else None,
            threads=int(plain["threads"]),
            limit=int(plain["limit"]),
        )


class _Watch:
    """Looks at a run that goes on: times of its steps, sizes of its files."""

    def __init__(self, out: Path, say: Callable[..., None] | None) -> None:
        self._work = out / ".work"
        self._say = say
        self._ends: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._step_of: dict[str, str] = {}
        self.memory = 0
        self.most = (0, 0)
        self._started = time.time()

    def __call__(self, stage: str, *counts: int) -> None:
        """What a run calls as it goes."""
        self._look(stage)
        if self._say:
            self._say(stage, *counts)

    def _look(self, stage: str) -> None:
        texts = records = 0
        found = []
        for folder, below, names in os.walk(self._work):
            if "set" in below:
                below.remove("set")
            for name in names:
                try:
                    status = (Path(folder) / name).stat()
                except FileNotFoundError:
                    continue
                found.append((os.path.relpath(os.path.join(folder, name), self._work), status))  # noqa: PTH118 - often
        for path, status in found:
            step = next((one for one, marker in _STEPS.items() if marker == path), None)
            if step and step not in self._ends:
                self._ends[step] = status.st_mtime
        if stage == "commit":
            self._ends.setdefault("shard", time.time())
        now = self._now()
        for path, status in found:
            if "/" not in path or path.startswith(_OF_ONE_SIZE):
                continue
            self._step_of.setdefault(path, now)
            self._sizes[path] = max(self._sizes.get(path, 0), status.st_size)
            if _holds_text(path):
                texts += status.st_size
            else:
                records += status.st_size
        if texts + records > sum(self.most):
            self.most = (texts, records)
        self.memory = max(self.memory, _resident())

    def _now(self) -> str:
        return next((step for step in [*_STEPS, "shard"] if step not in self._ends), "commit")

    def steps(self) -> dict[str, StepCost]:
        """Each step with what it took, from the start of the run to now."""
        near = any(path.startswith("near/") for path in self._sizes)
        wanted = [step for step in _STEPS if near or step in {"read", "dedup"}]
        ended, costs = self._started, {}
        for step in [*wanted, "shard", "commit"]:
            # of steps between two looks the last one is told all of it
            until = max(ended, self._ends.get(step, time.time() if step == "commit" else ended))
            written = [(path, size) for path, size in self._sizes.items() if self._step_of[path] == step]
            costs[step] = StepCost(
                seconds=until - ended,
                text_bytes=sum(size for path, size in written if _holds_text(path)),
                record_bytes=sum(size for path, size in written if not _holds_text(path)),
            )
            ended = until
        return costs

    @property
    def nodes(self) -> int:
        """Texts that have a candidate."""
        return sum(size for path, size in self._sizes.items() if path.startswith("near/nodes")) // _NODE_BYTES


def _holds_text(path: str) -> bool:
    return path.startswith("read/rows") or "-texts-" in path


def _resident() -> int:
    """Bytes of memory of this process, without what is mapped from files; 0 where the system does not say."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def measure(
    sample: str | os.PathLike[str],
    *,
    config: PrepConfig,
    threads: int | None = None,
    memory: int = 256 << 20,
    tmp: Path | None = None,
    report: Callable[..., None] | None = None,
) -> Measurement:
    """Prepares a sample, and its first quarter, in a folder that goes afterwards.

    Args:
        sample: a file or folder of raw data, of the kind and packing of the whole.
        config: rules, as for the whole; it names no sources.
        threads: of a run, all cores by default.
        memory: bytes that a run may hold.
        tmp: where the folder is made, the system's own place by default.
        report: called as by `bgeprep.shard`.

    Raises:
        ConfigError: a sample in a store, or a config that names sources.
        CorpusError: no sample there, or none that can be used.
        OSError: the operating system refused.
    """
    if is_url(os.fspath(sample)):
        raise ConfigError(f"sample: {sample} lies in a store; hint: copy some of its files to this machine")
    if config.sources:
        raise ConfigError("config: it names sources, whose files are the whole; hint: give rules only, and --sample")
    sample = Path(sample)
    if not sample.exists():
        raise CorpusError(f"{sample}: no such file or folder; hint: --sample names some of your files", str(sample))
    threads = threads if threads is not None else len(os.sched_getaffinity(0))
    with TemporaryDirectory(prefix="bgeprep-estimate-", dir=tmp) as folder:
        cut = _cut(sample, Path(folder) / "part")
        part = None
        if cut is not None and _bytes(cut) <= _LARGEST_PART * _bytes(sample):
            part = _run(cut, Path(folder) / "small", config, threads, memory, report)
        whole = _run(sample, Path(folder) / "large", config, threads, memory, report)
    return Measurement(whole=whole, part=part, threads=threads, limit=memory)


def _run(
    sample: Path, out: Path, config: PrepConfig, threads: int, memory: int, report: Callable[..., None] | None
) -> Measured:
    from bgeprep.shard import shard

    watch = _Watch(out, report)
    result = shard(sample, out, config=config, threads=threads, memory=memory, report=watch)
    steps = watch.steps()
    return Measured(
        rows=result.rows_read,
        kept=result.rows_kept,
        bytes=_bytes(sample),
        set_bytes=_bytes(out),
        nodes=watch.nodes,
        most_text_bytes=watch.most[0],
        most_record_bytes=watch.most[1],
        memory=watch.memory,
        steps=steps,
    )


def _cut(sample: Path, folder: Path) -> Path | None:
    """The first rows of each file, in a copy of the same name and shape; None for a set, which is no raw data."""
    if (sample / "manifest.json").exists():
        return None
    target = folder / sample.name
    for file in _files(sample):
        copy = target / file.relative_to(sample) if sample.is_dir() else target
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy_leading_rows(file, copy, PART)
    return target


def _files(place: Path) -> list[Path]:
    """A file itself, or the files below a folder but hidden ones."""
    if place.is_file():
        return [place]
    return [
        file
        for file in sorted(place.rglob("*"))
        if file.is_file() and not any(name.startswith(".") for name in file.relative_to(place).parts)
    ]


def _bytes(place: Path) -> int:
    return sum(file.stat().st_size for file in _files(place))
