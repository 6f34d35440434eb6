"""What the ranks of a gradient test run. A module of its own, since spawned processes import it by name."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from bgetrain.activation_memory import Chunking
from bgetrain.config import LossConfig
from bgetrain.data import train_batch
from bgetrain.gather import Ranks, gather_rows
from bgetrain.objective import batch_gradient
from bgetrain.sharding import finish_gradients, shard, to_cpu
from tests.train.fake_loader import FakeRow, make_batch
from tests.train.tiny import tiny_encoder

RETRIEVAL, SECOND_SYMMETRIC = ("retrieval", "retrieval"), ("retrieval", "symmetric")
SECOND_ALONE = ("retrieval", "classification")


def _gather_keeping_own(rows: torch.Tensor, counts: list[int], ranks: Ranks) -> torch.Tensor:
    """The commonest home-made gather: no gradient but for the own slot."""
    gathered = gather_rows(rows.detach(), counts, ranks)
    start = sum(counts[: ranks.rank])
    return torch.cat([gathered[:start], rows, gathered[start + counts[ranks.rank] :]])


def _gather_without_gradient(rows: torch.Tensor, counts: list[int], ranks: Ranks) -> torch.Tensor:
    return gather_rows(rows.detach(), counts, ranks)


def _forget_the_dropout(states: list[torch.Tensor], device: torch.device) -> None:
    """A replay that does not go back to the random state of the first pass."""


REPLACED = {
    "right": {},
    "gather without gradient": {"bgetrain.objective.gather_rows_with_gradient": _gather_without_gradient},
    "gradient of the own slot only": {"bgetrain.objective.gather_rows_with_gradient": _gather_keeping_own},
    "replay with another dropout": {"bgetrain.grad_cache._restore": _forget_the_dropout},
}
"""What a control puts in place of the right thing, by name."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One step of training.

    Attributes:
        parts: batches of the step → ranks → rows.
        tasks: of each source.
        loss: which losses.
        chunk_tokens: as `Chunking` says.
        keep_tokens: as `Chunking` says.
        checkpointing: whether activations are computed again in the backward pass.
        dropout: share of activations set to 0.
        local_mean: a control: each rank takes the mean over its own rows.
        way: a control of `REPLACED`.
        fsdp: whether the encoder is divided over the ranks.
        bf16: whether the transformer runs under bfloat16 autocast.
        dtype: of weights and vectors.
    """

    parts: list[list[list[FakeRow]]]
    tasks: tuple[str, ...] = RETRIEVAL
    loss: dict[str, Any] = field(default_factory=dict)
    chunk_tokens: int = 40
    keep_tokens: int | None = None
    checkpointing: bool = False
    dropout: float = 0.0
    local_mean: bool = False
    way: str = "right"
    fsdp: bool = False
    bf16: bool = False
    dtype: torch.dtype = torch.float64


def gradient(scenario: Scenario, ranks: Ranks) -> torch.Tensor:
    """The averaged gradient of one step on this rank, flat."""
    encoder = tiny_encoder(dtype=scenario.dtype, dropout=scenario.dropout)
    if scenario.checkpointing:
        encoder.checkpoint_activations()
    if scenario.fsdp and ranks.world_size > 1:
        encoder.sharding = shard(encoder, encoder.backbone, layers=encoder.layers, ranks=ranks, bf16=scenario.bf16)
    config = LossConfig(**{"temperature": 0.1, "loss_directions": "query", **scenario.loss})
    step_rows = sum(len(rows) for batch in scenario.parts for rows in batch)
    torch.manual_seed(ranks.rank)
    with ExitStack() as stack:
        for name, replacement in REPLACED[scenario.way].items():
            stack.enter_context(mock.patch(name, replacement))
        for batch in scenario.parts:
            total = sum(len(rows) for rows in batch)
            own = batch[ranks.rank]
            local = make_batch(own, step=0, epoch=0, global_rows=total, state={})
            batch_gradient(
                encoder,
                train_batch(local, scenario.tasks),
                ranks,
                config,
                step_rows=max(1, len(own)) * ranks.world_size if scenario.local_mean else step_rows,
                chunking=Chunking(scenario.chunk_tokens, scenario.keep_tokens),
                bf16=scenario.bf16,
                last=batch is scenario.parts[-1],
            )
    parameters = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    finish_gradients(list(parameters.values()), ranks)
    gradients = to_cpu({name: parameter.grad for name, parameter in parameters.items()}, here=True)
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def run_rank(rank: int, world_size: int, folder: str, scenarios: dict[str, Scenario]) -> None:
    """Meets the other ranks and saves the gradient of every scenario."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    ranks = Ranks(rank=rank, world_size=world_size, local_rank=rank)
    found = {name: gradient(scenario, ranks) for name, scenario in scenarios.items()}
    torch.save(found, Path(folder) / f"rank-{rank}.pt")
    dist.destroy_process_group()
