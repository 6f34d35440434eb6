"""The last layer for the first token of each text alone, where a text's vector is made of nothing else (cls pooling).

Other tokens reach that vector through the keys and values of the last layer only. Their queries, their share of its
attention and its feed-forward network are computed for nothing, forth and back: five sixths of the layer's products,
a fifth of all in a model of 4 layers, a fourteenth in one of 12.

1. `switch_on` gives the last layer a second way of running where it is built of the parts of BERT and no others
   (RoBERTa, XLM-RoBERTa, ELECTRA), and compares a few vectors of both ways. Any other model stays what it was.
2. A call of the model with `FIRST_TOKEN_ALONE` set goes that way, and its last hidden state is [N, 1, D].
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

__all__ = ["FIRST_TOKEN_ALONE", "first_token_weights", "switch_on"]

FIRST_TOKEN_ALONE = "first_token_alone"
"""The word of the call, which transformers hands through to the layers and their attention."""

_PARTS = {
    "": {"attention", "intermediate", "output"},
    "attention": {"self", "output"},
    "attention.self": {"query", "key", "value", "dropout"},
    "attention.output": {"dense", "LayerNorm", "dropout"},
    "output": {"dense", "LayerNorm", "dropout"},
}
"""What a layer of BERT is made of; a part more, say for positions or another LayerNorm, is another layer."""

_TOLERANCE = 1e-5
"""Relative to the largest number; both ways differ by about 1e-6 in fp32."""


def switch_on(backbone: nn.Module) -> bool:
    """Gives a model the second way, if its vectors are the same.

    Args:
        backbone: a Hugging Face encoder on the CPU, in full precision.

    Returns:
        Whether calls may set `FIRST_TOKEN_ALONE`; if not, the model is as it was.
    """
    layers = getattr(getattr(backbone, "encoder", None), "layer", None)
    if not layers or next(backbone.parameters()).device.type != "cpu" or not _is_of_bert(layers[-1]):
        return False
    last = layers[-1]
    last.forward = partial(_forward, last, last.forward)
    try:
        difference = _difference(backbone)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        difference = float("inf")
    if not difference < _TOLERANCE:
        del last.forward
    return difference < _TOLERANCE


def first_token_weights(backbone: nn.Module) -> list[nn.Parameter]:
    """Weights of the last layer that meet first tokens alone: all but those of keys and values.

    Args:
        backbone: one that `switch_on` took.
    """
    named = cast("Any", backbone).encoder.layer[-1].named_parameters()
    return [weight for name, weight in named if not name.startswith(("attention.self.key", "attention.self.value"))]


def _is_of_bert(layer: nn.Module) -> bool:
    found = {name: {child for child, _ in part.named_children()} for name, part in layer.named_modules()}
    return all(found.get(name) == parts for name, parts in _PARTS.items())


def _forward(
    layer: Any,  # noqa: ANN401 - the class of a model's own
    whole: Callable[..., Any],
    hidden: Tensor,
    attention_mask: Tensor | None = None,
    *others: Any,  # noqa: ANN401
    first_token_alone: bool = False,
    **words: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """The layer's forward pass; [N, L, D] becomes [N, 1, D] where the first token alone is asked for."""
    if not first_token_alone:
        return whole(hidden, attention_mask, *others, **words)
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attention = layer.attention.self
    first = hidden[:, :1]
    apart = (len(hidden), -1, attention.num_attention_heads, attention.attention_head_size)
    query = attention.query(first).view(apart).transpose(1, 2)
    key, value = (project(hidden).view(apart).transpose(1, 2) for project in (attention.key, attention.value))
    attend = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation]
    mixed, _ = attend(
        attention,
        query,
        key,
        value,
        # rows of the mask are queries
        attention_mask if attention_mask is None or attention_mask.ndim < 4 else attention_mask[:, :, :1],
        dropout=attention.dropout.p if layer.training else 0.0,
        scaling=attention.scaling,
        is_causal=False,
    )
    first = layer.attention.output(mixed.reshape((*first.shape[:2], -1)), first)
    return layer.output(layer.intermediate(first), first)


@torch.no_grad()
def _difference(backbone: nn.Module) -> float:
    """How far apart the vectors of a few texts are, whole and by the first token alone; relative."""
    config = cast("Any", backbone).config
    lengths = torch.tensor([9, 4, 1])
    mask = (torch.arange(9) < lengths[:, None]).long()
    # some models count positions by what is not padding
    words = [word for word in range(min(99, int(config.vocab_size))) if word != config.pad_token_id]
    ids = torch.tensor(words)[torch.arange(27).view(3, 9) * 7 % len(words)]
    ids = torch.where(mask.bool(), ids, config.pad_token_id or 0)
    training = backbone.training
    backbone.eval()
    try:
        whole = backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        alone = backbone(input_ids=ids, attention_mask=mask, **{FIRST_TOKEN_ALONE: True}).last_hidden_state
    finally:
        backbone.train(training)
    if alone.shape[1] != 1:
        return float("inf")
    return float((whole - alone[:, 0]).abs().max() / whole.abs().max())
