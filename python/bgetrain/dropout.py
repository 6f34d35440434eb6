"""Dropout for training on a CPU, at a fraction of torch's time: the same thing, drawn four elements at a time.

torch draws one random double an element, on one core, and that is a quarter of a training step of a small model. Here
one random 64-bit word serves four elements, 16 bits each, which all cores then compare and multiply. An element is
dropped with probability round(65,536 p) / 65,536 (0.1 becomes 0.100006), and what is kept is scaled by exactly that.

1. `switch_on` puts `Dropout` in the place of an encoder's nn.Dropout, and `attention` in that of its attention.
2. `drop` draws from torch's generator of the CPU: a seed decides all, and a restored state draws the same again.

The backward pass keeps the 16 random bits of an element, half of what torch's mask in fp32 takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from bgetrain.encode import Encoder

__all__ = ["Dropout", "attention", "drop", "switch_on"]

_NAME = "bgetrain_cpu"

_STEPS = 1 << 16
"""Probabilities are whole numbers of these."""

_CHANGES_SCORES = ("cache", "position_bias", "softcap")
"""Words of an attention function of transformers that ask for other scores than those of query and key."""


def switch_on(encoder: Encoder) -> None:
    """Makes the encoder drop by this module while it trains on a CPU; elsewhere it stays what it was.

    Args:
        encoder: adapters attached. Where its attention is not `sdpa`, that stays as it is.
    """
    for parent in list(encoder.backbone.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))
    backbone = cast("Any", encoder.backbone)
    if getattr(backbone.config, "_attn_implementation", None) != "sdpa":
        return
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(_NAME, attention)
    AttentionMaskInterface.register(_NAME, _mask)
    backbone.set_attn_implementation(_NAME)


def drop(values: Tensor, probability: float) -> Tensor:
    """Sets each element to 0 with a probability and scales the others, so that the mean stays.

    Args:
        values: float, any shape.
        probability: 0 to 1; rounded to a multiple of 1/65,536 on a CPU.

    Returns:
        The same shape and dtype.
    """
    dropped = round(probability * _STEPS)
    if values.device.type != "cpu" or dropped == _STEPS:
        return nn.functional.dropout(values, probability)
    if dropped == 0:
        return values
    words = torch.empty((values.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    bits = words.view(torch.int16)[: values.numel()].view(values.shape)
    return cast("Tensor", cast("Any", _Drop).apply(values, bits, dropped))


class _Drop(torch.autograd.Function):
    """Multiplies by the mask that the bits stand for, forth and back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, bits: Tensor, dropped: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(bits)
        ctx.dropped = dropped
        return _kept(bits, dropped, values.dtype).mul_(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (bits,) = ctx.saved_tensors
        return _kept(bits, ctx.dropped, gradients[0].dtype).mul_(gradients[0]), None, None


def _kept(bits: Tensor, dropped: int, dtype: torch.dtype) -> Tensor:
    """0 for what is dropped, else what it is scaled by."""
    # straight into floats: a product of floats with bools takes several times as long
    kept = torch.empty(bits.shape, dtype=dtype)
    torch.ge(bits, dropped - _STEPS // 2, out=kept)
    return kept.mul_(_STEPS / (_STEPS - dropped))


class Dropout(nn.Dropout):
    """nn.Dropout by `drop`."""

    def forward(self, input: Tensor) -> Tensor:
        """The values, dropped in training mode; any shape."""
        return drop(input, self.p) if self.training else input


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """What a layer of transformers calls; query, key and value are [batch, heads, tokens, width].

    Whatever is not plain attention with dropout on a CPU goes to torch's `scaled_dot_product_attention`, whose own
    dropout on a CPU also looks for rows without a token in every layer.

    Args:
        module: the layer.
        query: float.
        key: float.
        value: float.
        attention_mask: float [batch, 1, tokens, tokens] that is added to the scores, from `_mask`.
        dropout: probability for an attention weight.
        scaling: of the scores; None for 1 / √width.
        others: what else the layer says.

    Returns:
        [batch, tokens, heads, width], and no attention weights.
    """
    plain = query.device.type == "cpu" and key.shape[1] == query.shape[1]
    plain = plain and all(others.get(name) is None for name in _CHANGES_SCORES)
    if not plain or dropout == 0.0 or (attention_mask is None and _is_causal(module, others)):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        words = {"dropout": dropout, "scaling": scaling, **others}
        plain_attention = cast("Any", sdpa_attention_forward)
        return cast("tuple[Tensor, None]", plain_attention(module, query, key, value, attention_mask, **words))
    batch, heads, tokens, width = query.shape
    query = query * (width**-0.5 if scaling is None else scaling)
    flat_query, flat_key, flat_value = (part.reshape(batch * heads, -1, part.shape[-1]) for part in (query, key, value))
    scores = torch.bmm(flat_query, flat_key.transpose(1, 2))
    # the lowest of fp32 fits no half precision
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if attention_mask is not None:
        scores.view(batch, heads, tokens, -1).add_(attention_mask)
    weights = drop(scores.softmax(dim=-1), dropout).to(value.dtype)
    mixed = torch.bmm(weights, flat_value).view(batch, heads, tokens, -1)
    return mixed.transpose(1, 2).contiguous(), None


def _is_causal(module: nn.Module, others: dict[str, Any]) -> bool:
    """Whether a call without a mask means that tokens do not see later ones, as transformers has it."""
    said = others.get("is_causal")
    return bool(getattr(module, "is_causal", True) if said is None else said)


def _mask(*args: Any, dtype: torch.dtype = torch.float32, **others: Any) -> Tensor | None:  # noqa: ANN401
    """The mask of `sdpa` as numbers to add, made once for all layers; None where nothing is left out."""
    from transformers.masking_utils import sdpa_mask

    mask = cast("Any", sdpa_mask)(*args, **others)
    if mask is None:
        return None
    # not -inf: a place that sees nothing, beyond the end of a text, must not become a NaN
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)
