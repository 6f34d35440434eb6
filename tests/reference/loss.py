"""InfoNCE with masked known positives, one document at a time: slow, and clear enough to be believed."""

from __future__ import annotations

import math
from typing import Any


def masked_info_nce(
    queries: list[list[float]], documents: list[list[float]], rows: list[dict[str, Any]], temperature: float
) -> list[tuple[float, int]]:
    """The loss and the number of negatives of each query of a global batch.

    A row has `row_id`, `query_key`, `known` (set of keys), `in_batch`, and `documents`: a list of
    (position in `documents`, key), its own positive first.
    """
    everything = [(row["row_id"], place, key) for row in rows for place, key in row["documents"]]
    results = []
    for query, row in zip(queries, rows, strict=True):
        own_place, own_key = row["documents"][0]
        forbidden = row["known"] | {own_key, row["query_key"]}
        counted: set[int] = set()
        kept = [own_place]
        # the copy that stays is the one of the smallest row, in the order of its documents
        for row_id, place, key in sorted(everything, key=lambda item: (item[0], item[1])):
            visible = row["in_batch"] or row_id == row["row_id"]
            if visible and place != own_place and key not in forbidden and key not in counted:
                counted.add(key)
                kept.append(place)
        scores = [sum(a * b for a, b in zip(query, documents[place], strict=True)) / temperature for place in kept]
        top = max(scores)
        results.append((top + math.log(sum(math.exp(score - top) for score in scores)) - scores[0], len(kept) - 1))
    return results
