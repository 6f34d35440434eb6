"""A running average of the weights, which is what a run with `ema_decay` evaluates, saves and exports.

After step n (from 1) the average moves towards the weights by 1 - min(ema_decay, n / (n + 9)): over the first steps
it is a plain average of few, so that a short run does not end near the weights it started from. Only what is
trained is averaged, in fp32, on the device, without ever waiting for it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from bgetrain.errors import CheckpointError
from bgetrain.sharding import local, own_piece, to_cpu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

__all__ = ["WeightAverage", "share_of_step"]

_UPDATES = "updates"


def share_of_step(updates: int, decay: float) -> float:
    """How far the average moves towards the weights.

    Args:
        updates: times it has moved before.
        decay: below 1; what of the average stays in the long run.
    """
    return 1.0 - min(decay, (updates + 1) / (updates + 10))


class WeightAverage:
    """The averaged copy beside the weights of a module; with decay 0 it holds nothing and every method does nothing.

    Attributes:
        decay: what of the average stays at a step, 0 for none.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Starts at the weights as they are, on the device where they are.

        Args:
            module: its parameters that require a gradient are averaged.
            decay: at least 0, below 1.
        """
        self.decay = decay
        self._updates = 0
        trained = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
        self._names = [name for name, _ in trained] if decay else []
        self._weights = [weight for _, weight in trained] if decay else []
        self._averages = [weight.detach().to(torch.float32, copy=True) for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Moves towards the weights; call it after each optimiser step."""
        if not self._weights:
            return
        now = [local(weight).detach().float() for weight in self._weights]
        averages = [local(average) for average in self._averages]
        torch._foreach_lerp_(averages, now, share_of_step(self._updates, self.decay))
        self._updates += 1

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Puts the average in the place of the weights inside the block; the weights come back at its end, bit by bit.

        Nothing is copied where the weights are fp32: the two change places. Inside, do not train.

        Args:
            module: the one that is averaged.
        """
        owned = {id(weight) for weight in module.parameters()}
        assert all(id(weight) in owned for weight in self._weights), "another module than the one averaged"
        trained = [weight.data for weight in self._weights]
        try:
            for weight, average in zip(self._weights, self._averages, strict=True):
                weight.data = average.to(weight.dtype)
            yield
        finally:
            for weight, values in zip(self._weights, trained, strict=True):
                weight.data = values

    def by_name(self) -> dict[str, Tensor]:
        """The average by the names of the weights, where and as it is; empty with decay 0."""
        return dict(zip(self._names, self._averages, strict=True))

    def tensors(self, *, here: bool = True) -> dict[str, Tensor]:
        """The average on the CPU by the names of the weights, and how often it has moved; empty with decay 0.

        Args:
            here: whether this rank has a use for them; where weights are divided over ranks, every rank must call it.
        """
        if not self._weights:
            return {}
        return {**to_cpu(self.by_name(), here=here), _UPDATES: torch.tensor(self._updates)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `tensors` gave; without tensors the average starts at the weights as they are now.

        Raises:
            CheckpointError: the tensors are not those of this module.
        """
        if not tensors:
            for average, weight in zip(self._averages, self._weights, strict=True):
                local(average).copy_(local(weight).detach())
            return
        if not self._weights:
            return
        wrong = sorted(set(tensors) ^ {*self._names, _UPDATES})
        if not wrong:
            pairs = zip(self._names, self._averages, strict=True)
            wrong = [name for name, average in pairs if average.shape != tensors[name].shape]
        if wrong:
            raise CheckpointError(f"the averaged weights do not fit the model: {wrong[0]}")
        for name, average in zip(self._names, self._averages, strict=True):
            local(average).copy_(local(own_piece(tensors[name], average)))
        self._updates = int(tensors[_UPDATES])
