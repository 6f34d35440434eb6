"""Hard negatives of one query, slow and clear: every passage scored in 64 bits, every rule a loop.

1. Passages are ranked by score, equal scores by place. Known positives are left out before ranks are counted.
2. A passage may be taken whose rank lies in the window and whose score is at most the ceiling: a share of the lowest
   positive's score (measured from it downwards, whatever its sign), or that score less a margin.
3. Of passages with one key the best may be taken alone. The first ones are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def negatives(
    query: NDArray[np.float32],
    passages: NDArray[np.float32],
    keys: Sequence[int],
    known: set[int],
    positives: Sequence[int],
    *,
    count: int,
    first: int,
    last: int,
    max_relative: float | None,
    margin: float | None = None,
) -> list[int]:
    scores = [float(np.dot(query.astype(np.float64), passage.astype(np.float64))) for passage in passages]
    lowest = min(scores[place] for place in positives)
    ranked = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    unknown = [place for place in ranked if keys[place] not in known]
    taken: list[int] = []
    seen: set[int] = set()
    for place in unknown[first:last]:
        if max_relative is not None and scores[place] > lowest - (1 - max_relative) * abs(lowest):
            continue
        if margin is not None and scores[place] > lowest - margin:
            continue
        if keys[place] in seen:
            continue
        seen.add(keys[place])
        taken.append(place)
    return taken[:count]
