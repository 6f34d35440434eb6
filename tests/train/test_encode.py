"""The encoder: pooling, chunks, folders, and what is no model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from bgetrain.encode import Encoder, pool
from bgetrain.errors import ModelError
from bgetrain.padding import TokenRows, length_sorted_chunks
from tests.train.tiny import tiny_encoder, write_tiny_bert

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["w1", "w2 w3 w4 w5 w6 w7", "w8 w9", "w1 w2 w3", "w30 w31 w32 w33 w34 w35 w36 w37 w38 w39"]


def test_pooling() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(hidden, mask, "cls").tolist() == [[1.0, 2.0]]
    assert pool(hidden, mask, "mean").tolist() == [[2.0, 4.0]]
    assert pool(hidden.bfloat16(), mask, "mean").dtype == torch.float32
    assert pool(hidden.double(), mask, "cls").dtype == torch.float64


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_chunks_equal_one_text_at_a_time(pooling: str) -> None:
    encoder = tiny_encoder(pooling=pooling).eval()
    rows = TokenRows.from_lists([encoder.tokenizer(text)["input_ids"] for text in TEXTS])
    with torch.no_grad():
        together, computed = encoder.embed(rows, batch_tokens=20)
        one = [
            encoder.embed(TokenRows.from_lists([encoder.tokenizer(t)["input_ids"]]), batch_tokens=9)[0] for t in TEXTS
        ]
    assert torch.allclose(together, torch.cat(one), atol=1e-12)
    assert together.norm(dim=1).tolist() == pytest.approx([1.0] * len(TEXTS))
    assert len(rows.ids) <= computed <= 2 * len(rows.ids)


@pytest.mark.parametrize("budget", [1, 7, 64, 10_000])
def test_chunks_hold_every_row_once_and_keep_the_budget(budget: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 200)
    chunks = length_sorted_chunks(lengths, budget)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(200))
    assert all(len(chunk) == 1 or len(chunk) * lengths[chunk].max() <= budget for chunk in chunks)
    longest = [int(lengths[chunk].max()) for chunk in chunks]
    assert longest == sorted(longest, reverse=True)


def test_short_and_long_texts_do_not_share_a_rectangle() -> None:
    lengths = np.array([10] * 64 + [200] * 64)
    chunks = length_sorted_chunks(lengths, 16_384)
    assert sum(len(chunk) * int(lengths[chunk].max()) for chunk in chunks) == lengths.sum()


def test_encode_cuts_prefixes_and_keeps_the_order(tiny_bert: Path) -> None:
    encoder = Encoder.load(tiny_bert)
    vectors = encoder.encode(TEXTS, batch_tokens=16)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors[::-1], encoder.encode(TEXTS[::-1]), atol=1e-5)
    assert np.allclose(encoder.encode(["w1 w2"], instruction="w3 "), encoder.encode(["w3 w1 w2"]), atol=1e-6)
    assert np.allclose(encoder.encode(["w1 " * 90], max_length=8), encoder.encode(["w1 " * 6]), atol=1e-6)
    assert encoder.encode([]).shape == (0, 16)
    assert not encoder.training


def test_plain_folder_and_what_overrides_it(tiny_bert: Path) -> None:
    encoder = Encoder.load(tiny_bert)
    assert (encoder.pooling, encoder.normalize, encoder.query_instruction, encoder.max_seq_length) == (
        "cls",
        True,
        "",
        32,
    )
    other = Encoder.load(tiny_bert, pooling="mean", normalize=False, query_instruction="q: ")
    assert (other.pooling, other.normalize, other.query_instruction) == ("mean", False, "q: ")


def test_sentence_transformers_folder(tmp_path: Path) -> None:
    from bgetrain.export import save_pretrained

    source = tiny_encoder(dtype=torch.float32, pooling="mean")
    source.query_instruction = "find: "
    source.normalize = False
    source.max_seq_length = 20
    save_pretrained(source, tmp_path / "out", recipe={})
    encoder = Encoder.load(tmp_path / "out")
    assert (encoder.pooling, encoder.normalize, encoder.query_instruction) == ("mean", False, "find: ")
    assert encoder.max_seq_length == 20
    assert np.array_equal(encoder.encode(TEXTS), source.encode(TEXTS))


@pytest.mark.parametrize(
    ("similarity", "normalize"), [("cosine", True), (None, True), ("absent", True), ("dot", False)]
)
def test_a_folder_compares_as_sentence_transformers_would(
    tmp_path: Path, similarity: str | None, normalize: bool
) -> None:
    """Many published folders have no Normalize and are compared by cosine, which is also what silence means."""
    from sentence_transformers import SentenceTransformer

    from bgetrain.export import save_pretrained

    source = tiny_encoder(dtype=torch.float32, pooling="mean")
    source.normalize = False
    save_pretrained(source, tmp_path, recipe={})
    file = tmp_path / "config_sentence_transformers.json"
    settings = json.loads(file.read_text())
    settings["similarity_fn_name"] = similarity
    if similarity == "absent":
        del settings["similarity_fn_name"]
    file.write_text(json.dumps(settings))
    encoder, peer = Encoder.load(tmp_path), SentenceTransformer(str(tmp_path), device="cpu")
    assert encoder.normalize is normalize
    ours, theirs = encoder.encode(TEXTS), peer.encode(TEXTS)
    np.testing.assert_allclose(ours @ ours.T, peer.similarity(theirs, theirs).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours, peer.encode(TEXTS, normalize_embeddings=normalize), atol=1e-5)
    lengths = np.linalg.norm(theirs, axis=1)
    assert np.ptp(lengths) > 0.01  # else a cosine and a product would be the same


def test_random_weights(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "config-only", weights=False)
    with pytest.raises(ModelError, match="no weights"):
        Encoder.load(folder)
    torch.manual_seed(5)
    first = Encoder.load(folder, random_init=True)
    torch.manual_seed(5)
    second = Encoder.load(folder, random_init=True)
    assert first.random_init
    assert np.array_equal(first.encode(TEXTS), second.encode(TEXTS))


def test_what_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        Encoder.load(tmp_path / "empty")
    with pytest.raises(ModelError, match="no such folder"):
        Encoder.load(tmp_path / "absent")
    file = tmp_path / "file"
    file.write_text("{}")
    with pytest.raises(ModelError, match="this is a file"):
        Encoder.load(file)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"a": 1}')
    with pytest.raises(ModelError, match="names no model_type"):
        Encoder.load(other)
    (other / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        Encoder.load(other)


def test_damaged_folders(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="cannot be read"):
        Encoder.load(folder)
    half = write_tiny_bert(tmp_path / "half")
    config = json.loads((half / "config.json").read_text())
    (half / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match="tensors are absent"):
        Encoder.load(half)
    dense = write_tiny_bert(tmp_path / "dense")
    kinds = ["Transformer", "Pooling", "Dense"]
    modules = [{"idx": i, "path": "", "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(kinds)]
    (dense / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="Dense"):
        Encoder.load(dense)
    modules[0]["path"] = "../half"
    (dense / "modules.json").write_text(json.dumps(modules[:1]))
    with pytest.raises(ModelError, match="leaves the folder"):
        Encoder.load(dense)
