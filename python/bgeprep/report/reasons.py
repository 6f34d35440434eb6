"""What the names of drop reasons mean to people, and the families the page colours them by."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["DUPLICATES", "FAMILIES", "Reason", "by_family", "look_up", "order"]

#: Families in the order of the flow, and what the legend calls them.
FAMILIES = {
    "kept": "kept",
    "unreadable": "could not be read",
    "quality": "cleaning rules",
    "score": "score filter",
    "benchmark": "in a benchmark",
    "exact": "exact duplicates",
    "near": "near duplicates",
    "merged": "merged into another row",
    "other": "other reasons",
}
#: Reasons for which a row or positive went because a copy of it stays in the set.
DUPLICATES = ("duplicate", "near_duplicate")


@dataclass(frozen=True)
class Reason:
    """A drop reason: its name in manifest and rejects, its family, and one sentence."""

    name: str
    family: str
    meaning: str


_REASONS = {
    name: Reason(name, family, meaning)
    for family, named in {
        "unreadable": {
            "not_text": "bytes that are no text",
            "invalid_utf8": "not valid UTF-8",
            "long_line": "longer than a line may be",
            "bad_json": "not valid JSON",
            "bad_csv": "another number of fields than the header, or broken quotes",
            "unknown_shape": "no known shape of a pair",
            "no_label": "a label that says nothing, or one mapped to drop",
        },
        "quality": {
            "empty_field": "nothing left after cleaning",
            "too_short": "fewer characters than the least",
            "too_long": "more characters than the most",
            "repeated_characters": "mostly one character repeated",
            "repeated_phrases": "mostly the same phrases repeated",
            "symbol_noise": "mostly neither letters nor digits",
            "boilerplate": "text of the page, not of its subject",
            "wrong_language": "another language than the source's",
            "query_equals_positive": "the answer only repeats the question",
            "no_positive": "no positive, or none was left",
        },
        "score": {
            "low_score": "scored below the threshold",
            "no_score": "the score files do not know it",
        },
        "benchmark": {"in_benchmark": "stands in a collection that models are measured on"},
        "exact": {
            "duplicate": "the same query and positive stand in another row",
            "negative_is_positive": "a negative that is a positive of its query",
            "repeated_negative": "a negative repeated within its row",
        },
        "near": {
            "near_duplicate": "query and positive are nearly those of another row",
            "negative_near_positive": "a negative that is nearly a positive of its query",
        },
        "merged": {"merged": "its positives went into another row of the same query"},
        "other": {"no_row_for_negative": "a labelled negative whose query has no row"},
    }.items()
    for name, meaning in named.items()
}
#: What is said of documents in other words than of pairs.
_OF_TEXTS = {
    "unknown_shape": "no known shape of a text",
    "duplicate": "the same text stands in another document",
    "near_duplicate": "the text is nearly that of another document",
    "in_benchmark": "holds a text of a collection that models are measured on",
}
_ORDER = {name: place for place, name in enumerate(_REASONS)}


def look_up(name: str, kind: str = "pairs") -> Reason:
    """The reason of that name, in words for a `kind` of set; one that a later version added is shown by its name."""
    found = _REASONS.get(name) or Reason(name, "other", "")
    return replace(found, meaning=_OF_TEXTS.get(name, found.meaning)) if kind == "text" else found


def order(name: str) -> tuple[int, str]:
    """Sorts reasons by the flow, unknown ones behind."""
    return _ORDER.get(name, len(_ORDER)), name


def by_family(dropped: dict[str, int]) -> dict[str, int]:
    """Counts by reason → counts by family, in the order of the families, without empty ones."""
    counts = dict.fromkeys(FAMILIES, 0)
    for name, number in dropped.items():
        counts[look_up(name).family] += number
    return {family: number for family, number in counts.items() if number}
