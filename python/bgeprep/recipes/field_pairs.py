"""Pairs of two named fields of JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgeprep.recipes.json_lines import objects, text_fields
from bgeprep.recipes.lines import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import PairRow, Tally

__all__ = ["field_pairs"]


def field_pairs(
    files: Iterable[RawFile],
    query: str,
    positive: str,
    tally: Tally,
    *,
    tidy: Callable[[str], str] = str.strip,
    only: tuple[str, str] | None = None,
    cut: Callable[[str], str] = str,
) -> Iterator[PairRow]:
    """One pair a line. Passed over: `missing_field`, `no_text`, `empty_text`, `no_json`, `no_object`.

    Args:
        files: the files.
        query: the field of the query.
        positive: the field of the positive.
        tally: what is passed over.
        tidy: what is done to each text.
        only: a field and the value it must have where it is there; others are passed over as `other_<field>`.
        cut: what becomes of the positive, once it is tidy.
    """
    for file in files:
        for number, row in objects(file, tally):
            if only and row.get(only[0], only[1]) != only[1]:
                tally.pass_over(f"other_{only[0]}", f"{place(file, number)}: {row[only[0]]}")
            elif texts := text_fields(row, [query, positive], tally, place(file, number)):
                yield tidy(texts[0]), [cut(tidy(texts[1]))], [], file.origin, number
