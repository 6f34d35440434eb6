"""JSON lines: one value a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bgeprep.recipes.lines import place, shown, text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import Tally

__all__ = ["half_character", "json_lines", "objects", "text_fields"]

_NO_JSON = object()


def json_lines(file: RawFile, tally: Tally) -> Iterator[tuple[int, Any]]:
    """The values of a file, each with its line; `no_json` and `half_character` are passed over."""
    for number, line in text_lines(file, tally):
        value = _value(line)
        if value is _NO_JSON:
            tally.pass_over("no_json", f"{place(file, number)}: {shown(line)}")
        elif half_character(line, value):
            tally.pass_over("half_character", f"{place(file, number)}: {shown(line)}")
        else:
            yield number, value


def half_character(source: str, value: Any) -> bool:  # noqa: ANN401 - any JSON value
    r"""Whether a value holds half a surrogate pair, as `"\ud83d"` alone is: valid JSON, and no text.

    Args:
        source: the JSON it was read from; without an escape of that range nothing is looked at.
        value: what it says.
    """
    if "\\ud" not in source and "\\uD" not in source:
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return True
    return False


def _value(line: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _NO_JSON


def objects(file: RawFile, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file, each with its line; other values are passed over as `no_object`."""
    for number, value in json_lines(file, tally):
        if isinstance(value, dict):
            yield number, value
        else:
            tally.pass_over("no_object", f"{place(file, number)}: {shown(json.dumps(value, ensure_ascii=False))}")


def text_fields(value: dict[str, Any], names: Sequence[str], tally: Tally, where: str) -> list[str] | None:
    """The texts under some names, stripped; None where one is absent, no text, or empty, which is counted.

    Args:
        value: the object.
        names: its fields.
        tally: counts `missing_field`, `no_text` and `empty_text`.
        where: the place, for the example.
    """
    found: list[str] = []
    for name in names:
        text = value.get(name)
        if isinstance(text, str) and (text := text.strip()):
            found.append(text)
            continue
        reason = "missing_field" if text is None else "no_text" if text != "" else "empty_text"
        said = f" is {shown(json.dumps(text, ensure_ascii=False))}" if reason == "no_text" else ""
        tally.pass_over(reason, f"{where}: {name}{said}")
        return None
    return found
