"""The leading rows of a raw file, as a smaller file of the same format: what trials and estimates run on.

Files of lines (plain, gzip, bzip2) and Parquet are cut; what has to be whole to be read, as an archive or one big JSON
array, is linked to.
"""

from __future__ import annotations

import bz2
import gzip
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FEWEST_ROWS", "copy_leading_rows"]

FEWEST_ROWS = 1_000
"""Rows that are taken of a file, where it has so many."""

_LINES = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt")
_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, "": open}


def copy_leading_rows(source: Path, copy: Path, share: float) -> None:
    """Writes the first rows of a file to another one.

    Args:
        source: what is cut.
        copy: what is made, in the same packing; a link where the file cannot be cut.
        share: of the rows, about, and at least `FEWEST_ROWS`.

    Raises:
        OSError: something cannot be read or written.
    """
    packing = source.suffix if source.suffix in _OPEN else ""
    kind = Path(source.name.removesuffix(packing)).suffix.lower()
    if kind == ".parquet" and not packing:
        import polars as pl

        frame = pl.scan_parquet(source)
        rows = int(frame.select(pl.len()).collect().item())
        frame.head(max(FEWEST_ROWS, round(share * rows))).sink_parquet(copy)
        return
    if kind not in _LINES:
        copy.symlink_to(source.absolute())
        return
    wanted = share * source.stat().st_size
    with (
        source.open("rb") as raw,
        _opened(raw, packing, "rb") as lines,
        copy.open("wb") as out,
        _opened(out, packing, "wb") as written,
    ):
        for number, line in enumerate(lines):
            # where the file is packed, the place in the packed bytes: a decompressor reads a little ahead
            if number >= FEWEST_ROWS and raw.tell() >= wanted:
                break
            written.write(line)


def _opened(file: IO[bytes], packing: str, mode: str) -> IO[bytes]:
    if not packing:
        return cast("IO[bytes]", os.fdopen(os.dup(file.fileno()), mode))
    return cast("IO[bytes]", _OPEN[packing](file, mode))
