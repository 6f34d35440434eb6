"""Decontamination, slow and clear: every text of a row against every text of every benchmark.

The rules are those at the head of `rust/bgeprep-core/src/exclude/mod.rs`; nothing of the code is shared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from tests.reference import dedup, near
from tests.reference.near import CJK, jaccard

# All texts meet all others: what each is made of is found once.
normalise, tokens = cache(dedup.normalise), cache(near.tokens)
query_shingles, passage_shingles = cache(near.query_shingles), cache(near.passage_shingles)

Kind = Literal["query", "pair", "passage", "containment"]


@dataclass
class Collection:
    """A benchmark: texts by id, and which passages are relevant to which query."""

    queries: dict[str, str]
    passages: dict[str, tuple[str, str]] = field(default_factory=dict)
    judged: set[tuple[str, str]] = field(default_factory=set)

    def variants(self, id: str) -> list[str]:
        title, text = self.passages[id]
        return [f"{title} {text}", text] if title else [text]


@dataclass(frozen=True)
class Fate:
    """What becomes of a row: why it goes, or which positives go; `similarity` is that of the row's query."""

    row: Kind | None = None
    similarity: float = math.nan
    positives: tuple[int, ...] = ()


def fate(
    query: str,
    pos: list[str],
    benchmarks: list[Collection],
    *,
    symmetric: bool = False,
    corpus: bool = False,
    containment: bool = True,
    threshold: float = 0.8,
) -> Fate:
    sides = [(query, pos)] + ([(text, [query]) for text in pos] if symmetric else [])
    for text, answers in sides:
        met = [
            (similarity, benchmark, id)
            for benchmark in benchmarks
            for id, other in benchmark.queries.items()
            if (similarity := likeness(text, other, "query", threshold)) is not None
        ]
        if met:
            pairs = [
                similarity
                for similarity, benchmark, id in met
                for judged, passage in benchmark.judged
                if judged == id and any(is_passage(answer, benchmark, passage, threshold) for answer in answers)
            ]
            return Fate("pair", max(pairs)) if pairs else Fate("query", max(similarity for similarity, *_ in met))

    gone: tuple[int, ...] = ()
    if corpus:
        in_corpus = [any(is_passage(text, one, id, threshold) for one in benchmarks for id in one.passages)
                     for text in [query, *pos]]  # fmt: skip
        if (symmetric and in_corpus[0]) or all(in_corpus[1:]):
            return Fate("passage")
        gone = tuple(item for item, found in enumerate(in_corpus[1:]) if found)
    if containment:
        needles = [text for one in benchmarks for text in one.queries.values()]
        needles += [
            text for one in benchmarks for _, id in one.judged if id in one.passages for text in one.variants(id)
        ]
        stays = [query] + [text for item, text in enumerate(pos) if item not in gone]
        if any(holds(text, needle) for text in stays for needle in needles):
            return Fate("containment")
    return Fate(positives=gone)


def likeness(text: str, other: str, rule: Literal["query", "passage"], threshold: float) -> float | None:
    """The similarity of two texts if they are equal or near."""
    if normalise(text) == normalise(other):
        return 1.0
    shingles = query_shingles if rule == "query" else passage_shingles
    similarity = jaccard(shingles(text), shingles(other))
    return similarity if similarity >= threshold else None


def is_passage(text: str, benchmark: Collection, id: str, threshold: float) -> bool:
    if id not in benchmark.passages:
        return False
    return any(likeness(text, variant, "passage", threshold) is not None for variant in benchmark.variants(id))


@cache
def is_long(text: str) -> bool:
    alone = [token for token in tokens(text) if any(first <= ord(token[0]) <= last for first, last in CJK)]
    return len(alone) >= 25 or len(tokens(text)) - len(alone) >= 13


@cache
def joined(text: str) -> str:
    return "|" + "|".join(tokens(text)) + "|"


def holds(text: str, needle: str) -> bool:
    """Whether all tokens of a long needle stand in the text, side by side: as texts of tokens between bars."""
    return is_long(needle) and joined(needle) in joined(text)
