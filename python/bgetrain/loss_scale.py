"""A factor that keeps gradients inside the range of fp16 (Micikevicius et al. 2018, arXiv 1710.03740).

fp16 holds nothing below 6e-8, so what flows back through the transformer is multiplied beforehand and divided
afterwards. A step whose gradient overflows is left out and halves the factor; 2,000 good steps in a row double it.
The factor enters after the loss, which is fp32 itself, and leaves after the mean over ranks, so every rank sees the
same gradient and decides alike; where each sees a piece of it, they ask each other. torch's GradScaler does the same
around `loss.backward()` and `optimizer.step()`; here the backward pass is made of many and the mean is our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bgetrain.errors import CheckpointError
from bgetrain.gather import exchange
from bgetrain.sharding import local

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from bgetrain.gather import Ranks

__all__ = ["LossScale"]

_START, _EVERY = 2.0**16, 2_000
_LARGEST = 2.0**24


class LossScale:
    """The factor of a run; switched off it is 1, and every step is taken.

    Attributes:
        on: whether there is one.
        factor: what gradients are multiplied by, a power of two, so that it changes no digit.
        skipped: steps left out so far.
    """

    def __init__(self, *, on: bool) -> None:
        """Starts at 65,536."""
        self.on = on
        self.factor = _START if on else 1.0
        self.skipped = 0
        self._good = 0

    @torch.no_grad()
    def remove(self, parameters: Iterable[nn.Parameter], ranks: Ranks | None = None) -> bool:
        """Divides the gradients by the factor and finds the next one; waits for the device.

        Args:
            parameters: with the mean gradient over ranks.
            ranks: the place of this process where each rank has a piece of the gradient only, and all must call it.

        Returns:
            Whether the step is to be taken; where it is not, the gradients are not numbers.
        """
        if not self.on:
            return True
        gradients = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
        torch._foreach_mul_(gradients, 1.0 / self.factor)
        finite = bool(torch.stack([gradient.isfinite().all() for gradient in gradients]).all())
        if ranks is not None:
            finite = all(flag for (flag,) in exchange([int(finite)], ranks))
        if finite:
            self._good += 1
            if self._good % _EVERY == 0:
                self.factor = min(_LARGEST, 2 * self.factor)
        else:
            self.skipped, self._good = self.skipped + 1, 0
            self.factor /= 2
        return finite

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it; nothing where it is off."""
        if not self.on:
            return {}
        return {"loss_scale": torch.tensor([self.factor, self._good, self.skipped], dtype=torch.float64)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `tensors` gave; a run that goes on from one without fp16 starts anew.

        Raises:
            CheckpointError: it is something else.
        """
        if not self.on or not tensors:
            return
        found = tensors.get("loss_scale")
        if found is None or found.shape != (3,) or not 0 < float(found[0]) <= _LARGEST:
            raise CheckpointError("loss_scale.safetensors: expected factor, good steps and skipped steps")
        factor, good, skipped = found.tolist()
        self.factor, self._good, self.skipped = factor, int(good), int(skipped)
