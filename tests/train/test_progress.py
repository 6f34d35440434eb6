"""The line of a long run: rate, time left, and silence where it is wanted."""

from __future__ import annotations

import io

import pytest

from bgetrain.progress import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_terminal_gets_one_line_that_is_drawn_anew(clock: list[float]) -> None:
    stream = Terminal()
    bar = Bar("passages", "texts", stream=stream)
    bar(1000, 5000)
    clock[0] += 0.1
    bar(1100, 5000)
    clock[0] += 9.9
    bar(2000, 5000)
    clock[0] += 30
    bar(5000, 5000)
    first, last = stream.getvalue().removeprefix("\r").split("\r")
    # what was there before this run counts for no rate
    assert first == "passages  [########............]  40%  2,000 of 5,000 texts  100 texts/s  0:30 left"
    assert last.startswith("passages  [####################] 100%  5,000 of 5,000 texts  100 texts/s  0:40")
    assert last.endswith("\n")


def test_elsewhere_plain_lines_come_now_and_then(clock: list[float]) -> None:
    stream = io.StringIO()
    bar = Bar("scored", "rows", stream=stream)
    for done in range(0, 101, 10):
        bar(done, 100)
        clock[0] += 1
    assert [line.split("  ")[2] for line in stream.getvalue().splitlines()] == ["50 of 100 rows", "100 of 100 rows"]


def test_quiet_says_nothing_and_nothing_to_do_is_no_error(clock: list[float]) -> None:
    stream = Terminal()
    bar = Bar("scored", "rows", quiet=True, stream=stream)
    bar(0, 10)
    bar(10, 10)
    Bar("scored", "rows", stream=stream)(0, 0)
    assert stream.getvalue() == ""
