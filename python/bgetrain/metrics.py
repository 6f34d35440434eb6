"""What a run says of itself: one record a window of steps, to a file, to TensorBoard and to the terminal.

`Meter` counts on the device and is read once a window, so that logging costs no wait for the GPU between.
`MetricLog` writes on rank 0: `metrics.jsonl` (one JSON object a line), TensorBoard where it is installed,
and one line on stderr.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bgetrain.gather import sum_over_ranks

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from bgetrain.gather import Ranks
    from bgetrain.objective import BatchResult
    from bgetrain.wandb_log import WandbBoard

__all__ = ["Meter", "MetricLog", "Record", "note"]

_ON_DEVICE = ("loss", "negatives", "masked", "repeated", "likely")
_ON_HOST = ("rows", "tokens", "computed", "waited")


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One line of `metrics.jsonl`; means are over the steps since the last record and over all ranks.

    Attributes:
        step: optimiser steps done.
        epoch: pass over the data, from 0.
        loss: mean over queries.
        learning_rate: of the last step.
        grad_norm: mean over steps, before clipping.
        pairs_per_second: queries over all ranks.
        tokens_per_second: without padding, over all ranks.
        padding_share: padding among the tokens computed.
        data_wait_share: part of the time spent waiting for batches.
        effective_negatives: documents a query was scored against, without its own positive.
        masked: documents left out, over all queries, because they are a known positive or the query itself.
        repeated: documents left out, over all queries, because the batch holds them twice.
        likely_share: share of the remaining negatives left out because they score like positives.
        rows: queries.
        source: source of the last batch; None where it mixes several.
        seconds: length of the window.
        steps: optimiser steps in the window.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    grad_norm: float
    pairs_per_second: float
    tokens_per_second: float
    padding_share: float
    data_wait_share: float
    effective_negatives: float
    masked: int
    repeated: int
    likely_share: float
    rows: int
    source: str | None
    seconds: float
    steps: int


class Meter:
    """Counts the steps of a window."""

    def __init__(self, ranks: Ranks) -> None:
        """Starts an empty window."""
        self._ranks = ranks
        self._start()

    def _start(self) -> None:
        self._sums: Tensor = torch.zeros(len(_ON_DEVICE), dtype=torch.float64, device=self._ranks.device)
        self._norms: Tensor = torch.zeros((), dtype=torch.float64, device=self._ranks.device)
        self._rows = self._tokens = self._computed = self._steps = 0
        self._since = time.perf_counter()

    @property
    def steps(self) -> int:
        """Steps in the window."""
        return self._steps

    def add_batch(self, result: BatchResult) -> None:
        """Counts one batch of this rank."""
        counted = [result.row_losses, result.negatives, result.masked, result.repeated, result.likely]
        self._sums += torch.stack([values.sum(dtype=torch.float64) for values in counted])
        self._rows += len(result.row_losses)
        self._tokens += result.tokens
        self._computed += result.computed

    def add_step(self, grad_norm: Tensor) -> None:
        """Counts one optimiser step."""
        self._norms += grad_norm.double()
        self._steps += 1

    def read(self, *, step: int, epoch: int, learning_rate: float, source: str | None, waited: float) -> Record:
        """Ends the window; every rank must call it. Waits for the device.

        Args:
            step: optimiser steps done.
            epoch: of the last batch.
            learning_rate: of the last step.
            source: of the last batch.
            waited: seconds this rank waited for batches.
        """
        ranks = self._ranks
        counted = [self._rows, self._tokens, self._computed, waited]
        local = torch.cat([self._sums.cpu(), torch.tensor(counted, dtype=torch.float64)])
        sums = dict(zip(_ON_DEVICE + _ON_HOST, sum_over_ranks(local, ranks).tolist(), strict=True))
        seconds = max(time.perf_counter() - self._since, 1e-9)
        record = Record(
            step=step,
            epoch=epoch,
            loss=sums["loss"] / max(1.0, sums["rows"]),
            learning_rate=learning_rate,
            grad_norm=float(self._norms) / max(1, self._steps),
            pairs_per_second=sums["rows"] / seconds,
            tokens_per_second=sums["tokens"] / seconds,
            padding_share=1.0 - sums["tokens"] / max(1.0, sums["computed"]),
            data_wait_share=min(1.0, sums["waited"] / ranks.world_size / seconds),
            effective_negatives=sums["negatives"] / max(1.0, sums["rows"]),
            masked=int(sums["masked"]),
            repeated=int(sums["repeated"]),
            likely_share=sums["likely"] / max(1.0, sums["likely"] + sums["negatives"]),
            rows=int(sums["rows"]),
            source=source,
            seconds=seconds,
            steps=self._steps,
        )
        self._start()
        return record


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
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= after_step]
            self._path.write_text("".join(kept), encoding="utf-8")
        if tensorboard:
            self._board = _open_board(folder / "tensorboard", after_step)

    def write(self, record: Record) -> None:
        """Writes one record everywhere."""
        if not self._active:
            return
        values = {name: getattr(record, name) for name in Record.__dataclass_fields__}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values, ensure_ascii=False) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float) and name not in {"step", "steps", "seconds"}:
                    self._board.add_scalar(f"train/{name}", value, record.step)
        self._show(record)

    def _show(self, record: Record) -> None:
        left = (self._total - record.step) * record.seconds / max(1, record.steps)
        parts = [
            f"step {record.step}/{self._total}",
            f"loss {record.loss:.4f}",
            f"lr {record.learning_rate:.2e}",
            f"grad {record.grad_norm:.2f}",
            f"{record.pairs_per_second:,.0f} pairs/s",
            f"{record.tokens_per_second:,.0f} tokens/s",
            f"padding {record.padding_share:.0%}",
            f"wait {record.data_wait_share:.0%}",
            f"negatives {record.effective_negatives:.1f}",
            f"masked {record.masked}",
            *([f"likely {record.likely_share:.2%}"] if record.likely_share else []),
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
