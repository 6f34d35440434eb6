"""What is searched equals brute force; what is chosen equals the slow rules of `tests/reference/negatives.py`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bgetrain import neighbours
from bgetrain.errors import ConfigError, LaunchError, ModelError
from bgetrain.negatives import Rules, ceilings, choose, known_candidates
from bgetrain.neighbours import Neighbours, SearchOptions, merge_best
from bgetrain.overlap import jaccard, nearly_equal, shingles
from tests.reference import near
from tests.reference.negatives import negatives

FAISS = pytest.param("faiss", marks=pytest.mark.skipif(not importlib.util.find_spec("faiss"), reason="no faiss"))


class Parts:
    """Vectors in memory, in parts of some size."""

    def __init__(self, vectors: np.ndarray, size: int) -> None:
        self._vectors, self._size = vectors, size
        self.rows, self.dim = vectors.shape

    def parts(self) -> Iterator[tuple[int, np.ndarray]]:
        for first in range(0, self.rows, self._size):
            yield first, self._vectors[first : first + self._size]


def unit(count: int, seed: int, dim: int = 24) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("engine", [FAISS, "torch"])
@pytest.mark.parametrize("size", [70, 512, 5000])
def test_ranks_equal_brute_force_whatever_the_parts(monkeypatch: pytest.MonkeyPatch, engine: Any, size: int) -> None:
    monkeypatch.setattr(neighbours, "PIECE_ROWS", 512)
    pool, queries = unit(1300, 1), unit(40, 2)
    pool[700] = pool[3]  # equal scores: the first place wins
    scores, places = Neighbours(Parts(pool, size), SearchOptions(engine=engine)).search(queries, 200)
    exact = queries.astype(np.float64) @ pool.astype(np.float64).T
    expected = np.lexsort((np.broadcast_to(np.arange(1300), exact.shape), -exact), axis=1)[:, :200]
    assert np.array_equal(places, expected)
    assert np.abs(scores - np.take_along_axis(exact, expected, axis=1)).max() < 1e-6
    wrong = np.lexsort((np.broadcast_to(np.arange(1300), exact.shape), -np.round(exact, 2)), axis=1)[:, :200]
    assert not np.array_equal(places, wrong), "scores of two digits would do: the test shows nothing"


@pytest.mark.parametrize("engine", [FAISS, "torch"])
@pytest.mark.parametrize("count", [3, 60])
@pytest.mark.parametrize("k", [5, 120, 300])
def test_of_passages_with_one_score_the_first_are_taken(
    monkeypatch: pytest.MonkeyPatch, engine: Any, count: int, k: int
) -> None:
    """Thirty distinct vectors, seventy times each: nearly every cut falls among equals."""
    monkeypatch.setattr(neighbours, "PIECE_ROWS", 1600)
    kinds = np.random.default_rng(0).integers(0, 30, 2100)
    pool, queries = unit(30, 1)[kinds], unit(count, 2)
    _, places = Neighbours(Parts(pool, 700), SearchOptions(engine=engine)).search(queries, k)
    exact = (queries.astype(np.float64) @ unit(30, 1).astype(np.float64).T)[:, kinds]
    expected = np.lexsort((np.broadcast_to(np.arange(2100), exact.shape), -exact), axis=1)[:, :k]
    assert np.array_equal(places, expected)


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="no faiss")
@pytest.mark.parametrize("k", [5, 100, 300])
def test_no_search_is_deeper_than_a_gpu_can(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """Three thousand copies of one vector among others: the same result, bit by bit, as by a search of that depth."""
    import faiss

    kinds = np.random.default_rng(0).integers(0, 2, 6000)
    pool, queries = unit(2, 1)[kinds], unit(40, 2)
    pool[::50] = unit(120, 3)
    knn, depths = faiss.knn, []

    def noted(asked: Any, piece: Any, depth: int, *, metric: int) -> Any:
        depths.append(depth)
        return knn(asked, piece, depth, metric=metric)

    monkeypatch.setattr(faiss, "knn", noted)
    search = SearchOptions(engine="faiss")
    found = Neighbours(Parts(pool, 700), search).search(queries, k)
    assert max(depths) <= 2048
    monkeypatch.setattr(neighbours, "_DEEPEST", 10_000)
    deep = Neighbours(Parts(pool, 700), search).search(queries, k)
    assert max(depths) > 2048, "without the bound it goes deeper: the test shows something"
    assert np.array_equal(found[1], deep[1])
    assert np.array_equal(found[0], deep[0])


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="no faiss")
@pytest.mark.parametrize(("device", "told"), [("cuda:1", 1), ("cuda", -1), ("cpu", -1)])
def test_faiss_searches_on_the_gpu_of_its_rank(monkeypatch: pytest.MonkeyPatch, device: str, told: int) -> None:
    import faiss

    asked = []

    def knn_gpu(_: Any, queries: Any, pool: Any, k: int, *, metric: int, device: int) -> Any:
        asked.append(device)
        return faiss.knn(queries, pool, k, metric=metric)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "knn_gpu", knn_gpu, raising=False)
    Neighbours(Parts(unit(50, 1), 50), SearchOptions(engine="faiss", device=device)).search(unit(3, 2), 5)
    assert set(asked) == {told}


def test_the_size_of_the_parts_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PIECE_ROWS", 256)
    pool, queries = unit(1000, 1), unit(20, 2)
    found = [Neighbours(Parts(pool, size)).search(queries, 50) for size in (33, 256, 1000)]
    assert all(np.array_equal(one[0], found[0][0]) and np.array_equal(one[1], found[0][1]) for one in found)


@pytest.mark.skipif(not importlib.util.find_spec("faiss"), reason="no faiss")
@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_an_approximate_index_finds_nearly_all_and_is_made_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: Any
) -> None:
    monkeypatch.setattr(neighbours, "PIECE_ROWS", 1024)
    pool, queries = unit(3000, 1), unit(50, 2)
    options = SearchOptions(index=index, lists=16, probes=12 if index == "ivf" else 400)
    _, exact = Neighbours(Parts(pool, 700)).search(queries, 20)
    scores, places = Neighbours(Parts(pool, 700), options, folder=tmp_path).search(queries, 20)
    found = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(places, exact, strict=True)])
    assert found > 0.9
    assert (np.diff(scores, axis=1) <= 0).all()
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == (4 if index == "ivf" else 1)
    Neighbours(Parts(pool, 700), options, folder=tmp_path).search(queries, 20)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_searches_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = unit(30, 1)
    scores, places = Neighbours(Parts(pool, 10)).search(unit(3, 2), 200)
    assert scores.shape == places.shape == (3, 30)
    damaged = pool.copy()
    damaged[17, 3] = np.nan
    with pytest.raises(ModelError, match="1 vectors of the passages are not finite, the first is number 17"):
        Neighbours(Parts(damaged, 10)).search(unit(3, 2), 5)
    with pytest.raises(ModelError, match="of the queries are not finite"):
        Neighbours(Parts(pool, 10)).search(damaged, 5)
    with pytest.raises(ValueError, match="24"):
        Neighbours(Parts(pool, 10)).search(unit(3, 2, dim=8), 5)
    with pytest.raises(ConfigError, match="needs faiss"):
        Neighbours(Parts(pool, 10), SearchOptions(index="ivf", engine="torch"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(__import__("sys").modules, "faiss", raising=False)
    with pytest.raises(LaunchError, match="--index hnsw needs the package faiss"):
        Neighbours(Parts(pool, 10), SearchOptions(index="hnsw"))


def test_absent_places_stand_last_when_lists_merge() -> None:
    nothing = (np.array([[0.5, np.nan]], np.float32), np.array([[7, -1]]))
    scores, places = merge_best(iter([nothing, (np.array([[-0.5]], np.float32), np.array([[2]]))]), 3)
    assert places.tolist() == [[7, 2, -1]]
    assert scores[0, :2].tolist() == [0.5, -0.5]
    assert np.isnan(scores[0, 2])


@pytest.mark.parametrize(
    "rules",
    [
        Rules(count=5),
        Rules(count=7, first=3, last=40, max_relative=None),
        Rules(count=50, first=0, last=30, max_relative=0.6, margin=0.3),
        Rules(count=4, first=10, last=20, max_relative=None, margin=0.05),
    ],
)
def test_what_is_chosen_equals_the_slow_rules(rules: Rules) -> None:
    generator = np.random.default_rng(5)
    pool, queries = unit(120, 1), unit(60, 2)
    keys = generator.integers(1, 90, 120).astype(np.uint64)  # near duplicates share keys
    positives = [generator.choice(120, size=generator.integers(1, 4), replace=False) for _ in queries]
    known = [{int(keys[place]) for place in own} for own in positives]
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in positives])])
    names = [np.array(sorted(own), np.uint64) for own in known]
    name_offsets = np.concatenate([[0], np.cumsum([len(one) for one in names])])
    scores, places = Neighbours(Parts(pool, 50)).search(queries, 120)
    own_scores = np.concatenate([pool[own] @ query for own, query in zip(positives, queries, strict=True)])
    chosen = choose(
        scores,
        keys[places],
        known_candidates(keys[places], np.concatenate(names), name_offsets),
        ceilings(own_scores, offsets, rules),
        np.arange(60, dtype=np.uint64),
        rules,
    )
    for row, query in enumerate(queries):
        expected = negatives(
            query, pool, keys.tolist(), known[row], positives[row].tolist(), count=rules.count, first=rules.first,
            last=rules.last, max_relative=rules.max_relative, margin=rules.margin,
        )  # fmt: skip
        columns = chosen.columns[row]
        assert places[row, columns[columns >= 0]].tolist() == expected


def test_a_draw_hangs_on_seed_query_and_passage_alone() -> None:
    rules = Rules(count=6, first=10, last=90, max_relative=None, sampling="random")
    pool, queries = unit(120, 1), unit(30, 2)
    keys = np.arange(1, 121, dtype=np.uint64)
    scores, places = Neighbours(Parts(pool, 120)).search(queries, 120)

    def drawn(block: slice, rules: Rules) -> list[set[int]]:
        rows = places[block]
        none, high = np.zeros(rows.shape, np.bool_), np.full(len(rows), np.inf, np.float32)
        names = np.arange(30, dtype=np.uint64)[block]
        columns = choose(scores[block], keys[rows], none, high, names, rules).columns
        assert ((columns >= 10) & (columns < 90)).all()
        return [set(row) for row in np.take_along_axis(rows, columns, axis=1).tolist()]

    whole = drawn(slice(0, 30), rules)
    assert drawn(slice(0, 11), rules) + drawn(slice(11, 30), rules) == whole
    assert drawn(slice(0, 30), Rules(count=6, first=10, last=90, max_relative=None, sampling="random", seed=1)) != whole
    assert len(set.union(*whole)) > 60


def test_ceilings_of_odd_positives() -> None:
    rules = Rules(max_relative=0.9)
    offsets = np.array([0, 2, 2, 3])
    found = ceilings(np.array([0.8, 0.5, -0.2], np.float32), offsets, rules)
    assert found[0] == pytest.approx(0.45)  # the lower of two
    assert found[1] == -np.inf  # no positive: nothing may be taken
    assert found[2] == pytest.approx(-0.22)  # below a negative score, not above it
    assert ceilings(np.zeros(0, np.float32), np.zeros(2, np.int64), Rules(max_relative=None)).tolist() == [np.inf]
    assert ceilings(np.zeros(0, np.float32), np.zeros(2, np.int64), Rules(max_relative=None, max_score=0.5)) == 0.5


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"count": 0}, "--negative_number"),
        ({"first": 5, "last": 5}, "--range"),
        ({"max_relative": float("nan")}, "--max_relative"),
        ({"margin": float("inf")}, "--margin"),
    ],
)
def test_rules_that_cannot_choose(given: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        Rules(**given)


def test_a_near_copy_is_one_whatever_the_way_it_is_found() -> None:
    words = "ten small words are here and they are all in one row of a line that is long enough to cut".split()  # noqa: SIM905
    texts = [
        " ".join(words),
        " ".join(words[:14]),
        " ".join(words[::-1]),
        " ".join(words).upper(),
        "",
        "…",
        "ten small",
    ]
    for text in [*texts, *(f"{one}é" for one in texts)]:
        for least in (0.3, 0.5, 0.9):
            expected = any(jaccard(shingles(text), shingles(other)) >= least for other in texts[:2])
            assert nearly_equal(text, [shingles(other) for other in texts[:2]], least) == expected


def test_overlap_equals_the_reference() -> None:
    texts = [
        "Ten small words are here, and they are all in one row.",
        "ten SMALL words are here and they are all in one line",
        "大模型的训练需要很多数据和时间", "大模型的训练需要很多数据", "one two", "", "…!?", "x_y z",
        "tabs\tand\x1cseparators\x0b(of) [all] kinds_of-them; 3.5 %, e.g. IT'S", "\x00nul\x7fdel",
    ]  # fmt: skip
    for one in texts:
        assert shingles(one) == near.passage_shingles(one)
        for other in texts:
            expected = near.jaccard(near.passage_shingles(one), near.passage_shingles(other))
            assert jaccard(shingles(one), shingles(other)) == pytest.approx(float(expected))
