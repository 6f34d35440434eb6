"""Raw files of a published data set → files of records, by a recipe."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bgeprep import recipes
from bgeprep.errors import ConfigError, CorpusError
from bgeprep.inputs import is_source_name
from bgeprep.mix import add_to_mix, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["convert"]

_SUMMARY = "_recipe.json"
"""The underscore keeps `bgeprep shard --in` from reading it."""
_BEGUN = "begun"
"""Says of a source that its file may be there and is not known to be whole: the same call makes it again."""
_NOT_IN_MIX = "not_in_mix"
"""Says of a source that `mix.toml` is still to get it; where this is not said, the user took it out."""


def convert(
    recipe: str,
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    options: Mapping[str, str] | None = None,
    processes: int = 1,
    overwrite: bool = False,
    report: Callable[[str, int], None] | None = None,
) -> dict[str, Any]:
    """Writes the records that a recipe makes of raw files: JSON lines, a file a source, and beside them `mix.toml`.

    `mix.toml` is a config for `bgeprep shard --config`: the sources with task, language and instruction. Several
    recipes may go to one folder; what stands in `mix.toml` of a source already, its weight for one, is left alone.
    A file has its name only when it is whole, and the same call again makes what is not there yet, also after a kill.
    Several calls may write to one folder at once, each its own sources. Memory holds a few batches.

    Args:
        recipe: its name, as `bgeprep recipes` lists it.
        inputs: raw files or folders, as the recipe says.
        out: the folder to write to.
        options: what else is asked of the recipe, as `bgeprep recipes show NAME` says.
        processes: how many work at once, where the recipe can; decides no byte.
        overwrite: replace what an earlier call wrote, of whatever.
        report: called with (source, records so far) after each batch.

    Returns:
        What is there of this recipe: `recipe`, `kind`, and by source under `sources` its `records`, `passed_over` by
        reason, `examples` (the first places of each reason), `language`, and for pairs `task` and `instruction`.
        `_recipe.json` in the folder says it of all calls.

    Raises:
        ConfigError: no such recipe or option, `processes` below 1, or a source by a name that `shard` refuses.
        CorpusError: raw files that are not what the recipe reads, or a folder that holds files of these names made of
            other raw files or options, or records of another kind.
        OSError: the operating system refused.
    """
    found = recipes.find(recipe)
    folder = Path(out)
    raw = recipes.open_raw(found, inputs, processes=processes, options=options)
    streams = found.read(raw)
    for name in streams:
        if not is_source_name(name):
            raise ConfigError(
                f"sources.name: {name!r}, which recipe {recipe} makes of these files, cannot name a source (letters, "
                "digits, '.', '_', '-'; not 'rejects'); hint: rename the raw file, or give the source another name"
            )
    targets = {name: folder / f"{name}.jsonl" for name in streams}
    before = _earlier(folder, found, overwrite=overwrite)
    done: dict[str, Any] = {}
    for name, path in targets.items():
        earlier = before.get(name, {})
        if overwrite or not path.exists():
            continue
        if (earlier.get("recipe"), earlier.get("raw")) != (found.name, raw.fingerprint):
            hint = "choose another --out, or give --overwrite"
            raise CorpusError(
                f"{path}: is there already, made of other raw files or options; hint: {hint}", str(folder)
            )
        if _BEGUN not in earlier:
            done[name] = earlier
    folder.mkdir(parents=True, exist_ok=True)
    note = partial(_note, folder, found, overwrite=overwrite)
    for name, stream in streams.items():
        made = {"recipe": found.name, "raw": raw.fingerprint}
        if name not in done:
            with _part(folder / f".{name}.jsonl.part") as (beside, file):
                for frame in stream:
                    frame.write_ndjson(file)
                    if report:
                        report(name, stream.tally.records)
                file.flush()
                os.fsync(file.fileno())
                note(name, made | {_BEGUN: True})
                beside.replace(targets[name])
            labels = {"language": stream.purpose.language}
            if found.kind == "pairs":
                labels |= {"task": stream.purpose.task, "instruction": stream.purpose.instruction}
            done[name] = made | labels | stream.tally.as_dict() | {_NOT_IN_MIX: True}
            note(name, done[name])
        if done[name].pop(_NOT_IN_MIX, False):
            with _alone(folder):
                add_to_mix(folder, name, found.kind, stream.purpose)
            note(name, done[name])
    return {"recipe": found.name, "kind": found.kind, "sources": {name: done[name] for name in streams}}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Other calls that write to the folder wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _part(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """An empty file for what is not whole yet, gone behind; no other call writes to it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except BlockingIOError:
            ours = False
        if not ours:
            raise CorpusError(f"{path}: another call is writing it; hint: wait for it to end", str(path))
        try:
            file.truncate()
            yield path, file
        finally:
            path.unlink(missing_ok=True)


def _note(folder: Path, recipe: recipes.Recipe, name: str, said: dict[str, Any], *, overwrite: bool) -> None:
    """Writes down what is to be known of a source, beside what stands there of others by now."""
    with _alone(folder):
        sources = _earlier(folder, recipe, overwrite=overwrite) | {name: said}
        text = json.dumps({"kind": recipe.kind, "sources": sources}, ensure_ascii=False, indent=2) + "\n"
        write_whole(folder / _SUMMARY, text)


def _earlier(folder: Path, recipe: recipes.Recipe, *, overwrite: bool) -> dict[str, Any]:
    """What earlier calls wrote to the folder, by source; to be overwritten, it need not be readable."""
    path = folder / _SUMMARY
    if not path.exists():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        kind, sources = said["kind"], dict(said["sources"])
    except (ValueError, KeyError, TypeError):
        if overwrite:
            return {}
        hint = "choose another --out, or give --overwrite"
        raise CorpusError(f"{path}: no summary of `bgeprep convert`; hint: {hint}", str(path)) from None
    if kind != recipe.kind:
        raise CorpusError(
            f"{folder}: holds {kind}, and recipe {recipe.name} makes {recipe.kind}, which no shard set holds together; "
            "hint: choose another --out",
            str(folder),
        )
    return sources
