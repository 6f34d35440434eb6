"""Losses over a vocabulary whose logits are never held: a few hundred positions at a time, forth and back at once.

The gradient of a cross-entropy is known as soon as its logits are (softmax minus one-hot), so both products of the
backward pass are taken while a chunk of logits is there. Nothing is computed twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["label_losses"]

_LOGITS = 64 << 20
"""Bytes of logits at once: enough to fill a device, little beside a transformer's activations."""


def label_losses(
    vectors: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, scales: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of labels against all words.

    Args:
        vectors: of the positions that have a label, [k, E].
        weight: of the words, [V, E].
        bias: of the words, [V].
        labels: int64 [k].
        scales: what each position counts, [k].

    Returns:
        The sum of scaled losses, [], the only one with a gradient; each position's own loss, [k]; and whether its label
        is the likeliest word, bool [k].
    """
    compute = torch.get_autocast_dtype(vectors.device.type) if _autocasts(vectors) else vectors.dtype
    found: tuple[Tensor, Tensor, Tensor] = _LabelLosses.apply(vectors, weight, bias, labels, scales, compute)
    return found


def _autocasts(vectors: Tensor) -> bool:
    return torch.is_autocast_enabled(vectors.device.type) and vectors.dtype != torch.float64


class _LabelLosses(Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch has no type for it
        vectors: Tensor,
        weight: Tensor,
        bias: Tensor,
        labels: Tensor,
        scales: Tensor,
        compute: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        exact = torch.promote_types(vectors.dtype, torch.float32)
        losses = torch.empty(len(labels), dtype=exact, device=vectors.device)
        found = torch.empty(len(labels), dtype=torch.bool, device=vectors.device)
        wants = ctx.needs_input_grad[:3]
        to_vectors = torch.empty_like(vectors) if wants[0] else None
        to_weight = torch.zeros_like(weight, dtype=exact) if wants[1] else None
        to_bias = torch.zeros_like(bias, dtype=exact) if wants[2] else None
        with torch.autocast(vectors.device.type, enabled=False):
            words, held = weight.to(compute), vectors.to(compute)
            rows = max(1, _LOGITS // (weight.shape[0] * exact.itemsize))
            for start in range(0, len(labels), rows):
                part = slice(start, start + rows)
                logits = (held[part] @ words.T).to(exact).add_(bias)
                wanted = labels[part, None]
                found[part] = logits.argmax(dim=1) == labels[part]
                total = logits.logsumexp(dim=1, keepdim=True)
                losses[part] = (total - logits.gather(1, wanted)).squeeze(1)
                if not any(wants):
                    continue
                # from here on the logits are their own gradient
                logits.sub_(total).exp_()
                logits.scatter_add_(1, wanted, torch.full_like(total, -1.0))
                logits.mul_(scales[part, None])
                if to_bias is not None:
                    to_bias += logits.sum(dim=0)
                gradient = logits.to(compute)
                if to_vectors is not None:
                    to_vectors[part] = gradient @ words
                if to_weight is not None:
                    _add_product(to_weight, gradient, held[part])
        ctx.gradients = (to_vectors, to_weight, to_bias)
        ctx.mark_non_differentiable(losses, found)
        return (losses * scales).sum(), losses, found

    @staticmethod
    def backward(ctx: Any, outer: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        gradients = [None if gradient is None else gradient * outer for gradient in ctx.gradients]
        ctx.gradients = None
        return (*gradients, None, None, None)


def _add_product(total: Tensor, gradient: Tensor, vectors: Tensor) -> None:
    if gradient.dtype == total.dtype:
        total.addmm_(gradient.T, vectors)
    else:
        total += gradient.T @ vectors
