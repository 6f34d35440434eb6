"""What a run's files tell, in the order in which it happened."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bgetrain.errors import ReportError
from bgetrain.metrics import read_records

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Points", "Source", "Story", "read_story", "thin"]

Points = list[tuple[float, float]]
"""(step, value), ascending by step; every value is a number."""


@dataclass(slots=True)
class Source:
    """What the windows say of one source.

    Attributes:
        rows: queries in all windows.
        losses: its mean loss in each window.
    """

    rows: int = 0
    losses: Points = field(default_factory=list)


@dataclass(slots=True)
class Story:
    """A run.

    Attributes:
        config: config.toml as it stands, empty where there is none.
        runs: the record of each start.
        windows: the record of each window of steps.
        evaluations: the record of each evaluation.
        warnings: what the detectors said.
        end: the last end, None where the run goes on or was killed.
        sources: by name, those with most queries first.
    """

    config: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    sources: dict[str, Source] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return max((record["step"] for record in [*self.windows, *self.evaluations]), default=0)

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run, None in files from before they were written."""
        return self.runs[-1].get("total_steps") if self.runs else None

    def points(self, name: str, *, windows: Iterable[dict[str, Any]] | None = None) -> Points:
        """One figure of all windows; windows where it is no number are left out."""
        records = self.windows if windows is None else windows
        return [(record["step"], value) for record in records if (value := _number(record.get(name))) is not None]

    def scores(self, collection: str | None, metric: str) -> Points:
        """A score of one collection, or the mean of all, at each evaluation."""
        found = []
        for record in self.evaluations:
            values = record.get("mean", {}) if collection is None else record.get("collections", {}).get(collection, {})
            if (value := _number(values.get(metric))) is not None:
                found.append((float(record["step"]), value))
        return found


def read_story(folder: Path) -> Story:
    """Reads metrics.jsonl and config.toml of a run.

    Raises:
        ReportError: there is no run, or metrics.jsonl is damaged.
        OSError: a file cannot be read.
    """
    metrics, config = folder / "metrics.jsonl", folder / "config.toml"
    if not metrics.is_file():
        raise ReportError(f"{folder}: no run: it has no metrics.jsonl", path=str(folder))
    story = Story(config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "")
    lists = {"run": story.runs, "train": story.windows, "eval": story.evaluations, "warning": story.warnings}
    try:
        for record in read_records(metrics):
            if record["kind"] == "end":
                story.end = record
            elif record["kind"] in lists:
                lists[record["kind"]].append(record)
            if record["kind"] == "run":
                story.end = None
    except ValueError as error:
        raise ReportError(f"{metrics}: damaged: {error}", path=str(metrics)) from error
    by_name: dict[str, Source] = {}
    for record in story.windows:
        for name, part in (record.get("sources") or {}).items():
            source = by_name.setdefault(name, Source())
            source.rows += int(part["rows"])
            if (loss := _number(part["loss"])) is not None:
                source.losses.append((record["step"], loss))
    story.sources = dict(sorted(by_name.items(), key=lambda item: (-item[1].rows, item[0])))
    return story


def thin(points: Points, most: int) -> Points:
    """At most `most` points: the means of as many runs of neighbours, each at its last step."""
    if len(points) <= most:
        return points
    bounds = [len(points) * place // most for place in range(most + 1)]
    return [
        (points[end - 1][0], math.fsum(value for _, value in points[start:end]) / (end - start))
        for start, end in pairwise(bounds)
    ]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
