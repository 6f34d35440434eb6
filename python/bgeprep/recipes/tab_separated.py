"""Tab-separated lines without quoting: a quote is a character like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgeprep.recipes.lines import place, shown, text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import Tally

__all__ = ["tab_rows"]


def tab_rows(
    file: RawFile, columns: int, tally: Tally, *, header: tuple[str, ...] = (), joined: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file, each with its line.

    Args:
        file: the file.
        columns: how many columns a row has; one with fewer is passed over as `half_row`, one with more as
            `too_many_columns`.
        tally: what is passed over.
        header: the cells of a first line that is no row, where a file has one.
        joined: a tab in the last column belongs to its text.
    """
    for number, line in text_lines(file, tally):
        cells = line.split("\t", columns - 1) if joined else line.split("\t")
        if number == 1 and header and tuple(cells) == header:
            continue
        if len(cells) != columns:
            reason = "half_row" if len(cells) < columns else "too_many_columns"
            tally.pass_over(reason, f"{place(file, number)}: {shown(line)}")
        else:
            yield number, cells
