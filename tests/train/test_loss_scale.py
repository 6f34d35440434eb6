"""The factor of fp16: it changes no digit, keeps what fp16 would lose, and gives way where fp16 overflows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bgetrain.activation_memory import Chunking
from bgetrain.config import LossConfig, RunConfig
from bgetrain.data import train_batch
from bgetrain.errors import CheckpointError, ConfigError
from bgetrain.gather import Ranks
from bgetrain.loss_scale import LossScale
from bgetrain.objective import batch_gradient
from tests.train.fake_loader import make_batch, random_rows
from tests.train.tiny import VOCABULARY, tiny_encoder

ROWS = random_rows(13, vocabulary=VOCABULARY, seed=3, negatives=2, sources=2)


def _gradient(factor: float, *, keep_tokens: int | None = None, fp16: bool = False) -> torch.Tensor:
    encoder = tiny_encoder(dtype=torch.float32)
    batch = train_batch(make_batch(ROWS, step=0, epoch=0, global_rows=13, state={}), ("retrieval", "retrieval"))
    batch_gradient(
        encoder,
        batch,
        Ranks(),
        LossConfig(temperature=0.1),
        step_rows=13,
        chunking=Chunking(40, keep_tokens),
        fp16=fp16,
        loss_scale=factor,
    )
    return torch.cat([weight.grad.flatten() for weight in encoder.parameters() if weight.grad is not None])


@pytest.mark.parametrize("keep_tokens", [None, 0])
def test_the_factor_changes_no_digit(keep_tokens: int | None) -> None:
    plain = _gradient(1.0)
    assert plain.norm() > 1e-3
    assert torch.equal(_gradient(4_096.0, keep_tokens=keep_tokens) / 4_096, plain)


def test_fp16_is_near_fp32_with_the_factor_and_not_without() -> None:
    exact = _gradient(1.0)
    found = _gradient(1_024.0, fp16=True) / 1_024
    assert 0 < float((found - exact).norm() / exact.norm()) < 0.02
    # a factor that sinks below what fp16 holds loses the gradient
    lost = _gradient(1e-7, fp16=True) * 1e7
    assert float((lost - exact).norm() / exact.norm()) > 0.5


def _weight(gradient: float) -> nn.Parameter:
    weight = nn.Parameter(torch.zeros(3))
    weight.grad = torch.full((3,), gradient)
    return weight


def test_an_overflow_is_skipped_and_halves_it_and_good_steps_double_it() -> None:
    scale = LossScale(on=True)
    weight = _weight(65_536.0)
    assert scale.remove([weight])
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0] * 3
    for bad in (float("inf"), float("nan")):
        assert not scale.remove([_weight(1.0), _weight(bad)])
    assert (scale.factor, scale.skipped) == (16_384.0, 2)
    for _ in range(2_000):
        assert scale.remove([_weight(1.0)])
    assert scale.factor == 32_768.0
    again = LossScale(on=True)
    again.load(scale.tensors())
    assert vars(again) == vars(scale)
    with pytest.raises(CheckpointError):
        again.load({"loss_scale": torch.zeros(2)})


def test_switched_off_it_does_nothing() -> None:
    scale = LossScale(on=False)
    assert scale.remove([_weight(float("inf"))])
    assert (scale.factor, scale.tensors()) == (1.0, {})


def test_one_precision_at_a_time() -> None:
    with pytest.raises(ConfigError, match="--fp16 and --bf16"):
        RunConfig(fp16=True, bf16=True)
