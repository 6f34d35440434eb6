"""The sources of a `bgeprep shard` step, as the file that command reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bgetrain.pipeline.plan import Step

__all__ = ["ONLY_HERE", "mix_text", "write_mix"]

ONLY_HERE = ("rows", "bytes_per_row")
"""Keys of a source that are for the estimates."""


def write_mix(step: Step, folder: Path) -> list[str]:
    """Writes the sources of a step below a pipeline's folder.

    Returns:
        The flags that name the file; none where the step has no sources of its own.
    """
    if not step.sources:
        return []
    path = folder / "mixes" / f"{step.name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(mix_text(step), encoding="utf-8")
    return ["--config", str(path.absolute())]


def mix_text(step: Step) -> str:
    """The sources as TOML; places become absolute, since in that file they would be relative to it."""
    lines = []
    for source in step.sources:
        lines.append("[[sources]]")
        kept = {key: value for key, value in source.items() if key not in ONLY_HERE}
        lines += [f"{key} = {_toml(_absolute(value) if key == 'path' else value)}" for key, value in kept.items()]
        lines.append("")
    return "\n".join(lines)


def _absolute(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_absolute(one) for one in value]
    return value if "://" in str(value) else str(Path(str(value)).absolute())


def _toml(value: Any) -> str:  # noqa: ANN401 - anything that TOML can say
    """A value on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # JSON texts and numbers are TOML, but for DEL, which TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
