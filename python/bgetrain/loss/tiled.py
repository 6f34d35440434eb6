"""InfoNCE in tiles: no matrix of anchors x candidates is ever held, nor a mask of that shape.

A tile is a few anchors against all candidates. Its scores become its loss and at once its gradient (three products a
tile, as many as the dense form needs, none twice), and are forgotten. What stays is the loss of each anchor and the
gradients of the vectors themselves:

    l_a = log sum_{j in A(a)} exp(s_aj) - s_a,own         s_aj = a . c_j / t
    dl_a / da = (sum_j p_aj c_j - c_own) / t              dl_a / dc_j += (p_aj - [j = own]) a / t

Row tiles with an analytic backward pass are the plain form of Inf-CL (Cheng et al. 2024, arXiv 2410.17243), which adds
tiles over candidates that travel between devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from bgetrain.precision import plain_fp32

if TYPE_CHECKING:
    from torch import Tensor

    from bgetrain.loss.names import Holders, Unwanted

__all__ = ["TILE_BYTES", "Anchors", "Block", "Outcome", "tiled_info_nce"]

TILE_BYTES = {"cpu": 16 << 20, "cuda": 128 << 20}
"""Scores of a tile: on a CPU few enough to stay near the cores, on a GPU enough to fill it."""


@dataclass(frozen=True, slots=True)
class Block:
    """A set of M candidates.

    Attributes:
        vectors: float [M, D]; gradients flow.
        rows: int64 [M], shard-set row of each.
        hidden: int64 [h], candidates that nobody is scored against, since the batch holds their text twice.
        holders: which candidate holds a key.
        unwanted: what each anchor is not scored against.
    """

    vectors: Tensor
    rows: Tensor
    hidden: Tensor
    holders: Holders
    unwanted: Unwanted


@dataclass(frozen=True, slots=True)
class Anchors:
    """What is scored: A vectors, each with one own candidate in the first block.

    Attributes:
        vectors: float [A, D]; gradients flow.
        own: int64 [A], column of each own positive in the first block.
        rows: int64 [A], shard-set row of each anchor.
        weights: float [A], what each loss counts in the sum.
        own_row_only: only candidates of the anchor's own row count.
        guide: vectors of length 1, float [A, G] of the anchors and [M, G] of the first block, that tell which
            candidates are likely positives; None for none.
    """

    vectors: Tensor
    own: Tensor
    rows: Tensor
    weights: Tensor
    own_row_only: bool = False
    guide: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out; nothing but `loss` carries a gradient.

    Attributes:
        loss: scalar, the weighted sum.
        losses: float [A].
        negatives: int64 [A], candidates an anchor was scored against, without its own.
        masked: int64 [A], candidates left out by their key.
        repeated: int64 [A], candidates left out because their text is counted already.
        likely: int64 [A], candidates left out because they look like positives.
    """

    loss: Tensor
    losses: Tensor
    negatives: Tensor
    masked: Tensor
    repeated: Tensor
    likely: Tensor


def tiled_info_nce(
    anchors: Anchors,
    blocks: list[Block],
    *,
    temperature: float,
    margin: float | None = None,
    hardness: float = 0.0,
    tile_bytes: int | None = None,
) -> Outcome:
    """The loss of each anchor over all blocks together, and its gradient in the same pass.

    Runs outside autocast and without TF32, in the type of its inputs.

    Args:
        anchors: what is scored.
        blocks: the candidates, one softmax over all of them; the first holds the own positives.
        temperature: t, above 0.
        margin: leave out candidates of other rows whose guide cosine is more than this above that of the own
            positive; None leaves out none.
        hardness: a; a negative counts exp(a * cosine) times, without gradient through that weight.
        tile_bytes: bytes of the scores of a tile; None for `TILE_BYTES` of the device.

    Returns:
        Losses and counts.

    Raises:
        TypeError: a vector is coarser than fp32.
    """
    kinds = {anchors.vectors.dtype, *(block.vectors.dtype for block in blocks)}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        raise TypeError(f"scores need fp32 or fp64 vectors of one type: found {', '.join(sorted(map(str, kinds)))}")
    work = _Work(anchors, blocks, 1.0 / temperature, margin, hardness, tile_bytes)
    vectors = [anchors.vectors, *(block.vectors for block in blocks)]
    loss = cast("Tensor", cast("Any", _TiledInfoNCE).apply(work, *vectors))
    return work.outcome(loss)


class _TiledInfoNCE(torch.autograd.Function):
    """The weighted sum, whose gradient is known when the forward pass ends."""

    @staticmethod
    def forward(ctx: Any, work: _Work, *vectors: Tensor) -> Tensor:  # noqa: ANN401
        wanted = any(ctx.needs_input_grad[1:])
        with torch.autocast(device_type=vectors[0].device.type, enabled=False), plain_fp32():
            loss, gradients = work.run(vectors[0], list(vectors[1:]), wanted=wanted)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        # in place: these are the only copies, and they are as large as the vectors
        return (None, *(gradient.mul_(upstream[0]) for gradient in ctx.saved_tensors))


class _Work:
    """One pass over all tiles."""

    def __init__(
        self,
        anchors: Anchors,
        blocks: list[Block],
        scale: float,
        margin: float | None,
        hardness: float,
        tile_bytes: int | None,
    ) -> None:
        self.anchors, self.blocks = anchors, blocks
        self.scale, self.margin, self.hardness = scale, margin, hardness
        device = anchors.vectors.device
        self.sizes = [len(block.vectors) for block in blocks]
        count, width = len(anchors.vectors), max(1, sum(self.sizes))
        budget = tile_bytes or TILE_BYTES.get(device.type, TILE_BYTES["cuda"])
        self.rows = max(1, min(count, budget // (width * anchors.vectors.element_size())))
        self.losses = anchors.vectors.new_zeros(count)
        self.masked, self.likely, self.repeated, self.negatives = (
            torch.zeros(count, dtype=torch.int64, device=device) for _ in range(4)
        )

    def outcome(self, loss: Tensor) -> Outcome:
        return Outcome(loss, self.losses, self.negatives, self.masked, self.repeated, self.likely)

    def run(self, anchors: Tensor, blocks: list[Tensor], *, wanted: bool) -> tuple[Tensor, list[Tensor]]:
        """Fills the counts.

        Returns:
            The loss, and the gradients of anchors and blocks if `wanted`.
        """
        gradients = [torch.zeros_like(vectors) for vectors in (anchors, *blocks)] if wanted else []
        total = anchors.new_zeros(())
        for first in range(0, len(anchors), self.rows):
            last = min(first + self.rows, len(anchors))
            part, weights = anchors[first:last], self.anchors.weights[first:last]
            scores = self._scores(part, blocks)
            likelihood = self._losses(scores, first, last)
            total += (self.losses[first:last] * weights).sum()
            if not wanted:
                continue
            # scores hold exp(score - highest); from here on the gradient of each score
            own = self.anchors.own[first:last, None]
            factor = (weights * self.scale)[:, None]
            scores.mul_(factor / likelihood[:, None])
            scores.scatter_add_(1, own, -factor)
            for place, (tile, vectors) in enumerate(zip(torch.split(scores, self.sizes, dim=1), blocks, strict=True)):
                gradients[0][first:last].addmm_(tile, vectors)
                gradients[1 + place].addmm_(tile.T, part)
        return total, gradients

    def _scores(self, part: Tensor, blocks: list[Tensor]) -> Tensor:
        if len(blocks) == 1:
            return part @ blocks[0].T
        scores = part.new_empty(len(part), sum(self.sizes))
        for tile, vectors in zip(torch.split(scores, self.sizes, dim=1), blocks, strict=True):
            torch.mm(part, vectors.T, out=tile)
        return scores

    def _losses(self, scores: Tensor, first: int, last: int) -> Tensor:
        """Turns the cosines of a tile into exp(score - highest), 0 where a candidate does not count.

        Returns:
            The sum of each row.
        """
        own = self.anchors.own[first:last, None]
        if self.hardness:
            own_score = scores.gather(1, own) * self.scale
            # a weight of exp(a * cosine) is a summand of the score; the gradient sees the score alone
            scores.mul_(self.scale + self.hardness)
        else:
            scores.mul_(self.scale)
            own_score = scores.gather(1, own)
        self._leave_out(scores, first, last)
        scores.scatter_(1, own, own_score)
        highest = scores.amax(dim=1, keepdim=True)
        sums = scores.sub_(highest).exp_().sum(dim=1)
        self.losses[first:last] = sums.log() + (highest - own_score).squeeze(1)
        return sums

    def _leave_out(self, scores: Tensor, first: int, last: int) -> None:
        anchors, start = self.anchors, 0
        count = scores.new_zeros(last - first, dtype=torch.int64)
        repeated, masked, likely = count.clone(), count.clone(), count.clone()
        rows, own = anchors.rows[first:last], anchors.own[first:last]
        for place, (block, size) in enumerate(zip(self.blocks, self.sizes, strict=True)):
            tile = scores[:, start : start + size]
            start += size
            anchor, column = block.unwanted.pairs(first, last, block.holders)
            if place == 0:
                others = column != own[anchor]
                anchor, column = anchor[others], column[others]
            guided = place == 0 and self.margin is not None and not anchors.own_row_only
            if anchors.own_row_only or guided:
                same_row = block.rows[None, :] == rows[:, None]
            if anchors.own_row_only:
                inside = same_row[anchor, column]
                anchor, column = anchor[inside], column[inside]
                tile.masked_fill_(~same_row, -torch.inf)
                count += same_row.sum(dim=1)
                repeated += same_row[:, block.hidden].sum(dim=1)
            else:
                count += size
                repeated += len(block.hidden)
            if place == 0:
                repeated -= torch.isin(own, block.hidden).long()
            tile.index_fill_(1, block.hidden, -torch.inf)
            tile[anchor, column] = -torch.inf
            masked += torch.bincount(anchor, minlength=last - first)
            if place > 0:
                # a text beside others of its own tower is no candidate of itself
                itself = torch.bincount(anchor[block.rows[column] == rows[anchor]], minlength=last - first)
                masked, count = masked - itself, count - itself
            if guided and self.margin is not None:
                alike = self._likely(first, last, self.margin) & ~same_row & torch.isfinite(tile)
                tile.masked_fill_(alike, -torch.inf)
                likely += alike.sum(dim=1)
        self.masked[first:last], self.repeated[first:last], self.likely[first:last] = masked, repeated, likely
        self.negatives[first:last] = count - 1 - masked - repeated - likely

    def _likely(self, first: int, last: int, margin: float) -> Tensor:
        """Candidates of the first block that the guide finds closer to an anchor than its own, by the margin."""
        assert self.anchors.guide is not None
        own, candidates = self.anchors.guide
        part = own[first:last]
        of_own = (part * candidates[self.anchors.own[first:last]]).sum(dim=1, keepdim=True)
        return part @ candidates.T > of_own + margin
