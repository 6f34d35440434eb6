"""Dropout on a CPU: its distribution, its gradient, its random state, and attention that differs in nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from bgetrain.dropout import Dropout, drop, switch_on
from bgetrain.gather import Ranks
from tests.train import workers
from tests.train.fake_loader import random_rows
from tests.train.tiny import VOCABULARY, tiny_encoder
from tests.train.workers import Scenario, gradient

RAGGED = random_rows(13, vocabulary=VOCABULARY, seed=3, negatives=2, sources=2)


def _quick(**words: Any) -> Any:
    encoder = tiny_encoder(**words)
    switch_on(encoder)
    return encoder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of `workers` are taken from encoders with this dropout."""
    monkeypatch.setattr(workers, "tiny_encoder", _quick)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_drops_as_often_as_it_says_and_keeps_the_mean(probability: float) -> None:
    torch.manual_seed(0)
    numbers = 1_000_003
    found = drop(torch.ones(numbers), probability)
    exact = round(65_536 * probability) / 65_536
    deviation = (exact * (1 - exact) / numbers) ** 0.5
    assert abs(float((found == 0).double().mean()) - exact) < 5 * deviation
    assert found.unique().tolist() == pytest.approx([0.0, 1 / (1 - exact)])
    # neighbours share a 64-bit word, and must know nothing of each other
    gone = (found[: numbers // 4 * 4] == 0).double().view(-1, 4)
    assert float((torch.corrcoef(gone.T) - torch.eye(4)).abs().max()) < 5 / (numbers / 4) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_gradient_goes_through_the_same_mask(dtype: torch.dtype) -> None:
    values = torch.full((3, 5, 7), 2.0, dtype=dtype, requires_grad=True)
    found = drop(values, 0.5)
    assert found.dtype == dtype
    found.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad * 2, found)


def test_the_seed_decides_and_the_edges_hold() -> None:
    values = torch.rand(1_001)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = drop(values, 0.3)
    assert not torch.equal(first, drop(values, 0.3))
    torch.set_rng_state(state)
    assert torch.equal(first, drop(values, 0.3))
    assert torch.equal(drop(values, 0.0), values)
    assert not drop(values, 1.0).any()
    assert torch.equal(Dropout(0.9).eval()(values), values)


def test_every_dropout_is_replaced_and_evaluation_is_what_it_was() -> None:
    encoder, same = (tiny_encoder(dropout=0.3).eval() for _ in range(2))
    switch_on(encoder)
    assert encoder.backbone.config._attn_implementation == "bgetrain_cpu"
    kinds = {type(module) for module in encoder.backbone.modules() if isinstance(module, nn.Dropout)}
    assert kinds == {Dropout}
    ids = torch.randint(5, VOCABULARY, (3, 9))
    mask = (torch.arange(9) < torch.tensor([[9], [4], [1]])).long()
    assert torch.allclose(encoder(ids, mask), same(ids, mask), rtol=0, atol=1e-14)


@pytest.mark.parametrize("lengths", [[9, 4, 1], [9, 9, 9]])
def test_attention_is_that_of_torch_where_next_to_nothing_is_dropped(lengths: list[int]) -> None:
    encoder, same = tiny_encoder(), tiny_encoder()
    switch_on(encoder)
    # less than half of 1/65,536, so nothing is dropped, on the way that drops
    for module in encoder.backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 1e-9
    ids = torch.randint(5, VOCABULARY, (3, 9))
    mask = (torch.arange(9) < torch.tensor(lengths)[:, None]).long()
    found, expected = encoder(ids, mask), same(ids, mask)
    assert torch.allclose(found, expected, rtol=0, atol=1e-13)
    for vectors in (found, expected):
        (vectors * torch.arange(16.0)).sum().backward()
    for one, other in zip(encoder.backbone.parameters(), same.backbone.parameters(), strict=True):
        if one.grad is not None:
            assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-10)
    # the control: with the mask left out the vectors are others
    everything = encoder(ids, torch.ones_like(mask))
    assert torch.allclose(found, everything, atol=1e-6) == (min(lengths) == 9)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_computing_twice_replays_it(checkpointing: bool) -> None:
    base = Scenario(parts=[[RAGGED]], dropout=0.1)
    kept = gradient(base, Ranks())
    for keep_tokens in (0, 60):
        twice = gradient(replace(base, keep_tokens=keep_tokens, checkpointing=checkpointing), Ranks())
        assert float((twice - kept).norm() / kept.norm()) <= (1e-10 if checkpointing else 0.0)
    other = gradient(replace(base, keep_tokens=0, way="replay with another dropout"), Ranks())
    assert float((other - kept).norm() / kept.norm()) > 1e-3


def test_the_mean_over_many_draws_is_the_layer_without_dropout() -> None:
    torch.manual_seed(0)
    values = torch.randn(64)
    mean = torch.stack([drop(values, 0.1) for _ in range(4_000)]).mean(dim=0)
    assert float((mean - values).abs().max()) < 6 * float(values.abs().max()) * (0.1 / 0.9 / 4_000) ** 0.5


def test_bfloat16_autocast_is_taken() -> None:
    encoder = tiny_encoder(dtype=torch.float32, dropout=0.1)
    switch_on(encoder)
    ids, mask = torch.randint(5, VOCABULARY, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    mask[1, 4:] = 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoder(ids, mask)
    found.sum().backward()
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
