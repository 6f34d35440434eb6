"""The compiled half of `bgeprep`. Private: its callers are the modules beside it, which document it."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from bgeprep.batch import _Options
from bgeprep.config import PrepConfig
from bgeprep.exclude import Benchmark
from bgeprep.executors.tasks import Cut
from bgeprep.inputs import ArrowStream, Source
from bgeprep.mask import MaskOptions
from bgeprep.plan import PlanOptions
from bgeprep.scores import Scores
from bgeprep.shard import Made, RunOptions
from bgeprep.text import _Options as _TextOptions

__all__ = [
    "BatchReader",
    "PlanReader",
    "ShardReader",
    "TextMasker",
    "TextReader",
    "TextTokenizer",
    "WorkLock",
    "__version__",
    "audit",
    "build_profile",
    "clear_tasks",
    "cut",
    "fetch",
    "found_tasks",
    "list_objects",
    "publish",
    "published",
    "published_log",
    "run_task",
    "shard",
    "split_url",
    "spool",
    "sweep",
    "text_hash",
    "text_key",
    "verify",
]

__version__: str
build_profile: str

def shard(
    config: PrepConfig,
    sources: Sequence[Source],
    filters: tuple[Sequence[Benchmark], Scores | None],
    resolved: str,
    options: RunOptions,
    report: Callable[[str, int, int, int, int, int, int, int], None] | None,
) -> Made:
    """Runs the preparation. `filters` are the benchmarks to keep out and the scores to filter by."""

def cut(
    config: PrepConfig,
    sources: Sequence[Source],
    filters: tuple[Sequence[Benchmark], Scores | None],
    resolved: str,
    partitions: int | None,
) -> Cut:
    """How many jobs the stages of a plan have, with so many key partitions or as many as its size asks for."""

def run_task(
    config: PrepConfig,
    sources: Sequence[Source],
    filters: tuple[Sequence[Benchmark], Scores | None],
    resolved: str,
    options: RunOptions,
    task: str,
) -> str:
    """Does one task, described in JSON; what came of it, in JSON."""

def found_tasks(place: str | PathLike[str], scratch: str | PathLike[str]) -> list[str]:
    """What the tasks of a run that was killed left in a place, in JSON, one a task."""

def clear_tasks(place: str | PathLike[str], scratch: str | PathLike[str]) -> None:
    """Removes all that the tasks of a run left in a place."""

@final
class WorkLock:
    """The work folder of a run: one writer at a time, and nothing in it of other input or another config."""

    def __new__(cls, path: str | PathLike[str], fingerprint: str) -> WorkLock: ...
    @property
    def resumed(self) -> bool: ...
    @property
    def discarded(self) -> bool: ...
    def close(self, remove: bool) -> None:
        """Gives the lock back; removes the folder if the run is over."""

def spool(stream: ArrowStream, path: Path) -> int:
    """Writes an Arrow stream to a file that the readers take as input; returns its rows."""

def sweep(path: Path) -> None:
    """Removes a work folder that a killed run left, unless a run is writing there."""

def text_hash(text: str) -> bytes:
    """What a cleaned text is called in score files: xxh3-128 of its UTF-8, big-endian."""

def split_url(text: str) -> tuple[str, str] | None:
    """Bucket and key of a URL, None for a path."""

def list_objects(bucket: str, prefix: str) -> list[tuple[str, int, str, int]]:
    """The objects of a bucket whose keys start with `prefix`: (key, bytes, etag, modified in ns)."""

def published_log(url: str) -> str | None:
    """The text of `run.json` of the set at `url`, empty if there is none; None if there is no set."""

def published(url: str) -> str:
    """The text of the manifest of the set at `url`, whose files are all there in their lengths."""

def fetch(
    url: str,
    to: Path,
    threads: int,
    report: Callable[[str, int, int, int, int, int, int, int], None] | None,
) -> None:
    """Brings the set at `url` into the folder `to`, its manifest last."""

def publish(
    set: Path,
    url: str,
    report: Callable[[str, int, int, int, int, int, int, int], None] | None,
) -> None:
    """Sends the set in the folder `set` to `url`, its manifest last."""

def text_key(text: str) -> int:
    """The exact key of a text: xxh3-64 of its normalised form."""

def verify(
    path: str | PathLike[str],
    threads: int,
    report: Callable[[str, int, int, int, int, int, int, int], None] | None,
) -> tuple[int, int, int, list[str]]:
    """Checks all of a set: (parts, rows, bytes, problems)."""

@final
class ShardReader:
    """An open shard set."""

    @staticmethod
    def open(path: str | PathLike[str]) -> ShardReader: ...
    def __len__(self) -> int: ...
    def row(self, id: int) -> dict[str, Any]: ...
    def manifest_json(self) -> str: ...
    def part_paths(self) -> list[Path]: ...
    def source_ranges(self) -> list[tuple[int, int]]: ...
    def record_batches(self) -> ArrowStream: ...

@final
class BatchReader:
    """One rank's batches."""

    def __new__(cls, shards: Path, options: _Options) -> BatchReader: ...
    def next(self) -> dict[str, Any] | None: ...
    def state_json(self) -> str: ...
    def restore(self, state: str) -> None: ...
    def close(self) -> None: ...
    def count_steps(self) -> int: ...
    def plan(self) -> PlanReader: ...
    def report_json(self) -> str: ...
    def tokenizer_engine(self) -> tuple[str, str | None]: ...

@final
class PlanReader:
    """Global batches, one by one."""

    def __new__(cls, shards: Path, settings: PlanOptions) -> PlanReader: ...
    def next(self) -> dict[str, Any] | None: ...
    def state_json(self) -> str: ...
    def restore(self, state: str) -> None: ...
    def report_json(self) -> str: ...

def audit(
    shards: Path,
    settings: PlanOptions,
    report: Callable[[str, int, int, int, int, int, int, int], None] | None,
) -> str:
    """Plans a whole run and checks every batch; JSON of what was found, and of what became of the rows."""

@final
class TextTokenizer:
    """An open tokenizer."""

    def __new__(cls, path: Path) -> TextTokenizer: ...
    @property
    def engine(self) -> str: ...
    @property
    def why_not(self) -> str | None: ...
    @property
    def path(self) -> Path: ...
    @property
    def special_tokens(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    def special_ids(self) -> Sequence[int | None]: ...
    def id_of(self, token: str) -> int | None: ...
    def is_special(self, id: int) -> bool: ...
    def encode(
        self, texts: Sequence[str], max_length: int, threads: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]: ...
    def encode_words(
        self, texts: Sequence[str], max_length: int, threads: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int64]]: ...
    def encode_offsets(
        self, texts: Sequence[str], threads: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint32], npt.NDArray[np.int64]]: ...

@final
class TextMasker:
    """Masks texts that the caller brings."""

    def __new__(cls, masks: MaskOptions) -> TextMasker: ...
    def mask(self, texts: list[str], blocks: list[int], epoch: int) -> dict[str, Any]: ...

@final
class TextReader:
    """One rank's masked blocks."""

    def __new__(
        cls,
        shards: Path,
        options: _TextOptions,
        report: Callable[[str, int, int, int, int, int, int, int], None] | None,
    ) -> TextReader: ...
    def next(self) -> dict[str, Any] | None: ...
    def state_json(self) -> str: ...
    def restore(self, state: str) -> None: ...
    def close(self) -> None: ...
    def count_steps(self) -> int: ...
    def plan(self, step: int) -> list[int]: ...
    def block(self, id: int) -> tuple[int, int, int, int] | None: ...
    def blocks(self) -> dict[str, Any]: ...
