"""Measured runs → Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from benches.peers.measure import Measured


def machine() -> str:
    """Processor, cores this process may use, memory, Python and date, in one line."""
    processor = platform.processor() or platform.machine()
    about = Path("/proc/cpuinfo")
    if about.is_file():
        models = [line.partition(":")[2].strip() for line in about.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    today = datetime.now(timezone.utc).date().isoformat()
    return f"{processor}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}, {today}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def seconds(runs: Sequence[Measured]) -> str:
    """Median wall time, with the range where there is one."""
    walls = sorted(one.wall for one in runs)
    text = f"{statistics.median(walls):.2f}"
    return f"{text} ({walls[0]:.2f}-{walls[-1]:.2f})" if len(walls) > 1 else text
