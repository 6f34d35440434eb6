"""The rows of a Parquet file, a row group at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bgeprep.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import RawFile

__all__ = ["is_parquet", "parquet_objects"]


def is_parquet(file: RawFile) -> bool:
    """Whether a file is Parquet, by its first bytes."""
    with file.path.open("rb") as raw:
        return raw.read(4) == b"PAR1"


def parquet_objects(file: RawFile, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file, each with its number from 1 and the columns that are asked for and there.

    Raises:
        CorpusError: a damaged file, or one with none of the columns.
    """
    import polars as pl

    number = 0
    try:
        table = pl.scan_parquet(file.path, glob=False)
        there = [name for name in columns if name in table.collect_schema()]
        if not there:
            found = ", ".join(table.collect_schema())
            raise CorpusError(f"{file.path}: expected columns {', '.join(columns)}, found {found}", str(file.path))
        for frame in table.select(there).collect_batches(maintain_order=True):
            for row in frame.iter_rows(named=True):
                number += 1
                yield number, row
    except pl.exceptions.PolarsError as error:
        raise CorpusError(f"{file.path}: damaged after row {number}: {error}", str(file.path), number + 1) from error
