"""Vectors of more texts than fit with their graphs, and their exact gradient (Gao et al. 2021, arXiv 2101.06983).

1. Forward: texts go through the encoder chunk by chunk. Graphs of the last chunks are kept as far as memory is
   given; the others are computed without a graph, and the state of the random generators before each is noted.
2. The loss is taken on the vectors alone, and gives their gradients.
3. Backward: the last chunk first, which frees kept graphs early; a chunk without a graph is computed again, from the
   same random state, and takes its gradient.

A chunk that is computed twice costs one more forward pass, so a batch pays for what does not fit and no more. Random
generators end where they would have ended, and gradients add up in the same order: how much is kept decides no bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from bgetrain.precision import half_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from bgetrain.encode import Encoder
    from bgetrain.padding import TokenRows

__all__ = ["CachedVectors", "embed_cached"]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Texts that go through the encoder together.

    Attributes:
        rows: int64 [b], indices of the texts.
        vectors: float [b, D], with its graph where it was kept.
        tokens: padding included.
        rng: random states before the chunk where it was not kept.
    """

    rows: NDArray[np.int64]
    vectors: Tensor
    tokens: int
    rng: list[Tensor] | None


class CachedVectors:
    """The vectors of all texts as one leaf of the loss's graph.

    Attributes:
        vectors: float [N, D], in the order of the texts; takes the gradient of the loss.
        computed: tokens that went through the encoder, padding included.
        replayed: those of them that the backward pass computes again.
    """

    def __init__(self, encoder: Encoder, rows: TokenRows, chunks: list[_Chunk], *, bf16: bool, fp16: bool) -> None:
        """Puts the chunks' vectors in the order of the texts."""
        self._encoder, self._rows, self._chunks = encoder, rows, chunks
        self._bf16, self._fp16 = bf16, fp16
        self.computed = sum(chunk.tokens for chunk in chunks)
        self.replayed = sum(chunk.tokens for chunk in chunks if chunk.rng is not None)
        if chunks:
            back = np.argsort(np.concatenate([chunk.rows for chunk in chunks]), kind="stable")
            flat = torch.cat([chunk.vectors.detach() for chunk in chunks])
            vectors = flat[torch.from_numpy(back).to(flat.device)]
        else:
            kind = torch.promote_types(next(encoder.backbone.parameters()).dtype, torch.float32)
            vectors = torch.zeros(0, encoder.dimension, dtype=kind, device=encoder.device)
        self.vectors = vectors.requires_grad_()

    def backward(self, loss_scale: float = 1.0) -> None:
        """Carries the gradient of `vectors` to the weights; once.

        Args:
            loss_scale: what it is multiplied by on the way; see `loss_scale`.
        """
        gradient = self.vectors.grad
        if gradient is None or not self._chunks:
            return
        after = _random_states(self._encoder.device)
        self.vectors.grad = None
        while self._chunks:
            # last to first, kept or not, so that gradients add up in one order; a graph goes with its last name
            chunk = self._chunks.pop()
            part = gradient[torch.from_numpy(chunk.rows).to(gradient.device)]
            part = part if loss_scale == 1.0 else part * loss_scale
            vectors = chunk.vectors
            if chunk.rng is not None:
                _restore(chunk.rng, self._encoder.device)
                vectors, _ = _forward(self._encoder, self._rows, chunk.rows, bf16=self._bf16, fp16=self._fp16)
            del chunk
            vectors.backward(part)  # type: ignore[no-untyped-call]
            del vectors
        _restore(after, self._encoder.device)


def embed_cached(
    encoder: Encoder,
    rows: TokenRows,
    *,
    chunk_tokens: int,
    keep_tokens: int | None,
    bf16: bool = False,
    fp16: bool = False,
) -> CachedVectors:
    """Vectors of many texts whose gradient is taken later.

    Args:
        encoder: on any device.
        rows: the texts, at least zero.
        chunk_tokens: most tokens of a chunk, padding included.
        keep_tokens: most tokens whose graph is kept, padding included; None keeps all, 0 none.
        bf16: run the transformer under bfloat16 autocast, in both passes.
        fp16: the same in float16.

    Returns:
        The vectors.
    """
    with half_precision(encoder.device, bf16=bf16, fp16=fp16):
        chunks = encoder.chunks(rows.lengths, chunk_tokens) if len(rows) else []
    room = float("inf") if keep_tokens is None else keep_tokens
    kept = set()
    for place in reversed(range(len(chunks))):
        room -= chunks[place][1]
        if room < 0:
            break
        kept.add(place)
    done = []
    for place, (chunk, _) in enumerate(chunks):
        rng = None if place in kept else _random_states(encoder.device)
        with torch.set_grad_enabled(place in kept):
            vectors, tokens = _forward(encoder, rows, chunk, bf16=bf16, fp16=fp16)
        done.append(_Chunk(chunk, vectors, tokens, rng))
    return CachedVectors(encoder, rows, done, bf16=bf16, fp16=fp16)


def _forward(
    encoder: Encoder, rows: TokenRows, chunk: NDArray[np.int64], *, bf16: bool, fp16: bool
) -> tuple[Tensor, int]:
    with half_precision(encoder.device, bf16=bf16, fp16=fp16):
        return encoder.forward_rows(rows, chunk)


def _random_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _restore(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
