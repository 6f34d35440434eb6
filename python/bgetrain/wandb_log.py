"""Metrics to Weights & Biases, for `report_to = "wandb"`.

Nothing here imports wandb before a run asks for it. The project is WANDB_PROJECT, else `bgetrain`; offline, and where
to, are wandb's own business (WANDB_MODE, WANDB_DIR). A run that goes on from a checkpoint goes on with its curves.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

from bgetrain.errors import LaunchError
from bgetrain.settings import all_settings

if TYPE_CHECKING:
    from pathlib import Path

    from bgetrain.config import TrainConfig

__all__ = ["WandbBoard", "open_wandb"]

_ID_FILE = "wandb_run"


class WandbBoard:
    """Takes what TensorBoard's writer takes."""

    def __init__(self, run: Any) -> None:  # noqa: ANN401 - wandb is optional
        """Wraps what `wandb.init` gave."""
        self._run = run

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Notes one number; those of one step come together."""
        self._run.log({name: value}, step=step)

    def close(self) -> None:
        """Sends what is left."""
        self._run.finish()


def open_wandb(folder: Path, config: TrainConfig, *, after_step: int) -> WandbBoard:
    """Begins a run of wandb, or goes on with it.

    Args:
        folder: the run's folder, which remembers wandb's name of it.
        config: all settings, as used; they are shown beside the curves.
        after_step: the step a resumed run goes on from, else 0.

    Raises:
        LaunchError: wandb cannot begin, e.g. because nobody is logged in.
    """
    import wandb

    file = folder / _ID_FILE
    if after_step == 0 or not file.is_file():
        file.write_text(secrets.token_hex(4), encoding="utf-8")
    settings = {item.dotted: getattr(getattr(config, item.section), item.field.name) for item in all_settings()}
    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "bgetrain"),
            name=config.run.run_name or folder.name,
            id=file.read_text(encoding="utf-8").strip(),
            resume="allow",
            dir=str(folder),
            config=settings,
        )
    except Exception as error:
        raise LaunchError(
            f"wandb cannot begin: {type(error).__name__}: {error}",
            hint="`wandb login`, or WANDB_MODE=offline in the environment, or --report_to none",
        ) from error
    return WandbBoard(run)
