"""Exact nearest-neighbour search in tiles.

1. Queries are held; documents arrive piece by piece and are never kept.
2. A piece is scored against a tile of queries by one fp32 matrix product (no TF32).
3. The scores of the tile and the best so far of those queries are merged to the best k.

Memory: Q · k · 8 bytes for the best so far, and a tile of at most `TILE_SCORES` scores, whatever the
number of documents. Equal scores are ordered as trec_eval orders them, by document id descending, also
at the cut: score and place of the id are packed into one 64-bit number, and the largest k numbers are
unique whatever the order in which the documents came.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bgetrain.precision import plain_fp32

__all__ = ["TILE_SCORES", "TopK", "id_places", "unpack"]

TILE_SCORES = 1 << 22
"""Most scores of one tile; with their packed form they take 12 bytes each, about 50 MB."""

_LOW = (1 << 32) - 1


def id_places(ids: Sequence[str]) -> NDArray[np.int64]:
    """Returns for each id its place, from 0, in the ascending byte order of all ids.

    Raises:
        ValueError: there are 2³² ids or more.
    """
    if len(ids) > _LOW:
        raise ValueError(f"{len(ids)} documents: at most {_LOW} can be searched")
    places = np.empty(len(ids), dtype=np.int64)
    places[sorted(range(len(ids)), key=lambda number: ids[number].encode())] = np.arange(len(ids))
    return places


class TopK:
    """The best k documents of each query so far.

    Attributes:
        k: how many are kept.
    """

    def __init__(self, queries: NDArray[np.float32], k: int, device: str | torch.device = "cpu") -> None:
        """Starts with nothing found.

        Args:
            queries: float32 [Q, D].
            k: documents kept for each query, at least 1.
            device: where products are computed.

        Raises:
            ValueError: k is below 1, or a query vector is not finite.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, is {k}")
        _check_finite(queries, "query")
        self.k = k
        self._queries = torch.from_numpy(queries).to(device)
        self._best = torch.empty(len(queries), 0, dtype=torch.int64, device=device)

    def add(self, documents: NDArray[np.float32], places: NDArray[np.int64]) -> None:
        """Scores a piece of documents against all queries.

        Args:
            documents: float32 [N, D].
            places: int64 [N], where each document's id stands among all ids (`id_places`).

        Raises:
            ValueError: a vector is not finite, or the two lengths differ.
        """
        if len(documents) != len(places):
            raise ValueError(f"{len(documents)} vectors for {len(places)} documents")
        _check_finite(documents, "document")
        device = self._queries.device
        columns = min(len(documents), TILE_SCORES)
        if not columns:
            return
        rows = max(1, TILE_SCORES // columns)
        for left in range(0, len(documents), columns):
            vectors = torch.from_numpy(documents[left : left + columns]).to(device)
            place = torch.from_numpy(places[left : left + columns]).to(device)
            merged = [
                self._merge(top, top + rows, vectors, place) for top in range(0, max(len(self._queries), 1), rows)
            ]
            self._best = torch.cat(merged)

    def _merge(self, top: int, bottom: int, documents: Tensor, places: Tensor) -> Tensor:
        """The best of the queries top … bottom after this piece, packed, descending."""
        with plain_fp32():
            scores = self._queries[top:bottom] @ documents.T
        packed = torch.cat((self._best[top:bottom], _pack(scores, places)), dim=1)
        return packed.topk(min(self.k, packed.shape[1]), dim=1, sorted=True).values

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns scores [Q, K] descending, and the places [Q, K] of the documents; K = min(k, documents)."""
        return unpack(self._best.cpu())

    def packed(self, width: int) -> Tensor:
        """The best so far as numbers that merge by `topk`, int64 [Q, width] on the CPU; what is absent is lowest."""
        lowest = torch.full((len(self._best), width), torch.iinfo(torch.int64).min)
        best = self._best[:, :width].cpu()
        lowest[:, : best.shape[1]] = best
        return lowest


def unpack(packed: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and places of packed numbers, both in their shape."""
    scores, places = _unpack(packed)
    return scores.numpy(), places.numpy()


def _pack(scores: Tensor, places: Tensor) -> Tensor:
    """int64 whose order is that of (score, place): the float's bits, made monotone, above the place."""
    bits = (scores + 0.0).view(torch.int32).to(torch.int64)  # + 0.0 makes -0.0 equal to 0.0
    # Negative floats grow downwards in their bits: turn all but the sign around.
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered << 32) | places


def _unpack(packed: Tensor) -> tuple[Tensor, Tensor]:
    ordered = packed >> 32
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return bits.to(torch.int32).view(torch.float32), packed & _LOW


def _check_finite(vectors: NDArray[np.float32], what: str) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(f"the vector of {what} {bad[0]} is not finite ({len(bad)} such vectors)")
