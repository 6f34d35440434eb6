"""What cosines of sentence pairs say of a model: correlations for STS, a classifier's figures for labelled pairs.

The definitions are mteb's, which everybody reports: Spearman's and Pearson's correlation of cosine and score; average
precision of the pairs ranked by cosine, and accuracy and F1 at the threshold that is best for each, taken half-way
between two cosines that differ (tied pairs fall on one side). No sentence ever gets an instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bgetrain.sentence_pairs import Kind

__all__ = [
    "PAIR_METRICS",
    "STS_METRICS",
    "average_precision",
    "best_accuracy",
    "best_f1",
    "main_score",
    "pearson",
    "ranks",
    "score_similarity",
    "spearman",
]

STS_METRICS = ("spearman", "pearson")
"""Names of the metrics of STS, in the order in which they are shown."""

PAIR_METRICS = ("ap", "accuracy", "f1")
"""The same of labelled pairs."""


def pearson(values: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Pearson's correlation; 0 where one side is constant, where it is not defined.

    Args:
        values: float64 [N].
        labels: float64 [N].
    """
    # exactly constant, since what is left after taking the mean off is noise
    if np.ptp(values) == 0 or np.ptp(labels) == 0:
        return 0.0
    one, other = values - values.mean(), labels - labels.mean()
    return float(np.clip((one / np.linalg.norm(one)) @ (other / np.linalg.norm(other)), -1.0, 1.0))


def spearman(values: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values sharing the mean of theirs; see `pearson`."""
    return pearson(ranks(values), ranks(labels))


def average_precision(values: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Σ (R_n − R_{n−1}) · P_n over the thresholds n between differing values, from the highest down.

    Args:
        values: float64 [N].
        labels: 1 or 0, float64 [N].

    Returns:
        Between 0 and 1; 0 where no label is 1.
    """
    found, taken, _ = _cuts(values, labels)
    total = labels.sum()
    return float(np.diff(found, prepend=0.0) @ (found / taken) / total) if total else 0.0


def best_accuracy(values: NDArray[np.float64], labels: NDArray[np.float64]) -> tuple[float, float]:
    """The largest share of pairs that a threshold puts on their side, and that threshold.

    As in mteb, at least one pair lies on each side; (0, −1) where all values are equal.
    """
    found, taken, thresholds = (part[:-1] for part in _cuts(values, labels))
    if not len(taken):
        return 0.0, -1.0
    right = (found + (len(labels) - labels.sum()) - (taken - found)) / len(labels)
    best = int(np.argmax(right))
    return float(right[best]), float(thresholds[best])


def best_f1(values: NDArray[np.float64], labels: NDArray[np.float64]) -> tuple[float, float]:
    """The largest F1 that a threshold gives, and that threshold; see `best_accuracy`.

    (0, 0) where no threshold finds a pair.
    """
    found, taken, thresholds = (part[:-1] for part in _cuts(values, labels))
    f1 = 2 * found / (taken + labels.sum())
    if not len(f1) or f1.max() == 0:
        return 0.0, 0.0
    best = int(np.argmax(f1))
    return float(f1[best]), float(thresholds[best])


def score_similarity(cosines: NDArray[np.float64], labels: NDArray[np.float64], kind: Kind) -> dict[str, float]:
    """The figures of a model.

    Args:
        cosines: one a pair, float64 [N].
        labels: scores, or 1 and 0, float64 [N].
        kind: which of the two.

    Returns:
        metric → value; of labelled pairs also `accuracy_threshold` and `f1_threshold`.
    """
    if kind == "sts":
        return {"spearman": spearman(cosines, labels), "pearson": pearson(cosines, labels)}
    accuracy, at = best_accuracy(cosines, labels)
    f1, f1_at = best_f1(cosines, labels)
    precision = average_precision(cosines, labels)
    return {"ap": precision, "accuracy": accuracy, "f1": f1, "accuracy_threshold": at, "f1_threshold": f1_at}


def main_score(kind: Kind) -> tuple[str, Callable[[NDArray[np.float64], NDArray[np.float64]], float]]:
    """The metric that decides, and how it is computed from cosines and labels."""
    return ("spearman", spearman) if kind == "sts" else ("ap", average_precision)


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, ascending, float64 [N]; equal values get the mean of those that they share."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: NDArray[np.float64] = last - (counts - 1) / 2
    return mean[inverse]


def _cuts(
    values: NDArray[np.float64], labels: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """For each place where the values, from the highest down, change: the ones above it, the pairs above it, half-way.

    The last place is below all pairs; its third figure says nothing.
    """
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    below = ranked[np.minimum(ends + 1, len(ranked) - 1)]
    return np.cumsum(labels[order])[ends], (ends + 1).astype(np.float64), (ranked[ends] + below) / 2
