"""The average of models: held against a slow one, what may not be averaged, what is written."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bgetrain.__main__ import main
from bgetrain.encode import Encoder
from bgetrain.errors import ConfigError, LaunchError, ModelError
from bgetrain.export import save_pretrained
from bgetrain.merge import merge
from tests.train.tiny import WORDS, tiny_backbone, tiny_tokenizer

RECIPE = {"base_model": "example/base", "languages": ["en"], "datasets": ["one"], "steps": 7}


def _model(folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    settings = {"pooling": "cls", "normalize": True, "query_instruction": "find: ", "max_seq_length": 32, **changes}
    backbone = tiny_backbone(seed=seed, positions=settings.pop("positions", 32)).to(dtype)
    encoder = Encoder(backbone, tiny_tokenizer(), position_limit=32, **settings)
    return save_pretrained(encoder, folder, recipe={**RECIPE, "languages": ["en", "zh"] if seed else ["en"]})


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("models")
    return [_model(root / name, seed=seed) for seed, name in enumerate("abc")]


def test_equals_a_slow_average(models: list[Path], tmp_path: Path) -> None:
    made = merge(models, tmp_path / "out", weights=[5, 3, 2])
    assert [share for _, share in made.shares] == pytest.approx([0.5, 0.3, 0.2])
    parts = [_weights(model) for model in models]
    result = _weights(tmp_path / "out")
    assert result.keys() == parts[0].keys()
    assert made.tensors == len(result)
    assert made.parameters == sum(value.numel() for value in result.values())
    for key, value in result.items():
        slow = sum(share * part[key].double() for share, part in zip((0.5, 0.3, 0.2), parts, strict=True))
        torch.testing.assert_close(value.double(), slow, rtol=1e-6, atol=1e-7)
    # the control: other weights are another model
    key = "encoder.layer.0.attention.self.query.weight"
    assert (result[key] - sum(part[key] for part in parts) / 3).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_model_with_itself_is_itself(tmp_path: Path, dtype: torch.dtype) -> None:
    model = _model(tmp_path / "model", seed=4, dtype=dtype)
    # a number so small that halving it would lose a bit
    weights = _weights(model)
    weights["embeddings.word_embeddings.weight"][3, 5] = 3 * 2.0**-149 if dtype == torch.float32 else 2.0**-133
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    for place, shares in enumerate(([0.5, 0.5], [0.3, 0.7], [0.1, 0.1, 0.1])):
        merge([model] * len(shares), tmp_path / f"{place}", weights=shares)
        result = _weights(tmp_path / f"{place}")
        assert all(result[key].dtype == dtype for key in result)
        assert all(torch.equal(result[key], weights[key]) for key in weights)


def test_models_without_the_unused_head(models: list[Path], tmp_path: Path) -> None:
    """What transformers fills in at random must not make two readings of one model differ."""
    for name in "ab":
        folder = _model(tmp_path / name)
        weights = {key: value for key, value in _weights(folder).items() if not key.startswith("pooler.")}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    torch.manual_seed(9)
    before = torch.get_rng_state()
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "one")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "two")
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()


def test_two_models_in_memory_at_a_time(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0
    load = Encoder.load

    def counted(name: str) -> Any:
        nonlocal most
        gc.collect()
        most = max(most, len(alive) + 1)
        encoder = load(name)
        alive.add(encoder.backbone)
        return encoder

    monkeypatch.setattr(Encoder, "load", counted)
    merge([*models, *models], tmp_path / "out")
    assert most == 2


def test_opens_in_sentence_transformers(models: list[Path], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["w1 w2 w3", "w4", "w9 w8 w7"]
    merge(models[:2], tmp_path / "out", weights=[0.25, 0.75])
    ours = Encoder.load(tmp_path / "out").encode(texts)
    theirs = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert (ours * theirs.encode(texts)).sum(axis=1).min() >= 1 - 1e-6
    assert theirs.prompts == {"query": "find: ", "document": ""}
    for model in models[:2]:
        assert np.abs(Encoder.load(model).encode(texts) - ours).max() > 1e-2
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| merged.1.share | 0.25 |" in card
    assert "| merged.2.steps | 7 |" in card
    assert "base_model: example/base" in card
    assert "- zh" in card
    assert "| languages |" in card
    assert str(models[0].parent.parent) not in card


def _changed(folder: Path, file: str, **values: Any) -> Path:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


def test_what_differs_is_named(models: list[Path], tmp_path: Path) -> None:
    first = models[0]

    def refused(other: Path, message: str) -> ModelError:
        with pytest.raises(ModelError, match=message) as caught:
            merge([first, other], tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return caught.value

    refused(_model(tmp_path / "pooling", pooling="mean"), r'the pooling is "mean", of .* "cls"')
    refused(_model(tmp_path / "norm", normalize=False), r"the normalisation is false, of .* true")
    refused(_model(tmp_path / "positions", positions=40), r"`max_position_embeddings` is 40, of .* 32")
    refused(_changed(_model(tmp_path / "act"), "config.json", hidden_act="relu"), r'`hidden_act` is "relu", of')
    error = refused(_model(tmp_path / "prompt", query_instruction=""), r'the query instruction is "", of .* "find: "')
    assert "--query_instruction_for_retrieval" in error.hint
    broken = _model(tmp_path / "nan")
    weights = _weights(broken)
    weights["encoder.layer.1.output.dense.bias"][2] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    refused(broken, r"tensor encoder\.layer\.1\.output\.dense\.bias holds what is not a number")
    words = _model(tmp_path / "words")
    tokenizer = json.loads((words / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {WORDS[9]: 10, WORDS[10]: 9}
    (words / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused(words, r"the vocabulary differs in 2 tokens: 'w4' is 10, of .* 9")


def test_tensors_are_held_against_each_other(models: list[Path], tmp_path: Path) -> None:
    from bgetrain.merge import _check_tensors

    ours = {"a": torch.ones(2), "ids": torch.arange(3)}
    _check_tensors("one", ours, "two", {key: value.clone() for key, value in ours.items()})
    for theirs, message in (
        ({"a": torch.ones(2)}, "tensor ids is in one and not in two"),
        ({**ours, "b": torch.ones(1)}, "tensor b is in two and not in one"),
        ({**ours, "a": torch.ones(3)}, r"tensor a has the shape \[3\], in one \[2\]"),
        ({**ours, "ids": torch.arange(1, 4)}, "tensor ids holds whole numbers"),
    ):
        with pytest.raises(ModelError, match=message):
            _check_tensors("one", ours, "two", theirs)


def test_instruction_of_the_average(models: list[Path], tmp_path: Path) -> None:
    """BGE's last step: a model trained with the instruction and one without."""
    without = _model(tmp_path / "without", query_instruction="", max_seq_length=16)
    merge([models[0], without], tmp_path / "out", query_instruction="find: ")
    result = Encoder.load(tmp_path / "out")
    assert result.query_instruction == "find: "
    assert result.max_seq_length == 16


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]], ids=str)
def test_weights_that_cannot_be(models: list[Path], tmp_path: Path, weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="--weights"):
        merge(models[:2], tmp_path / "out", weights=weights)


def test_command(models: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["merge", *map(str, models[:2]), "--weights", "1", "3", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [entry["share"] for entry in facts["models"]] == [0.25, 0.75]
    assert facts["out"] == str(out)
    assert main(words) == 1
    assert "error: " in (error := capsys.readouterr().err)
    assert "hint: --overwrite" in error
    with pytest.raises(LaunchError, match="is not empty"):
        merge(models, out)
    assert main([*words, "--overwrite"]) == 0
    assert "25.00%" in capsys.readouterr().out
    assert main(["merge", str(models[0]), "--out", str(tmp_path / "alone")]) == 2
    assert "at least two" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["merge", "--help"])
    assert "LM-Cocktail" in capsys.readouterr().out
