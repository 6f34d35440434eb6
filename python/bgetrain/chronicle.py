"""The story of a run as it goes: its records, the warnings of the detectors, and the page made of both."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from bgetrain.checkpoint import write_best
from bgetrain.detectors import check_health
from bgetrain.environment import environment
from bgetrain.errors import Interrupted, TrainingError
from bgetrain.metrics import MetricLog, note
from bgetrain.wandb_log import open_wandb

if TYPE_CHECKING:
    from pathlib import Path

    from bgetrain.config import TrainConfig
    from bgetrain.gather import Ranks
    from bgetrain.record import Record
    from bgetrain.watch import Evaluated, Watch

__all__ = ["Chronicle"]


class Chronicle:
    """Writes what happens; every rank has one, rank 0 alone writes and speaks."""

    def __init__(
        self, folder: Path, config: TrainConfig, ranks: Ranks, *, total_steps: int, step: int, facts: dict[str, Any]
    ) -> None:
        """Opens the files and says what starts.

        Args:
            folder: the run's folder.
            config: of the run.
            ranks: the place of this process.
            total_steps: steps of the run.
            step: steps done; later records of an earlier process are removed.
            facts: what else the first record says.
        """
        self._folder = folder
        self._speaks = ranks.is_main
        self._said: set[str] = set()
        self._log = MetricLog(
            folder,
            active=self._speaks,
            total_steps=total_steps,
            after_step=step,
            tensorboard=config.run.report_to == "tensorboard",
            board=open_wandb(folder, config, after_step=step)
            if self._speaks and config.run.report_to == "wandb"
            else None,
        )
        started = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
        about = {"total_steps": total_steps, **facts, "started": started, "environment": environment(ranks)}
        self._log.write_run(step, about)

    def window(self, record: Record) -> None:
        """Takes up a window of steps.

        Raises:
            TrainingError: it shows that the run cannot learn.
        """
        self._log.write(record)
        for warned in check_health(record):
            if warned.once and warned.hint in self._said:
                continue
            self._said.add(warned.hint)
            self._log.warn(record.step, warned)

    def evaluation(self, found: Evaluated) -> None:
        """Takes up an evaluation."""
        self._log.write_evaluation(found)
        self._make_page()

    def best(self, watch: Watch, metric: str) -> None:
        """Says in `best.json` which checkpoint is best; called when that is on the disk."""
        if self._speaks:
            progress = watch.progress
            write_best(self._folder, progress.best_step, metric=metric, value=progress.best_value)

    def end(self, step: int, *, early: bool = False, error: BaseException | None = None) -> None:
        """Says how it ended.

        Args:
            step: steps done.
            early: whether patience ended before the steps did.
            error: what ended it before its time.
        """
        state, message = "stopped early" if early else "done", ""
        if error is not None:
            state = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
            # other messages may name folders, which have no place in a page that is passed on
            message = str(error) if isinstance(error, Interrupted | TrainingError) else type(error).__name__
        self._log.write_end(step, state, message)
        self._log.close()
        self._make_page()

    def say(self, line: str) -> None:
        """One line to the user."""
        if self._speaks:
            note(line)

    def _make_page(self) -> None:
        if not self._speaks:
            return
        from bgetrain.report import write_report

        try:
            write_report(self._folder)
        except Exception as error:
            # a run of days does not end because of its page
            note(f"warning: report.html could not be written: {type(error).__name__}: {error}")
