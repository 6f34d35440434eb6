"""GPU-hours of training from the tokens a second that a run was measured at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bgeprep.amounts import byte_text, time_text
from bgeprep.errors import ConfigError, CorpusError
from bgeprep.estimate.preparation import Line

__all__ = ["Speed", "read_speed", "training_lines"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """How fast a run trained.

    Attributes:
        tokens_per_second: without padding, over all ranks.
        ranks: processes of that run, one a GPU.
        tokens_per_row: of a row of its batches; None where that is not known.
        said: where these figures are from.
    """

    tokens_per_second: float
    ranks: int
    tokens_per_row: float | None
    said: str


def read_speed(path: Path) -> Speed:
    """The speed of a run, from its `metrics.jsonl`: the median over its windows of steps but the first.

    Args:
        path: that file, or the folder of the run.

    Raises:
        CorpusError: no such file, or one without windows of training.
    """
    file = path / "metrics.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise CorpusError(f"{file}: no such file; hint: the metrics.jsonl of a run of `bgetrain train`", str(file))
    ranks = 1
    windows: list[tuple[float, float]] = []
    # behind the last line end is what a run at work, or a killed one, has not finished
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1], 1):
        found = _record(line)
        if found is None:
            raise CorpusError(f"{file}:{number}: expected a record of a run, found {line[:60]!r}", str(file), number)
        if isinstance(found, int):
            # what was measured before the run went on with other ranks says nothing of these
            ranks, windows = found, []
        elif found:
            windows.append(found)
    if not windows:
        raise CorpusError(f"{file}: no window of training steps; hint: a run of some dozen steps", str(file))
    # the first window pays for reading and measuring once
    counted = windows[1:] or windows
    return Speed(
        tokens_per_second=median(speed for speed, _ in counted),
        ranks=ranks,
        tokens_per_row=median(tokens for _, tokens in counted),
        said=f"{file}: {ranks} rank{'s' if ranks > 1 else ''}, {len(counted)} window{'s' if len(counted) > 1 else ''}",
    )


def _record(line: str) -> int | tuple[float, float] | tuple[()] | None:
    """The ranks of a start; tokens a second and a row of a window; nothing of other records; None of what is none."""
    try:
        record = json.loads(line)
        if record["kind"] == "run":
            return int(record["environment"]["world_size"])
        if record["kind"] != "train":
            return ()
        speed = float(record["tokens_per_second"])
        return speed, speed * float(record["seconds"]) / max(1, int(record["rows"]))
    except (ValueError, KeyError, TypeError):
        return None


def training_lines(
    speed: Speed, *, rows: float, epochs: float, gpus: int, nodes: int, set_bytes: float | None = None
) -> list[Line]:
    """Tokens, GPU-hours and hours of a training.

    Args:
        speed: of a run, with tokens a row.
        rows: of the shard set.
        epochs: passes over it.
        gpus: of a machine.
        nodes: machines.
        set_bytes: of the shard set, where that is known: each machine holds it.

    Raises:
        ConfigError: tokens a row are not known.
    """
    if speed.tokens_per_row is None:
        raise ConfigError(
            "tokens-per-row: expected a number beside --tokens-per-second, found none; "
            "hint: rows of training tokenised, or --train-metrics of a run"
        )
    taken = rows * epochs
    tokens = taken * speed.tokens_per_row
    each = speed.tokens_per_second / speed.ranks
    gpu_seconds = tokens / each
    seconds = gpu_seconds / (gpus * nodes)
    of_one = f" / {speed.ranks}" if speed.ranks > 1 else ""
    found = [
        Line(
            stage="training",
            quantity="tokens",
            value=tokens,
            measured=speed.tokens_per_row,
            factor=taken,
            fixed=0.0,
            sum=f"{speed.tokens_per_row:,.1f} a row x {rows:,.0f} rows x {epochs:g} epochs = {tokens:,.4g}",
        ),
        Line(
            stage="training",
            quantity="GPU time",
            value=gpu_seconds,
            measured=each,
            factor=tokens,
            fixed=0.0,
            sum=f"{tokens:,.4g} tokens / ({speed.tokens_per_second:,.0f} a second{of_one}) = "
            f"{gpu_seconds / 3600:,.1f} GPU-hours ({speed.said})",
        ),
        Line(
            stage="training",
            quantity="time",
            value=seconds,
            measured=gpu_seconds,
            factor=1 / (gpus * nodes),
            fixed=0.0,
            sum=f"{gpu_seconds / 3600:,.1f} GPU-hours / ({nodes} x {gpus} GPUs) = {time_text(seconds)}, "
            "if all are as fast as those measured: what the network between machines costs is not in it",
        ),
    ]
    if set_bytes is not None and nodes > 1:
        found.append(
            Line(
                stage="training",
                quantity="network",
                value=set_bytes * nodes,
                measured=set_bytes,
                factor=float(nodes),
                fixed=0.0,
                sum=f"the set once to each machine: {byte_text(set_bytes)} x {nodes} = {byte_text(set_bytes * nodes)}",
            )
        )
    return found
