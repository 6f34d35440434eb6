"""The leading rows of raw files, for a trial of a pipeline on a laptop.

Files of lines (plain, gzip, bzip2) and Parquet are cut; what has to be whole to be read, as an archive or one big JSON
array, is taken whole.
"""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from bgetrain.pipeline.identity import hash_of, listing

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FEWEST_ROWS", "leading_rows"]

FEWEST_ROWS = 1_000
"""Rows of a file that a trial takes, where the file has so many."""

_LINES = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt")
_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, "": open}


def leading_rows(path: Path, share: float, folder: Path) -> Path:
    """A copy of a file or folder of which each file holds its first rows.

    Args:
        path: what is cut.
        share: of the rows, about, and at least `FEWEST_ROWS`.
        folder: where copies are kept; the same cut of the same files is made once.

    Returns:
        The copy, of the same name and shape.

    Raises:
        OSError: something cannot be read or written.
    """
    there = listing(path)
    target = folder / hash_of([str(path.absolute()), there, share])[:12] / path.name
    if target.exists():
        return target
    beside = target.parent.with_name(f".{target.parent.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    for name, _, _ in there:
        source = path if path.is_file() else path / name
        copy = beside / path.name if path.is_file() else beside / path.name / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        _cut(source, copy, share)
    shutil.rmtree(target.parent, ignore_errors=True)
    beside.replace(target.parent)
    return target


def _cut(source: Path, copy: Path, share: float) -> None:
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
