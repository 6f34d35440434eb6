"""Indexes of a pool of vectors on disk, each made once: those of `ivf` and `hnsw` in `neighbours`.

Two processes that make one at once need not come to the same, since threads put vectors into a graph in any order. So
of processes that share the work one makes it, before the others search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Pieces = Callable[[], Iterator[tuple[int, NDArray[np.float32]]]]

__all__ = ["graph_file", "inverted_files"]

_SAMPLED = 64
"""Training vectors for each list of an inverted file, at most."""


def inverted_files(
    folder: Path, shape: tuple[int, int], pieces: Pieces, piece_rows: int, lists: int | None
) -> list[tuple[int, Path]]:
    """One inverted file a piece, all with the same lists, made where they are missing.

    Args:
        folder: where they lie.
        shape: vectors of the pool, and their length.
        pieces: first row and vectors, float32 [n, dim], of each piece.
        piece_rows: vectors of a piece.
        lists: of a file; None for four times the square root of the vectors.

    Returns:
        First row and file of each piece.
    """
    import faiss

    rows, dim = shape
    files = [(first, folder / f"ivf-{first:012}.faiss") for first in range(0, rows, piece_rows)]
    if all(path.is_file() for _, path in files):
        return files
    empty = folder / "ivf-empty.faiss"
    if not empty.is_file():
        # no fewer vectors a list than faiss asks for, or it says so on stderr
        count = min(lists or int(4 * rows**0.5), max(rows // 39, 1))
        index = faiss.index_factory(dim, f"IVF{count},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.train(_sample(rows, pieces, count * _SAMPLED))
        _write(index, empty)
    for (_, path), (_, vectors) in zip(files, pieces(), strict=True):
        if not path.is_file():
            index = faiss.read_index(str(empty))
            index.add(vectors)
            _write(index, path)
    return files


def graph_file(folder: Path, dim: int, pieces: Pieces) -> Path:
    """The graph of all vectors, made where it is missing.

    Args:
        folder: where it lies.
        dim: length of a vector.
        pieces: first row and vectors, float32 [n, dim], of each piece.
    """
    import faiss

    path = folder / "hnsw.faiss"
    if not path.is_file():
        index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        for _, vectors in pieces():
            index.add(vectors)
        _write(index, path)
    return path


def _sample(rows: int, pieces: Pieces, count: int) -> NDArray[np.float32]:
    """Vectors at even distances, of all parts alike."""
    step = max(rows // count, 1)
    return np.concatenate([vectors[-first % step :: step].copy() for first, vectors in pieces()])


def _write(index: Any, path: Path) -> None:  # noqa: ANN401 - faiss has no types
    import faiss

    # one process writes here; what one left that was killed is written over
    temporary = path.with_name(f".{path.name}.tmp")
    faiss.write_index(index, str(temporary))
    temporary.replace(path)
