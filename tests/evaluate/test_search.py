"""Tiled search finds what one dense product and one full sort find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bgetrain import search
from bgetrain.search import TopK, id_places


def dense(
    queries: NDArray[np.float32], documents: NDArray[np.float32], ids: list[str], k: int
) -> list[list[tuple[str, float]]]:
    """The reference: all scores, each row sorted by score and then id, both descending."""
    scores = queries @ documents.T
    return [
        sorted(zip(ids, row.tolist(), strict=True), key=lambda pair: (pair[1], pair[0]), reverse=True)[:k]
        for row in scores
    ]


def tiled(
    queries: NDArray[np.float32], documents: NDArray[np.float32], ids: list[str], k: int, pieces: list[int]
) -> list[list[tuple[str, float]]]:
    best, places = TopK(queries, k), id_places(ids)
    for left, right in zip([0, *pieces], [*pieces, len(ids)], strict=True):
        best.add(documents[left:right], places[left:right])
    scores, found = best.result()
    by_place = sorted(ids)
    return [
        [(by_place[place], float(score)) for place, score in zip(row, values, strict=True)]
        for row, values in zip(found, scores, strict=True)
    ]


@pytest.mark.parametrize("tile", [1, 7, 64, 1 << 22])
@pytest.mark.parametrize("k", [1, 10, 500])
def test_equals_the_dense_search_with_many_ties(monkeypatch: pytest.MonkeyPatch, tile: int, k: int) -> None:
    monkeypatch.setattr(search, "TILE_SCORES", tile)
    random = np.random.default_rng(5)
    # Small whole numbers: sums are exact in fp32 in any order, and most scores are tied.
    queries = random.integers(-2, 3, (9, 4)).astype(np.float32)
    documents = random.integers(-2, 3, (130, 4)).astype(np.float32)
    ids = [f"d{number}" for number in random.permutation(130)]
    expected = dense(queries, documents, ids, k)
    assert len({score for _, score in expected[0]}) < len(expected[0]) or k == 1
    assert tiled(queries, documents, ids, k, []) == expected
    assert tiled(queries, documents, ids, k, [1, 2, 60, 60, 129]) == expected


def test_the_order_of_documents_does_not_matter() -> None:
    random = np.random.default_rng(6)
    queries = random.integers(-2, 3, (5, 3)).astype(np.float32)
    documents = random.integers(-2, 3, (80, 3)).astype(np.float32)
    ids = [f"d{number}" for number in range(80)]
    mixed = random.permutation(80)
    assert tiled(queries, documents, ids, 7, [40]) == tiled(
        queries, documents[mixed], [ids[number] for number in mixed], 7, [3]
    )


def test_scores_of_every_sign_and_size_keep_their_order_and_value() -> None:
    values = np.array([-3e38, -1.0, -1e-40, -0.0, 0.0, 1e-40, 0.5, 3e38], dtype=np.float32)[:, None]
    ids = [f"d{number}" for number in range(8)]
    (found,) = tiled(np.ones((1, 1), dtype=np.float32), values, ids, 8, [3])
    assert [document for document, _ in found[:3]] == ["d7", "d6", "d5"] or not values[5]
    assert [score for _, score in found] == sorted(values[:, 0].tolist(), reverse=True)
    # 0.0 and -0.0 are equal, so the larger id comes first.
    zeros = [document for document, score in found if score == 0.0]
    assert zeros == sorted(zeros, reverse=True)


def test_memory_is_bounded_by_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TILE_SCORES", 256)
    largest = 0
    pack = search._pack

    def watched(scores: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, scores.numel())
        return pack(scores, places)

    monkeypatch.setattr(search, "_pack", watched)
    best = TopK(np.ones((50, 2), dtype=np.float32), 3)
    best.add(np.ones((300, 2), dtype=np.float32), np.arange(300))
    assert 0 < largest <= 256
    assert best.result()[1].tolist() == [[299, 298, 297]] * 50


def test_tf32_is_off_during_the_product_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    pack = search._pack
    monkeypatch.setattr(search, "_pack", lambda scores, places: pack(scores, places))
    plain = search.plain_fp32
    monkeypatch.setattr(search, "plain_fp32", lambda: _Watch(plain(), seen))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        TopK(np.ones((1, 1), dtype=np.float32), 1).add(np.ones((1, 1), dtype=np.float32), np.zeros(1, dtype=np.int64))
        assert seen == ["highest"]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


class _Watch:
    """A context that notes the precision inside another one."""

    def __init__(self, inner: object, seen: list[str]) -> None:
        self.inner, self.seen = inner, seen

    def __enter__(self) -> None:
        self.inner.__enter__()  # type: ignore[attr-defined]
        self.seen.append(torch.get_float32_matmul_precision())

    def __exit__(self, *error: object) -> None:
        self.inner.__exit__(*error)  # type: ignore[attr-defined]


def test_vectors_that_are_not_finite_are_refused() -> None:
    bad = np.array([[1.0], [np.nan]], dtype=np.float32)
    with pytest.raises(ValueError, match="query 1 is not finite"):
        TopK(bad, 1)
    with pytest.raises(ValueError, match="document 1 is not finite"):
        TopK(bad[:1], 1).add(bad, np.arange(2))
    with pytest.raises(ValueError, match="k must be at least 1"):
        TopK(bad[:1], 0)
