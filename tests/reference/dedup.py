"""Exact dedup of pairs, slow and clear: dictionaries over normalised texts, one row at a time.

The rules are those of the docstring of `rust/bgeprep-core/src/dedup/exact.rs`; nothing of the code
is shared. Rows are plain objects, everything is in memory, every question is a scan.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, field


@dataclass
class Row:
    """One pair record after cleaning, and what became of it."""

    place: tuple[int, int]
    query: str
    pos: list[str]
    neg: list[str] = field(default_factory=list)
    pos_scores: list[float] = field(default_factory=list)
    source: str = "s"
    priority: int = 0
    symmetric: bool = False
    merge: bool = False
    also: set[str] = field(default_factory=set)
    fate: str = "kept"
    twin: Row | None = None

    def score(self, item: int) -> float:
        return self.pos_scores[item] if self.pos_scores else math.nan


def normalise(text: str) -> str:
    """NFKC, full case folding, white space to single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def deduplicate(rows: list[Row]) -> list[Row]:
    """Changes rows in place and returns them; `fate` says kept, duplicate, merged or homeless."""
    items = [(row, item) for row in rows for item in range(len(row.pos))]
    items.sort(key=lambda one: (one[0].priority, _worst_last(one[0].score(one[1])), one[0].place, one[1]))
    owner: dict[tuple[str, str], tuple[Row, int]] = {}
    mirrored: dict[tuple[str, str], tuple[Row, int]] = {}
    repeated: dict[tuple[tuple[int, int], int], tuple[Row, int]] = {}
    known: dict[str, set[str]] = {}
    for row, item in items:
        query, positive = normalise(row.query), normalise(row.pos[item])
        known.setdefault(query, set()).add(positive)
        earlier = owner.get((query, positive))
        if row.symmetric:
            known.setdefault(positive, set()).add(query)
            candidates = [one for one in (earlier, mirrored.get((query, positive))) if one]
            earlier = candidates[0] if candidates else None
            mirrored.setdefault((positive, query), (row, item))
        if earlier:
            repeated[row.place, item] = earlier
        else:
            owner[query, positive] = (row, item)

    for row in rows:
        if row.pos and all((row.place, item) in repeated for item in range(len(row.pos))):
            row.fate, row.twin = "duplicate", repeated[row.place, 0][0]

    ranked = sorted(rows, key=lambda row: min(
        [(row.priority, _worst_last(row.score(item)), row.place) for item in range(len(row.pos))]
        + [(row.priority, _worst_last(math.nan), row.place)]
    ))  # fmt: skip
    first: dict[tuple[str, str], Row] = {}
    for row in ranked:
        if row.merge and row.pos and row.fate == "kept":
            receiver = first.setdefault((row.source, normalise(row.query)), row)
            if receiver is not row:
                row.fate, row.twin = "merged", receiver
    for row in ranked:
        if not row.pos:
            homes = [
                other for other in ranked
                if other.source == row.source and other.pos and other.fate == "kept"
                and normalise(other.query) == normalise(row.query)
            ]  # fmt: skip
            row.fate, row.twin = ("merged", homes[0]) if homes else ("homeless", None)

    def heir(row: Row | None, query: str) -> Row | None:
        while row is not None and row.fate != "kept":
            row = row.twin
        return row if row is not None and normalise(row.query) == query else None

    lists = {row.place: ([], [], []) for row in rows}
    for row in rows:
        if row.fate == "kept":
            stays = [item for item in range(len(row.pos)) if (row.place, item) not in repeated]
            lists[row.place][0].extend((row.pos[item], row.score(item)) for item in stays)
    givers = sorted((row for row in rows if row.fate == "merged"), key=lambda row: row.place)
    for row in givers:
        stays = [item for item in range(len(row.pos)) if (row.place, item) not in repeated]
        lists[row.twin.place][0].extend((row.pos[item], row.score(item)) for item in stays)

    seen: set[tuple[tuple[int, int], str]] = set()
    for fates in (("kept",), ("duplicate", "merged")):
        for row in (one for one in ranked if one.fate in fates):
            query = normalise(row.query)
            target = heir(row, query)
            for item, negative in enumerate(row.neg):
                text = normalise(negative)
                if target is None or text in known.get(query, ()) or (target.place, text) in seen:
                    continue
                seen.add((target.place, text))
                own = target is row
                lists[target.place][1].append((not own, row.place, item, negative))

    for row in rows:
        if row.fate == "kept":
            positives, negatives, _ = lists[row.place]
            row.pos = [text for text, _ in positives]
            row.neg = [text for *_, text in sorted(negatives, key=lambda one: one[:3])]
            row.also = known[normalise(row.query)] - {normalise(text) for text in row.pos}
    return rows


def _worst_last(score: float) -> float:
    return math.inf if math.isnan(score) else -score
