"""Learning rate by size, its schedule, and which weights decay."""

from __future__ import annotations

import pytest
import torch

from bgetrain.config import OptimConfig
from bgetrain.errors import ConfigError
from bgetrain.optim import build_optimizer, learning_rate_at, learning_rate_for, parameter_groups
from tests.train.tiny import tiny_encoder


@pytest.mark.parametrize(
    ("weights", "rate"),
    [(335_000_000, 1e-5), (200_000_000, 1e-5), (199_999_999, 2e-5), (60_000_000, 2e-5), (59_999_999, 3e-5), (1, 3e-5)],
)
def test_learning_rate_by_size(weights: int, rate: float) -> None:
    assert learning_rate_for(weights) == rate


def test_random_weights_need_a_rate() -> None:
    with pytest.raises(ConfigError, match="--learning_rate"):
        learning_rate_for(1, random_init=True)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_schedule_rises_and_falls(kind: str) -> None:
    config = OptimConfig(lr_scheduler_type=kind, warmup_ratio=0.1)
    rates = [learning_rate_at(step, config, peak=1.0, total_steps=100) for step in range(100)]
    assert rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert min(rates) > 0
    assert rates[55] == pytest.approx(0.5)
    # beyond the planned end the last rate stays
    assert learning_rate_at(500, config, peak=1.0, total_steps=100) == rates[-1]


def test_constant_schedule_and_warmup_in_steps() -> None:
    config = OptimConfig(lr_scheduler_type="constant", warmup_steps=3)
    assert [learning_rate_at(step, config, peak=4.0, total_steps=9) for step in range(5)] == [1.0, 2.0, 3.0, 4.0, 4.0]


def _reference_wsd(total: int, warmup: int, decay: int, shape: str) -> list[float]:
    """Warm-up, stable, decay, phase by phase."""
    stable = max(0, total - warmup - decay)
    falling = total - warmup - stable
    fall = {"linear": lambda x: 1 - x, "1-sqrt": lambda x: 1 - x**0.5}[shape]
    return [
        *((place + 1) / (warmup + 1) for place in range(warmup)),
        *(1.0 for _ in range(stable)),
        *(fall(place / falling) for place in range(falling)),
    ]


@pytest.mark.parametrize("shape", ["linear", "1-sqrt"])
@pytest.mark.parametrize(("warmup", "decay"), [(10, 30), (0, 100), (60, 80), (10, 0)])
def test_warmup_stable_decay(shape: str, warmup: int, decay: int) -> None:
    config = OptimConfig(
        lr_scheduler_type="wsd", warmup_ratio=0, warmup_steps=warmup, decay_ratio=0, decay_steps=decay, decay_type=shape
    )
    rates = [learning_rate_at(step, config, peak=1.0, total_steps=100) for step in range(100)]
    assert rates == pytest.approx(_reference_wsd(100, warmup, decay, shape), abs=1e-12)
    assert min(rates) > 0
    assert learning_rate_at(500, config, peak=1.0, total_steps=100) == rates[-1]


def test_wsd_before_its_fall_does_not_know_the_end() -> None:
    def rates(kind: str, total: int) -> list[float]:
        config = OptimConfig(lr_scheduler_type=kind, warmup_steps=10, decay_ratio=0.2)
        return [learning_rate_at(step, config, peak=1.0, total_steps=total) for step in range(80)]

    assert rates("wsd", 100) == rates("wsd", 1000)
    assert rates("linear", 100) != rates("linear", 1000)
    assert len(set(rates("wsd", 100)[10:])) == 1


def test_warmup_as_a_share() -> None:
    """Below 1, warmup_steps is a share of the steps, as Hugging Face 5 has it."""
    by_ratio, by_steps = OptimConfig(warmup_ratio=0.25), OptimConfig(warmup_steps=0.25, warmup_ratio=0.9)
    for step in range(40):
        rates = [learning_rate_at(step, config, peak=1.0, total_steps=40) for config in (by_ratio, by_steps)]
        assert rates[0] == rates[1]
    assert learning_rate_at(10, by_steps, peak=1.0, total_steps=40) == 1.0
    assert learning_rate_at(1, OptimConfig(warmup_steps=1), peak=1.0, total_steps=40) == 1.0


def test_one_step_run_has_a_rate() -> None:
    assert learning_rate_at(0, OptimConfig(), peak=1.0, total_steps=1) > 0


def test_biases_and_norms_do_not_decay() -> None:
    encoder = tiny_encoder(dtype=torch.float32)
    decaying, fixed = parameter_groups(encoder, 0.1)
    assert (decaying["weight_decay"], fixed["weight_decay"]) == (0.1, 0.0)
    assert all("LayerNorm" not in name and not name.endswith("bias") for name in decaying["names"])
    assert all("LayerNorm" in name or name.endswith("bias") for name in fixed["names"])
    trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    assert sorted(decaying["names"] + fixed["names"]) == sorted(trained)
    assert any(name.startswith("backbone.pooler") for name, _ in encoder.named_parameters())
    assert not any("pooler" in name for name in trained)


def test_optimizer_is_adamw_as_configured() -> None:
    optimizer = build_optimizer(tiny_encoder(), OptimConfig(adam_beta1=0.5, adam_beta2=0.6, adam_epsilon=1e-3))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"]) == ((0.5, 0.6), 1e-3)
