"""A trial of a pipeline: the same steps on the leading rows, with smaller batches and fewer updates.

Everything else stays, so that a trial meets what the whole would meet: models, lengths, masks, thresholds. A smaller
model is a variable of the file (`--set base=…`), not a matter of scale.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgeprep.leading import FEWEST_ROWS
from bgetrain.batch_size import PER_DEVICE, TRIAL_STEPS
from bgetrain.errors import ConfigError
from bgetrain.pipeline.cut import leading_rows
from bgetrain.settings import build, parse_flags, read_toml

if TYPE_CHECKING:
    from bgetrain.config import TrainConfig
    from bgetrain.pipeline.plan import Plan, Step

__all__ = ["FEWEST_QUERIES", "scaled_plan", "scaled_rows", "scaled_training", "train_config"]

FEWEST_QUERIES = 8
"""Of a batch: fewer leave a query next to no negatives."""


def train_config(step: Step) -> TrainConfig:
    """The settings of a `bgetrain train` step: its file, and its flags above it."""
    flags = parse_flags(step.words())[1]
    return build(read_toml(step.config) if step.config else {}, flags)


def scaled_rows(rows: int, scale: float) -> int:
    """Rows of a trial: their share, and at least `FEWEST_ROWS` where there are so many."""
    return min(rows, max(FEWEST_ROWS, round(rows * scale)))


def scaled_training(config: TrainConfig, scale: float) -> dict[str, int]:
    """Batch and steps of a trial.

    Args:
        config: the settings of the whole.
        scale: below 1.

    Returns:
        `global_batch_size`: the share of what is stated, at least `FEWEST_QUERIES`. `max_steps`: the share of what is
        stated, or `TRIAL_STEPS` where the whole goes by epochs.
    """
    run = config.run
    stated = run.global_batch_size or run.per_device_train_batch_size or PER_DEVICE
    batch = min(stated, max(FEWEST_QUERIES, round(stated * scale)))
    steps = max(1, round(run.max_steps * scale)) if run.max_steps > 0 else TRIAL_STEPS
    return {"global_batch_size": batch, "max_steps": steps}


def scaled_plan(plan: Plan, scale: float, *, cut: bool) -> Plan:
    """The plan of a trial.

    Args:
        plan: the whole.
        scale: above 0, at most 1; 1 changes nothing.
        cut: also cut raw files, below the plan's folder.

    Raises:
        ConfigError: a scale that is none, or settings of a step that cannot be read.
        OSError: a raw file cannot be read, or its cut not written.
    """
    if not 0 < scale <= 1:
        raise ConfigError(f"--scale {scale}: expected above 0 and at most 1")
    if scale == 1:
        return plan
    outputs = {str(step.out) for step in plan.steps.values()}
    steps = {
        name: _scaled(step, scale, plan.folder / "cut" if cut else None, outputs) for name, step in plan.steps.items()
    }
    return dataclasses.replace(plan, steps=steps)


def _scaled(step: Step, scale: float, folder: Path | None, outputs: set[str]) -> Step:
    size = dataclasses.replace(step.size, rows=scaled_rows(step.size.rows, scale))
    if step.run == "bgetrain train":
        changed: dict[str, Any] = dict(scaled_training(train_config(step), scale))
        dropped = {"per_device_train_batch_size", "run.global_batch_size", "run.max_steps"}
        kept = {name: value for name, value in step.flags.items() if name not in dropped}
        described = {name: value for name, value in step.described.items() if name not in dropped}
        return dataclasses.replace(step, flags=kept | changed, described=described | changed, size=size)
    if step.run != "bgeprep shard":
        return dataclasses.replace(step, size=size)

    def smaller(place: str) -> str:
        if folder is None or place in outputs or not Path(place).exists():
            return place
        return str(leading_rows(Path(place), scale, folder))

    flags = dict(step.flags)
    if "in" in flags:
        given = flags["in"]
        flags["in"] = [smaller(one) for one in given] if isinstance(given, list | tuple) else smaller(str(given))
    sources = []
    for source in step.sources:
        # a recipe joins files that belong together: the first rows of each would not
        whole = "recipe" in source or isinstance(source.get("path"), list)
        rows = {"rows": scaled_rows(source["rows"], scale)} if "rows" in source else {}
        sources.append({**source, **rows, **({} if whole else {"path": smaller(str(source.get("path", "")))})})
    return dataclasses.replace(step, flags=flags, sources=tuple(sources), size=size)
