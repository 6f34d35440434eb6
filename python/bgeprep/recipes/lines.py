"""The lines of a raw text file, plain or packed with gzip, bzip2 or zstd, a block at a time."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from bgeprep.errors import CorpusError
from bgeprep.recipes.opened import is_zstd, opened, read_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import Tally

__all__ = ["shown", "text_lines"]

_LONGEST = 64 << 20
_SHOWN = 80


def text_lines(file: RawFile, tally: Tally, *, escaped: bool = False) -> Iterator[tuple[int, str]]:
    """The lines of a file without their ends, each with its number from 1; blank ones are left out.

    A line that is not in the file's encoding (`wrong_encoding`), or longer than 64 MiB (`line_too_long`), is passed
    over.

    Args:
        file: the file.
        tally: what is passed over.
        escaped: a line in another encoding is given too, its wrong bytes as `surrogateescape` has them.

    Raises:
        CorpusError: damaged or truncated packed data, or an archive.
        OSError: the file cannot be read.
    """
    if is_zstd(file.path):
        yield from _zstd_lines(file)
        return
    for number, line in _byte_lines(file, tally):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            text = line.decode(file.encoding, "surrogateescape" if escaped else "strict")
        except UnicodeDecodeError:
            tally.pass_over("wrong_encoding", f"{place(file, number)}: {shown(line.decode('latin-1'))}")
            continue
        if text := text.rstrip("\r"):
            yield number, text


def shown(text: str) -> str:
    """The beginning of an entry, for an example."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def place(file: RawFile, number: int) -> str:
    """A line of a file, for an example."""
    return f"{file.origin}, line {number}"


def _byte_lines(file: RawFile, tally: Tally) -> Iterator[tuple[int, bytes]]:
    number, pending = 1, b""
    too_long = False
    with opened(file.path) as raw:
        while block := read_block(raw, file.path):
            first, *more = block.split(b"\n")
            pending += first
            for line in more:
                if too_long:
                    tally.pass_over("line_too_long", place(file, number))
                elif pending:
                    yield number, pending
                number, pending, too_long = number + 1, line, False
            if len(pending) > _LONGEST:
                pending, too_long = b"", True
    if too_long:
        tally.pass_over("line_too_long", place(file, number))
    elif pending:
        yield number, pending


def _zstd_lines(file: RawFile) -> Iterator[tuple[int, str]]:
    """By polars, which unpacks zstd; it takes UTF-8 alone, and windows up to 128 MiB."""
    import polars as pl

    number = 1
    try:
        for frame in pl.scan_lines(file.path, name="line", glob=False).collect_batches(maintain_order=True):
            for text in frame["line"]:
                if number == 1:
                    text = text.removeprefix("\ufeff")
                if text := text.rstrip("\r"):
                    yield number, text
                number += 1
    except (OSError, pl.exceptions.ComputeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        hint = "unpack it (zstd -d --long=31), then single lines can be passed over"
        raise CorpusError(f"{file.path}: zstd, not read to its end: {error}; hint: {hint}", str(file.path)) from error
