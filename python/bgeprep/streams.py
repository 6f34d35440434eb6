"""Sources that are no files yet: Arrow streams, and what recipes make of raw files; written down, then read."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bgeprep import _native, recipes
from bgeprep.config import SourceConfig
from bgeprep.errors import ConfigError, CorpusError
from bgeprep.inputs import InputFile, Source

if TYPE_CHECKING:
    from bgeprep.inputs import ArrowStream

__all__ = ["passed_over", "recipe_source", "spool_recipes", "spool_streams"]

_UNWRITTEN = Path()
"""Where the records of a recipe are before they are written down."""


def recipe_source(config: SourceConfig, priority: int) -> Source:
    """The source that a recipe makes of the raw files a config names; its records are not read yet.

    Raises:
        ConfigError: no such recipe or option, a setting that recipes leave no choice of, or a recipe of several sources
            none of which has the name.
        CorpusError: raw files that are not what the recipe reads.
    """
    for key in ("format", "columns", "labels", "header", "delimiter", "quoting", "cut"):
        if getattr(config, key) != getattr(SourceConfig(name=config.name, path=config.path), key):
            raise ConfigError(f"sources.{config.name}.{key}: recipe {config.recipe} knows the form of its files")
    recipe = recipes.find(config.recipe)
    raw = recipes.open_raw(recipe, config.path, options=config.options)
    streams = recipe.read(raw)
    stream = streams.get(config.name, next(iter(streams.values())) if len(streams) == 1 else None)
    if stream is None:
        made = ", ".join(streams)
        raise ConfigError(f"sources.name: recipe {recipe.name} makes {made} of these files, none called {config.name}")
    settled = _settled(config, stream)
    listing = "\0".join(f"{file.origin}\0{file.bytes}\0{file.modified}" for file in raw.files)
    # The listing stands in for the content: nothing is read again for a set that is up to date.
    modified = int(hashlib.sha256(listing.encode()).hexdigest()[:15], 16)
    size = sum(file.bytes for file in raw.files)
    file = InputFile(path=_UNWRITTEN, origin=config.name, bytes=size, modified=modified)
    return Source(settled, (file,), priority if config.priority is None else config.priority, stream=stream)


def _settled(config: SourceConfig, stream: recipes.Stream) -> SourceConfig:
    """The config with what the recipe says where it says nothing."""
    plain, purpose = SourceConfig(name=config.name, path=config.path), stream.purpose
    task = purpose.task if config.task == plain.task else config.task
    language = config.language or purpose.language
    usual = "" if "text" in stream.schema else recipes.Purpose(task, language).instruction
    instruction = config.instruction or usual
    return dataclasses.replace(config, format="arrow", task=task, language=language, instruction=instruction)


def spool_recipes(sources: Sequence[Source], folder: Path) -> list[Source]:
    """Writes what recipes make to files, each under a name of its own, so that it is read like any other input.

    Raises:
        CorpusError: raw files that are damaged or not what the recipe reads.
        OSError: the operating system refused.
    """
    return [_spooled(source, folder / f"recipe-{number:05d}") for number, source in enumerate(sources)]


def _spooled(source: Source, path: Path) -> Source:
    if source.stream is None:
        return source
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _native.spool(source.stream, path)
    except Exception:
        # what the recipe said, rather than what became of it on its way through Arrow
        if source.stream.error:
            raise source.stream.error from None
        raise
    size = path.stat().st_size
    files = (dataclasses.replace(one, path=path, bytes=size) if one.path == _UNWRITTEN else one for one in source.files)
    return dataclasses.replace(source, files=tuple(files))


def passed_over(sources: Sequence[Source]) -> dict[str, dict[str, int]]:
    """By source, how many entries of its raw files became no record, by reason."""
    tallies = {source.config.name: source.stream.tally for source in sources if source.stream}
    return {name: dict(sorted(tally.passed_over.items())) for name, tally in tallies.items() if tally.passed_over}


def spool_streams(streams: Mapping[str, Any], folder: Path, first_priority: int) -> list[Source]:
    """Writes Arrow streams to files, so that they can be read like any other input.

    Raises:
        CorpusError: something that gives no Arrow.
        OSError: the operating system refused.
    """
    sources = []
    for number, (name, stream) in enumerate(streams.items()):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"stream-{number:05d}"
        _native.spool(_record_batches(name, stream), path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else None
            content = digest.hexdigest() if digest else hashlib.sha256(file.read()).hexdigest()
        # The content stands in for the time of change: the same stream again is up to date.
        modified = int(content[:15], 16)
        file_entry = InputFile(path=path, origin=name, bytes=path.stat().st_size, modified=modified)
        config = SourceConfig(name=name, path=(name,), format="arrow")
        if isinstance(stream, recipes.Stream):
            config = _settled(config, stream)
        sources.append(Source(config, (file_entry,), first_priority + number))
    return sources


def _record_batches(name: str, stream: object) -> ArrowStream:
    """Anything that can give Arrow → an object with `__arrow_c_stream__` that streams."""
    if hasattr(stream, "collect_batches"):
        return cast("ArrowStream", stream.collect_batches(maintain_order=True))
    if hasattr(stream, "__arrow_c_stream__"):
        return cast("ArrowStream", stream)
    raise CorpusError(f"source {name}: expected an Arrow stream or a polars frame, found {type(stream).__name__}", name)
