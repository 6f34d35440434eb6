"""The nearest passages of many queries, part by part: neither the pool nor its scores are ever in memory whole.

1. The vectors of the pool lie on disk in parts (`vectors`); `PIECE_ROWS` of them are in memory at a time.
2. A block of queries is searched in a piece, and its best are merged with the best so far.
3. Where scores are equal the passage that comes first in the pool is the better one.

`exact` compares every query with every passage: by faiss (Johnson et al. 2017, arXiv 1702.08734) where it is
installed, on its GPUs where it has some, else by torch. `ivf` keeps one inverted file a piece on disk and looks at the
lists next to a query, `hnsw` (Malkov & Yashunin 2016, arXiv 1603.09320) holds a graph and all vectors in memory; both
need faiss.

A block of queries goes through the same shapes whoever takes it. So neither who takes which block nor the size of the
parts changes a digit.
"""

from __future__ import annotations

import importlib.util
import mmap
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bgetrain.errors import ConfigError, ModelError
from bgetrain.extras import need
from bgetrain.index_files import graph_file, inverted_files

__all__ = [
    "PIECE_ROWS",
    "QUERY_BLOCK",
    "Index",
    "Neighbours",
    "SearchOptions",
    "VectorParts",
    "check_engine",
    "merge_best",
]

QUERY_BLOCK = 4096
"""Queries searched at a time; part of the result's last digits, so no option."""

PIECE_ROWS = 65_536
"""Vectors of the pool that are searched at a time, and so in memory; no option either."""

Index = Literal["exact", "ivf", "hnsw"]
Engine = Literal["auto", "faiss", "torch"]

_FEWEST_QUERIES = 32

_DEEPEST = 2048
"""Of a search: no faiss on a GPU goes deeper."""

_LOW = np.int64((1 << 32) - 1)


class VectorParts(Protocol):
    """What is searched; `bgetrain.vectors.Vectors` is one."""

    @property
    def rows(self) -> int:
        """Number of vectors."""

    @property
    def dim(self) -> int:
        """Their length."""

    def parts(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row and vectors [n, dim], part by part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOptions:
    """How to search.

    Attributes:
        index: `exact`, `ivf` or `hnsw`.
        engine: `faiss`, `torch`, or `auto`: faiss where it is installed and no GPU speaks for torch.
        lists: lists of an inverted file; 0 takes four times the square root of the pool's size.
        probes: lists looked at for a query, or the length of the candidate list of `hnsw`; 0 takes 32, or 2 k.
        device: where torch computes.
    """

    index: Index = "exact"
    engine: Engine = "auto"
    lists: int = 0
    probes: int = 0
    device: str = "cpu"


def check_engine(options: SearchOptions) -> None:
    """Makes sure that what the options ask for is there, without importing it.

    Raises:
        ConfigError: an index that the engine does not have.
        LaunchError: faiss is asked for and not installed.
    """
    if options.index != "exact":
        if options.engine == "torch":
            raise ConfigError(f"--index {options.index}: needs faiss, found --search_engine torch")
        need("faiss", wanted_by=f"--index {options.index}", extra="mine")
    elif options.engine == "faiss":
        need("faiss", wanted_by="--search_engine faiss", extra="mine")


class Neighbours:
    """Searches a pool.

    Attributes:
        engine: what computes, `faiss` or `torch`.
    """

    def __init__(self, pool: VectorParts, options: SearchOptions | None = None, *, folder: Path | None = None) -> None:
        """Looks at nothing yet; an index is made, or found in `folder`, at the first search.

        Args:
            pool: the vectors, of one length.
            options: how to search.
            folder: where the files of `ivf` and `hnsw` go; what lies there is taken for an index of this pool.

        Raises:
            ConfigError: an index that the engine does not have.
            LaunchError: faiss is asked for and not installed.
        """
        self._pool = pool
        self._options = options or SearchOptions()
        self._folder = folder
        self._checked = False
        self._piece: NDArray[np.float32] | None = None
        check_engine(self._options)
        engine = self._options.engine
        if self._options.index != "exact":
            engine = "faiss"
        elif engine == "auto":
            engine = "faiss" if importlib.util.find_spec("faiss") and not self._torch_has_the_gpu() else "torch"
        self.engine = engine

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best passages of a block of queries.

        Args:
            queries: float32 [B, D].
            k: passages wanted, at least 1.

        Returns:
            Scores [B, K] descending and places in the pool [B, K], K = min(k, passages); an inverted file that finds
            fewer leaves scores that are not a number and places of -1 at the end.

        Raises:
            ValueError: k is below 1, or the vectors have another length than the pool's.
            ModelError: a vector is not finite.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, is {k}")
        if queries.shape[1] != self._pool.dim:
            raise ValueError(f"queries of {queries.shape[1]} dimensions in a pool of {self._pool.dim}")
        _check_finite(queries, "queries", 0)
        k = min(k, self._pool.rows)
        if not len(queries) or not k:
            return np.zeros((len(queries), k), dtype=np.float32), np.zeros((len(queries), k), dtype=np.int64)
        if self._options.index == "hnsw":
            return self._search_graph(queries, k)
        find = self._torch if self.engine == "torch" else self._inverted if self._options.index == "ivf" else self._flat
        return find(queries, k)

    def _pieces(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """First row and vectors of each piece, in fp32; they hold until the next one is asked for."""
        if self._piece is None:
            # one for all pieces: memory that is taken and given back each time is slow
            self._piece = np.empty((min(PIECE_ROWS, self._pool.rows), self._pool.dim), dtype=np.float32)
        start = filled = 0
        for _, part in self._pool.parts():
            taken = 0
            while taken < len(part):
                count = min(len(self._piece) - filled, len(part) - taken)
                self._piece[filled : filled + count] = part[taken : taken + count]
                filled, taken = filled + count, taken + count
                if filled == len(self._piece):
                    yield start, self._looked_at(self._piece, start)
                    start, filled = start + filled, 0
            mapped: object = part.base
            if isinstance(mapped, mmap.mmap) and sys.platform == "linux":
                mapped.madvise(mmap.MADV_DONTNEED)
        if filled:
            yield start, self._looked_at(self._piece[:filled], start)
        self._checked = True

    def _looked_at(self, vectors: NDArray[np.float32], first: int) -> NDArray[np.float32]:
        if not self._checked:
            _check_finite(vectors, "passages", first)
        return vectors

    def _flat(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        faiss = _faiss()
        by_gpu = getattr(faiss, "get_num_gpus", lambda: 0)() > 0
        resources = faiss.StandardGpuResources() if by_gpu else None
        # a thread of a pool has device 0 as its own, whatever the rank's is; -1 leaves it at that
        device = int(self._options.device.partition("cuda:")[2] or -1)
        metric = faiss.METRIC_INNER_PRODUCT

        def knn(asked: NDArray[np.float32], piece: NDArray[np.float32], wanted: int) -> tuple[Any, Any]:
            if by_gpu:
                return faiss.knn_gpu(  # type: ignore[no-any-return]
                    resources, asked, piece, wanted, metric=metric, device=device
                )
            return faiss.knn(asked, piece, wanted, metric=metric)  # type: ignore[no-any-return]

        def found() -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
            for first, piece in self._pieces():
                scores, places = _first_of_equals(knn, queries, piece, k)
                yield scores, places + first

        return merge_best(found(), k)

    def _torch(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        from bgetrain.search import TopK

        best = TopK(queries, k, self._options.device)
        # `TopK` puts the highest place first among equals, as trec_eval does
        for first, piece in self._pieces():
            best.add(piece, _LOW - np.arange(first, first + len(piece), dtype=np.int64))
        scores, places = best.result()
        return scores, _LOW - places

    def _torch_has_the_gpu(self) -> bool:
        return self._options.device.startswith("cuda") and not getattr(_faiss(), "get_num_gpus", lambda: 0)()

    def _inverted(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        faiss = _faiss()

        def found() -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
            for first, path in self._inverted_files():
                index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
                index.nprobe = min(self._options.probes or 32, index.nlist)
                scores, places = index.search(queries, k)
                yield np.where(places < 0, np.nan, scores), np.where(places < 0, -1, places + first)

        return merge_best(found(), k)

    def make_index(self) -> None:
        """Makes the files of `ivf` and `hnsw` where they are missing, as the first search does otherwise."""
        if self._options.index == "ivf":
            self._inverted_files()
        elif self._options.index == "hnsw":
            graph_file(self._index_folder(), self._pool.dim, self._pieces)

    def _inverted_files(self) -> list[tuple[int, Path]]:
        shape = (self._pool.rows, self._pool.dim)
        return inverted_files(self._index_folder(), shape, self._pieces, PIECE_ROWS, self._options.lists)

    def _search_graph(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        path = graph_file(self._index_folder(), self._pool.dim, self._pieces)
        if getattr(self, "_graph", None) is None:
            self._graph = _faiss().read_index(str(path))
        self._graph.hnsw.efSearch = max(self._options.probes or 2 * k, k)
        scores, places = self._graph.search(queries, k)
        return merge_best(iter([(np.where(places < 0, np.nan, scores), places)]), k)

    def _index_folder(self) -> Path:
        if self._folder is None:
            raise ValueError(f"index {self._options.index} needs a folder for its files")
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder


def _first_of_equals(
    knn: Callable[..., tuple[NDArray[np.float32], NDArray[np.int64]]],
    queries: NDArray[np.float32],
    piece: NDArray[np.float32],
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best k of a piece; of passages with the score of the last one, those that come first in the piece.

    faiss keeps any of them. Where one more than k shows such a tie, the query is searched again, deeper and deeper,
    until all of them are found; past the deepest search, all scores of the piece are looked at, part by part.
    """
    count = len(piece)
    if k >= count:
        return knn(queries, piece, count)
    scores, places = knn(queries, piece, k + 1)
    tied = np.flatnonzero(scores[:, k - 1] == scores[:, k])
    scores, places = scores[:, :k].copy(), places[:, :k].copy()
    depth = k + 1
    while len(tied):
        depth = min(2 * depth, count)
        # faiss takes another way, with other last digits, for fewer queries than these
        asked = np.resize(tied, max(len(tied), _FEWEST_QUERIES))
        if depth > _DEEPEST:

            def parts(asked: NDArray[np.int64] = asked, own: int = len(tied)) -> Iterator[tuple[Any, Any]]:
                for first in range(0, count, _DEEPEST):
                    part = piece[first : first + _DEEPEST]
                    found, where = knn(queries[asked], part, len(part))
                    yield found[:own], where[:own] + first

            scores[tied], places[tied] = merge_best(parts(), k)
            break
        deeper, where = knn(queries[asked], piece, depth)
        deeper, where = deeper[: len(tied)], where[: len(tied)]
        best = np.sort(_pack(deeper, where), axis=1)[:, ::-1][:, :k]
        done = (deeper[:, -1] < scores[tied, k - 1]) | (depth == count)
        scores[tied[done]], places[tied[done]] = _unpack(best[done])
        tied = tied[~done]
    return scores, places


def merge_best(
    found: Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best k of lists of scores and places: score descending, then place ascending.

    Args:
        found: scores float32 [B, n] and places int64 [B, n] below 2³², at least one pair; a place of -1 is nothing.
        k: how many to keep.

    Returns:
        Scores and places [B, min(k, Σ n)].
    """
    best: NDArray[np.int64] | None = None
    for scores, places in found:
        packed = _pack(scores, places)
        best = packed if best is None else np.concatenate((best, packed), axis=1)
        if best.shape[1] > k:
            best = np.partition(best, best.shape[1] - k, axis=1)[:, -k:]
    if best is None:
        raise ValueError("nothing was searched")
    return _unpack(np.sort(best, axis=1)[:, ::-1])


def _pack(scores: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number each whose order is that of the score, and among equals the reverse of the place's."""
    bits = (np.asarray(scores, dtype=np.float32) + np.float32(0)).view(np.int32).astype(np.int64)
    # negative floats grow downwards in their bits: turn all but the sign around
    ordered = np.where(bits < 0, bits ^ np.int64(0x7FFFFFFF), bits)
    packed = (ordered << 32) | (_LOW - places)
    return np.asarray(np.where(places < 0, np.iinfo(np.int64).min, packed))


def _unpack(packed: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    absent = packed == np.iinfo(np.int64).min
    ordered = packed >> 32
    bits = np.where(ordered < 0, ordered ^ np.int64(0x7FFFFFFF), ordered).astype(np.int32)
    scores = bits.view(np.float32).copy()
    scores[absent] = np.nan
    return scores, np.where(absent, -1, _LOW - (packed & _LOW))


def _check_finite(vectors: NDArray[np.float32], what: str, first: int) -> None:
    # a sum is finite only if all are, and is faster to take than to look at each
    if np.isfinite(vectors.sum(dtype=np.float64)):
        return
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    raise ModelError(
        f"{len(bad)} vectors of the {what} are not finite, the first is number {first + int(bad[0])}",
        hint="the weights of the model are damaged, or it overflowed in half precision",
    )


def _faiss() -> Any:  # noqa: ANN401 - faiss has no types
    import faiss

    return faiss
