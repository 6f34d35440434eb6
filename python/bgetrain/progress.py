"""How far long work is: one line that rewrites itself on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Bar", "clock"]


class Bar:
    """Shows done and total, the rate, and the time that is left; call it with both.

    What was done before the first call, as in a run that is gone on with, does not count for the rate.
    """

    def __init__(self, label: str, unit: str, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        """Shows nothing yet.

        Args:
            label: what the line begins with.
            unit: what is counted, as `texts`.
            quiet: show nothing at all.
            stream: where to write, standard error by default.
        """
        self._label = label
        self._unit = unit
        self._quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._every = 0.2 if self._terminal else 5.0
        self._began: tuple[float, int] | None = None
        self._drawn = 0.0
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        """Draws a line if it is time, and in any case the last one."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
            self._drawn = now
            return
        if self._quiet or (now - self._drawn < self._every and done < total):
            return
        self._drawn = now
        since, before = self._began
        rate = (done - before) / max(now - since, 1e-9)
        left = f"{clock((total - done) / rate)} left" if rate and done < total else f"{clock(now - since)}"
        share = done / total if total else 1.0
        filled = round(20 * share)
        bar = f"[{'#' * filled}{'.' * (20 - filled)}] " if self._terminal else ""
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        line = f"{self._label}  {bar}{share:4.0%}  {done:,} of {total:,} {self._unit}  {shown} {self._unit}/s  {left}"
        end = "\n" if done >= total or not self._terminal else ""
        self._stream.write(("\r" if self._terminal else "") + line.ljust(self._width) + end)
        self._stream.flush()
        self._width = len(line) if self._terminal else 0


def clock(seconds: float) -> str:
    """Seconds as `1:02:03`, or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
