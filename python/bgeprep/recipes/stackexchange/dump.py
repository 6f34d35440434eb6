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

__all__ = ["ANSWER", "QUESTION", "Row", "body_text", "question_text", "table_rows"]

QUESTION, ANSWER = "1", "2"
"""PostTypeId of the posts that are taken; others are wikis, tags and the like."""

Row = dict[str, str]
"""Columns as they stand in the file: texts with entities of XML, which `question_text` and `body_text` resolve."""

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
        yield number, dict(_ATTRIBUTE.findall(line))


def question_text(row: Row, *, body: bool) -> str:
    """The title of a question, with the text of its body behind it where that is asked for."""
    title = " ".join(html.unescape(row.get("Title", "")).split())
    return f"{title}\n{body_text(row)}".strip() if body else title


def body_text(row: Row) -> str:
    """The text of a post, without markup."""
    return html_text(html.unescape(row.get("Body", "")))
