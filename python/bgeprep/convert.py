"""Raw files of a published data set → files of records, by a recipe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgeprep import recipes
from bgeprep.errors import CorpusError
from bgeprep.mix import add_to_mix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["convert"]

_SUMMARY = "_recipe.json"
"""The underscore keeps `bgeprep shard --in` from reading it."""


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
    A file has its name only when it is whole. Memory holds a few batches.

    Args:
        recipe: its name, as `bgeprep recipes` lists it.
        inputs: raw files or folders, as the recipe says.
        out: the folder to write to.
        options: what else is asked of the recipe, as `bgeprep recipes show NAME` says.
        processes: how many work at once, where the recipe can; decides no byte.
        overwrite: replace what an earlier call wrote.
        report: called with (source, records so far) after each batch.

    Returns:
        What was done: `recipe`, `kind`, and by source under `sources` its `records`, `passed_over` (number by reason),
        `examples` (the first places of each reason), `language`, and for pairs `task` and `instruction`. `_recipe.json`
        in the folder says it of all calls.

    Raises:
        ConfigError: no such recipe or option, or `processes` below 1.
        CorpusError: raw files that are not what the recipe reads, or a folder that holds its output already, or records
            of another kind.
        OSError: the operating system refused.
    """
    found = recipes.find(recipe)
    folder = Path(out)
    streams = found.read(recipes.open_raw(found, inputs, processes=processes, options=options))
    targets = {name: folder / f"{name}.jsonl" for name in streams}
    there = [path for path in targets.values() if path.exists()]
    if there and not overwrite:
        raise CorpusError(f"{there[0]}: is there already; hint: choose another --out, or give --overwrite", str(folder))
    before = _earlier(folder, found)
    folder.mkdir(parents=True, exist_ok=True)
    done: dict[str, Any] = {}
    for name, stream in streams.items():
        beside = folder / f".{name}.jsonl.part"
        try:
            with beside.open("wb") as file:
                for frame in stream:
                    frame.write_ndjson(file)
                    if report:
                        report(name, stream.tally.records)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(targets[name])
        finally:
            beside.unlink(missing_ok=True)
        purpose = stream.purpose
        labels = {"language": purpose.language}
        if found.kind == "pairs":
            labels |= {"task": purpose.task, "instruction": purpose.instruction}
        done[name] = {"recipe": found.name, **labels, **stream.tally.as_dict()}
        everything = {"kind": found.kind, "sources": before | done}
        text = json.dumps(everything, ensure_ascii=False, indent=2) + "\n"
        (folder / _SUMMARY).write_text(text, encoding="utf-8")
        add_to_mix(folder, name, found.kind, purpose)
    return {"recipe": found.name, "kind": found.kind, "sources": done}


def _earlier(folder: Path, recipe: recipes.Recipe) -> dict[str, Any]:
    """What earlier calls wrote to the folder, by source."""
    path = folder / _SUMMARY
    if not path.exists():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        kind, sources = said["kind"], dict(said["sources"])
    except (ValueError, KeyError, TypeError):
        raise CorpusError(f"{path}: no summary of `bgeprep convert`; hint: choose another --out", str(path)) from None
    if kind != recipe.kind:
        raise CorpusError(
            f"{folder}: holds {kind}, and recipe {recipe.name} makes {recipe.kind}, which no shard set holds together; "
            "hint: choose another --out",
            str(folder),
        )
    return sources
