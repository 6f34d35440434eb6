"""`mix.toml`: the sources that `bgeprep convert` wrote to a folder, as a config for `bgeprep shard`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from bgeprep.config import load_config

if TYPE_CHECKING:
    from pathlib import Path

    from bgeprep.recipes.purpose import Purpose

__all__ = ["MIX", "add_to_mix", "write_whole"]

MIX = "mix.toml"
_HEAD = """\
# Written by `bgeprep convert`, which adds sources and leaves alone what stands here: give weights, drop a source.
# bgeprep shard --config {folder}/mix.toml --out shards/
"""


def add_to_mix(folder: Path, name: str, kind: str, purpose: Purpose) -> None:
    """Adds a source, whose records lie beside it in `<name>.jsonl`, to the mix of a folder; one that is there stays.

    Raises:
        ConfigError: a mix that is there already, and no config.
        OSError: the operating system refused.
    """
    path = folder / MIX
    text = path.read_text(encoding="utf-8") if path.exists() else _HEAD.format(folder=_quoted(folder.name)[1:-1] or ".")
    if path.exists() and any(source.name == name for source in load_config(path).sources):
        return
    values = {"name": name, "path": f"{name}.jsonl"}
    if kind == "pairs":
        values |= {"task": purpose.task, "language": purpose.language, "instruction": purpose.instruction}
    else:
        values |= {"language": purpose.language}
    lines = [f"{key} = {_quoted(value)}" for key, value in values.items() if value]
    text += "\n[[sources]]\n" + "\n".join(lines) + "\n"
    write_whole(path, text)


def _quoted(value: str) -> str:
    """A TOML string: one of JSON, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_whole(path: Path, text: str) -> None:
    """Writes a file that has its name only once all of it is on disk."""
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
