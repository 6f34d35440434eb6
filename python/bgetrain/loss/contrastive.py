"""The contrastive loss of a rank's rows: which sides are scored against which candidates.

| side       | anchor            | candidates in one softmax                                         |
|------------|-------------------|-------------------------------------------------------------------|
| query      | each query        | documents of all ranks; with same-tower negatives, queries too    |
| document   | each positive     | queries of all ranks; with same-tower negatives, documents too    |

The query side alone is the loss of BGE (C-Pack, Xiao et al. 2023); both sides with same-tower negatives are the
improved contrastive loss of GTE (Li et al. 2023, arXiv 2308.03281, section 3.3), with a softmax a side. A row pays the
mean over its sides and over its positives.

Left out for an anchor, but for its own candidate: the query's known positives, the query itself, texts that the
candidates hold twice, and, where a guide is asked, likely positives. For a query of a source without in-batch
negatives only the documents of its own row count, and its document side is empty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bgetrain.loss.names import Holders, Names, Unwanted, places, repeated_texts
from bgetrain.loss.tiled import Anchors, Block, Outcome, tiled_info_nce

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Contrastive", "Guide", "Rows", "Seen", "contrastive_loss"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The n rows of this rank that are scored, and their p positives.

    Attributes:
        row_ids: int64 [n], shard-set rows.
        query_keys: int64 [n].
        in_batch: bool [n], whether texts of other rows are negatives.
        both_sides: bool [n], whether the document side is scored too.
        weights: float [n], what the loss of each row counts in the sum; 0 leaves a row out.
        own_rows: int64 [p], ascending: the row of each positive; every row has at least one.
        own: int64 [p], each positive among the rank's documents.
        known_keys: int64 [k].
        known_rows: int64 [k], the row, 0 to n - 1, of each known positive.
        first_query: place of the rank's first query among all.
        first_document: place of the rank's first document among all.
        documents: number of the rank's documents.
    """

    row_ids: Tensor
    query_keys: Tensor
    in_batch: Tensor
    both_sides: Tensor
    weights: Tensor
    own_rows: Tensor
    own: Tensor
    known_keys: Tensor
    known_rows: Tensor
    first_query: int
    first_document: int
    documents: int


@dataclass(frozen=True, slots=True)
class Seen:
    """All candidates: the vectors of N queries and M documents of all ranks, and their names.

    Attributes:
        queries: float [N, D], or None where no side needs the queries of other ranks.
        documents: float [M, D].
        names: of both.
    """

    queries: Tensor | None
    documents: Tensor
    names: Names


@dataclass(frozen=True, slots=True)
class Guide:
    """Who tells likely positives among the candidates.

    Attributes:
        margin: by how much a cosine has to be above that of the own positive.
        own_queries: float [n, G], this rank's queries.
        documents: float [M, G].
    """

    margin: float
    own_queries: Tensor
    documents: Tensor


@dataclass(frozen=True, slots=True)
class Contrastive:
    """The loss of n rows; nothing but `loss` carries a gradient. Counts are of the query side.

    Attributes:
        loss: scalar, the weighted sum over rows.
        row_losses: float [n].
        negatives: int64 [n].
        masked: int64 [n].
        repeated: int64 [n].
        likely: int64 [n].
    """

    loss: Tensor
    row_losses: Tensor
    negatives: Tensor
    masked: Tensor
    repeated: Tensor
    likely: Tensor


def contrastive_loss(
    own_queries: Tensor,
    rows: Rows,
    seen: Seen,
    *,
    temperature: float,
    same_tower: bool = False,
    hardness: float = 0.0,
    guide: Guide | None = None,
    tile_bytes: int | None = None,
) -> Contrastive:
    """Scores this rank's rows against the candidates of all ranks.

    Args:
        own_queries: float [n, D], this rank's queries; gradients flow.
        rows: what is scored.
        seen: the candidates; gradients flow.
        temperature: divides the cosines.
        same_tower: queries are negatives of queries, and documents of documents.
        hardness: see `tiled_info_nce`.
        guide: leaves out likely positives on the query side; a row's own hard negatives stay, since they were chosen
            to be none.
        tile_bytes: see `tiled_info_nce`.

    Returns:
        The loss and its counts.

    Raises:
        TypeError: vectors are coarser than fp32.
    """
    sides = _Sides(own_queries, rows, seen, same_tower=same_tower, guide=guide)
    share = rows.weights / torch.bincount(rows.own_rows, minlength=len(rows.row_ids)).clamp(min=1)
    two_sided = rows.both_sides & rows.in_batch
    chosen, together = rows.weights[rows.own_rows] != 0, rows.in_batch[rows.own_rows]
    groups = {
        "together": chosen & together,
        "alone": chosen & ~together,
        "document": chosen & two_sided[rows.own_rows],
    }
    result = Contrastive(
        rows.weights.new_zeros(()),
        rows.weights.new_zeros(len(rows.row_ids)),
        *(torch.zeros_like(rows.row_ids) for _ in range(4)),
    )
    for group, members in groups.items():
        scored = torch.nonzero(members).squeeze(1)
        if len(scored) == 0:
            continue
        owners = rows.own_rows[scored]
        weights = share[owners] / (1 + two_sided[owners].to(share.dtype))
        if group == "document":
            anchors, blocks = sides.of_documents(scored, weights)
        else:
            anchors, blocks = sides.of_queries(scored, weights, alone=group == "alone")
        found = tiled_info_nce(
            anchors,
            blocks,
            temperature=temperature,
            margin=guide.margin if guide is not None and group == "together" else None,
            hardness=hardness,
            tile_bytes=tile_bytes,
        )
        result = _add(result, found, owners, weights / rows.weights[owners], counts=group != "document")
    return replace(result, loss=result.loss + sides.reach_the_rest())


def _add(result: Contrastive, found: Outcome, owners: Tensor, shares: Tensor, *, counts: bool) -> Contrastive:
    row_losses = result.row_losses.index_add(0, owners, found.losses * shares)
    kept = [result.negatives, result.masked, result.repeated, result.likely]
    if counts:
        # the positives of a row see the same candidates: any of them speaks for the row
        new = [found.negatives, found.masked, found.repeated, found.likely]
        kept = [old.index_copy(0, owners, values) for old, values in zip(kept, new, strict=True)]
    return Contrastive(result.loss + found.loss, row_losses, *kept)


class _Sides:
    """Anchors and candidates of the two sides."""

    def __init__(self, own_queries: Tensor, rows: Rows, seen: Seen, *, same_tower: bool, guide: Guide | None) -> None:
        self.own_queries, self.rows, self.seen = own_queries, rows, seen
        self.same_tower, self.guide = same_tower, guide
        self._unused = {"own": own_queries, "queries": seen.queries, "documents": seen.documents}

    def reach_the_rest(self) -> Tensor:
        """A zero that carries a gradient to what was not scored: every rank must join the gather's backward pass."""
        zero = self.own_queries.new_zeros(())
        return sum((vectors.sum() * 0 for vectors in self._unused.values() if vectors is not None), zero)

    def of_queries(self, scored: Tensor, weights: Tensor, alone: bool) -> tuple[Anchors, list[Block]]:
        """The query of each scored positive, against documents (and queries)."""
        rows = self.rows
        owners = rows.own_rows[scored]
        unwanted = self._known(scored)
        guide = self.guide
        self._unused.pop("own", None)
        # the usual case, every row once, is spared a copy of all queries
        vectors = self.own_queries if len(scored) == len(rows.own) == len(rows.row_ids) else self.own_queries[owners]
        if alone:
            anchors = Anchors(vectors, rows.own[scored], rows.row_ids[owners], weights, own_row_only=True)
            return anchors, [self._own_documents(unwanted)]
        anchors = Anchors(
            vectors,
            rows.own[scored] + rows.first_document,
            rows.row_ids[owners],
            weights,
            guide=None if guide is None else (guide.own_queries[owners], guide.documents),
        )
        blocks = [self._documents(unwanted)]
        if self.same_tower:
            blocks.append(self._queries(unwanted))
        return anchors, blocks

    def of_documents(self, scored: Tensor, weights: Tensor) -> tuple[Anchors, list[Block]]:
        """Each scored positive, against queries (and documents)."""
        rows, names = self.rows, self.seen.names
        owners = rows.own_rows[scored]
        self._unused.pop("documents", None)
        columns = rows.own[scored] + rows.first_document
        anchors = Anchors(self.seen.documents[columns], owners + rows.first_query, rows.row_ids[owners], weights)
        everyone = torch.arange(len(scored), device=scored.device)
        own_names = [(everyone, names.document_keys[columns]), (everyone, rows.query_keys[owners])]
        blocks = [self._queries(Unwanted.of(own_names))]
        if self.same_tower:
            blocks.append(self._documents(self._known(scored)))
        return anchors, blocks

    def _known(self, scored: Tensor) -> Unwanted:
        """For each scored positive: the known positives of its query, itself, and the query."""
        rows = self.rows
        owners = rows.own_rows[scored]
        everyone = torch.arange(len(scored), device=scored.device)
        # known positives are listed by row; a row with several positives needs the list for each
        order = torch.argsort(rows.known_rows, stable=True)
        bounds = torch.searchsorted(rows.known_rows[order], torch.stack([owners, owners + 1]))
        count = bounds[1] - bounds[0]
        anchor, listed = everyone.repeat_interleave(count), rows.known_keys[order[places(bounds[0], count)]]
        own = self.seen.names.document_keys[rows.own[scored] + rows.first_document]
        return Unwanted.of([(anchor, listed), (everyone, own), (everyone, rows.query_keys[owners])])

    def _documents(self, unwanted: Unwanted) -> Block:
        names = self.seen.names
        self._unused.pop("documents", None)
        repeated = repeated_texts(names.document_keys, names.document_rows)
        return Block(
            self.seen.documents,
            names.document_rows,
            torch.nonzero(repeated).squeeze(1),
            Holders.of_documents(names.document_keys, repeated),
            unwanted,
        )

    def _own_documents(self, unwanted: Unwanted) -> Block:
        names, first = self.seen.names, self.rows.first_document
        self._unused.pop("documents", None)
        own = slice(first, first + self.rows.documents)
        keys, of_rows = names.document_keys[own], names.document_rows[own]
        repeated = repeated_texts(keys, of_rows, within_row=True)
        hidden = torch.nonzero(repeated).squeeze(1)
        holders = Holders.of_documents(keys, repeated)
        return Block(self.seen.documents[own], of_rows, hidden, holders, unwanted)

    def _queries(self, unwanted: Unwanted) -> Block:
        assert self.seen.queries is not None, "the caller gathers queries where a side needs them"
        names = self.seen.names
        self._unused.pop("queries", None)
        repeated = repeated_texts(names.query_keys, names.query_rows)
        hidden = torch.nonzero(repeated).squeeze(1)
        return Block(self.seen.queries, names.query_rows, hidden, Holders.of_queries(names, repeated), unwanted)
