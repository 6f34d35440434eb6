"""Wall time, CPU time and peak memory of a whole process and its children, as the kernel counted them.

Peak memory is `ru_maxrss`: it includes the pages of files that the process has mapped. A process starts out with the
peak of the one that started it, so this one stays small: it imports nothing that is not in the standard library.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

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
