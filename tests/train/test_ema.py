"""The running average of the weights: held against a slow one, put in and out, saved and gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bgetrain.ema import WeightAverage, share_of_step
from bgetrain.encode import Encoder
from bgetrain.errors import CheckpointError
from bgetrain.main import main
from tests.train.tiny import tiny_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _trained(encoder: Any) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in encoder.named_parameters() if weight.requires_grad}


def _walk(encoder: Any, generator: torch.Generator) -> None:
    """A step of training, as far as an average can tell."""
    with torch.no_grad():
        for weight in _trained(encoder).values():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)


def test_equals_a_slow_average() -> None:
    encoder = tiny_encoder(dtype=torch.float32)
    average = WeightAverage(encoder, 0.9)
    slow = {name: weight.detach().double() for name, weight in _trained(encoder).items()}
    generator = torch.Generator().manual_seed(3)
    for step in range(1, 201):
        _walk(encoder, generator)
        average.update()
        decay = min(0.9, step / (step + 9))
        for name, weight in _trained(encoder).items():
            slow[name] = decay * slow[name] + (1 - decay) * weight.detach().double()
    ours = average.tensors()
    assert int(ours.pop("updates")) == 200
    assert ours.keys() == slow.keys()
    assert not any("pooler" in name for name in ours)
    for name, values in slow.items():
        assert ours[name].dtype == torch.float32
        torch.testing.assert_close(ours[name].double(), values, rtol=0, atol=2e-6)
        # the control: the weights themselves are far away
        assert (ours[name] - _trained(encoder)[name]).abs().max() > 1e-2


def test_share_falls_to_the_decay() -> None:
    shares = [share_of_step(updates, 0.99) for updates in range(2000)]
    assert shares[0] == pytest.approx(0.9)
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(0.01)


def test_applied_and_taken_back() -> None:
    encoder = tiny_encoder(dtype=torch.float32)
    average = WeightAverage(encoder, 0.5)
    for _ in range(3):
        _walk(encoder, torch.Generator().manual_seed(1))
        average.update()
    before = {name: weight.detach().clone() for name, weight in _trained(encoder).items()}
    kept = average.tensors()

    def look() -> None:
        with average.applied(encoder):
            for name, weight in _trained(encoder).items():
                assert torch.equal(weight, kept[name])
                assert not torch.equal(weight, before[name])
            raise ValueError("an evaluation that fails")

    with pytest.raises(ValueError, match="fails"):
        look()
    assert all(torch.equal(weight, before[name]) for name, weight in _trained(encoder).items())
    assert all(torch.equal(values, kept[name]) for name, values in average.tensors().items())


def test_without_decay_it_holds_nothing() -> None:
    encoder = tiny_encoder(dtype=torch.float32)
    average = WeightAverage(encoder, 0.0)
    before = encoder.backbone.embeddings.word_embeddings.weight
    average.update()
    with average.applied(encoder):
        assert encoder.backbone.embeddings.word_embeddings.weight is before
    assert average.tensors() == {}


def test_tensors_of_another_model() -> None:
    average = WeightAverage(tiny_encoder(dtype=torch.float32), 0.5)
    tensors = average.tensors()
    name = sorted(tensors)[0]
    with pytest.raises(CheckpointError, match=name):
        average.load({key: value for key, value in tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=name):
        average.load({**tensors, name: torch.zeros(1, 2, 3)})


def _flags(model: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--model_name_or_path", str(model), "--output_dir", str(output), "--use_cpu", "--report_to", "none"),
        *("--per_device_train_batch_size", "6", "--query_max_len", "16", "--passage_max_len", "32"),
        *("--learning_rate", "1e-2", "--max_steps", "8", "--logging_steps", "1", "--save_steps", "4", *more),
    ]


def test_run_with_an_average(
    tiny_bert: Path, tmp_path: Path, fake_data: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    """Training is the same as without, the model is the average, and a resumed run ends in the same bits."""
    fake_data()
    plain, whole, again = tmp_path / "plain", tmp_path / "whole", tmp_path / "again"
    assert main(_flags(tiny_bert, plain)) == 0
    assert main(_flags(tiny_bert, whole, "--ema_decay", "0.8")) == 0
    weights = load_file(plain / "model.safetensors")
    average = load_file(whole / "model.safetensors")
    trained = load_file(whole / "checkpoint-8" / "trained.safetensors")
    ema = load_file(whole / "checkpoint-8" / "ema.safetensors")
    assert not (plain / "checkpoint-8" / "ema.safetensors").exists()
    for name, values in trained.items():
        plain_name = name.removeprefix("backbone.")
        assert torch.equal(values, weights[plain_name])
        assert torch.equal(ema[name], average[plain_name])
        assert not torch.equal(values, ema[name])
    # the checkpoint is the model that was evaluated: the average
    assert (whole / "checkpoint-8" / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    Encoder.load(whole / "checkpoint-4")

    (whole / "checkpoint-4").rename(tmp_path / "checkpoint-4")
    resume = ["--resume_from_checkpoint", str(tmp_path / "checkpoint-4"), "--output_dir", str(again)]
    assert main(resume) == 0
    for name in ("model", "checkpoint-8/ema", "checkpoint-8/trained", "checkpoint-8/optimizer"):
        ours, theirs = (load_file(run / f"{name}.safetensors") for run in (again, whole))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name

    # the control: going on from the average instead of the weights is another run
    stored = load_file(tmp_path / "checkpoint-4" / "ema.safetensors")
    stored.pop("updates")
    save_file(stored, tmp_path / "checkpoint-4" / "trained.safetensors")
    other = tmp_path / "other"
    assert main([*resume[:3], str(other)]) == 0
    assert not torch.equal(
        load_file(other / "model.safetensors")["embeddings.word_embeddings.weight"],
        average["embeddings.word_embeddings.weight"],
    )

    (tmp_path / "checkpoint-4" / "trained.safetensors").unlink()
    assert main([*resume[:3], str(tmp_path / "none")]) == 1
    assert "incomplete: ema.safetensors without trained.safetensors" in capsys.readouterr().err
