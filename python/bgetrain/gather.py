"""The processes of a run, and what they tell each other. No other module talks to them.

Which process one is travels as data (`Ranks`), so that everything else can be tested without a process
group. Ranks may hold unequal numbers of rows, none included; every collective here takes that.

Why the gather carries a gradient: rank r scores its own queries against the documents of all ranks, so a
document collects gradient on every rank. The backward pass of the gather is therefore a sum over ranks of
the gradients of all documents, of which each rank keeps its own rows (reduce-scatter). A gather that only
keeps the gradient of the rank's own rows gives another, wrong direction.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist

from bgetrain.errors import LaunchError, RankError
from bgetrain.interrupt import outlast_sigterm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

__all__ = [
    "Ranks",
    "average_gradients",
    "broadcast_parameters",
    "broadcast_text",
    "exchange",
    "from_main",
    "gather_rows",
    "gather_rows_with_gradient",
    "join",
    "joined",
    "leave",
    "lost_a_rank",
    "meet_afterwards",
    "sum_over_ranks",
]

_BUCKET_ELEMENTS = 16 * 1024 * 1024
"""Gradients travel in pieces of at most 64 MiB of fp32, so that the copy stays small beside the model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """Which process of how many this is, and where it computes.

    Attributes:
        rank: 0 to world_size - 1.
        world_size: processes of the run, over all machines.
        local_rank: place among the processes of this machine.
        device: where the model and its tensors are.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0


def join(*, use_cpu: bool, timeout_seconds: int) -> Ranks:
    """Finds the place of this process from what torchrun set, and meets the others.

    Args:
        use_cpu: stay on the CPU where a GPU is present.
        timeout_seconds: how long a rank waits for the others before it gives up.

    Returns:
        The place; one process without torchrun is a run of its own.

    Raises:
        RankError, LaunchError: more processes on this machine than GPUs.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available() and not use_cpu
    if on_gpu and local_rank >= torch.cuda.device_count():
        # the first rank without a GPU speaks for all of them
        kind = RankError if local_rank == torch.cuda.device_count() else LaunchError
        raise kind(
            f"local rank {local_rank} finds no GPU: this machine shows {torch.cuda.device_count()}",
            hint=f"--nproc_per_node {torch.cuda.device_count()}, or --use_cpu",
        )
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if world_size > 1:
        # Its defaults are the group of the moment when it is imported, and transformers imports it: after this line
        # they would keep the group, with its threads, beyond `leave`. A thread that lets go of a tensor while the
        # interpreter ends aborts the process.
        importlib.import_module("torch.distributed.nn.functional")
        # counts, keys and flags stay on the CPU and travel by gloo, so that they never wait for the GPU
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    return Ranks(rank=int(os.environ.get("RANK", "0")), world_size=world_size, local_rank=local_rank, device=device)


def leave(ranks: Ranks) -> None:
    """Says goodbye to the other ranks; harmless where there are none."""
    if ranks.world_size > 1 and dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def joined(*, use_cpu: bool, timeout_seconds: int = 86_400) -> Iterator[Ranks]:
    """Meets the other ranks for a block of work, and says goodbye at its end.

    Args:
        use_cpu: stay on the CPU where a GPU is present.
        timeout_seconds: how long a rank waits for the others; a day, since ranks that share work in parts meet only
            when it is done.

    Yields:
        The place of this process.

    Raises:
        RankError: another rank has ended; and what `join` raises.
    """
    ranks = join(use_cpu=use_cpu, timeout_seconds=timeout_seconds)
    try:
        yield ranks
    except RuntimeError as error:
        if not lost_a_rank(error):
            raise
        outlast_sigterm()
        raise RankError(
            f"rank {ranks.rank}: another rank has ended", hint="what it said stands above, nothing where it was killed"
        ) from error
    finally:
        leave(ranks)


@contextlib.contextmanager
def meet_afterwards(ranks: Ranks) -> Iterator[None]:
    """A block of work that may take one rank much longer than another: they wait for each other, up to a day.

    Every rank must enter it, and none may speak to another inside.
    """
    if ranks.world_size == 1:
        yield
        return
    # a group of its own, since the time that a rank waits for others belongs to the group
    group = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=timedelta(days=1)))
    yield
    dist.barrier(group=group)
    dist.destroy_process_group(group)


def lost_a_rank(error: BaseException) -> bool:
    """Whether an error is that of a collective whose other side has gone."""
    return isinstance(error, dist.DistError) or (type(error) is RuntimeError and "gloo" in str(error))


def exchange(values: Sequence[int], ranks: Ranks) -> list[list[int]]:
    """Shows every rank the same few integers of all ranks, by the CPU.

    Args:
        values: equally many on every rank.
        ranks: the place of this process.

    Returns:
        One list a rank, in rank order.
    """
    if ranks.world_size == 1:
        return [list(values)]
    gathered = torch.empty(ranks.world_size * len(values), dtype=torch.int64)
    dist.all_gather_into_tensor(gathered, torch.tensor(values, dtype=torch.int64))
    return cast("list[list[int]]", gathered.view(ranks.world_size, len(values)).tolist())


def broadcast_text(text: str, ranks: Ranks) -> str:
    """Gives every rank the text of rank 0."""
    if ranks.world_size == 1:
        return text
    box: list[Any] = [text if ranks.is_main else None]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return str(box[0])


def from_main(work: Callable[[], str], ranks: Ranks) -> str:
    """Does on rank 0 what one process has to do, and gives every rank the text it returns; every rank must call it.

    Raises:
        LaunchError: rank 0 raised an error, on the other ranks; what it raised, on rank 0.
    """
    made, failure = "", None
    if ranks.is_main:
        try:
            made = work()
        except Exception as error:
            failure = error
    said = broadcast_text(f"{int(failure is not None)}{made}", ranks)
    if failure is not None:
        raise failure
    if said.startswith("1"):
        raise LaunchError("the first process could not begin")
    return said[1:]


def broadcast_parameters(module: torch.nn.Module, ranks: Ranks) -> None:
    """Gives every rank the weights of rank 0, so that ranks cannot start from different folders unnoticed."""
    if ranks.world_size == 1:
        return
    for tensor in module.state_dict().values():
        dist.broadcast(tensor, src=0)


def sum_over_ranks(tensor: Tensor, ranks: Ranks) -> Tensor:
    """The sum over ranks of a tensor of the same shape everywhere; the input is left as it is."""
    if ranks.world_size == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def gather_rows(rows: Tensor, counts: Sequence[int], ranks: Ranks) -> Tensor:
    """The rows of all ranks in rank order, without gradient.

    Args:
        rows: [n, ...], n = counts[rank]; the other dimensions are the same everywhere.
        counts: rows of each rank; the same list everywhere (see `exchange`).
        ranks: the place of this process.

    Returns:
        [sum(counts), ...].
    """
    longest = max(counts)
    if ranks.world_size == 1 or longest == 0:
        return rows
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows
    gathered = rows.new_empty((ranks.world_size * longest, *rows.shape[1:]))
    dist.all_gather_into_tensor(gathered, padded)
    return torch.cat([gathered[rank * longest :][:count] for rank, count in enumerate(counts)])


class _GatherRows(torch.autograd.Function):
    """`gather_rows` whose backward pass sums over ranks and keeps the rank's own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: Sequence[int], ranks: Ranks) -> Tensor:  # noqa: ANN401
        ctx.counts, ctx.ranks = counts, ranks
        return gather_rows(rows, counts, ranks)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        counts, ranks = ctx.counts, ctx.ranks
        total = gradients[0].contiguous()
        own = counts[ranks.rank]
        if total.is_cuda:
            longest = max(counts)
            padded = total.new_zeros((ranks.world_size, longest, *total.shape[1:]))
            for rank, part in enumerate(torch.split(total, list(counts))):
                padded[rank, : len(part)] = part
            mine = total.new_empty((longest, *total.shape[1:]))
            dist.reduce_scatter_tensor(mine, padded.flatten(0, 1))
            return mine[:own], None, None
        total = total.clone()
        dist.all_reduce(total)
        start = sum(counts[: ranks.rank])
        return total[start : start + own], None, None


def gather_rows_with_gradient(rows: Tensor, counts: Sequence[int], ranks: Ranks) -> Tensor:
    """The rows of all ranks in rank order; the gradient of every rank flows back to the rank that owns a row.

    All ranks must run the backward pass of the result, ranks without rows included. Arguments and result
    as in `gather_rows`.
    """
    if ranks.world_size == 1 or max(counts) == 0:
        return rows
    return cast("Tensor", cast("Any", _GatherRows).apply(rows, counts, ranks))


def average_gradients(parameters: Iterable[torch.nn.Parameter], ranks: Ranks) -> None:
    """Replaces the gradient of each trained parameter by its mean over ranks, once a step.

    A rank without rows has no gradient; it counts as zero. The reduction is done here and not by
    DistributedDataParallel, because one step runs the encoder many times (length-sorted chunks) or, on an
    empty rank, not at all, and must reduce exactly once.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if ranks.world_size == 1:
        return
    bucket: list[Tensor] = []
    for parameter in trained:
        bucket.append(cast("Tensor", parameter.grad))
        if sum(gradient.numel() for gradient in bucket) >= _BUCKET_ELEMENTS:
            _average(bucket, ranks)
            bucket = []
    if bucket:
        _average(bucket, ranks)


def _average(bucket: list[Tensor], ranks: Ranks) -> None:
    flat = torch.cat([gradient.flatten() for gradient in bucket])
    dist.all_reduce(flat)
    flat /= ranks.world_size
    for gradient, mean in zip(bucket, torch.split(flat, [gradient.numel() for gradient in bucket]), strict=True):
        gradient.copy_(mean.view_as(gradient))
