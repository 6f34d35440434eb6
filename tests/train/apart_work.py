"""What is done in a process of its own. A module of its own, since that process imports it by name."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time

from bgetrain.errors import ConfigError


def where(one: int, *, two: int) -> tuple[int, tuple[int, int]]:
    """The process, and what it was given; says something that must not disturb."""
    print("said on stdout")
    return os.getpid(), (one, two)


def fail(message: str) -> None:
    """An error of this package."""
    raise ConfigError(message, hint="another")


class Strange(Exception):
    """An error that cannot be made again of its arguments."""

    def __init__(self, first: str, second: str) -> None:
        """Keeps one of the two."""
        super().__init__(f"{first} {second}")


def fail_strangely() -> None:
    """An error that cannot be sent."""
    raise Strange("cannot be", "sent")


def die() -> None:
    """Ends as the kernel ends a process for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


class Halved:
    """Ends the process while its answer is half written."""

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """Writes the beginning of an answer where the answer goes, and dies."""
        # the answer's descriptor is the copy of stdout that `serve` made
        for number in range(3, 16):
            try:
                os.write(number, pickle.dumps((False, "x" * 1000))[:500])
            except OSError:
                continue
            break
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def answer_by_half() -> Halved:
    """Something that is killed on its way."""
    return Halved()


def sleep() -> None:
    """Says who it is, and sleeps longer than any test."""
    sys.stderr.write(f"{os.getpid()}\n")
    sys.stderr.flush()
    time.sleep(600)
