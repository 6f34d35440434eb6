"""What happened in a window of steps: counted on the device and read once, so that logging costs no wait between."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bgetrain.gather import exchange, sum_over_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bgetrain.data import TrainBatch
    from bgetrain.flops import ModelFlops
    from bgetrain.gather import Ranks
    from bgetrain.objective import BatchResult

__all__ = ["Meter", "Record", "SourceLoss"]

_ON_DEVICE = ("loss", "negatives", "masked", "repeated", "likely", "flat", "with_negatives")
_ON_HOST = ("rows", "taught", "tokens", "computed", "replayed", "squares", "waited")
_NEVER = 2**62


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceLoss:
    """What a window says of one source.

    Attributes:
        loss: mean over its queries.
        rows: its queries.
    """

    loss: float
    rows: int


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
        flat_share: share of the queries with negatives whose scores are all one.
        rows: queries.
        taught: those of them that a teacher taught; None without distillation.
        source: source of the last batch; None where it mixes several.
        sources: loss and queries of each source of the window.
        tflops: 10¹² model FLOPs a second and process.
        mfu: model FLOPs as a share of what the devices can do in bf16; None where that is not known.
        hfu: the same for the FLOPs done, padding and recomputation included.
        peak_memory: most bytes a process held: of the device in the window, or of the process since its start on a CPU.
        seconds: length of the window.
        steps: optimiser steps in the window.
        skipped: those of them that were not taken, since the gradient overflowed fp16.
        bad_step: first step whose loss or gradient is not a number; None where all are numbers.
        bad_sources: sources of the queries whose loss is not a number there; where only the gradient is none, those
            of the step.
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
    flat_share: float
    rows: int
    taught: int | None
    source: str | None
    sources: dict[str, SourceLoss]
    tflops: float
    mfu: float | None
    hfu: float | None
    peak_memory: int
    seconds: float
    steps: int
    skipped: int
    bad_step: int | None
    bad_sources: tuple[str, ...]


class Meter:
    """Counts the steps of a window."""

    def __init__(self, ranks: Ranks, *, sources: Sequence[str], flops: ModelFlops, peak_tflops: float | None) -> None:
        """Starts an empty window.

        Args:
            ranks: the place of this process.
            sources: names, by source id.
            flops: what the model computes.
            peak_tflops: what a device can do, None where that is not known.
        """
        self._ranks = ranks
        self._names = tuple(sources)
        self._flops = flops
        self._peak = peak_tflops
        self._start()

    def _start(self) -> None:
        device, count = self._ranks.device, len(self._names)
        self._sums: Tensor = torch.zeros(len(_ON_DEVICE), dtype=torch.float64, device=device)
        self._norms: Tensor = torch.zeros((), dtype=torch.float64, device=device)
        self._by_source: Tensor = torch.zeros(2, count, dtype=torch.float64, device=device)
        self._in_step: Tensor = torch.zeros(2, count, dtype=torch.bool, device=device)
        self._bad: Tensor = torch.zeros(2, count, dtype=torch.bool, device=device)
        self._bad_step: Tensor = torch.full((), _NEVER, dtype=torch.int64, device=device)
        self._taught: int | None = None
        self._rows = self._tokens = self._computed = self._replayed = self._squares = self._steps = 0
        self._skipped = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves out the time since the window began: for work between two windows that is no training."""
        self._since = time.perf_counter()

    @property
    def steps(self) -> int:
        """Steps in the window."""
        return self._steps

    def add_texts(self, batches: Sequence[TrainBatch]) -> None:
        """Counts the lengths of the texts of one step of this rank."""
        self._squares += sum(
            int((texts.lengths**2).sum()) for batch in batches for texts in (batch.queries, batch.documents)
        )

    def add_batch(self, result: BatchResult) -> None:
        """Counts one batch of this rank."""
        losses = result.row_losses.double()
        counted = [losses, result.negatives, result.masked, result.repeated, result.likely, result.flat]
        self._sums += torch.stack([values.sum(dtype=torch.float64) for values in [*counted, result.negatives > 0]])
        self._by_source.index_add_(1, result.source_ids, torch.stack([losses, torch.ones_like(losses)]))
        seen, failed = self._in_step
        seen.index_fill_(0, result.source_ids, True)
        counts = torch.zeros(len(self._names), dtype=torch.int64, device=losses.device)
        failed |= counts.index_add(0, result.source_ids, (~losses.isfinite()).long()) > 0
        self._rows += len(losses)
        if result.taught is not None:
            self._taught = (self._taught or 0) + result.taught
        self._tokens += result.tokens
        self._computed += result.computed
        self._replayed += result.replayed

    def add_step(self, grad_norm: Tensor) -> None:
        """Counts one optimiser step."""
        norm = grad_norm.double()
        self._norms += norm
        self._steps += 1
        seen, failed = self._in_step
        first = (~norm.isfinite() | failed.any()) & (self._bad_step == _NEVER)
        self._bad_step = torch.where(first, self._steps, self._bad_step)
        self._bad = torch.where(first, torch.stack([seen, failed]), self._bad)
        self._in_step = torch.zeros_like(self._in_step)

    def add_skipped_step(self) -> None:
        """Counts a step whose gradient overflowed fp16 and was not taken."""
        self._steps += 1
        self._skipped += 1
        self._in_step = torch.zeros_like(self._in_step)

    def read(self, *, step: int, epoch: int, learning_rate: float, source: str | None, waited: float) -> Record:
        """Ends the window; every rank must call it. Waits for the device.

        Args:
            step: optimiser steps done.
            epoch: of the last batch.
            learning_rate: of the last step.
            source: of the last batch.
            waited: seconds this rank waited for batches.
        """
        ranks, count = self._ranks, len(self._names)
        taught = self._taught or 0
        counted = [self._rows, taught, self._tokens, self._computed, self._replayed, self._squares, waited]
        local = [self._sums, torch.tensor(counted, dtype=torch.float64), self._by_source.flatten()]
        total = sum_over_ranks(torch.cat([part.cpu().double() for part in [*local, self._bad.flatten()]]), ranks)
        single, by_source, bad = torch.split(total, [len(_ON_DEVICE) + len(_ON_HOST), 2 * count, 2 * count])
        sums = dict(zip(_ON_DEVICE + _ON_HOST, single.tolist(), strict=True))
        others = exchange([int(self._bad_step), self._peak_memory()], ranks)
        bad_step = min(first for first, _ in others)
        seconds = max(time.perf_counter() - self._since, 1e-9)
        each = seconds * ranks.world_size * 1e12
        tflops = self._flops.model(sums["tokens"], sums["squares"]) / each
        done = self._flops.hardware(sums["tokens"], sums["squares"], sums["computed"], sums["replayed"]) / each
        record = Record(
            step=step,
            epoch=epoch,
            loss=sums["loss"] / max(1.0, sums["rows"]),
            learning_rate=learning_rate,
            grad_norm=float(self._norms) / max(1, self._steps - self._skipped),
            pairs_per_second=sums["rows"] / seconds,
            tokens_per_second=sums["tokens"] / seconds,
            padding_share=1.0 - sums["tokens"] / max(1.0, sums["computed"]),
            data_wait_share=min(1.0, sums["waited"] / ranks.world_size / seconds),
            effective_negatives=sums["negatives"] / max(1.0, sums["rows"]),
            masked=int(sums["masked"]),
            repeated=int(sums["repeated"]),
            likely_share=sums["likely"] / max(1.0, sums["likely"] + sums["negatives"]),
            flat_share=sums["flat"] / max(1.0, sums["with_negatives"]),
            rows=int(sums["rows"]),
            taught=None if self._taught is None else int(sums["taught"]),
            source=source,
            sources=self._sources(by_source.view(2, count)),
            tflops=tflops,
            mfu=tflops / self._peak if self._peak else None,
            hfu=done / self._peak if self._peak else None,
            peak_memory=max(bytes_held for _, bytes_held in others),
            seconds=seconds,
            steps=self._steps,
            skipped=self._skipped,
            bad_step=None if bad_step == _NEVER else step - self._steps + bad_step,
            bad_sources=self._suspects(bad.view(2, count)),
        )
        self._start()
        return record

    def _sources(self, sums: Tensor) -> dict[str, SourceLoss]:
        losses, rows = sums.tolist()
        found = zip(self._names, losses, rows, strict=True)
        return {name: SourceLoss(loss=loss / number, rows=int(number)) for name, loss, number in found if number}

    def _suspects(self, flags: Tensor) -> tuple[str, ...]:
        seen, failed = flags
        chosen = failed if failed.any() else seen
        return tuple(name for name, flag in zip(self._names, chosen.tolist(), strict=True) if flag)

    def _peak_memory(self) -> int:
        if self._ranks.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._ranks.device)
        # kilobytes, but on macOS bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
