"""Input paths → named sources with their files, in natural order.

A first-level folder of the input is a source; first-level files that differ only in a number
(`-00000`, `-00001-of-00064`, `_12`) are one source. A config file may name sources instead.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bgeprep.config import CleanConfig, SourceConfig
from bgeprep.errors import ConfigError, CorpusError

__all__ = ["ArrowStream", "InputFile", "Source", "find_sources", "natural_key"]

_SUFFIXES = re.compile(
    r"(\.(jsonl|ndjson|json|csv|tsv|txt|parquet|arrow|feather|ipc|gz|zst|zstd|bz2))+$", re.IGNORECASE
)
_PART_NUMBER = re.compile(r"[-_.](\d+)([-_.]of[-_.]\d+)?$")
_DOCUMENTATION = re.compile(r"^(readme|licen[cs]e|notice|copying|citation)(\..*)?$|\.(md|rst|html|pdf)$", re.IGNORECASE)
_HF_SIDE_FILES = {"dataset_info.json", "state.json", "dataset_dict.json"}


class ArrowStream(Protocol):
    """Anything that hands over Arrow data (the Arrow PyCapsule interface)."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A PyCapsule with an Arrow C stream."""


@dataclass(frozen=True)
class InputFile:
    """One input file: where it is, what the shard set calls it, its size, its modification time in ns, its set.

    `set` is the folder of the shard set that it is a part of, None for a raw file.
    """

    path: Path
    origin: str
    bytes: int
    modified: int
    set: Path | None = None


@dataclass(frozen=True)
class Source:
    """A source's settings, its files in reading order, its priority (lower survives), and the rules that clean it.

    The rows of a source with `against` are compared with, and never written.
    """

    config: SourceConfig
    files: tuple[InputFile, ...]
    priority: int
    skipped: tuple[str, ...] = field(default=())
    against: bool = False
    clean: CleanConfig = field(default_factory=CleanConfig)


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which `part-2` comes before `part-10`."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def find_sources(inputs: Iterable[str | os.PathLike[str]], named: Iterable[SourceConfig] = ()) -> list[Source]:
    """Finds the sources of a run.

    Args:
        inputs: files, folders or globs whose sources are named after what is there.
        named: sources that a config file names; their paths are files, folders or globs too.

    Raises:
        ConfigError: two sources of one name, or the name `rejects`.
        CorpusError: a path that matches nothing, or an input without a data file.
    """
    sources: list[Source] = []
    for config in named:
        files, skipped = _collect(config.path)
        if not files:
            raise CorpusError(f"source {config.name}: no data file in {', '.join(config.path)}", config.path[0])
        priority = len(sources) if config.priority is None else config.priority
        sources.append(Source(config, tuple(files), priority, tuple(skipped)))
    paths = [os.fspath(one) for one in inputs]
    groups: dict[str, list[InputFile]] = {}
    all_skipped: list[str] = []
    for one in paths:
        files, skipped = _collect([one], prefix=len(paths) > 1)
        all_skipped += skipped
        if not files:
            hint = f"; files left out: {', '.join(skipped[:5])}" if skipped else ""
            raise CorpusError(f"{one}: expected data files (JSONL, CSV, TSV, Parquet, Arrow), found none{hint}", one)
        for file in files:
            within = file.origin.split("/", 1)[1] if len(paths) > 1 and "/" in file.origin else file.origin
            groups.setdefault(_source_name(within), []).append(file)
    for name in sorted(groups, key=natural_key):
        config = SourceConfig(name=name, path=tuple(paths))
        sources.append(Source(config, tuple(groups[name]), len(sources), tuple(all_skipped) if not sources else ()))
    _check_names(sources)
    return sources


def _check_names(sources: list[Source]) -> None:
    seen: dict[str, Source] = {}
    for source in sources:
        name = source.config.name
        if name == "rejects" or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
            raise ConfigError(
                f"sources.name: {name!r} cannot name a source (letters, digits, '.', '_', '-'; not 'rejects'); "
                "hint: rename the file or folder, or give it a name in a config file"
            )
        if name in seen:
            raise ConfigError(f"sources.name: two sources are called {name}; hint: name them in a config file")
        seen[name] = source


def _source_name(origin: str) -> str:
    """Name of the source that a file belongs to, from its path relative to the input."""
    first, _, rest = origin.partition("/")
    name = first if rest else _PART_NUMBER.sub("", _SUFFIXES.sub("", first)) or first
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")
    return name or "source"


def _collect(paths: Iterable[str], prefix: bool = False) -> tuple[list[InputFile], list[str]]:
    """All data files below some paths, natural order; and the names of files that hold no data."""
    files: list[InputFile] = []
    skipped: list[str] = []
    for pattern in paths:
        path = Path(pattern)
        if path.exists() or not glob.has_magic(pattern):
            matches = [path]
        else:
            matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True), key=natural_key)]  # noqa: PTH207 - pattern may be absolute
        if not matches or not matches[0].exists():
            raise CorpusError(f"{pattern}: no such file or folder; hint: check the path, quote globs", pattern)
        for match in matches:
            if match.is_dir():
                # A trailing slash or "." still has a name to put in front.
                front = f"{match.resolve().name}/" if prefix else ""
                for file in _walk(match):
                    origin = f"{front}{file.relative_to(match).as_posix()}"
                    if _is_data(file):
                        files.append(_stat(file, origin))
                    else:
                        skipped.append(origin)
            else:
                files.append(_stat(match, match.name))
    origins = [file.origin for file in files]
    if len(set(origins)) != len(origins):
        twice = next(origin for origin in origins if origins.count(origin) > 1)
        raise ConfigError(f"two input files are both called {twice}; hint: give their common folder as --in")
    return files, skipped


def _walk(folder: Path) -> Iterator[Path]:
    if (folder / "manifest.json").is_file() and any(folder.glob("*/part-*.arrow")):
        raise CorpusError(
            f"{folder} is a shard set among other files; hint: give it as an input of its own, beside the others",
            str(folder),
        )
    entries = sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
    for entry in entries:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.is_file():
            yield entry


def _is_data(file: Path) -> bool:
    if file.name in _HF_SIDE_FILES and any(file.parent.glob("*.arrow")):
        return False
    return not _DOCUMENTATION.search(file.name)


def _stat(file: Path, origin: str) -> InputFile:
    found = file.stat()
    return InputFile(path=file, origin=origin, bytes=found.st_size, modified=found.st_mtime_ns)
