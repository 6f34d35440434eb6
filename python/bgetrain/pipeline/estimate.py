"""What a pipeline would cost, by arithmetic that can be followed on paper: each figure beside what it is made of.

A weight that multiplies a token costs 2 FLOPs forward and 4 backward (`flops`), so training costs 6 for each weight and
token, and 2 more for each further forward pass: one where GradCache computes a batch twice, one where activations are
computed again. Reading with a model costs 2. Attention's own products are left out (of a large BERT 2 % at 128 tokens
and 8 % at 512), as are pooling and the loss.

Tokens and bytes of a row are what the file says (`size`); a pipeline run on a sample says better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bgeprep.amounts import byte_text
from bgetrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bgetrain.pipeline.plan import Step

__all__ = ["Cost", "Machine", "estimate", "gpu_peak"]

_ADAM_BYTES = 16
"""Of a trained weight in a process: itself, its gradient and two moments, in fp32."""

_CHECKPOINT_BYTES = 12
"""Of a weight in a checkpoint: itself and two moments, in fp32."""

_PREPARE_COPIES = 2.2
"""Bytes on disk for each byte of text while a set is made: itself, keys, and as much again of work files, which go."""

_SET_COPIES = 1.2
"""Bytes of a finished set for each byte of text: keys and offsets beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What computes.

    Attributes:
        gpu: what the GPU is called.
        peak_tflops: of one GPU in bf16, without sparsity.
        mfu: share of the peak that is reached.
        gpus: of a machine.
        nodes: machines.
        prepare_mb_per_second: text that one machine prepares in a second.
    """

    gpu: str
    peak_tflops: float
    mfu: float
    gpus: int
    nodes: int
    prepare_mb_per_second: float

    @property
    def flops_per_second(self) -> float:
        """Of all GPUs, as they are used."""
        return self.peak_tflops * 1e12 * self.mfu * self.gpus * self.nodes


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one step costs.

    Attributes:
        step: its name.
        flops: computed on GPUs.
        gpu_hours: GPUs times hours.
        hours: by the clock.
        disk_bytes: that stay.
        work_bytes: needed besides while it runs.
        gpu_bytes: of a GPU, for weights, optimiser and the batch's vectors; graphs of texts take what is left.
        sums: the arithmetic, a line each.
    """

    step: str
    flops: float = 0.0
    gpu_hours: float = 0.0
    hours: float = 0.0
    disk_bytes: float = 0.0
    work_bytes: float = 0.0
    gpu_bytes: float = 0.0
    sums: tuple[str, ...] = ()


def gpu_peak(name: str, given: float | None) -> float:
    """TFLOP/s of a GPU in bf16.

    Args:
        name: as `a100`.
        given: the peak, where it is stated.

    Raises:
        ConfigError: a GPU that is not in the table, and no peak.
    """
    from bgetrain.flops import PEAKS, peak_tflops

    peak = peak_tflops(name, given)
    if peak is None:
        known = ", ".join(one for one, _ in PEAKS)
        raise ConfigError(f"--gpu {name}: its peak is not known (known: {known})", hint="--peak_tflops states it")
    return peak


def estimate(step: Step, machine: Machine, earlier: Sequence[Step] = ()) -> Cost:
    """What a step costs by the sizes that the file states.

    Args:
        step: with its size, scaled where the pipeline is.
        machine: what computes.
        earlier: steps before it, whose rows count where it states none of its own.

    Returns:
        The cost; without sums where nothing is stated.
    """
    rows, row_bytes = _rows(step, earlier)
    if step.run == "bgetrain train":
        return _training(step, rows, machine)
    if step.run in {"bgeprep shard", "bgeprep convert", "bgeprep export"}:
        return _preparation(step, rows, row_bytes, machine)
    if step.run in {"bgetrain score", "bgetrain mine", "bgetrain encode"}:
        return _reading(step, rows, row_bytes, machine)
    return Cost(step=step.name)


def _rows(step: Step, earlier: Sequence[Step]) -> tuple[int, float]:
    """Rows and bytes of a row: stated, or the sum over sources, or those of the steps that it needs."""
    size = step.size
    if size.rows:
        return size.rows, size.bytes_per_row
    listed = [source for source in step.sources if "rows" in source]
    if listed:
        rows = sum(source["rows"] for source in listed)
        total = sum(source["rows"] * source.get("bytes_per_row", size.bytes_per_row) for source in listed)
        return rows, total / rows
    known = {one.name: one for one in earlier}
    before = [
        _rows(known[name], earlier) for name in step.needs if name in known and known[name].run == "bgeprep shard"
    ]
    rows = sum(one for one, _ in before)
    return rows, size.bytes_per_row or (sum(one * each for one, each in before) / rows if rows else 0.0)


def _preparation(step: Step, rows: int, row_bytes: float, machine: Machine) -> Cost:
    text = rows * row_bytes
    if not text:
        return Cost(step=step.name)
    hours = text / (machine.prepare_mb_per_second * 1e6) / 3600
    sums = (
        f"text: {rows:,} rows x {row_bytes:,.0f} bytes = {byte_text(text)}",
        f"disk: x {_SET_COPIES} = {byte_text(text * _SET_COPIES)}, "
        f"and x {_PREPARE_COPIES - _SET_COPIES:.1f} while it is made",
        f"time: {byte_text(text)} / {machine.prepare_mb_per_second:g} MB/s on one machine = {hours:.1f} h",
    )
    work = text * (_PREPARE_COPIES - _SET_COPIES)
    return Cost(step=step.name, hours=hours, disk_bytes=text * _SET_COPIES, work_bytes=work, sums=sums)


def _training(step: Step, rows: int, machine: Machine) -> Cost:
    from bgetrain.pipeline.scale import train_config

    size, run = step.size, train_config(step).run
    if not (rows and size.tokens_per_row and size.weights):
        return Cost(step=step.name)
    batch = run.global_batch_size or (run.per_device_train_batch_size or 32) * machine.gpus * machine.nodes
    updates = run.max_steps if run.max_steps > 0 else -(-rows * size.epochs // batch)
    taken = updates * batch if run.max_steps > 0 else rows * size.epochs
    tokens = taken * size.tokens_per_row
    config = train_config(step)
    # of a batch for one GPU that its memory does not hold, which is what these stages are about
    cached = config.pretrain.pretrain_method is None and run.grad_cache is not False
    factor = 6 + 2 * cached + 2 * run.gradient_checkpointing
    flops = float(factor) * size.weights * tokens
    seconds = flops / machine.flops_per_second
    gpus = machine.gpus * machine.nodes
    stored = size.stored or size.weights
    held = stored * _ADAM_BYTES
    vectors = batch * (1 + config.data.train_group_size) * size.dimensions * 4
    checkpoints = stored * (_CHECKPOINT_BYTES * run.save_total_limit + 4)
    passes = " + ".join(
        [
            "6",
            *(["2 GradCache's first forward"] if cached else []),
            *(["2 checkpointing"] if run.gradient_checkpointing else []),
        ]
    )
    sums = (
        f"updates: {taken:,} rows / {batch:,} a batch = {updates:,}",
        f"tokens: {taken:,} rows x {size.tokens_per_row} = {tokens / 1e9:,.2f} G",
        f"FLOPs: ({passes}) x {size.weights / 1e6:,.0f} M weights x {tokens / 1e9:,.2f} G tokens = {flops:.2e}",
        f"time: {flops:.2e} / ({gpus} {machine.gpu} x {machine.peak_tflops:g} TFLOP/s x MFU {machine.mfu:g}) = "
        f"{seconds / 3600:,.2f} h = {seconds * gpus / 3600:,.1f} GPU-hours",
        f"GPU memory: {stored / 1e6:,.0f} M weights x {_ADAM_BYTES} bytes = {byte_text(held)}"
        + (f"; vectors of a batch {byte_text(vectors)}" if vectors and cached else "")
        + "; graphs take what is left",
        f"disk: {run.save_total_limit} checkpoints x {_CHECKPOINT_BYTES} bytes + the model x 4 = "
        f"{byte_text(checkpoints)}",
    )
    return Cost(
        step=step.name,
        flops=flops,
        gpu_hours=seconds * gpus / 3600,
        hours=seconds / 3600,
        disk_bytes=checkpoints,
        gpu_bytes=held + (vectors if cached else 0),
        sums=sums,
    )


def _reading(step: Step, rows: int, row_bytes: float, machine: Machine) -> Cost:
    size = step.size
    if not (rows and size.tokens_per_row and size.weights):
        return Cost(step=step.name)
    tokens = rows * size.tokens_per_row
    flops = 2.0 * size.weights * tokens
    seconds = flops / machine.flops_per_second
    gpus = machine.gpus * machine.nodes
    vectors = 2.0 * rows * size.dimensions * 4
    text = rows * row_bytes * _SET_COPIES if step.run == "bgetrain mine" else rows * 56.0
    what = "the set once more" if step.run == "bgetrain mine" else "scores, 56 bytes a pair,"
    sums = (
        f"FLOPs: 2 x {size.weights / 1e6:,.0f} M weights x {tokens / 1e9:,.2f} G tokens = {flops:.2e}",
        f"time: {seconds / 3600:,.2f} h = {seconds * gpus / 3600:,.1f} GPU-hours, the search besides"
        if step.run == "bgetrain mine"
        else f"time: {seconds / 3600:,.2f} h = {seconds * gpus / 3600:,.1f} GPU-hours",
        f"disk: {what} {byte_text(text)}"
        + (
            f", and vectors 2 x {rows:,} x {size.dimensions} x 4 bytes = {byte_text(vectors)} while it runs"
            if vectors
            else ""
        ),
    )
    return Cost(
        step=step.name,
        flops=flops,
        gpu_hours=seconds * gpus / 3600,
        hours=seconds / 3600,
        disk_bytes=text,
        work_bytes=vectors,
        gpu_bytes=(size.stored or size.weights) * 2.0,
        sums=sums,
    )
