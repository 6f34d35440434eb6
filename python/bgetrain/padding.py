"""Token rows of unequal length as a few padded rectangles that waste little.

1. `TokenRows` holds the texts of a step flat: one array of ids and the offsets of the rows in it.
2. `length_sorted_chunks` orders the rows by length and cuts them by a budget of padded tokens, so that
   a rectangle holds rows of nearly one length. The loss does not depend on the order of rows.
3. `pad` fills one rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["ONE_TOKEN", "TokenRows", "length_sorted_chunks", "pad", "tokens_at_once"]


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Texts as flat token ids; row i is `ids[offsets[i]:offsets[i + 1]]`.

    Attributes:
        ids: int [tokens], special tokens included, no padding.
        offsets: int64 [rows + 1].
    """

    ids: NDArray[np.integer]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each row, int64 [rows]."""
        return np.diff(self.offsets)

    @classmethod
    def from_lists(cls, rows: Iterable[Sequence[int]]) -> TokenRows:
        """Builds the flat form from one list of ids a text."""
        arrays = [np.asarray(row, dtype=np.int32) for row in rows]
        lengths = np.array([len(row) for row in arrays], dtype=np.int64)
        ids = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int32)
        return cls(ids, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)]))

    @classmethod
    def concatenate(cls, first: TokenRows, second: TokenRows) -> TokenRows:
        """The rows of `first`, then the rows of `second`."""
        offsets = np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]])
        return cls(np.concatenate([first.ids, second.ids]), offsets)


ONE_TOKEN = TokenRows(np.zeros(1, dtype=np.int64), np.array([0, 1], dtype=np.int64))
"""The shortest text there is, for passes that only keep step with those of other ranks."""


def tokens_at_once(device: torch.device) -> int:
    """Most tokens of a chunk where nobody says: on a GPU what keeps it busy, else what a processor's caches hold."""
    return 16_384 if device.type == "cuda" else 4_096


def length_sorted_chunks(lengths: NDArray[np.int64], budget: int) -> list[NDArray[np.int64]]:
    """Cuts rows into groups of nearly equal length.

    Args:
        lengths: tokens of each row, int64 [rows].
        budget: most tokens of a group, padding included; a longer row is a group of its own. A group of an
            eighth of it also ends where rows get shorter than three quarters of its longest, so that short
            queries do not share a rectangle with long documents.

    Returns:
        Row indices, one int64 array a group; the longest rows come first, so that a budget that does not
        fit the memory fails at the start of a step; ties keep their order.
    """
    order = np.argsort(-lengths, kind="stable")
    chunks: list[NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        rows = max(1, budget // longest)
        alike = int(np.searchsorted(-lengths[order], -0.75 * longest, side="right")) - start
        rows = min(rows, max(alike, budget // 8 // longest, 1))
        chunks.append(order[start : start + rows])
        start += rows
    return chunks


def pad(rows: TokenRows, chosen: NDArray[np.int64], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fills one rectangle with the chosen rows.

    Args:
        rows: the texts.
        chosen: indices of the rows, int64 [n].
        pad_id: the id that fills the rest.

    Returns:
        input_ids int64 [n, longest] and attention_mask int64 [n, longest] (1 = token), on the CPU.
    """
    starts = rows.offsets[chosen]
    lengths = rows.offsets[chosen + 1] - starts
    columns = np.arange(int(lengths.max(initial=0)), dtype=np.int64)
    mask = columns[None, :] < lengths[:, None]
    places = np.where(mask, starts[:, None] + columns[None, :], 0)
    ids = np.where(mask, rows.ids[places], pad_id)
    return torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(mask.astype(np.int64))
