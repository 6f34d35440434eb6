"""SIGINT and SIGTERM as a wish that the loop grants at the end of a step."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

__all__ = ["StopSignal", "outlast_sigterm", "until_said"]


class StopSignal:
    """Notes the first SIGINT or SIGTERM; a second SIGINT interrupts at once.

    Use as a context manager; the handlers that were set before come back at the end.

    Attributes:
        requested: whether this process was asked to stop.
    """

    def __init__(self) -> None:
        """Notes nothing yet."""
        self.requested = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignal:
        """Sets the handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Puts the earlier handlers back."""
        for number, handler in self._before.items():
            # what was set inside the block stays: see outlast_sigterm
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        # a terminal and torchrun both deliver the same Ctrl-C, so SIGTERM after SIGINT is no second wish
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


def outlast_sigterm() -> None:
    """Lets this process end by itself, and say why, though it is asked to; `until_said` undoes it.

    torchrun sends SIGTERM to the ranks that are left as soon as one has ended, and they have just found out by
    themselves. One that does not end is killed by torchrun half a minute later.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def until_said() -> Iterator[None]:
    """Inside the block `outlast_sigterm` may be called; what SIGTERM did before comes back at its end."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) != before:
            signal.signal(signal.SIGTERM, before)
