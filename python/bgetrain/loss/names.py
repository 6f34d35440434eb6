"""Which texts are never each other's negatives: decided by 64-bit keys, without a matrix of pairs.

A text is named by its key; equal keys mean equal (or nearly equal) texts. What an anchor must not be pushed away from
is a list of keys (`Unwanted`); who holds a key among the candidates is a sorted list (`Holders`). A tile of anchors
asks for its own few pairs, so that nothing here grows with anchors x candidates.

Keys and row ids are 64-bit and only compared, so unsigned values may come as int64 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Holders", "Names", "Unwanted", "places", "repeated_texts"]


@dataclass(frozen=True, slots=True)
class Names:
    """What the texts of a global batch are called: N queries, M documents, K known positives, of all ranks.

    Attributes:
        query_keys: int64 [N].
        query_rows: int64 [N], shard-set row of each query.
        document_keys: int64 [M].
        document_rows: int64 [M], shard-set row of each document.
        known_keys: int64 [K].
        known_rows: int64 [K], shard-set row whose known positive it is.
    """

    query_keys: Tensor
    query_rows: Tensor
    document_keys: Tensor
    document_rows: Tensor
    known_keys: Tensor
    known_rows: Tensor


@dataclass(frozen=True, slots=True)
class Holders:
    """Which candidates hold a key.

    Attributes:
        keys: int64 [h], sorted.
        columns: int64 [h], the candidate that holds each of them.
    """

    keys: Tensor
    columns: Tensor

    @classmethod
    def of(cls, keys: Tensor, columns: Tensor) -> Holders:
        """Sorts key and candidate pairs, given in any order."""
        order = torch.argsort(keys, stable=True)
        return cls(keys[order], columns[order])

    @classmethod
    def of_documents(cls, keys: Tensor, repeated: Tensor) -> Holders:
        """A document holds its own key; a repeated one is hidden and needs no entry."""
        columns = torch.nonzero(~repeated).squeeze(1)
        return cls.of(keys[columns], columns)

    @classmethod
    def of_queries(cls, names: Names, repeated: Tensor) -> Holders:
        """A query holds its own key and those of its known positives."""
        columns = torch.nonzero(~repeated).squeeze(1)
        # rows of a batch are distinct, so a row id finds its query
        rows, order = torch.sort(names.query_rows)
        place = torch.searchsorted(rows, names.known_rows).clamp(max=max(0, len(rows) - 1))
        of_known = order[place]
        shown = ~repeated[of_known]
        return cls.of(
            torch.cat([names.query_keys[columns], names.known_keys[shown]]), torch.cat([columns, of_known[shown]])
        )


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Keys that are no negatives of an anchor, flat and ordered by anchor.

    Attributes:
        anchors: int64 [u], ascending.
        keys: int64 [u].
    """

    anchors: Tensor
    keys: Tensor

    @classmethod
    def of(cls, parts: list[tuple[Tensor, Tensor]]) -> Unwanted:
        """Joins lists of (anchor, key), each in any order."""
        anchors = torch.cat([anchor for anchor, _ in parts])
        order = torch.argsort(anchors, stable=True)
        return cls(anchors[order], torch.cat([key for _, key in parts])[order])

    def pairs(self, first: int, last: int, holders: Holders) -> tuple[Tensor, Tensor]:
        """The pairs that a tile of anchors must leave out.

        Args:
            first: the first anchor of the tile.
            last: the anchor behind it.
            holders: of one set of candidates.

        Returns:
            Anchor, counted from `first`, and candidate: int64 [p] each, without repetition.
        """
        low, high = torch.searchsorted(self.anchors, torch.tensor([first, last], device=self.anchors.device)).tolist()
        anchors, keys = self.anchors[low:high] - first, self.keys[low:high]
        begin = torch.searchsorted(holders.keys, keys)
        count = torch.searchsorted(holders.keys, keys, right=True) - begin
        anchor, column = anchors.repeat_interleave(count), holders.columns[places(begin, count)]
        pairs = torch.unique(torch.stack([anchor, column]), dim=1)
        return pairs[0], pairs[1]


def places(begin: Tensor, count: Tensor) -> Tensor:
    """The runs begin, begin + 1 … of `count` places each, one after the other; int64 [sum(count)]."""
    before = count.cumsum(0) - count
    runs = (begin - before).repeat_interleave(count)
    return runs + torch.arange(len(runs), device=runs.device)


def repeated_texts(keys: Tensor, rows: Tensor, *, within_row: bool = False) -> Tensor:
    """Marks each text that is not the first of its key, in the order of row ids.

    The result does not depend on how rows are spread over ranks: of equal texts the one of the smallest row id stays.

    Args:
        keys: int64 [M].
        rows: int64 [M], the row of each text.
        within_row: count a text as repeated only by one of its own row.

    Returns:
        bool [M].
    """
    order = torch.argsort(rows, stable=True)
    order = order[torch.argsort(keys[order], stable=True)]
    same = keys[order[1:]] == keys[order[:-1]]
    if within_row:
        same = same & (rows[order[1:]] == rows[order[:-1]])
    repeats = torch.zeros_like(keys, dtype=torch.bool)
    repeats[order[1:]] = same
    return repeats
