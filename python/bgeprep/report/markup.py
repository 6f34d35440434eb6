"""HTML that is escaped by construction: a plain string is text, and only `tag` makes markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["Child", "Markup", "count", "join", "megabytes", "share", "tag", "text"]

_VOID = {"meta", "wbr"}
# Control characters have no place in HTML; they are shown by their picture (␀) or, without one, as �.
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_CONTROLS |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


class Markup(str):
    """Text that is HTML already and is not escaped again; only this module makes it."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"


def text(value: str) -> Markup:
    """A value from anywhere as text of the page: escaped for elements and for quoted attributes."""
    return Markup(html.escape(value.translate(_CONTROLS)))


def join(*children: Child) -> Markup:
    """Children one after the other; strings are escaped, None is nothing."""
    return Markup("".join(_flat(children)))


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """An element. `class_` gives `class`, `aria_label` gives `aria-label`; None and False leave an attribute out."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(f" {key}" if value is True else f' {key}="{text(_plain(value))}"')
    parts.append(">")
    if name not in _VOID:
        parts.extend(_flat(children))
        parts.append(f"</{name}>")
    return Markup("".join(parts))


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str):
            yield text(child)
        elif isinstance(child, int):
            yield count(child)
        else:
            yield from _flat(child)


def _plain(value: str | int | float) -> str:
    """A number for an attribute: at most two decimals, so that the bytes are the same everywhere."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def count(number: int) -> str:
    """1234567 → `1,234,567`."""
    return f"{number:,}"


def share(part: float, whole: float) -> str:
    """A part of a whole in per cent; what is not quite nothing or all is never rounded to it."""
    if not whole:
        return "–"
    value = 100 * part / whole
    if 0 < value < 0.1:
        return "<0.1%"
    if 99.9 < value < 100:
        return ">99.9%"
    return f"{value:.1f}%"


def megabytes(size: int) -> str:
    """Bytes for people: kB, MB or GB of 1,000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"
