"""The last layer for the first token alone: the vectors and gradients of the whole layer, at its share of the work."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from bgetrain.dropout import switch_on as drop_quickly
from bgetrain.encode import Encoder
from bgetrain.first_token import switch_on
from bgetrain.grad_cache import embed_cached
from bgetrain.padding import TokenRows
from tests.train.tiny import VOCABULARY, tiny_backbone, tiny_encoder, tiny_tokenizer

LENGTHS = (9, 9, 4, 1, 7)
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 34,
    "pad_token_id": 1,
    "initializer_range": 0.3,
}


def _rows() -> TokenRows:
    generator = np.random.default_rng(0)
    return TokenRows.from_lists([generator.integers(5, VOCABULARY, length).tolist() for length in LENGTHS])


def _encoder(backbone: Any, **words: Any) -> Encoder:
    words = {"pooling": "cls", "normalize": True, "max_seq_length": 32, "position_limit": 32, **words}
    return Encoder(backbone.double(), tiny_tokenizer(), **words).train()


def _gradient(encoder: Encoder, **words: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors, and the gradient of a weighted sum of them, flat."""
    encoder.zero_grad(set_to_none=True)
    embedded = embed_cached(encoder, _rows(), chunk_tokens=20, **{"keep_tokens": None, **words})
    weights = torch.linspace(-1, 1, embedded.vectors.numel(), dtype=torch.float64).view_as(embedded.vectors)
    (embedded.vectors * weights).sum().backward()
    embedded.backward()
    parts = [
        torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in encoder.backbone.parameters()
    ]
    return embedded.vectors.detach(), torch.cat([part.flatten() for part in parts])


def _bert() -> Any:
    return tiny_backbone()


def _xlm_roberta() -> Any:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(0)
    return XLMRobertaModel(
        XLMRobertaConfig(**_SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, type_vocab_size=1)
    )


def _electra() -> Any:
    from transformers import ElectraConfig, ElectraModel

    torch.manual_seed(0)
    return ElectraModel(
        ElectraConfig(**_SIZES, embedding_size=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )


def _norm_before() -> Any:
    """The same names of parts as BERT, and LayerNorm before the attention."""
    from transformers import RobertaPreLayerNormConfig, RobertaPreLayerNormModel

    return RobertaPreLayerNormModel(RobertaPreLayerNormConfig(**_SIZES))


def _rotary() -> Any:
    """The same, and positions that are turned into queries and keys."""
    from transformers import EsmConfig, EsmModel

    return EsmModel(EsmConfig(**_SIZES, position_embedding_type="rotary", mask_token_id=4))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("backbone", [_bert, _xlm_roberta, _electra])
def test_vectors_and_gradients_are_those_of_the_whole_layer(backbone: Any, quick: bool) -> None:
    encoder = _encoder(backbone())
    assert encoder.first_token_alone
    if quick:
        drop_quickly(encoder)
    vectors, gradient = _gradient(encoder)
    encoder.first_token_alone = False
    expected, expected_gradient = _gradient(encoder)
    assert torch.allclose(vectors, expected, rtol=0, atol=1e-13)
    assert float((gradient - expected_gradient).norm() / expected_gradient.norm()) <= 1e-12
    # the control: what the last layer makes of other tokens does matter where the average is taken
    encoder.pooling = "mean"
    assert not torch.allclose(vectors, _gradient(encoder)[0], atol=1e-3)


def test_the_last_layer_sees_one_token_a_text_and_the_others_all() -> None:
    encoder = _encoder(_bert())
    seen: list[tuple[int, ...]] = []
    for layer in encoder.backbone.encoder.layer:
        layer.intermediate.register_forward_hook(lambda _module, inputs, _output: seen.append(tuple(inputs[0].shape)))
    encoder.forward_rows(_rows(), np.arange(len(LENGTHS)))
    assert seen == [(5, 9, 16), (5, 1, 16)]


def test_who_asks_for_all_tokens_gets_them() -> None:
    encoder, chosen = _encoder(_bert()), np.arange(len(LENGTHS))
    encoder.forward_rows(_rows(), chosen)
    hidden, _ = encoder.token_vectors(_rows(), chosen)
    assert hidden.shape == (sum(LENGTHS), 16)
    mean = _encoder(_bert(), pooling="mean")
    assert not mean.first_token_alone
    starts = np.cumsum([0, *LENGTHS[:-1]])
    first = torch.nn.functional.normalize(hidden[torch.from_numpy(starts)], dim=1)
    assert torch.allclose(first, encoder.forward_rows(_rows(), chosen)[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_is_replayed_bit_by_bit(checkpointing: bool) -> None:
    encoder = tiny_encoder(dropout=0.1)
    assert encoder.first_token_alone
    if checkpointing:
        encoder.checkpoint_activations()
    found = []
    for keep_tokens in (None, 0):
        torch.manual_seed(3)
        found.append(_gradient(encoder, keep_tokens=keep_tokens))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][1], _gradient(encoder)[1])


@pytest.mark.parametrize("backbone", [_norm_before, _rotary])
def test_another_layer_stays_what_it_was(backbone: Any) -> None:
    model = backbone().eval()
    before = {name: list(vars(part)) for name, part in model.named_modules()}
    assert not switch_on(model)
    assert {name: list(vars(part)) for name, part in model.named_modules()} == before


def test_a_layer_of_the_same_parts_that_computes_otherwise_is_noticed() -> None:
    model = _bert()
    last = model.encoder.layer[-1]
    plain = type(last).forward
    # adds its input once more
    forward = lambda self, hidden, *more, **words: plain(self, hidden, *more, **words) + hidden  # noqa: E731
    last.__class__ = type("Other", (type(last),), {"forward": forward})
    assert not switch_on(model)
    assert "forward" not in vars(last)


def test_a_copy_computes_with_its_own_weights() -> None:
    encoder, chosen = _encoder(_bert()), np.arange(len(LENGTHS))
    before = encoder.forward_rows(_rows(), chosen)[0]
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        other.backbone.encoder.layer[-1].output.dense.weight.mul_(2)
    assert torch.equal(encoder.forward_rows(_rows(), chosen)[0], before)
    assert not torch.allclose(other.forward_rows(_rows(), chosen)[0], before)
