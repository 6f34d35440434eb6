"""CSV with quoting: a quoted field may hold commas, quotes and line breaks."""

from __future__ import annotations

import csv
import re
from collections import deque
from typing import TYPE_CHECKING

from bgeprep.errors import CorpusError
from bgeprep.recipes.lines import place, shown, text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import Tally

__all__ = ["csv_rows"]

_LONGEST_CELL = 4 << 20
"""Characters; a quote that never closes takes as many before the lines are looked at anew."""
_ESCAPE = re.compile("[\udc80-\udcff]")
"""What `surrogateescape` makes of bytes that are not in the encoding."""


def csv_rows(file: RawFile, tally: Tally) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file, its header among them, each with the line it begins on; blank lines are left out.

    A row with a cell in another encoding (`wrong_encoding`) is passed over, and a line that begins no row by the rules
    of quotes (`broken_row`); the next line is looked at anew.

    Raises:
        CorpusError: a header that is no such row.
    """
    again: deque[tuple[int, str]] = deque()
    taken: list[tuple[int, str]] = []

    def lines() -> Iterator[str]:
        while entry := again.popleft() if again else next(coming, None):
            taken.append(entry)
            yield entry[1] + "\n"

    coming = text_lines(file, tally, escaped=True)
    csv.field_size_limit(_LONGEST_CELL)
    headed = False
    while True:
        taken.clear()
        try:
            row = next(csv.reader(lines(), strict=True))
        except StopIteration:
            return
        except csv.Error as error:
            row, reason, said = [], "broken_row", f"{error}: {shown(taken[0][1])}"
            again.extendleft(reversed(taken[1:]))
        else:
            reason = "wrong_encoding" if _ESCAPE.search("".join(row)) else ""
            said = shown(", ".join(row))
        start = taken[0][0]
        if not reason:
            headed = True
            yield start, row
        elif headed:
            tally.pass_over(reason, f"{place(file, start)}: {said}")
        else:
            said = said.encode("ascii", "backslashreplace").decode()
            message = f"{file.path}: line {start}: expected a header in {file.encoding}, found {reason}: {said}"
            raise CorpusError(f"{message}; hint: --option encoding=gb18030", str(file.path), start)
