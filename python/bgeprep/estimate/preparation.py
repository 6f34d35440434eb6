"""From what a sample took to what the whole takes: measured x factor, each figure with its sum.

What holds texts grows with their bytes, keys and sketches grow with rows. What a run takes anyway, which two sizes
tell apart, is paid once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bgeprep.amounts import byte_text, time_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgeprep.estimate.measure import Measured, Measurement

__all__ = ["Cluster", "Line", "Target", "lines"]

_BY_ROWS = {"candidates", "components", "near tables", "dedup"}
"""Steps whose work is keys, not texts."""

_IN_ONE_PLACE = {"components", "near tables", "commit"}
"""Steps that one machine does for all, and more threads do no faster."""

_HELD_NODE_BYTES = 12
"""Of memory for each text that has a near duplicate's candidate, in the one place that finds what hangs together."""

_FOR_STAGES = 4 / 3
"""`--memory` for each byte that a stage may hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is to be prepared.

    Attributes:
        rows: pairs or texts.
        bytes: of the files, packed as those of the sample are.
    """

    rows: float
    bytes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What is to prepare it.

    Attributes:
        nodes: machines.
        threads: worker threads of each.
        network_gbit: that each sends and receives, in Gbit/s.
        store: input and set lie in an object store; so they do, and so do work files, where there are several machines.
    """

    nodes: int = 1
    threads: int
    network_gbit: float = 10.0
    store: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One figure.

    Attributes:
        stage: what it is of.
        quantity: `time` (seconds), `work files`, `disk`, `network` or `memory` (bytes), `tokens`, `GPU time` (seconds).
        value: the figure.
        measured: what was measured of it, without what a run takes anyway.
        factor: what that is multiplied by.
        fixed: what a run takes anyway, which is added.
        sum: the arithmetic in words.
    """

    stage: str
    quantity: str
    value: float
    measured: float
    factor: float
    fixed: float
    sum: str


@dataclass(frozen=True, slots=True)
class _Growth:
    """What grows, of a sample; and what does not."""

    grows: float
    fixed: float


class _Scale:
    """The factors from sample to whole."""

    def __init__(self, measurement: Measurement, target: Target) -> None:
        self.measurement = measurement
        whole = measurement.whole
        self.rows = target.rows / whole.rows
        self.bytes = target.bytes / whole.bytes
        self.target = target

    def factor(self, *, by_rows: bool) -> tuple[float, str]:
        whole = self.measurement.whole
        if by_rows:
            return self.rows, f"{self.target.rows:,.0f} / {whole.rows:,} rows"
        return self.bytes, f"{byte_text(self.target.bytes)} / {byte_text(whole.bytes)}"

    def growth(self, of: Callable[[Measured], float], *, by_rows: bool) -> _Growth:
        """What of a figure grows, by two sizes; all of it where there is one, or where they say nothing."""
        whole, part = self.measurement.whole, self.measurement.part
        large = of(whole)
        if part is None:
            return _Growth(large, 0.0)
        sizes = (part.rows, whole.rows) if by_rows else (part.bytes, whole.bytes)
        if sizes[1] <= sizes[0]:
            return _Growth(large, 0.0)
        grows = (large - of(part)) / (sizes[1] - sizes[0]) * sizes[1]
        # a smaller sample that took longer, or so little that all would be growth and more, is noise
        return _Growth(grows, large - grows) if 0 < grows <= large else _Growth(large, 0.0)

    def line(
        self,
        stage: str,
        quantity: str,
        of: Callable[[Measured], float],
        *,
        by_rows: bool,
        times: float = 1.0,
        why: str = "",
    ) -> Line:
        """A figure, scaled by rows or bytes, and by `times`, of which `why` says what it is."""
        say = time_text if quantity == "time" else byte_text
        found = self.growth(of, by_rows=by_rows)
        factor, named = self.factor(by_rows=by_rows)
        value = found.grows * factor * times + found.fixed
        added = f" + {say(found.fixed)}" if found.fixed else ""
        text = f"{say(found.grows)} x {factor:,.4g} ({named}){why}{added} = {say(value)}"
        return Line(
            stage=stage,
            quantity=quantity,
            value=value,
            measured=found.grows,
            factor=factor * times,
            fixed=found.fixed,
            sum=text,
        )


def lines(measurement: Measurement, target: Target, cluster: Cluster) -> list[Line]:
    """All figures of a preparation.

    Args:
        measurement: of a sample.
        target: the whole.
        cluster: the machines.

    Returns:
        For each step its time and the work files that it writes, then disk, network and memory of the run.
    """
    scale = _Scale(measurement, target)
    steps = list(measurement.whole.steps)
    found = [_time(scale, step, cluster) for step in steps]
    for step in steps:
        found += _work_files(scale, step)
    found += _disk(scale, found)
    found += _network(scale, found, cluster)
    found += _memory(scale)
    return found


def _time(scale: _Scale, step: str, cluster: Cluster) -> Line:
    threads = scale.measurement.threads
    times, why = 1.0, ""
    if step in _IN_ONE_PLACE:
        why = ", on one machine" if cluster.nodes > 1 else ""
    else:
        if threads != cluster.threads:
            times, why = threads / cluster.threads, f" x {threads} / {cluster.threads} threads"
        if cluster.nodes > 1:
            times, why = times / cluster.nodes, f"{why} / {cluster.nodes} machines"
    return scale.line(step, "time", lambda run: run.steps[step].seconds, by_rows=step in _BY_ROWS, times=times, why=why)


def _work_files(scale: _Scale, step: str) -> list[Line]:
    cost, found = scale.measurement.whole.steps[step], []
    if cost.text_bytes:
        found.append(
            scale.line(step, "work files", lambda run: run.steps[step].text_bytes, by_rows=False, why=" texts")
        )
    if cost.record_bytes:
        found.append(
            scale.line(step, "work files", lambda run: run.steps[step].record_bytes, by_rows=True, why=" records")
        )
    return found


def _total(found: list[Line], quantity: str, stage: str | None = None) -> float:
    return sum(line.value for line in found if line.quantity == quantity and stage in (None, line.stage))


def _added(stage: str, quantity: str, parts: dict[str, float]) -> Line:
    """A sum of figures above."""
    value = sum(parts.values())
    text = " + ".join(f"{byte_text(part)} {name}" for name, part in parts.items())
    text += f" = {byte_text(value)}" if len(parts) > 1 else ""
    return Line(stage=stage, quantity=quantity, value=value, measured=value, factor=1.0, fixed=0.0, sum=text)


def _disk(scale: _Scale, found: list[Line]) -> list[Line]:
    the_set = scale.line("set", "disk", lambda run: run.set_bytes, by_rows=False)
    texts = scale.line("work, at one time", "disk", lambda run: run.most_text_bytes, by_rows=False, why=" texts")
    records = scale.line("work, at one time", "disk", lambda run: run.most_record_bytes, by_rows=True, why=" records")
    parts = {"set": the_set.value, "work files at one time": texts.value + records.value}
    return [the_set, texts, records, _added("in all", "disk", parts)]


def _network(scale: _Scale, found: list[Line], cluster: Cluster) -> list[Line]:
    if cluster.nodes == 1 and not cluster.store:
        return []
    parts = {"read": scale.target.bytes, "set written": _total(found, "disk", "set")}
    if cluster.nodes > 1:
        rows = sum(line.value for line in found if line.quantity == "work files" and line.sum.count(" texts"))
        records = _total(found, "work files") - rows
        near = "near texts" in scale.measurement.whole.steps
        reads = 2 if near else 1
        parts[f"rows and texts, written once and read {'twice' if near else 'once'}"] = rows * (1 + reads)
        parts["records, written and read once"] = records * 2
    line = _added("in all", "network", parts)
    rate = cluster.nodes * cluster.network_gbit / 8 * 1e9
    seconds = line.value / rate
    text = (
        f"{byte_text(line.value)} / ({cluster.nodes} x {cluster.network_gbit:g} Gbit/s) = {time_text(seconds)}, "
        "of which most passes while machines compute"
    )
    time = Line(
        stage="network", quantity="transfer", value=seconds, measured=line.value, factor=1 / rate, fixed=0.0, sum=text
    )
    return [line, time]


def _memory(scale: _Scale) -> list[Line]:
    whole, limit = scale.measurement.whole, scale.measurement.limit
    held = Line(
        stage="each machine",
        quantity="memory",
        value=float(whole.memory),
        measured=float(whole.memory),
        factor=1.0,
        fixed=0.0,
        sum=f"{byte_text(whole.memory)} were held with --memory {limit >> 20}MiB, which is for all threads "
        "and any number of rows",
    )
    if not whole.nodes:
        return [held]
    nodes = scale.growth(lambda run: run.nodes, by_rows=True).grows * scale.rows
    value = nodes * _HELD_NODE_BYTES * _FOR_STAGES
    text = (
        f"{whole.nodes:,} texts with a candidate -> {nodes:,.0f}, x {_HELD_NODE_BYTES} bytes x 4/3 = "
        f"{byte_text(value)}: --memory, at least, where what hangs together is found; "
        "more where duplicates of the whole lie far apart"
    )
    factor = scale.rows * _HELD_NODE_BYTES * _FOR_STAGES
    line = Line(
        stage="components",
        quantity="memory",
        value=max(value, float(limit)),
        measured=nodes / scale.rows,
        factor=factor,
        fixed=0.0,
        sum=text,
    )
    return [held, line]
