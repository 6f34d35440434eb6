"""Intervals of differences: the draws written out, pairs kept together, and intervals that hold what they should."""

from __future__ import annotations

import numpy as np
import pytest

from bgetrain import bootstrap
from bgetrain.bootstrap import Difference, mean_difference, score_difference
from bgetrain.similarity import spearman


def test_equals_draws_written_out() -> None:
    change = np.random.default_rng(1).normal(0.02, 0.3, 60)
    found = mean_difference([change], draws=300, seed=5)
    rng = np.random.default_rng(5)
    means = sorted(sum(change[place] for place in rng.integers(0, 60, 60)) / 60 for _ in range(300))
    assert found.value == pytest.approx(sum(change) / 60)
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=1e-12)
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=1e-12)
    assert found.low < found.value < found.high
    assert not found.sure


def test_draws_do_not_hang_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    change = np.random.default_rng(2).normal(0, 1, 50)
    whole = mean_difference([change, change[:7]], draws=200)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 130)
    assert mean_difference([change, change[:7]], draws=200) == whole
    assert mean_difference([change, change[:7]], draws=200, seed=1) != whole


def test_collections_count_alike_whatever_their_size() -> None:
    found = mean_difference([np.full(1000, 0.1), np.full(10, 0.3)])
    assert found == Difference(pytest.approx(0.2), pytest.approx(0.2), pytest.approx(0.2))
    assert found.sure
    with pytest.raises(ValueError, match="at least one query"):
        mean_difference([np.zeros(0)])


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """95 of 100 by its promise; chance moves that by about 4."""
    rng = np.random.default_rng(4)
    held = 0
    for trial in range(200):
        found = mean_difference([rng.normal(0.1, 0.5, 80)], draws=300, seed=trial)
        held += found.low <= 0.1 <= found.high
    assert 178 <= held <= 199


def test_a_correlation_is_drawn_in_pairs() -> None:
    rng = np.random.default_rng(6)
    labels = rng.normal(0, 1, 150)
    noise = rng.normal(0, 1, 150)
    other = labels + noise
    # nearly the same system: drawn together they differ by little, drawn apart by much
    own = labels + 0.97 * noise
    paired = score_difference(spearman, own, other, labels)
    assert paired.value == spearman(own, labels) - spearman(other, labels) > 0
    assert paired.sure
    apart = [spearman(own[place], labels[place]) - spearman(other[beside], labels[beside])
             for place, beside in rng.integers(0, 150, (200, 2, 150))]  # fmt: skip
    low, high = np.quantile(apart, [0.025, 0.975])
    assert low < 0 < high, "draws that are not the same for both must not be sure, or pairing proves nothing"
    assert score_difference(spearman, own, own, labels) == Difference(0.0, 0.0, 0.0)


def test_draws_with_one_label_alone_are_drawn_again() -> None:
    labels = np.array([1.0, 0.0, 0.0])
    found = score_difference(spearman, np.array([0.9, 0.1, 0.2]), np.array([0.1, 0.9, 0.2]), labels, draws=50)
    assert found.value > 0
    with pytest.raises(ValueError, match="no draw held two labels"):
        score_difference(spearman, labels, labels, np.zeros(3), draws=5)
    with pytest.raises(ValueError, match="at least one pair"):
        score_difference(spearman, labels[:0], labels[:0], labels[:0])
