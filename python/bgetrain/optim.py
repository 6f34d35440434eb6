"""The optimiser and its schedule: AdamW, warm-up and fall, learning rate by model size.

The learning rate of a step is a function of the step, so that nothing of the schedule needs saving.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bgetrain.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from bgetrain.config import OptimConfig

__all__ = ["build_optimizer", "learning_rate_at", "learning_rate_for", "parameter_groups", "set_learning_rate"]

_LARGE, _BASE = 200_000_000, 60_000_000


def learning_rate_for(num_parameters: int, *, random_init: bool = False, adapters: bool = False) -> float:
    """The learning rate where none is given: BGE's 1e-5, 2e-5, 3e-5 for large, base and small models.

    Args:
        num_parameters: weights of the encoder; large from 200 million, base from 60 million.
        random_init: whether the weights were drawn at random.
        adapters: whether only adapters are trained, which begin at zero and have further to go: 1e-4.

    Raises:
        ConfigError: for a randomly initialised model, whose rate depends on what it is to become.
    """
    if random_init:
        raise ConfigError(
            "--learning_rate is needed for a randomly initialised model: the defaults are for fine-tuning",
            hint="1e-4 to 1e-3 is usual for a small model",
        )
    if adapters:
        return 1e-4
    if num_parameters >= _LARGE:
        return 1e-5
    return 2e-5 if num_parameters >= _BASE else 3e-5


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Splits what is trained into weights that decay and those that do not (biases, LayerNorm: one dimension).

    Returns:
        Two groups in torch's form, each with the key `names` beside `params`.
    """
    groups: list[dict[str, object]] = []
    for decay, one_dimensional in ((weight_decay, False), (0.0, True)):
        chosen = [
            (name, parameter)
            for name, parameter in module.named_parameters()
            if parameter.requires_grad and (parameter.ndim < 2) == one_dimensional
        ]
        groups.append(
            {
                "params": [parameter for _, parameter in chosen],
                "names": [name for name, _ in chosen],
                "weight_decay": decay,
            }
        )
    return groups


def build_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the groups of `parameter_groups`; the learning rate is set step by step."""
    return torch.optim.AdamW(
        parameter_groups(module, config.weight_decay),
        lr=0.0,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
    )


def learning_rate_at(step: int, config: OptimConfig, *, peak: float, total_steps: int) -> float:
    """The learning rate of a step.

    Args:
        step: counted from 0.
        config: schedule and warm-up.
        peak: the rate at the end of the warm-up.
        total_steps: steps of the run; beyond it the rate is that of the last step.

    Returns:
        A rate above 0: neither the first step of the warm-up nor the last of the run is wasted on 0.
    """
    warmup = _steps(config.warmup_steps, config.warmup_ratio, total_steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if config.lr_scheduler_type == "constant":
        return peak
    start = warmup
    if config.lr_scheduler_type == "wsd":
        # nothing before the fall knows where the run ends: a run that is made longer goes on as if it always was
        start = max(warmup, total_steps - _steps(config.decay_steps, config.decay_ratio, total_steps))
        if step < start:
            return peak
    progress = (min(step, max(start, total_steps - 1)) - start) / max(1, total_steps - start)
    if config.lr_scheduler_type == "cosine":
        return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
    if config.lr_scheduler_type == "wsd" and config.decay_type == "1-sqrt":
        return peak * (1.0 - math.sqrt(progress))
    return peak * (1.0 - progress)


def _steps(given: float, ratio: float, total_steps: int) -> int:
    """Steps of a phase: a number of steps, or below 1 their share; 0 leaves it to the ratio."""
    return int(given) if given >= 1 else math.ceil((given or ratio) * total_steps)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives all groups one learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
