"""The steps as a table that rewrites itself on a terminal, and as a line for each event elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from bgetrain.progress import clock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bgetrain.pipeline.plan import Step

__all__ = ["Screen"]

_EVERY = 0.5
_TAIL_BYTES = 2048


class Screen:
    """Shows which steps are pending, running, done, skipped, stopped or failed, and for how long they ran."""

    def __init__(self, steps: Sequence[Step], *, quiet: bool = False, stream: TextIO | None = None) -> None:
        """Shows nothing yet.

        Args:
            steps: in their order.
            quiet: show nothing at all.
            stream: where to write, standard error by default.
        """
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._terminal = self._stream.isatty()
        self._steps = {step.name: step for step in steps}
        self.states = dict.fromkeys(self._steps, "pending")
        self.seconds: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._logs: dict[str, Path] = {}
        self._drawn = 0.0
        self._lines = 0

    def say(
        self,
        name: str,
        state: str,
        *,
        seconds: float | None = None,
        log: Path | None = None,
        before: float = 0.0,
        goes_on: bool = False,
    ) -> None:
        """Takes note that a step is in another state.

        Args:
            name: the step.
            state: `running`, `done`, `skipped`, `stopped` or `failed`.
            seconds: that it took.
            log: where a running step writes.
            before: seconds that it ran in earlier starts.
            goes_on: whether it goes on with such a start.
        """
        self.states[name] = state
        if seconds is not None:
            self.seconds[name] = seconds
        if log is not None:
            self._logs[name] = log
            self._since[name] = time.monotonic() - before
        if self._quiet:
            return
        if self._terminal:
            self._draw()
            return
        took = f"  {clock(seconds)}" if seconds is not None else ""
        more = "  goes on" if goes_on else ""
        about = f"  {self._steps[name].about}" if state == "running" and self._steps[name].about else ""
        done = sum(one in ("done", "skipped") for one in self.states.values())
        self._stream.write(f"[{done}/{len(self.states)}] {name}  {state}{more}{took}{about}\n")
        self._stream.flush()

    def tick(self) -> None:
        """Draws the table again if it is time."""
        if self._terminal and not self._quiet and time.monotonic() - self._drawn >= _EVERY:
            self._draw()

    def rows(self) -> list[dict[str, Any]]:
        """Step, state and seconds, for machines."""
        return [
            {"step": name, "run": self._steps[name].run, "state": state, "seconds": self.seconds.get(name)}
            for name, state in self.states.items()
        ]

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        width = max(map(len, self.states))
        lines = []
        for name, state in self.states.items():
            seconds = self.seconds.get(name)
            if state == "running":
                seconds = self._drawn - self._since[name]
            shown = clock(seconds) if seconds is not None else ""
            tail = self._tail(name) if state == "running" else self._steps[name].about
            lines.append(f"{name.ljust(width)}  {state.ljust(7)}  {shown.rjust(7)}  {tail}"[:118])
        up = f"\x1b[{self._lines}A" if self._lines else ""
        self._stream.write(up + "".join(f"\x1b[2K{line}\n" for line in lines))
        self._stream.flush()
        self._lines = len(lines)

    def _tail(self, name: str) -> str:
        """The last line that a running step wrote."""
        with self._logs[name].open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
        lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""
