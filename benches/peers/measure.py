"""Wall time, CPU time and peak memory of a whole process and its children, as the kernel counted them.

Peak memory is `ru_maxrss`: it includes the pages of files that the process has mapped. A process starts out with the
peak of the one that started it, so this one stays small: it imports nothing that is not in the standard library.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Kilobytes on Linux, bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Measured:
    """One run of a command: seconds, seconds of CPU over all threads, bytes, and what it printed."""

    wall: float
    cpu: float
    peak: int
    output: str


def run(command: Sequence[str]) -> Measured:
    """Runs a command to its end.

    Raises:
        subprocess.CalledProcessError: it failed; carries what it wrote to stderr.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)  # wait4 has taken it: Popen must not ask again
        output.seek(0)
        text = output.read().decode()
        if process.returncode != 0:
            errors.seek(0)
            raise subprocess.CalledProcessError(process.returncode, list(command), text, errors.read().decode())
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _RSS_UNIT, text)


class DiskPeak(threading.Thread):
    """The most disk space that the files below a folder have taken, looked at every fifth of a second.

    `with DiskPeak(folder) as disk: run(command)`, then `disk.peak` in bytes.
    """

    def __init__(self, folder: Path) -> None:
        """Looks at nothing yet; the folder need not be there."""
        super().__init__(daemon=True)
        self.folder = folder
        self.peak = 0
        self._ended = threading.Event()

    def __enter__(self) -> DiskPeak:
        """Starts looking."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Looks no more."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Looks until the block ends."""
        while not self._ended.wait(0.2):
            self.peak = max(self.peak, _disk_space(self.folder))


def _disk_space(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a work file that has done its work
                total += Path(parent, name).lstat().st_blocks * 512
    return total
