"""Progress of long work: one line that rewrites itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """Draws the counters of a preparation run to a stream; called about ten times a second.

    Args:
        stream: where to write, standard error by default.
        every: seconds between plain lines when the stream is no terminal.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 5.0) -> None:
        """Starts the clock."""
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._every = 0.2 if self._terminal else every
        self._started = time.monotonic()
        self._drawn = self._started
        self._width = 0

    def __call__(
        self,
        stage: str,
        bytes_done: int,
        bytes_total: int,
        rows_read: int,
        rows_kept: int,
        rows_dropped: int,
        parts_done: int,
        parts_total: int,
    ) -> None:
        """Draws a line if enough time has gone by. Byte counts are of input files."""
        now = time.monotonic()
        if now - self._drawn < self._every:
            return
        self._drawn = now
        seconds = now - self._started
        if stage == "join":
            self._write(f"join   waiting for a machine that can do tasks  {seconds:.0f} s")
            return
        if stage == "upload":
            share = parts_done / parts_total if parts_total else 0.0
            rate = f"{parts_done}/{parts_total} files"
            counts = "to the store"
        elif stage in {"verify", "fetch"}:
            share = bytes_done / bytes_total if bytes_total else 0.0
            rate = f"{bytes_done / seconds / 1e6:,.1f} MB/s"
            counts = f"{parts_done:,} of {parts_total:,} files"
        elif stage == "read":
            share = bytes_done / bytes_total if bytes_total else 0.0
            rate = f"{rows_read / seconds:,.0f} rows/s  {bytes_done / seconds / 1e6:,.1f} MB/s"
            counts = f"{rows_read:,} read  {rows_dropped:,} dropped"
        else:
            share = parts_done / parts_total if parts_total else 0.0
            rate = f"{parts_done}/{parts_total} parts"
            counts = f"{rows_read:,} read  {rows_kept:,} kept  {rows_dropped:,} dropped"
        filled = round(20 * min(share, 1.0))
        bar = f"[{'#' * filled}{'.' * (20 - filled)}] " if self._terminal else ""
        self._write(f"{stage:<7}{bar}{share:4.0%}  {counts}  {rate}  {seconds:.0f} s")

    def close(self) -> None:
        """Clears the line on a terminal."""
        if self._terminal and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def _write(self, line: str) -> None:
        if self._terminal:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
