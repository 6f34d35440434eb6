"""Which of a query's nearest passages become its hard negatives: rules on arrays, without a model or a disk.

For each query, candidates stand in the order of their scores:

1. What is known to be a positive of the query goes, before ranks are counted (`known_candidates`).
2. Of the rest the ranks first … last - 1 stay: the window of FlagEmbedding's `range_for_sampling`.
3. A candidate that scores too close to the positive is likely a positive nobody has marked. It goes where its score
   lies above the ceiling (`ceilings`): 0.95 of the positive's (TopK-PercPos), or the positive's less a margin
   (TopK-MarginPos; both NV-Retriever, Moreira et al. 2024, arXiv 2407.15831), or a fixed score.
4. Of candidates that are near duplicates of each other the best stays.
5. The best are taken, or some are drawn: a draw hangs on seed, query and passage alone, so neither the order of the
   work nor the number of processes changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bgetrain.errors import ConfigError

__all__ = ["Choice", "Rules", "ceilings", "choose", "known_candidates", "mixed"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


_TABLE_BITS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How negatives are chosen.

    Attributes:
        count: negatives for a query, at most.
        first: best rank that may be taken, from 0, counted without known positives.
        last: the rank after the worst that may be taken.
        sampling: `top` takes the best, `random` draws from all that pass.
        max_relative: highest share of the positive's score; None for no such rule.
        margin: least distance below the positive's score; None for no such rule.
        max_score: highest score; None for no such rule.
        min_score: lowest score; None for no such rule.
        seed: decides what is drawn.
    """

    count: int = 15
    first: int = 0
    last: int = 200
    sampling: Literal["top", "random"] = "top"
    max_relative: float | None = 0.95
    margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        """Refuses what cannot choose anything."""
        if self.count < 1:
            raise ConfigError(f"--negative_number: expected at least 1, found {self.count}")
        if not 0 <= self.first < self.last:
            raise ConfigError(
                f"--range: expected two ranks, the first below the second, found {self.first}-{self.last}"
            )
        for flag, value in (
            ("--max_relative", self.max_relative),
            ("--margin", self.margin),
            ("--max_score", self.max_score),
            ("--min_score", self.min_score),
        ):
            if value is not None and not np.isfinite(value):
                raise ConfigError(f"{flag}: expected a number, found {value}")


@dataclass(frozen=True, slots=True)
class Choice:
    """What passed the rules, of B queries.

    Attributes:
        columns: the candidates in the order in which they are preferred, int64 [B, W]; -1 where there is none.
        dropped: how many candidates went, by reason: `known`, `window`, `ceiling`, `floor`, `duplicate`.
    """

    columns: NDArray[np.int64]
    dropped: dict[str, int]


def mixed(values: NDArray[np.uint64], more: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """A hash of two numbers, element by element (the finaliser of splitmix64, Steele et al. 2014).

    Args:
        values: uint64 of any shape.
        more: uint64 that broadcasts with `values`.
    """
    with np.errstate(over="ignore"):
        state = (values ^ (more * _GOLDEN)) + _GOLDEN
        state = (state ^ (state >> np.uint64(30))) * _FIRST
        state = (state ^ (state >> np.uint64(27))) * _SECOND
        return state ^ (state >> np.uint64(31))


def known_candidates(
    keys: NDArray[np.uint64],
    known: NDArray[np.uint64],
    offsets: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which candidates carry a key that their query knows.

    Args:
        keys: a key of each candidate, uint64 [B, K].
        known: keys of the known positives of all queries, one query after the other, uint64 [N].
        offsets: where those of each query begin, int64 [B + 1].

    Returns:
        bool [B, K].
    """
    found = np.zeros(keys.shape, dtype=np.bool_)
    # most candidates share no last bits with a key that any query knows: a table tells
    table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
    low = np.uint64(len(table) - 1)
    table[known & low] = True
    rows, columns = np.nonzero(table[keys & low])
    if len(rows):
        queries = np.arange(1, len(keys) + 1, dtype=np.uint64)
        own = np.sort(mixed(known, np.repeat(queries, np.diff(offsets))))
        asked = mixed(keys[rows, columns], queries[rows])
        places = np.minimum(np.searchsorted(own, asked), len(own) - 1)
        found[rows, columns] = own[places] == asked
    return found


def ceilings(scores: NDArray[np.float32], offsets: NDArray[np.int64], rules: Rules) -> NDArray[np.float32]:
    """The highest score a negative may have.

    Of several positives the one with the lowest score counts, as in Arctic-embed's mining: what is closer to the query
    than a text that answers it may answer it too.

    Args:
        scores: of all positives, one query after the other, float32 [N].
        offsets: where those of each query begin, int64 [B + 1].
        rules: which bounds there are.

    Returns:
        float32 [B]; infinity where nothing bounds the score, minus infinity for a query without a positive where the
        rules ask for its score.
    """
    counts = np.diff(offsets)
    lowest = np.full(len(counts), -np.inf)
    filled = counts > 0
    if filled.any():
        lowest[filled] = np.minimum.reduceat(scores.astype(np.float64), offsets[:-1][filled])
    highest = np.full(len(counts), np.inf)
    if rules.max_relative is not None:
        # a share of a negative score lies above it: the distance is what is meant
        highest = np.minimum(highest, lowest - (1.0 - rules.max_relative) * np.abs(lowest))
    if rules.margin is not None:
        highest = np.minimum(highest, lowest - rules.margin)
    if rules.max_score is not None:
        highest = np.minimum(highest, rules.max_score)
    return highest.astype(np.float32)


def choose(
    scores: NDArray[np.float32],
    keys: NDArray[np.uint64],
    known: NDArray[np.bool_],
    highest: NDArray[np.float32],
    query_keys: NDArray[np.uint64],
    rules: Rules,
    *,
    spare: int = 0,
) -> Choice:
    """The candidates that may be negatives, the preferred ones first.

    Args:
        scores: of the candidates, descending, float32 [B, K]; not a number where there is no candidate.
        keys: their batching keys, uint64 [B, K]: near duplicates share one.
        known: which are known positives, bool [B, K].
        highest: `ceilings`, float32 [B].
        query_keys: uint64 [B]; with seed and batching key of a candidate they decide what is drawn.
        rules: what may be taken.
        spare: how many more than `rules.count` to give, for who checks them further.

    Returns:
        The choice, of width `rules.count + spare`.
    """
    there = ~np.isnan(scores)
    unknown = there & ~known
    ranks = np.cumsum(unknown, axis=1) - 1
    window = unknown & (ranks >= rules.first) & (ranks < rules.last)
    low_enough = window & (scores <= highest[:, None])
    passed = low_enough if rules.min_score is None else low_enough & (scores >= rules.min_score)
    allowed = passed & ~_repeated(keys, passed)

    width = rules.count + spare
    columns = np.full((len(scores), width), -1, dtype=np.int64)
    if rules.sampling == "top":
        number = np.cumsum(allowed, axis=1)
        queries, candidates = np.nonzero(allowed & (number <= width))
        columns[queries, number[queries, candidates] - 1] = candidates
    else:
        draw = mixed(keys, mixed(query_keys, np.uint64(rules.seed))[:, None])
        # what is not allowed stands behind everything else
        taken = np.argsort(np.where(allowed, draw, np.uint64(2**64 - 1)), axis=1, kind="stable")[:, :width]
        columns[:, : taken.shape[1]] = np.where(np.take_along_axis(allowed, taken, axis=1), taken, -1)
    return Choice(
        columns,
        {
            "known": int((there & known).sum()),
            "window": int((unknown & ~window).sum()),
            "ceiling": int((window & ~low_enough).sum()),
            "floor": int((low_enough & ~passed).sum()),
            "duplicate": int((passed & ~allowed).sum()),
        },
    )


def _repeated(keys: NDArray[np.uint64], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the entries `among` have the key of one further left in their row, bool [B, K]."""
    # others get keys that are theirs alone, or as good as: of two entries with one key both would have to be lost
    own = np.where(among, keys, mixed(np.broadcast_to(np.arange(keys.shape[1], dtype=np.uint64), keys.shape), _SECOND))
    order = np.argsort(own, axis=1, kind="stable")
    ordered = np.take_along_axis(own, order, axis=1)
    same = np.zeros(keys.shape, dtype=np.bool_)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.empty_like(same)
    np.put_along_axis(repeated, order, same, axis=1)
    return np.asarray(repeated & among)
