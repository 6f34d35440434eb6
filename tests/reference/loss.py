"""The contrastive loss one candidate at a time: slow, and clear enough to be believed. Gradients by plain autograd.

A row has `row_id`, `query_key`, `known` (set of keys), `in_batch`, `both`, and `documents`: a list of (place in
`documents`, key), its `positives` first (1 where not given).
"""

from __future__ import annotations

from typing import Any

import torch


def contrastive(
    queries: torch.Tensor,
    documents: torch.Tensor,
    rows: list[dict[str, Any]],
    temperature: float,
    *,
    same_tower: bool = False,
    hardness: float = 0.0,
    margin: float | None = None,
) -> tuple[torch.Tensor, list[int]]:
    """The loss of each row of a global batch, and the negatives of its query."""
    everything = [(row["row_id"], place, key) for row in rows for place, key in row["documents"]]
    # the copy of a text that stays is the one of the smallest row
    everything.sort(key=lambda item: (item[0], item[1]))
    others = sorted(range(len(rows)), key=lambda index: rows[index]["row_id"])

    def kept_documents(row: dict[str, Any], own: int, forbidden: set[int]) -> list[int]:
        kept, counted = [], set()
        for row_id, place, key in everything:
            if not (row["in_batch"] or row_id == row["row_id"]) or key in counted:
                continue
            counted.add(key)
            if place != own and key not in forbidden:
                kept.append(place)
        return kept

    def kept_queries(own: int, forbidden: set[int]) -> list[int]:
        kept, counted = [], set()
        for index in others:
            if rows[index]["query_key"] in counted:
                continue
            counted.add(rows[index]["query_key"])
            if index != own and not forbidden & (rows[index]["known"] | {rows[index]["query_key"]}):
                kept.append(index)
        return kept

    def loss(anchor: torch.Tensor, own: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        cosines = negatives @ anchor
        scores = cosines / temperature + hardness * cosines.detach()
        own_score = (own @ anchor / temperature)[None]
        return torch.logsumexp(torch.cat([own_score, scores]), dim=0) - own_score[0]

    losses, counts = [], []
    for index, row in enumerate(rows):
        terms = []
        for own, key in row["documents"][: row.get("positives", 1)]:
            forbidden = row["known"] | {key, row["query_key"]}
            kept = kept_documents(row, own, forbidden)
            if margin is not None:
                limit = torch.cosine_similarity(queries[index], documents[own], dim=0) + margin
                mine = {place for place, _ in row["documents"]}
                kept = [
                    place
                    for place in kept
                    if place in mine or torch.cosine_similarity(queries[index], documents[place], dim=0) <= limit
                ]
            beside = kept_queries(-1, forbidden) if same_tower and row["in_batch"] else []
            side = [loss(queries[index], documents[own], torch.cat([documents[kept], queries[beside]]))]
            if row.get("both") and row["in_batch"]:
                seen = queries[kept_queries(index, {key, row["query_key"]})]
                if same_tower:
                    seen = torch.cat([seen, documents[kept_documents(row, -1, forbidden)]])
                side.append(loss(documents[own], queries[index], seen))
            terms.append(torch.stack(side).mean())
        losses.append(torch.stack(terms).mean())
        counts.append(len(kept) + len(beside))
    return torch.stack(losses), counts


def cosent(cosines: torch.Tensor, grades: list[float], temperature: float) -> torch.Tensor:
    """log(1 + sum over pairs with a higher and a lower grade of exp((lower - higher) / t))."""
    terms = [
        (cosines[low] - cosines[high]) / temperature
        for high in range(len(grades))
        for low in range(len(grades))
        if grades[high] > grades[low]
    ]
    return torch.logsumexp(torch.stack([cosines.new_zeros(()), *terms]), dim=0)
