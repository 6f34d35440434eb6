"""CSV with quoting: a quoted field may hold commas, quotes and line breaks."""

from __future__ import annotations

import csv
from itertools import chain
from typing import TYPE_CHECKING

from bgeprep.errors import CorpusError
from bgeprep.recipes.lines import text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import Tally

__all__ = ["csv_rows"]


def csv_rows(file: RawFile, tally: Tally) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file, its header among them, each with the line it begins on; blank lines are left out.

    Raises:
        CorpusError: a quote that never closes, or a field above 128 KiB.
    """
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in text_lines(file, tally):  # noqa: B007 - the loop below looks at it
            yield line + "\n"

    coming = lines()
    for line in coming:
        start = number
        yield start, _row(file, start, chain([line], coming))


def _row(file: RawFile, start: int, lines: Iterator[str]) -> list[str]:
    """The row that begins with the next of these lines, and takes as many as it needs."""
    try:
        return next(csv.reader(lines, strict=True))
    except csv.Error as error:
        raise CorpusError(f"{file.path}: line {start}: no CSV row: {error}", str(file.path), start) from error
