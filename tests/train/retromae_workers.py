"""One step of pre-training; also as the ranks of a test run it. Spawned processes import this module by name."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
import torch.distributed as dist

from bgeprep import TextBatch, TextMasker
from bgetrain.config import PretrainConfig
from bgetrain.gather import Ranks
from bgetrain.retromae.data import PretrainBatch, pretrain_batch
from bgetrain.retromae.model import PretrainModel
from bgetrain.retromae.objective import Pretraining
from bgetrain.sharding import finish_gradients, shard, to_cpu
from tests.train.retromae_models import TEXTS

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_pretrain_batch(folder: Path, chosen: Sequence[int] | None = None, **options: Any) -> PretrainBatch:
    """Some of `TEXTS` as one rank's part of a global batch; `blocks` says how many that holds."""
    chosen = range(len(TEXTS)) if chosen is None else chosen
    blocks = options.pop("blocks", len(chosen))
    masked = TextMasker(folder, max_seq_length=24, **options).mask([TEXTS[text] for text in chosen], block_ids=chosen)
    arrays = {item.name: getattr(masked, item.name) for item in fields(masked)}
    texts = TextBatch(**arrays, step=0, epoch=0, global_blocks=blocks, state_json="{}")
    return pretrain_batch(texts, source_rows=(3, len(TEXTS) - 3))


def make_learner(
    folder: Path,
    ranks: Ranks | None = None,
    *,
    chunk_tokens: int = 60,
    dtype: torch.dtype = torch.float64,
    **config: Any,
) -> Pretraining:
    """A learner without dropout, the same for every caller."""
    torch.manual_seed(0)
    settings = PretrainConfig(**{"pretrain_method": "retromae", "max_seq_length": 24, **config})
    model, _ = PretrainModel.load(folder, settings)
    return Pretraining(model.to(dtype).eval(), ranks or Ranks(), settings, chunk_tokens)


def step_gradient(
    folder: Path, ranks: Ranks, *, texts: int = len(TEXTS), own_mean: bool = False, fsdp: bool = False, **config: Any
) -> torch.Tensor:
    """The averaged gradient of one step over the first `texts`, flat; `own_mean` is a control."""
    learner = make_learner(folder, ranks, **config)
    if fsdp:
        module, layers = learner.module, learner.encoder.layers
        learner.encoder.sharding = shard(
            module, module, layers=layers, ranks=ranks, bf16=False, passes=("chunk", "idle")
        )
    batch = make_pretrain_batch(folder, range(ranks.rank, texts, ranks.world_size), blocks=texts)
    size = ranks.world_size

    def alone(values: list[int], _: Ranks) -> list[list[int]]:
        return [[*values[:2], texts // size, texts]] * size

    with mock.patch("bgetrain.retromae.objective.exchange", alone) if own_mean else nullcontext():
        learner.gradient([batch])
    parameters = {name: weight for name, weight in learner.module.named_parameters() if weight.requires_grad}
    finish_gradients(list(parameters.values()), ranks)
    gradients = to_cpu({name: weight.grad for name, weight in parameters.items() if weight.grad is not None}, here=True)
    nothing = {
        name: torch.zeros(weight.shape, dtype=weight.dtype) for name, weight in learner.module.named_parameters()
    }
    return torch.cat([part.flatten() for part in {**nothing, **gradients}.values()])


def flat_gradient(module: torch.nn.Module) -> torch.Tensor:
    """Of all weights, 0 where none came."""
    parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in module.parameters()]
    return torch.cat([part.flatten() for part in parts])


def run_rank(rank: int, world_size: int, work: str, folder: str, options: dict[str, Any]) -> None:
    """Meets the other ranks and saves its gradient."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{work}/meet", rank=rank, world_size=world_size)
    ranks = Ranks(rank=rank, world_size=world_size, local_rank=rank)
    torch.save(step_gradient(Path(folder), ranks, **options), Path(work) / f"rank-{rank}.pt")
    dist.destroy_process_group()
