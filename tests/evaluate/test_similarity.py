"""Correlations equal scipy's, average precision scikit-learn's, thresholds those of every cut tried in turn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from bgetrain.similarity import (
    average_precision,
    best_accuracy,
    best_f1,
    pearson,
    ranks,
    score_similarity,
    spearman,
)

# few distinct values, so that many are tied
VALUES = st.sampled_from([-1.0, -0.25, 0.0, 0.1, 0.1 + 1e-9, 0.5, 1.0])


def cuts(values: list[float]) -> list[float]:
    """Every threshold half-way between two values that differ."""
    ordered = sorted(set(values))
    return [(low + high) / 2 for low, high in pairwise(ordered)]


def slow(values: list[float], labels: list[int]) -> tuple[float, float]:
    """The best accuracy and F1 of all thresholds."""
    accuracy = f1 = 0.0
    for threshold in cuts(values):
        said = [int(value > threshold) for value in values]
        accuracy = max(accuracy, sklearn.metrics.accuracy_score(labels, said))
        f1 = max(f1, sklearn.metrics.f1_score(labels, said, zero_division=0.0))
    return accuracy, f1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(VALUES, st.integers(0, 1)), min_size=2, max_size=30))
def test_figures_of_pairs_equal_the_slow_ones(entries: list[tuple[float, int]]) -> None:
    values, labels = [value for value, _ in entries], [label for _, label in entries]
    own, said = np.array(values), np.array(labels, dtype=np.float64)
    if sum(labels):
        expected = sklearn.metrics.average_precision_score(labels, values)
        assert average_precision(own, said) == pytest.approx(expected, abs=1e-12)
    else:
        assert average_precision(own, said) == 0.0
    accuracy, f1 = slow(values, labels)
    found, threshold = best_accuracy(own, said)
    assert found == pytest.approx(accuracy, abs=1e-12)
    assert best_f1(own, said)[0] == pytest.approx(f1, abs=1e-12)
    if found:
        assert ((own > threshold) == said).mean() == pytest.approx(found, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(VALUES, st.sampled_from([0.0, 1.0, 2.5, 5.0])), min_size=3, max_size=40))
def test_correlations_equal_scipy(entries: list[tuple[float, float]]) -> None:
    values, labels = np.array([value for value, _ in entries]), np.array([label for _, label in entries])
    if np.ptp(values) == 0 or np.ptp(labels) == 0:
        assert spearman(values, labels) == pearson(values, labels) == 0.0
        return
    assert spearman(values, labels) == pytest.approx(scipy.stats.spearmanr(values, labels)[0], abs=1e-12)
    assert pearson(values, labels) == pytest.approx(scipy.stats.pearsonr(values, labels)[0], abs=1e-9)
    assert ranks(values).tolist() == scipy.stats.rankdata(values).tolist()


def test_many_pairs_equal_the_libraries() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 4000).astype(np.float64)
    cosines = np.round(labels * 0.3 + random.normal(0, 0.4, 4000), 2)
    found = score_similarity(cosines, labels, "pairs")
    assert found["ap"] == pytest.approx(sklearn.metrics.average_precision_score(labels, cosines), abs=1e-12)
    said = cosines > found["f1_threshold"]
    assert found["f1"] == pytest.approx(sklearn.metrics.f1_score(labels, said), abs=1e-12)
    assert 0.5 < found["ap"] < 0.9
    graded = score_similarity(cosines, labels * 5, "sts")
    assert graded["spearman"] == pytest.approx(scipy.stats.spearmanr(cosines, labels)[0], abs=1e-12)
    assert graded["pearson"] == pytest.approx(scipy.stats.pearsonr(cosines, labels)[0], abs=1e-12)


def test_tied_pairs_fall_on_one_side() -> None:
    """Cut through a tie, the order of the rows would leak into the figures: 1.0 and not 0.75."""
    values, labels = np.array([0.5, 0.5, 0.5, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])
    assert best_accuracy(values, labels) == (0.75, 0.3)
    assert best_f1(values, labels) == (0.8, 0.3)
    assert best_accuracy(np.ones(3), np.array([1.0, 0.0, 1.0])) == (0.0, -1.0)
    assert best_f1(np.ones(3), np.array([1.0, 0.0, 1.0])) == (0.0, 0.0)
