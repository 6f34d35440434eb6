"""Checkpoints: everything a run needs to go on as if it had never stopped.

```
<output>/checkpoint-<step>/
  config.json model.safetensors tokenizer.json modules.json …   the model; opens in sentence-transformers
  trained.safetensors      what training goes on from, where the model is not that: with ema_decay, the weights
                           themselves (the model is their average); adapter.safetensors instead: with lora_rank,
                           the adapters and a hash of their base (the model has them merged)
  ema.safetensors          with ema_decay: the average of what is trained, fp32
  loss_scale.safetensors   with fp16: factor, good steps in a row, skipped steps
  optimizer.safetensors    first and second moments and step count of each weight, by the weight's name
  rng.safetensors          state of the random generators of each rank
  config.toml              all settings of the run
  trainer_state.json       step, batch size, place of the loader, what evaluations have shown
<output>/best.json         which of them is best, where models are measured while training
```

A checkpoint is written under `<output>/.saving/`, flushed, and renamed: a folder named `checkpoint-<step>`
is whole. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bgetrain.errors import CheckpointError
from bgetrain.sharding import own_piece, to_cpu

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

__all__ = [
    "Checkpoint",
    "TrainerState",
    "checkpoint_folder",
    "find_checkpoint",
    "list_checkpoints",
    "load_optimizer",
    "optimizer_tensors",
    "remove_run",
    "save_checkpoint",
    "write_best",
]

_STATE, _OPTIMIZER, _RNG, _CONFIG = "trainer_state.json", "optimizer.safetensors", "rng.safetensors", "config.toml"
_BEST = "best.json"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerState:
    """Where a run stands.

    Attributes:
        version: of this layout.
        step: optimiser steps done.
        total_steps: steps of the run, which decide the schedule.
        batch_size: rows of a global batch; fixed at the first start.
        accumulation: batches of a step; fixed at the first start.
        world_size: processes that made the checkpoint; for the log and the random state.
        shards: hash of the shard set.
        loader: where the loader stands.
        evaluation: what evaluations have shown (`watch.Progress`); empty in states from before they came.
    """

    version: int = 1
    step: int
    total_steps: int
    batch_size: int
    accumulation: int
    world_size: int
    shards: str
    loader: dict[str, Any]
    evaluation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint found on disk.

    Attributes:
        folder: the folder.
        state: where the run stands.
    """

    folder: Path
    state: TrainerState

    @property
    def config_file(self) -> Path:
        """The settings of the run that made it."""
        return self.folder / _CONFIG

    def optimizer(self) -> dict[str, Tensor]:
        """The tensors of the optimiser; see `load_optimizer`."""
        return _load_tensors(self.folder / _OPTIMIZER)

    def rng(self) -> dict[str, Tensor]:
        """The states of the random generators, uint8, named `<device>.<rank>`."""
        return _load_tensors(self.folder / _RNG)

    def more(self, name: str) -> dict[str, Tensor]:
        """The tensors of `<name>.safetensors`; none where the run that made the checkpoint had no use for them."""
        file = self.folder / f"{name}.safetensors"
        return _load_tensors(file) if file.exists() else {}


def list_checkpoints(output: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = []
    for entry in output.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", entry.name)
        if match and (entry / _STATE).is_file():
            found.append((int(match[1]), entry))
    return [entry for _, entry in sorted(found)]


def remove_run(output: Path) -> None:
    """Removes the checkpoints and metrics of an earlier run, so that a new one in its place stands alone."""
    for folder in [*list_checkpoints(output), output / "tensorboard"]:
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("metrics.jsonl", _BEST, "report.html"):
        (output / name).unlink(missing_ok=True)


def find_checkpoint(wanted: str, output: Path | None, *, runs: Path = Path("output")) -> Checkpoint:
    """Finds the checkpoint to go on from.

    Args:
        wanted: a checkpoint folder, a run's output folder, or `last`.
        output: the run's folder where one was given.
        runs: where `last` looks for the newest run if none was given.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    if wanted.lower() not in {"last", "true"}:
        folder = Path(wanted)
        inside = list_checkpoints(folder) if folder.is_dir() else []
        return _read(inside[-1] if inside else folder)
    places = [output] if output else sorted(runs.glob("*/"), reverse=True)
    for place in places:
        if found := list_checkpoints(place):
            return _read(found[-1])
    where = str(output or runs)
    raise CheckpointError(
        f"{where}: holds no checkpoint to go on from", path=where, hint="--resume_from_checkpoint takes a folder too"
    )


def _read(folder: Path) -> Checkpoint:
    file = folder / _STATE
    if not file.is_file():
        raise CheckpointError(f"{folder}: no checkpoint: it has no {_STATE}", path=str(folder))
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.get("version") != TrainerState.__dataclass_fields__["version"].default:
            raise CheckpointError(f"{file}: version {content.get('version')}, expected 1", path=str(file))
        later: dict[str, Any] = {"evaluation": {}}
        state = TrainerState(**{item.name: {**later, **content}[item.name] for item in fields(TrainerState)})
    except (ValueError, KeyError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file}: damaged: {type(error).__name__} {error}", path=str(file)) from error
    return Checkpoint(folder, state)


def save_checkpoint(
    output: Path,
    state: TrainerState,
    *,
    write_model: Callable[[Path], object],
    optimizer: dict[str, Tensor],
    rng: dict[str, Tensor],
    config: str,
    keep: int,
    more: Mapping[str, dict[str, Tensor]] | None = None,
    best: int | None = None,
) -> Path:
    """Writes `checkpoint-<step>` whole or not at all, then removes the oldest beyond `keep` but for the best.

    Args:
        output: the run's folder.
        state: where the run stands.
        write_model: writes the model to the folder it is given.
        optimizer: from `optimizer_tensors`.
        rng: random states of all ranks.
        config: the settings as TOML.
        keep: checkpoints to keep, at least 1.
        more: file name without suffix → tensors; files without tensors are not written.
        best: step of the checkpoint that stays besides, None where none is known to be best.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: the disk is full or cannot be written; earlier checkpoints stay.
    """
    final = output / _folder_name(state.step)
    saving = output / ".saving"
    shutil.rmtree(saving, ignore_errors=True)
    folder = saving / final.name
    folder.mkdir(parents=True)
    try:
        write_model(folder)
        save_file(optimizer, folder / _OPTIMIZER)
        save_file(rng, folder / _RNG)
        for name, tensors in (more or {}).items():
            if tensors:
                save_file(tensors, folder / f"{name}.safetensors")
        (folder / _CONFIG).write_text(config, encoding="utf-8")
        (folder / _STATE).write_text(json.dumps(asdict(state), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for entry in [*folder.rglob("*"), folder]:
            _flush(entry)
        if final.exists():
            final.rename(saving / "replaced")
        folder.rename(final)
        _flush(output)
    except SafetensorError as error:
        raise OSError(f"{folder}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(saving, ignore_errors=True)
    for old in list_checkpoints(output)[:-keep]:
        if old != final and old != checkpoint_folder(output, best):
            shutil.rmtree(old, ignore_errors=True)
    return final


def _folder_name(step: int) -> str:
    return f"checkpoint-{step}"


def checkpoint_folder(output: Path, step: int | None) -> Path | None:
    """The whole checkpoint of a step, None where there is none."""
    folder = output / _folder_name(step or 0)
    return folder if step is not None and (folder / _STATE).is_file() else None


def write_best(output: Path, step: int | None, *, metric: str, value: float | None) -> None:
    """Says in `best.json` which checkpoint is best; removes it where none is."""
    file = output / _BEST
    if step is None:
        file.unlink(missing_ok=True)
        return
    content = {"checkpoint": _folder_name(step), "step": step, "metric": metric, "value": value}
    beside = output / f".{_BEST}.part"
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _flush(beside)
    beside.replace(file)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def optimizer_tensors(optimizer: torch.optim.Optimizer, *, here: bool = True) -> dict[str, Tensor]:
    """The state of AdamW as named tensors on the CPU: `<moment>.<weight>`.

    Args:
        optimizer: after a step.
        here: whether this rank has a use for them; where weights are divided over ranks, every rank must call it.
    """
    tensors = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for moment, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{moment}.{name}"] = value
    return to_cpu(tensors, here=here)


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` took.

    Raises:
        CheckpointError: the tensors are not those of this model.
    """
    if not tensors:
        # no step was taken yet: with fp16 the first ones may overflow
        return
    left = dict(tensors)
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            state = {moment: left.pop(f"{moment}.{name}", None) for moment in _MOMENTS}
            moments = [state[moment] for moment in _MOMENTS[:2]]
            if any(value is None for value in state.values()) or any(
                value is not None and value.shape != parameter.shape for value in moments
            ):
                raise CheckpointError(f"{_OPTIMIZER}: it does not fit the model: weight {name}")
            # the step count stays on the CPU, where AdamW keeps it
            optimizer.state[parameter] = {
                moment: cast("Tensor", value) if moment == "step" else own_piece(cast("Tensor", value), parameter)
                for moment, value in state.items()
            }
    if left:
        raise CheckpointError(f"{_OPTIMIZER}: it does not fit the model: unknown tensor {sorted(left)[0]}")


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: damaged or absent: {error}", path=str(path)) from error
