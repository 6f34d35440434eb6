"""What the ranks of a gradient test run. A module of its own, since spawned processes import it by name."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from bgetrain.config import LossConfig
from bgetrain.data import train_batch
from bgetrain.gather import Ranks, average_gradients, gather_rows
from bgetrain.objective import batch_loss
from tests.train.fake_loader import FakeRow, make_batch
from tests.train.tiny import tiny_encoder

LOSS = LossConfig(temperature=0.1)


def _gather_keeping_own(rows: torch.Tensor, counts: list[int], ranks: Ranks) -> torch.Tensor:
    """The commonest home-made gather: no gradient but for the own slot."""
    gathered = gather_rows(rows.detach(), counts, ranks)
    start = sum(counts[: ranks.rank])
    return torch.cat([gathered[:start], rows, gathered[start + counts[ranks.rank] :]])


REPLACED = {
    "right": {},
    "gather without gradient": {
        "bgetrain.objective.gather_rows_with_gradient": lambda rows, counts, ranks: gather_rows(
            rows.detach(), counts, ranks
        )
    },
    "gradient of the own slot only": {"bgetrain.objective.gather_rows_with_gradient": _gather_keeping_own},
    "mean of local means": {
        "bgetrain.objective.scaled_loss": lambda losses, **_: losses.sum() / max(1, len(losses)),
    },
}
"""What a control puts in place of the right thing, by name."""


def gradient(
    parts: list[list[list[FakeRow]]], ranks: Ranks, *, way: str = "right", in_batch: tuple[bool, ...], tokens: int
) -> torch.Tensor:
    """The averaged gradient of one step on this rank, flat.

    Args:
        parts: batches of the step → ranks → rows.
    """
    encoder = tiny_encoder()
    step_rows = sum(len(rows) for batch in parts for rows in batch)
    with ExitStack() as stack:
        for name, replacement in REPLACED[way].items():
            stack.enter_context(mock.patch(name, replacement))
        for batch in parts:
            total = sum(len(rows) for rows in batch)
            local = make_batch(batch[ranks.rank], step=0, epoch=0, global_rows=total, state={})
            result = batch_loss(
                encoder, train_batch(local, in_batch), ranks, LOSS, step_rows=step_rows, micro_batch_tokens=tokens
            )
            result.loss.backward()
    parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    average_gradients(parameters, ranks)
    return torch.cat([parameter.grad.flatten() for parameter in parameters])


def run_rank(rank: int, world_size: int, folder: str, scenarios: dict[str, dict[str, Any]]) -> None:
    """Meets the other ranks and saves the gradient of every scenario."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    ranks = Ranks(rank=rank, world_size=world_size, local_rank=rank)
    found = {name: gradient(ranks=ranks, **scenario) for name, scenario in scenarios.items()}
    torch.save(found, Path(folder) / f"rank-{rank}.pt")
    dist.destroy_process_group()
