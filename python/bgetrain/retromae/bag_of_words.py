"""The bag-of-words term of DupMAE (Xiao et al. 2023, arXiv 2305.02564, section 3.2): ordinary tokens tell the words.

Each word is scored by the position where it is likeliest; the softmax over these scores has to hold the words of the
text. Positions are scored one text at a time, and only which position won is kept: it alone gets a gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["bow_losses"]


def bow_losses(
    vectors: Tensor, lengths: Sequence[int], weight: Tensor, bias: Tensor, words: Tensor, texts: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy between the words of each text and the scores of all words.

    Args:
        vectors: of all positions but the first of each text, text by text, [sum of lengths, E].
        lengths: positions of each text, n of them; a text has at least one.
        weight: of the words, [V, E].
        bias: of the words, [V].
        words: int64 [t], the tokens of all texts, special ones left out.
        texts: int64 [t], the text of each.
        scale: what each text counts.

    Returns:
        The sum of scaled losses, [], and each text's own loss, [n], without a gradient. A word of a text weighs 1 by
        the text's tokens, however often it occurs.
    """
    scores: Tensor = _BestScores.apply(vectors, tuple(lengths), weight, bias)
    wanted = torch.zeros_like(scores)
    wanted[texts, words] = 1.0
    tokens = torch.bincount(texts, minlength=len(scores)).clamp(min=1)
    losses = -(wanted * scores.log_softmax(dim=1)).sum(dim=1) / tokens
    return losses.sum() * scale, losses.detach()


class _BestScores(Function):
    """The best score of each word in each text, [n, V], in fp32 (fp64 for an fp64 model)."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch has no type for it
        vectors: Tensor,
        lengths: tuple[int, ...],
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        exact = torch.promote_types(vectors.dtype, torch.float32)
        best = torch.empty(len(lengths), len(weight), dtype=exact, device=vectors.device)
        places = torch.empty(len(lengths), len(weight), dtype=torch.int64, device=vectors.device)
        for text, part in enumerate(torch.split(vectors, list(lengths))):
            values, places[text] = (part.to(weight.dtype) @ weight.T).max(dim=0)
            best[text] = values.to(exact) + bias
        ctx.save_for_backward(vectors, weight, places)
        ctx.lengths = lengths
        return best

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        vectors, weight, places = ctx.saved_tensors
        to_vectors, to_weight = torch.zeros_like(vectors), torch.zeros_like(weight)
        parts = zip(torch.split(vectors, list(ctx.lengths)), torch.split(to_vectors, list(ctx.lengths)), strict=True)
        for text, (part, to_part) in enumerate(parts):
            share = outer[text, :, None].to(weight.dtype)
            to_part.index_add_(0, places[text], (share * weight).to(to_part.dtype))
            to_weight.addcmul_(share, part[places[text]].to(weight.dtype))
        return to_vectors, None, to_weight, outer.sum(dim=0)
