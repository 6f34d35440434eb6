"""Tables of the page: heads, names of lines, and a frame that scrolls where the screen is narrow."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bgeprep.report.markup import Child, Markup, join, tag

__all__ = ["breakable", "cell", "head", "name", "number", "table"]


def table(caption: str, heads: Iterable[Child], rows: Iterable[Markup], class_: str = "") -> Markup:
    """A table that scrolls in its own frame where the screen is narrower."""
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", [cell if isinstance(cell, Markup) else head(cell) for cell in heads])),
            tag("tbody", rows),
            class_=class_ or None,
        ),
        class_="scroll",
        role="region",
        aria_label=caption,
        tabindex="0",
    )


def head(words: Child, class_: str | None = None) -> Markup:
    """A cell above a column."""
    return tag("th", words, scope="col", class_=class_)


def number(words: Child) -> Markup:
    """A cell above a column of numbers."""
    return head(words, "number")


def name(words: Child, note: Child = None) -> Markup:
    """The cell that names a line, with a note below the name."""
    return tag("th", words, tag("span", note, class_="note") if note else None, scope="row")


def breakable(words: str) -> Markup:
    """The name of a source, which may go on in the next line behind its marks."""
    pieces: list[Child] = []
    for piece in re.split(r"(?<=[_.-])", words):
        pieces += [piece, tag("wbr")]
    return join(*pieces[:-1])


def cell(value: Child, class_: str = "number") -> Markup:
    """A cell with a value, a number unless said otherwise."""
    return tag("td", value, class_=class_)
