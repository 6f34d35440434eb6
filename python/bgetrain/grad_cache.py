"""Vectors of more texts than fit with their graphs, and their exact gradient (Gao et al. 2021, arXiv 2101.06983).

1. Forward: texts go through the encoder chunk by chunk. Graphs of the last chunks are kept as far as memory is
   given; the others are computed without a graph, and the state of the random generators before each is noted.
2. The loss is taken on the vectors alone, and gives their gradients.
3. Backward: the last chunk first, which frees kept graphs early; a chunk without a graph is computed again, from the
   same random state, and takes its gradient.

A chunk that is computed twice costs one more forward pass, so a batch pays for what does not fit and no more. Random
generators end where they would have ended, and gradients add up in the same order: how much is kept decides no bit.

Where the encoder is divided over ranks all of them make equally many passes: a rank that has fewer chunks begins with
chunks of no rows, which send one token through the encoder and take none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from bgetrain.padding import ONE_TOKEN
from bgetrain.precision import half_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from bgetrain.encode import Encoder
    from bgetrain.padding import TokenRows

__all__ = ["CachedVectors", "embed_cached"]

_NO_ROWS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Texts that go through the encoder together.

    Attributes:
        rows: int64 [b], indices of the texts; none where a rank only takes part.
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

    def backward(self, loss_scale: float = 1.0, *, last: bool = True) -> None:
        """Carries the gradient of `vectors` to the weights; once.

        Args:
            loss_scale: what it is multiplied by on the way; see `loss_scale`.
            last: whether nothing more is added to the gradient of this step, which where the encoder is divided over
                ranks is then summed over them.
        """
        gradient, sharding = self.vectors.grad, self._encoder.sharding
        if sharding is not None and gradient is None:
            gradient = torch.zeros_like(self.vectors)
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
            if sharding is not None:
                sharding.reduce_next(last and not self._chunks)
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
    kept = 0
    for _, tokens in reversed(chunks):
        room -= tokens
        if room < 0:
            break
        kept += 1
    if encoder.sharding is not None:
        idle, kept = encoder.sharding.agree(len(chunks), kept)
        chunks = [(_NO_ROWS, 0)] * idle + chunks
    done = []
    for place, (chunk, _) in enumerate(chunks):
        keeps = place >= len(chunks) - kept
        rng = None if keeps and len(chunk) else _random_states(encoder.device)
        with torch.set_grad_enabled(keeps):
            vectors, tokens = _forward(encoder, rows, chunk, bf16=bf16, fp16=fp16)
        if rng is not None and not len(chunk):
            # the texts drop what they drop without it
            _restore(rng, encoder.device)
        done.append(_Chunk(chunk, vectors, tokens, None if keeps else rng))
    return CachedVectors(encoder, rows, done, bf16=bf16, fp16=fp16)


def _forward(
    encoder: Encoder, rows: TokenRows, chunk: NDArray[np.int64], *, bf16: bool, fp16: bool
) -> tuple[Tensor, int]:
    with half_precision(encoder.device, bf16=bf16, fp16=fp16):
        if len(chunk):
            return encoder.forward_rows(rows, chunk)
        vectors, tokens = encoder.forward_rows(ONE_TOKEN, np.zeros(1, dtype=np.int64))
        return vectors[:0], tokens


def _random_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _restore(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
