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
from typing import TYPE_CHECKING, Protocol

from bgeprep.config import CleanConfig, SourceConfig
from bgeprep.errors import ConfigError, CorpusError
from bgeprep.objects import find_objects, is_url

if TYPE_CHECKING:
    from bgeprep.recipes.stream import Stream

__all__ = ["ArrowStream", "InputFile", "Source", "collect", "find_sources", "is_source_name", "natural_key"]

_SUFFIXES = re.compile(
    r"(\.(jsonl|ndjson|json|csv|tsv|txt|parquet|arrow|feather|ipc|gz|zst|zstd|bz2))+$", re.IGNORECASE
)
_PART_NUMBER = re.compile(r"[-_.](\d+)([-_.]of[-_.]\d+)?$")
_DOCUMENTATION = re.compile(
    r"^(readme|licen[cs]e|notice|copying|citation)(\..*)?$|\.(md|rst|html|pdf|toml)$", re.IGNORECASE
)
_HF_SIDE_FILES = {"dataset_info.json", "state.json", "dataset_dict.json"}


class ArrowStream(Protocol):
    """Anything that hands over Arrow data (the Arrow PyCapsule interface)."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A PyCapsule with an Arrow C stream."""


@dataclass(frozen=True)
class InputFile:
    """One input file or object.

    Attributes:
        path: where it is; a URL for an object in a store.
        origin: what the shard set calls it.
        bytes: its size.
        modified: its modification time in ns; for an object a number made from its etag.
        set: the folder of the shard set that it is a part of, None for a raw file.
        etag: what tells the content of an object apart; empty for a file.
    """

    path: Path | str
    origin: str
    bytes: int
    modified: int
    set: Path | None = None
    etag: str = ""


@dataclass(frozen=True)
class Source:
    """A source's settings, its files in reading order, its priority (lower survives), and the rules that clean it.

    The rows of a source with `against` are compared with, and never written. A source with a `stream` has one file, to
    which its records are still to be written.
    """

    config: SourceConfig
    files: tuple[InputFile, ...]
    priority: int
    skipped: tuple[str, ...] = field(default=())
    against: bool = False
    clean: CleanConfig = field(default_factory=CleanConfig)
    stream: Stream | None = None


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which `part-2` comes before `part-10`."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def find_sources(inputs: Iterable[str | os.PathLike[str]], named: Iterable[SourceConfig] = ()) -> list[Source]:
    """Finds the sources of a run.

    Args:
        inputs: files, folders or globs, of paths or `s3://` URLs, whose sources are named after what is there.
        named: sources that a config file names; their paths are files, folders or globs too.

    Raises:
        ConfigError: two sources of one name, or the name `rejects`.
        CorpusError: a path that matches nothing, or an input without a data file.
        StoreError: a store that refuses or cannot be reached.
    """
    from bgeprep.streams import recipe_source  # recipes read what this module finds

    sources: list[Source] = []
    for config in named:
        if config.recipe:
            sources.append(recipe_source(config, len(sources)))
            continue
        files, skipped = collect(config.path)
        if not files:
            raise CorpusError(f"source {config.name}: no data file in {', '.join(config.path)}", config.path[0])
        priority = len(sources) if config.priority is None else config.priority
        sources.append(Source(config, tuple(files), priority, tuple(skipped)))
    paths = [os.fspath(one) for one in inputs]
    groups: dict[str, list[InputFile]] = {}
    all_skipped: list[str] = []
    for one in paths:
        files, skipped = collect([one], prefix=len(paths) > 1)
        all_skipped += skipped
        if not files:
            hint = f"; files left out: {', '.join(skipped[:5])}" if skipped else ""
            raise CorpusError(
                f"{one}: expected data files (JSONL, CSV, TSV, Parquet, Arrow, .txt), found none{hint}", one
            )
        for file in files:
            within = file.origin.split("/", 1)[1] if len(paths) > 1 and "/" in file.origin else file.origin
            groups.setdefault(_source_name(within), []).append(file)
    for name in sorted(groups, key=natural_key):
        config = SourceConfig(name=name, path=tuple(paths))
        sources.append(Source(config, tuple(groups[name]), len(sources), tuple(all_skipped) if not sources else ()))
    _check_names(sources)
    return sources


def is_source_name(name: str) -> bool:
    """Whether a source may be called that: its folder in a shard set has this name, beside `rejects`."""
    return name != "rejects" and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) is not None


def _check_names(sources: list[Source]) -> None:
    seen: dict[str, Source] = {}
    for source in sources:
        name = source.config.name
        if not is_source_name(name):
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


def collect(paths: Iterable[str], prefix: bool = False) -> tuple[list[InputFile], list[str]]:
    """All data files below some paths, natural order; and the names of files that hold no data.

    Args:
        paths: files, folders or globs, of paths or `s3://` URLs.
        prefix: the name of a folder stands before the names of its files.

    Raises:
        ConfigError: two files of one name.
        CorpusError: a path that matches nothing.
        StoreError: a store that refuses or cannot be reached.
    """
    files: list[InputFile] = []
    skipped: list[str] = []
    for pattern in paths:
        if is_url(pattern):
            found, left_out = _collect_objects(pattern, prefix)
            files += found
            skipped += left_out
            continue
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
                    siblings = (one.name for one in file.parent.iterdir())
                    if _is_data(file.name, siblings):
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


def _is_data(name: str, siblings: Iterable[str]) -> bool:
    """Whether a file holds records, by its name and those beside it."""
    if name in _HF_SIDE_FILES and any(one.endswith(".arrow") for one in siblings):
        return False
    return not _DOCUMENTATION.search(name)


def _stat(file: Path, origin: str) -> InputFile:
    found = file.stat()
    return InputFile(path=file, origin=origin, bytes=found.st_size, modified=found.st_mtime_ns)


def _collect_objects(pattern: str, prefix: bool) -> tuple[list[InputFile], list[str]]:
    """As `collect`, for a URL: the same names in the same order as for a copy of the folder."""
    files: list[InputFile] = []
    skipped: list[str] = []
    for name, is_folder, objects in find_objects(pattern):
        front = f"{name}/" if prefix and is_folder else ""
        names = {one.name for one in objects}
        if is_folder:
            _refuse_shard_sets(pattern, names)
        for one in sorted(objects, key=lambda one: [natural_key(part) for part in one.name.split("/")]):
            *folders, last = one.name.split("/")
            if is_folder and any(part.startswith((".", "_")) for part in [*folders, last]):
                continue
            beside = "/".join([*folders, ""])
            siblings = (other[len(beside) :] for other in names if other.startswith(beside))
            if is_folder and not _is_data(last, (other for other in siblings if "/" not in other)):
                skipped.append(front + one.name)
            else:
                files.append(InputFile(one.url, front + one.name, one.bytes, one.version, etag=one.etag))
    return files, skipped


def _refuse_shard_sets(pattern: str, names: Iterable[str]) -> None:
    parts = {
        name.rpartition("/")[0].rpartition("/")[0] for name in names if re.search(r"(^|/)part-[^/]*\.arrow$", name)
    }
    for name in names:
        folder, _, last = name.rpartition("/")
        if last == "manifest.json" and folder in parts:
            raise CorpusError(
                f"{pattern}: a shard set; shard sets in a store are not read in place; "
                "hint: copy it to this machine, or give the folder it was made from",
                pattern,
            )
