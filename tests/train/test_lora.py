"""Adapters: what learns, what is written, and that training goes on from the same bits."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bgetrain import lora
from bgetrain.config import ModelConfig
from bgetrain.encode import Encoder
from bgetrain.errors import ConfigError, LaunchError
from bgetrain.extras import need
from bgetrain.main import main
from tests.train.tiny import tiny_encoder, write_tiny_bert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = ["w1 w2 w3", "w4", "w9 w8 w7 w6 w5 w4 w3 w2 w1"]


def _adapted(**settings: Any) -> Any:
    encoder = tiny_encoder(dtype=torch.float32)
    lora.attach(encoder, ModelConfig(lora_rank=2, **settings))
    return encoder


def _train_adapters(encoder: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.requires_grad:
                weight += 0.3 * torch.randn(weight.shape, generator=generator)


def test_only_adapters_learn_and_begin_at_zero() -> None:
    pytest.importorskip("peft")
    plain, encoder = tiny_encoder(dtype=torch.float32), _adapted()
    assert np.array_equal(plain.encode(TEXTS), encoder.encode(TEXTS))
    trained = [name for name, weight in encoder.named_parameters() if weight.requires_grad]
    # 2 layers of 6 linear layers, 2 matrices each; the pooler that no vector comes from has none
    assert len(trained) == 24
    assert all(".lora_" in name for name in trained)
    assert encoder.training
    assert all(module.training for module in encoder.backbone.modules())


def test_chosen_layers() -> None:
    pytest.importorskip("peft")
    encoder = _adapted(lora_target_modules="query, attention.output.dense")
    trained = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert len(trained) == 8
    assert all(".query." in name or ".attention.output.dense." in name for name in trained)
    with pytest.raises(ConfigError, match="--lora_target_modules q_proj") as caught:
        _adapted(lora_target_modules="query q_proj")
    assert "key" in caught.value.hint


def test_merged_is_what_peft_merges_and_is_taken_back() -> None:
    peft = pytest.importorskip("peft")
    encoder = _adapted(lora_alpha=3.0)
    before = encoder.encode(TEXTS)
    _train_adapters(encoder)
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    ours = encoder.encode(TEXTS)
    assert np.abs(ours - before).max() > 1e-3

    reference = copy.deepcopy(encoder.backbone)
    for module in reference.modules():
        if isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer):
            module.merge()
    wanted = {
        name.replace(".base_layer.", "."): value
        for name, value in reference.state_dict().items()
        if ".lora_" not in name
    }
    plain_names = tiny_encoder(dtype=torch.float32).backbone.state_dict().keys()

    with lora.merged(encoder):
        merged = encoder.backbone.state_dict()
        assert merged.keys() == plain_names == wanted.keys()
        assert all(torch.equal(merged[name], wanted[name]) for name in wanted)
        np.testing.assert_allclose(encoder.encode(TEXTS), ours, atol=1e-6)
    after = encoder.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[name], state[name]) for name in state)
    assert np.array_equal(encoder.encode(TEXTS), ours)


def test_package_that_is_not_there() -> None:
    with pytest.raises(LaunchError, match="--some_flag needs the package no_such_package") as caught:
        need("no_such_package", wanted_by="--some_flag", extra="some")
    assert caught.value.hint == "pip install 'bgeprep[some]'"


def test_run_without_peft(
    tiny_bert: Path,
    tmp_path: Path,
    fake_data: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import sys

    fake_data()
    monkeypatch.delitem(sys.modules, "peft", raising=False)
    monkeypatch.setattr("bgetrain.extras.importlib.util.find_spec", lambda name: None)
    assert main(_flags(tiny_bert, tmp_path / "run")) == 1
    assert "error: --lora_rank needs the package peft" in (error := capsys.readouterr().err)
    assert "hint: pip install 'bgeprep[lora]'" in error
    assert not (tmp_path / "run").exists()


def _flags(model: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--model_name_or_path", str(model), "--output_dir", str(output), "--use_cpu", "--report_to", "none"),
        *("--per_device_train_batch_size", "6", "--query_max_len", "16", "--passage_max_len", "32"),
        *("--learning_rate", "3e-2", "--max_steps", "8", "--logging_steps", "1", "--save_steps", "4"),
        *("--lora_rank", "3", *more),
    ]


@pytest.mark.parametrize("more", [(), ("--ema_decay", "0.8", "--gradient_checkpointing")], ids=["plain", "average"])
def test_run_and_resume(
    more: tuple[str, ...],
    tmp_path: Path,
    fake_data: Callable[..., object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("peft")
    from sentence_transformers import SentenceTransformer

    model = write_tiny_bert(tmp_path / "model", dropout=0.1)
    fake_data()
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert main(_flags(model, whole, *more)) == 0
    assert "in adapters, which alone learn" in capsys.readouterr().err
    base, result = load_file(model / "model.safetensors"), load_file(whole / "model.safetensors")
    assert base.keys() == result.keys()
    # what has no adapter is as it was; what has one is not
    same = {name for name in base if torch.equal(base[name], result[name])}
    assert {name for name in base if name.endswith("bias") or "embeddings" in name or "LayerNorm" in name} <= same
    assert "encoder.layer.0.attention.self.query.weight" not in same
    moments = load_file(whole / "checkpoint-8" / "optimizer.safetensors")
    assert all(".lora_" in name for name in moments)
    adapter = load_file(whole / "checkpoint-8" / "adapter.safetensors")
    assert {name for name in adapter if ".lora_" not in name} == {"base_sha256"}

    theirs = SentenceTransformer(str(whole / "checkpoint-4"), device="cpu").encode(TEXTS)
    assert (Encoder.load(whole / "checkpoint-4").encode(TEXTS) * theirs).sum(axis=1).min() >= 1 - 1e-6

    (whole / "checkpoint-4").rename(tmp_path / "checkpoint-4")
    resume = ["--resume_from_checkpoint", str(tmp_path / "checkpoint-4"), "--output_dir"]
    assert main([*resume, str(again)]) == 0
    for name in ("model", "checkpoint-8/adapter", "checkpoint-8/optimizer", "checkpoint-8/rng"):
        ours, wanted = (load_file(run / f"{name}.safetensors") for run in (again, whole))
        assert ours.keys() == wanted.keys()
        assert all(torch.equal(ours[key], wanted[key]) for key in ours), name

    # the control: adapters beside a base of which one number is another
    weights = load_file(model / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][7, 3] += 1e-3
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    capsys.readouterr()
    assert main([*resume, str(tmp_path / "other")]) == 1
    assert "its adapters stand beside another model" in capsys.readouterr().err
    assert main([*resume, str(tmp_path / "none"), "--lora_rank", "0"]) == 1
    assert "holds adapters, which --lora_rank 0 would not train" in capsys.readouterr().err
