"""What training goes on from, where the model in the checkpoint is something else.

With `ema_decay` that model is the average of the weights, with `lora_rank` it has the adapters merged. In both cases
what is trained lies beside it, bit by bit:

```
trained.safetensors   ema_decay: the weights themselves
adapter.safetensors   lora_rank: the adapters, and a hash of the weights they stand beside
ema.safetensors       ema_decay: the average of either, fp32
```
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from bgetrain.errors import CheckpointError
from bgetrain.lora import base_digest, merged
from bgetrain.sharding import local, own_piece, to_cpu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from bgetrain.checkpoint import Checkpoint
    from bgetrain.ema import WeightAverage
    from bgetrain.learner import Learner

__all__ = ["as_exported", "load_trained", "trained_files"]

_TRAINED, _ADAPTER, _AVERAGE = "trained", "adapter", "ema"
_BASE = "base_sha256"


@contextmanager
def as_exported(
    learner: Learner[Any], average: WeightAverage, *, device: torch.device | None
) -> Iterator[Learner[Any] | None]:
    """Inside the block there is what is evaluated and written: the average, adapters merged.

    Args:
        learner: in training; where its weights are divided over ranks, every rank must call this.
        average: of its weights.
        device: where this rank wants it, if weights are divided; None on a rank that has no use for it, which gets
            None.
    """
    sharding = learner.encoder.sharding
    if sharding is not None:
        with sharding.whole(average.by_name(), device) as module:
            yield None if module is None else learner.holding(module)
        return
    if device is None:
        yield None
        return
    with ExitStack() as stack:
        stack.enter_context(average.applied(learner.module))
        stack.enter_context(merged(learner.encoder))
        yield learner


def trained_files(
    learner: Learner[Any], average: WeightAverage, *, adapters: bool, here: bool = True
) -> dict[str, dict[str, Tensor]]:
    """What a checkpoint needs beside its model: file name without suffix → tensors on the CPU.

    Args:
        learner: in training, not `as_exported`; where its weights are divided over ranks, every rank must call this.
        average: of its weights.
        adapters: whether adapters are trained.
        here: whether this rank has a use for them.
    """
    files = {_AVERAGE: average.tensors(here=here)}
    if adapters or average.decay:
        trained = {name: weight for name, weight in learner.module.named_parameters() if weight.requires_grad}
        files[_ADAPTER if adapters else _TRAINED] = to_cpu(trained, here=here)
    if adapters:
        files[_ADAPTER][_BASE] = base_digest(learner.encoder)
    return files


@torch.no_grad()
def load_trained(learner: Learner[Any], average: WeightAverage, checkpoint: Checkpoint, *, adapters: bool) -> None:
    """Puts back what `trained_files` gave; the learner holds the model of the checkpoint or the base of its adapters.

    Raises:
        CheckpointError: the files are not those of this model, or the base is not the one the adapters stand beside.
    """
    kind = _ADAPTER if adapters else _TRAINED
    tensors = checkpoint.more(kind)
    if not adapters and checkpoint.more(_ADAPTER):
        raise CheckpointError(
            f"{checkpoint.folder}: holds adapters, which --lora_rank 0 would not train",
            path=str(checkpoint.folder),
            hint="leave out --lora_rank, or start anew with --model_name_or_path and the checkpoint",
        )
    digest = tensors.pop(_BASE, None)
    if adapters and (digest is None or not torch.equal(digest, base_digest(learner.encoder))):
        found = "holds no adapters" if digest is None else "its adapters stand beside another model than the one read"
        raise CheckpointError(
            f"{checkpoint.folder}: {found}",
            path=str(checkpoint.folder),
            hint="--lora_rank and --model_name_or_path must be those the run began with, the model unchanged",
        )
    averages = checkpoint.more(_AVERAGE)
    if averages and not tensors:
        raise CheckpointError(
            f"{checkpoint.folder}: incomplete: {_AVERAGE}.safetensors without {kind}.safetensors",
            path=str(checkpoint.folder),
        )
    weights = {name: weight for name, weight in learner.module.named_parameters() if weight.requires_grad}
    if tensors:
        wrong = sorted(tensors.keys() ^ weights.keys()) or [
            name for name, weight in weights.items() if tensors[name].shape != weight.shape
        ]
        if wrong:
            raise CheckpointError(
                f"{checkpoint.folder}: {kind}.safetensors does not fit the model: {wrong[0]}",
                path=str(checkpoint.folder),
            )
        for name, weight in weights.items():
            local(weight).copy_(local(own_piece(tensors[name], weight)))
    average.load(averages)
