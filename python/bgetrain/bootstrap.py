"""How sure a difference between two systems is, by the paired bootstrap.

What both were measured on (queries, pairs of sentences) is drawn again with replacement, the same draw for both; the
difference is computed on each draw, and the interval holds the middle 95 % of them (Efron & Tibshirani 1993, §13.3;
for retrieval: Sakai 2006). An interval that holds 0 says that other queries could have ordered the two the other way.
Draws come from a fixed seed: the same scores give the same interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["DRAWS", "Difference", "mean_difference", "score_difference"]

DRAWS = 2000
"""How often a difference of means is drawn."""

_SLOW_DRAWS = 500
"""How often a difference is drawn that has to be computed anew from all pairs."""

_AT_ONCE = 1 << 22
"""Most places drawn at a time, 8 bytes each."""

_MIDDLE = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Difference:
    """A system's score minus that of another.

    Attributes:
        value: the difference.
        low: the lower end of its 95 % interval.
        high: the upper end.
    """

    value: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def mean_difference(groups: Sequence[NDArray[np.float64]], *, draws: int = DRAWS, seed: int = 0) -> Difference:
    """The difference of means over queries; of several collections the mean over these, each drawn within itself.

    Args:
        groups: for each collection the difference of the two systems on each query, float64 [Q], not empty.
        draws: how often to draw.
        seed: of the draws.

    Raises:
        ValueError: there is no group, or an empty one.
    """
    if not groups or not all(len(group) for group in groups):
        raise ValueError("expected a difference on at least one query of each collection")
    rng = np.random.default_rng(seed)
    means = np.zeros(draws)
    for group in groups:
        values = np.asarray(group, dtype=np.float64)
        means += np.concatenate([values[places].mean(axis=1) for places in _drawn(rng, len(values), draws)])
    low, high = np.quantile(means / len(groups), _MIDDLE)
    return Difference(float(np.mean([np.mean(group) for group in groups])), float(low), float(high))


def score_difference(
    score: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    own: NDArray[np.float64],
    other: NDArray[np.float64],
    labels: NDArray[np.float64],
    *,
    draws: int = _SLOW_DRAWS,
    seed: int = 0,
) -> Difference:
    """The difference of a score that is no mean, as a correlation.

    Args:
        score: takes a system's values and the labels, both float64 [N].
        own: values of the system, float64 [N].
        other: those of the other one.
        labels: what they are held against.
        draws: how often to draw; a draw that the score is not defined on is drawn again, at most ten times as often.
        seed: of the draws.

    Raises:
        ValueError: there are no pairs, or hardly a draw gives a score.
    """
    if not len(labels):
        raise ValueError("expected at least one pair")
    rng = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(10 * draws):
        places = rng.integers(0, len(labels), len(labels))
        drawn = labels[places]
        if (drawn == drawn[0]).all():
            continue
        found.append(score(own[places], drawn) - score(other[places], drawn))
        if len(found) == draws:
            break
    if not found:
        raise ValueError("no draw held two labels")
    low, high = np.quantile(found, _MIDDLE)
    return Difference(score(own, labels) - score(other, labels), float(low), float(high))


def _drawn(rng: np.random.Generator, count: int, draws: int) -> Iterator[NDArray[np.int64]]:
    """Places drawn with replacement, int64 [some, count], `draws` rows in all."""
    rows = max(1, _AT_ONCE // count)
    for start in range(0, draws, rows):
        yield rng.integers(0, count, (min(rows, draws - start), count))
