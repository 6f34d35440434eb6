"""What a run says of itself: to a file, to TensorBoard and to the terminal, by rank 0.

`metrics.jsonl` holds one JSON object a line; its `kind` says what it tells:

| kind      | when                          | what                                                     |
|-----------|-------------------------------|----------------------------------------------------------|
| `run`     | at each start                 | steps, batch, versions, device (`environment`)           |
| `train`   | each `logging_steps`          | a window of steps (`record.Record`)                       |
| `eval`    | each `eval_steps`             | scores of the collections (`watch.Evaluated`)            |
| `warning` | when a detector speaks        | `message` and `hint`                                     |
| `end`     | at each end                   | `state`: done, stopped early, interrupted, failed        |

Every record has a `step`. A run that goes on from a checkpoint removes what it will write again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bgetrain.detectors import Warned
    from bgetrain.record import Record
    from bgetrain.wandb_log import WandbBoard
    from bgetrain.watch import Evaluated

__all__ = ["MetricLog", "note", "read_records"]


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a `metrics.jsonl`; a last line that is still being written is left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: a whole line is no record.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith("\n"):
                return
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                raise ValueError(f"{path}:{number}: no record of a run: it has no step")
            # before kinds came there were windows alone
            record.setdefault("kind", "train")
            yield record


class MetricLog:
    """Writes records; silent on ranks other than 0."""

    def __init__(
        self,
        folder: Path,
        *,
        active: bool,
        total_steps: int,
        after_step: int,
        tensorboard: bool,
        board: WandbBoard | None = None,
    ) -> None:
        """Opens the files.

        Args:
            folder: the run's folder.
            active: whether this rank writes.
            total_steps: steps of the run.
            after_step: the step a resumed run goes on from; later records of the file are removed, since
                they will be written again.
            tensorboard: also write TensorBoard events, where it is installed.
            board: takes the numbers too; closed with the log.
        """
        self._active = active
        self._total = total_steps
        self._path = folder / "metrics.jsonl"
        self._board: Any = board
        if not active:
            return
        if self._path.is_file():
            kept = [record for record in read_records(self._path) if record["step"] <= after_step]
            self._path.write_text("".join(_line(record) for record in kept), encoding="utf-8")
        if tensorboard:
            self._board = _open_board(folder / "tensorboard", after_step)

    def write(self, record: Record) -> None:
        """Writes a window of steps everywhere."""
        values = asdict(record)
        scalars = {f"train/{name}": value for name, value in values.items() if name not in {"step", "steps", "seconds"}}
        scalars |= {f"loss/{name}": part.loss for name, part in record.sources.items()}
        self._put("train", record.step, values, scalars)
        if self._active:
            self._show(record)

    def write_evaluation(self, found: Evaluated) -> None:
        """Writes the scores of the collections everywhere."""
        scalars = {
            f"eval/{name}_{metric}": value
            for name, scores in {**found.collections, "mean": found.mean}.items()
            for metric, value in scores.items()
        }
        self._put("eval", found.step, asdict(found), scalars)
        if self._active:
            note(found.line(self._total))

    def warn(self, step: int, warned: Warned) -> None:
        """Tells the user, and remembers for the report."""
        self._put("warning", step, asdict(warned), {})
        if self._active:
            note(f"warning: {warned.message}\nhint: {warned.hint}")

    def write_run(self, step: int, facts: Mapping[str, Any]) -> None:
        """Says what starts, and where."""
        self._put("run", step, facts, {})

    def write_end(self, step: int, state: str, message: str) -> None:
        """Says how it ended."""
        self._put("end", step, {"state": state, "message": message}, {})

    def _put(self, kind: str, step: int, values: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        if not self._active:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line({"kind": kind, "step": step, **values}))
        if self._board is not None:
            for name, value in scalars.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def _show(self, record: Record) -> None:
        left = (self._total - record.step) * record.seconds / max(1, record.steps)
        parts = [
            f"step {record.step}/{self._total}",
            f"loss {record.loss:.4f}",
            f"lr {record.learning_rate:.2e}",
            f"grad {record.grad_norm:.2f}",
            record.speed(),
            f"{record.tokens_per_second:,.0f} tokens/s",
            *([f"mfu {record.mfu:.0%}"] if record.mfu is not None else []),
            f"padding {record.padding_share:.0%}",
            f"wait {record.data_wait_share:.0%}",
            *record.details(),
            *([f"skipped {record.skipped}"] if record.skipped else []),
            f"memory {record.peak_memory / 1e9:.1f} GB",
            f"left {_clock(left)}",
            f"[{record.source or 'mixed'}]",
        ]
        note("  ".join(parts))

    def close(self) -> None:
        """Flushes TensorBoard."""
        if self._board is not None:
            self._board.close()


def note(text: str) -> None:
    """One line to the user, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _open_board(folder: Path, after_step: int) -> Any:  # noqa: ANN401 - TensorBoard is optional
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        note("tensorboard is not installed: metrics go to metrics.jsonl only (--report_to none says no more)")
        return None
    return SummaryWriter(str(folder), purge_step=after_step + 1)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
