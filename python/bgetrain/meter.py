"""What happened in a window of steps: counted on the device and read once, so that logging costs no wait between."""

from __future__ import annotations

import resource
import sys
import time
from typing import TYPE_CHECKING

import torch

from bgetrain.gather import exchange, sum_over_ranks
from bgetrain.record import SourceLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bgetrain.flops import ModelFlops
    from bgetrain.gather import Ranks
    from bgetrain.learner import Result
    from bgetrain.record import Record

__all__ = ["Meter"]

_ON_HOST = ("rows", "tokens", "computed", "replayed", "squares", "more_flops", "waited")
_NEVER = 2**62


class Meter:
    """Counts the steps of a window."""

    def __init__(
        self,
        ranks: Ranks,
        record: type[Record],
        *,
        sources: Sequence[str],
        flops: ModelFlops,
        peak_tflops: float | None,
    ) -> None:
        """Starts an empty window.

        Args:
            ranks: the place of this process.
            record: what a window becomes.
            sources: names, by source id.
            flops: what the model computes.
            peak_tflops: what a device can do, None where that is not known.
        """
        self._ranks = ranks
        self._record = record
        self._names = tuple(sources)
        self._flops = flops
        self._peak = peak_tflops
        self._start()

    def _start(self) -> None:
        device, count = self._ranks.device, len(self._names)
        self._sums: dict[str, Tensor] = {}
        self._norms: Tensor = torch.zeros((), dtype=torch.float64, device=device)
        self._by_source: Tensor = torch.zeros(2, count, dtype=torch.float64, device=device)
        self._in_step: Tensor = torch.zeros(2, count, dtype=torch.bool, device=device)
        self._bad: Tensor = torch.zeros(2, count, dtype=torch.bool, device=device)
        self._bad_step: Tensor = torch.full((), _NEVER, dtype=torch.int64, device=device)
        self._rows = self._tokens = self._computed = self._replayed = self._squares = self._steps = 0
        self._more_flops = 0.0
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

    def add_batch(self, result: Result) -> None:
        """Counts one batch of this rank."""
        losses = result.row_losses.double()
        for name, value in {"loss": losses.sum(), **result.counts()}.items():
            before = self._sums.get(name)
            self._sums[name] = value.double() if before is None else before + value.double()
        self._by_source.index_add_(1, result.source_ids, torch.stack([losses, torch.ones_like(losses)]))
        seen, failed = self._in_step
        seen.index_fill_(0, result.source_ids, True)
        counts = torch.zeros(len(self._names), dtype=torch.int64, device=losses.device)
        failed |= counts.index_add(0, result.source_ids, (~losses.isfinite()).long()) > 0
        self._rows += len(losses)
        self._tokens += result.tokens
        self._squares += result.squares
        self._computed += result.computed
        self._replayed += result.replayed
        self._more_flops += result.more_flops

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
        # the same names on every rank, since every rank sees a part of every batch
        names = (*self._sums, *_ON_HOST)
        counted = [self._rows, self._tokens, self._computed, self._replayed, self._squares, self._more_flops, waited]
        on_device = torch.stack([*self._sums.values()]).cpu()
        local = [on_device, torch.tensor(counted, dtype=torch.float64), self._by_source.flatten(), self._bad.flatten()]
        total = sum_over_ranks(torch.cat([part.cpu().double() for part in local]), ranks)
        single, by_source, bad = torch.split(total, [len(names), 2 * count, 2 * count])
        sums = dict(zip(names, single.tolist(), strict=True))
        others = exchange([int(self._bad_step), self._peak_memory()], ranks)
        bad_step = min(first for first, _ in others)
        seconds = max(time.perf_counter() - self._since, 1e-9)
        each = seconds * ranks.world_size * 1e12
        tflops = (self._flops.model(sums["tokens"], sums["squares"]) + sums["more_flops"]) / each
        done = self._flops.hardware(sums["tokens"], sums["squares"], sums["computed"], sums["replayed"])
        shared = {
            "step": step,
            "epoch": epoch,
            "loss": sums["loss"] / max(1.0, sums["rows"]),
            "learning_rate": learning_rate,
            "grad_norm": float(self._norms) / max(1, self._steps - self._skipped),
            "tokens_per_second": sums["tokens"] / seconds,
            "padding_share": 1.0 - sums["tokens"] / max(1.0, sums["computed"]),
            "data_wait_share": min(1.0, sums["waited"] / ranks.world_size / seconds),
            "rows": int(sums["rows"]),
            "source": source,
            "sources": self._sources(by_source.view(2, count)),
            "tflops": tflops,
            "mfu": tflops / self._peak if self._peak else None,
            "hfu": (done + sums["more_flops"]) / each / self._peak if self._peak else None,
            "peak_memory": max(bytes_held for _, bytes_held in others),
            "seconds": seconds,
            "steps": self._steps,
            "skipped": self._skipped,
            "bad_step": None if bad_step == _NEVER else step - self._steps + bad_step,
            "bad_sources": self._suspects(bad.view(2, count)),
        }
        self._start()
        return self._record.of(shared, sums)

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
