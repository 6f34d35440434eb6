"""Raw files of a published data set → files of records, by a recipe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgeprep import recipes
from bgeprep.errors import ConfigError, CorpusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["convert"]

_SUMMARY = "_recipe.json"
"""The underscore keeps `bgeprep shard --in` from reading it."""


def convert(
    recipe: str,
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    processes: int = 1,
    overwrite: bool = False,
    report: Callable[[str, int], None] | None = None,
) -> dict[str, Any]:
    """Writes the records that a recipe makes of raw files: JSON lines, a file a source, for `bgeprep shard --in`.

    A file has its name only when it is whole. Memory holds a few batches.

    Args:
        recipe: its name, as `bgeprep recipes` lists it.
        inputs: raw files or folders, as the recipe says.
        out: the folder to write to.
        processes: how many work at once, where the recipe can; decides no byte.
        overwrite: replace what an earlier call wrote.
        report: called with (source, records so far) after each batch.

    Returns:
        What `_recipe.json` in the folder says: `recipe`, `kind`, and by source under `sources` its `records`,
        `passed_over` (number by reason) and `examples` (the first places of each reason).

    Raises:
        ConfigError: no such recipe, or `processes` below 1.
        CorpusError: raw files that are not what the recipe reads, or a folder that holds its output already.
        OSError: the operating system refused.
    """
    found = recipes.find(recipe)
    if processes < 1:
        raise ConfigError(f"processes: expected at least 1, found {processes}")
    folder = Path(out)
    streams = found.read([inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs), processes)
    targets = {name: folder / f"{name}.jsonl" for name in streams}
    there = [path for path in targets.values() if path.exists()]
    if there and not overwrite:
        raise CorpusError(f"{there[0]}: is there already; hint: choose another --out, or give --overwrite", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {"recipe": found.name, "kind": found.kind, "sources": {}}
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
        summary["sources"][name] = stream.tally.as_dict()
    text = json.dumps(summary, ensure_ascii=False, indent=2) + "\n"
    (folder / _SUMMARY).write_text(text, encoding="utf-8")
    return summary
