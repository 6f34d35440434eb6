"""The tables of a Stack Exchange dump: XML with one `<row …/>` a line, whose attributes are the columns."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from bgeprep.recipes.html_text import html_text
from bgeprep.recipes.lines import place, shown, text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import Tally

__all__ = ["ANSWER", "QUESTION", "Row", "question_text", "table_rows"]

QUESTION, ANSWER = "1", "2"
"""PostTypeId of the posts that are taken; others are wikis, tags and the like."""

Row = dict[str, str]

_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')


def table_rows(file: RawFile, tally: Tally) -> Iterator[tuple[int, Row]]:
    """The rows of a table, each with its line; a row that does not end on its line is passed over as `half_row`."""
    for number, line in text_lines(file, tally):
        line = line.strip()
        if not line.startswith("<row "):
            continue
        if not line.endswith("/>"):
            tally.pass_over("half_row", f"{place(file, number)}: {shown(line)}")
            continue
        yield number, {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(line)}


def question_text(row: Row, *, body: bool) -> str:
    """The title of a question, with the text of its body behind it where that is asked for."""
    title = row.get("Title", "").strip()
    return f"{title}\n{html_text(row.get('Body', ''))}".strip() if body else title
