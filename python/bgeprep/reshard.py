"""Shard sets as input: sharded again, mixed, thinned out, or compared with.

A set that is read again gives its sources with their names, tasks, languages, weights and instructions; its rows keep
the file and line they were first read from, and with them their place in the shuffled order. So a set that is read
again without dropping anything comes out in the same order.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from bgeprep import _native
from bgeprep.config import PrepConfig, SourceConfig
from bgeprep.errors import ConfigError
from bgeprep.inputs import InputFile, Source, find_sources, natural_key

__all__ = ["against", "choose", "find_all", "is_shard_set", "set_hashes", "settle_dedup", "unite"]


def is_shard_set(folder: Path) -> bool:
    """Whether a folder is a shard set, whole or damaged."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return False
    if any(folder.glob("*/part-*.arrow")):
        return True
    with manifest.open("rb") as file:
        return b'"format_version"' in file.read(4096)


def find_all(inputs: Iterable[str | os.PathLike[str]], settings: PrepConfig) -> list[Source]:
    """The sources of shard sets and raw files among the inputs and the sources that the config names, sets first.

    Raises:
        ConfigError: a set given twice, or a source that a set does not have.
        CorpusError: as `find_sources`.
        ShardError: a set that is incomplete, damaged, or of another kind.
    """
    sets, raw = _split(inputs)
    sources: list[Source] = []
    named: list[SourceConfig] = []
    for config in settings.sources:
        folders, others = ([], []) if config.recipe else _split(config.path)
        if folders and others:
            raise ConfigError(f"sources.{config.name}.path: shard sets and raw files; hint: make them two sources")
        sources += [_named(config, folder) for folder in folders]
        if not folders:
            named.append(config)
    for folder in _once(sets, "in"):
        sources += set_sources(folder)
    return _in_order([*sources, *find_sources(raw, named)])


def _in_order(sources: list[Source]) -> list[Source]:
    """Sources with their place as priority, where the config gives none."""
    return [
        dataclasses.replace(source, priority=place if source.config.priority is None else source.config.priority)
        for place, source in enumerate(sources)
    ]


def _split(inputs: Iterable[str | os.PathLike[str]]) -> tuple[list[Path], list[str]]:
    """The shard sets among some paths, and the rest; a folder that holds nothing but sets stands for them."""
    sets: list[Path] = []
    raw: list[str] = []
    for one in inputs:
        pattern = os.fspath(one)
        if Path(pattern).exists() or not glob.has_magic(pattern):
            matches = [pattern]
        else:
            matches = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 - pattern may be absolute
        found = {match: _sets_at(Path(match)) for match in matches}
        if any(found.values()):
            sets += [folder for folders in found.values() for folder in folders]
            raw += [match for match, folders in found.items() if not folders]
        else:
            raw.append(pattern)
    return sets, raw


def _sets_at(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    if is_shard_set(path):
        return [path]
    entries = sorted((entry for entry in path.iterdir() if not entry.name.startswith((".", "_"))),
                     key=lambda entry: natural_key(entry.name))  # fmt: skip
    return entries if entries and all(entry.is_dir() and is_shard_set(entry) for entry in entries) else []


def _once(folders: Sequence[Path], key: str) -> Sequence[Path]:
    real = [folder.resolve() for folder in folders]
    for folder in folders:
        if real.count(folder.resolve()) > 1:
            raise ConfigError(f"{key}: {folder} is given twice")
    return folders


def set_sources(folder: Path) -> list[Source]:
    """The sources of a set, with its parts as their files.

    Raises:
        ShardError: the set is incomplete, damaged, or of another kind.
    """
    manifest = json.loads(_native.ShardReader.open(folder).manifest_json())
    sources: list[Source] = []
    for entry in manifest["sources"]:
        config = SourceConfig(
            name=entry["name"],
            path=(str(folder),),
            task=entry["task"],
            language=entry["language"] or "",
            weight=entry["weight"],
            instruction=entry["instruction"] or "",
        )
        # The hash covers every byte: neither the set's place nor the time of a copy makes it another input.
        files = [
            InputFile(folder / part["path"], f"{manifest['hash']}/{part['path']}", part["bytes"], 0, set=folder)
            for part in entry["files"]
        ]
        if files:
            sources.append(Source(config, tuple(files), len(sources)))
    return sources


def _named(config: SourceConfig, folder: Path) -> Source:
    """The source of this name in a set; what the config says stands above what the set says."""
    found = {source.config.name: source for source in set_sources(folder)}
    if config.name not in found:
        raise ConfigError(f"sources.name: {folder} has no source {config.name}; it has {', '.join(found)}")
    source = found[config.name]
    own = SourceConfig(name=config.name, path=config.path)
    given = {
        field.name: value
        for field in dataclasses.fields(config)
        if field.name != "path" and (value := getattr(config, field.name)) != getattr(own, field.name)
    }
    return dataclasses.replace(source, config=dataclasses.replace(source.config, **given))


def unite(sources: list[Source]) -> list[Source]:
    """One source for each name: of several sets, or of a set and raw files.

    Raises:
        ConfigError: two sources of one name have different tasks, or no set is among them.
    """
    united: dict[str, Source] = {}
    for source in sources:
        name = source.config.name
        first = united.setdefault(name, source)
        if first is source:
            continue
        if not any(file.set for file in (*first.files, *source.files)):
            raise ConfigError(f"sources.name: two sources are called {name}; hint: name them in a config file")
        tasks = first.config.task, source.config.task
        if tasks[0] != tasks[1]:
            raise ConfigError(
                f"sources.{name}.task: the inputs have a source of this name for {tasks[0]} and one for {tasks[1]}; "
                "hint: give the task with --task, or leave one out"
            )
        # How raw files are to be read stands with them; everything else is the first one's who says anything.
        base = source.config if any(file.set for file in first.files) else first.config
        config = dataclasses.replace(
            base,
            language=first.config.language or source.config.language,
            instruction=first.config.instruction or source.config.instruction,
            weight=source.config.weight if first.config.weight is None else first.config.weight,
        )
        united[name] = dataclasses.replace(
            first,
            config=config,
            files=first.files + source.files,
            skipped=first.skipped + source.skipped,
            stream=first.stream or source.stream,
        )
    return list(united.values())


def choose(sources: list[Source], only: Sequence[str], drop: Sequence[str]) -> list[Source]:
    """The sources named in `only` (all, if it is empty) without those named in `drop`.

    Raises:
        ConfigError: a name that no source has, or nothing left.
    """
    names = [source.config.name for source in sources]
    for name in (*only, *drop):
        if name not in names:
            raise ConfigError(f"sources: no source is called {name}; found {', '.join(names)}")
    chosen = [
        source for source in sources if source.config.name not in drop and (not only or source.config.name in only)
    ]
    if not chosen:
        raise ConfigError(f"sources: none is left of {', '.join(names)}")
    return chosen


def settle_dedup(settings: PrepConfig, sources: list[Source]) -> PrepConfig:
    """Makes `auto` what it stands for with these sources: none for one shard set alone, near for everything else.

    Raises:
        ConfigError: sets to compare with, and no dedup.
    """
    mode = settings.dedup.mode
    if mode == "auto":
        sets = {file.set for source in sources for file in source.files}
        mode = "none" if len(sets) == 1 and None not in sets and not settings.against else "near"
    elif mode == "none" and settings.against:
        raise ConfigError("dedup.mode: expected exact or near with --against, found none")
    return dataclasses.replace(settings, dedup=dataclasses.replace(settings.dedup, mode=mode))


def against(folders: Iterable[str | os.PathLike[str]]) -> list[Source]:
    """The sources of sets that new data is compared with.

    Raises:
        ConfigError: a set given twice, or a path that is none.
        ShardError: a set that is incomplete, damaged, or of another kind.
    """
    sets, raw = _split(folders)
    if raw:
        raise ConfigError(f"against: expected shard sets, found {raw[0]}; hint: make one of it with `bgeprep shard`")
    return [
        dataclasses.replace(source, against=True) for folder in _once(sets, "against") for source in set_sources(folder)
    ]


def set_hashes(sources: Iterable[Source]) -> list[str]:
    """Hashes of the shard sets that these sources read, sorted: what the resolved config says of them."""
    return sorted({file.origin.split("/")[0] for source in sources for file in source.files if file.set})
