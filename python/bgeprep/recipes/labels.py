"""Labels of sentence pairs, and records made of labelled pairs: what is labelled for one sentence is one record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bgeprep.recipes.lines import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bgeprep.recipes.stream import PairRow, Tally

__all__ = ["NEGATIVE", "POSITIVE", "LabelledPair", "label_of", "records_of"]

POSITIVE, NEGATIVE = "positive", "negative"
_KNOWN = {
    "1": POSITIVE,
    "entailment": POSITIVE,
    "0": NEGATIVE,
    "contradiction": NEGATIVE,
    "neutral": "neutral",
    "-": "no_majority",
    "": "no_label",
}

LabelledPair = tuple[str, str, object, str, int]
"""First sentence, second sentence, label as it stands there, origin file, origin line."""


@dataclass(slots=True)
class _Group:
    """What is labelled for one first sentence: where it begins, how many pairs, and the second sentences by label."""

    origin: str
    line: int
    pairs: int = 0
    texts: dict[str, dict[str, None]] = field(default_factory=lambda: {POSITIVE: {}, NEGATIVE: {}})


def label_of(value: object) -> str:
    """What a label says: `positive`, `negative`, or the reason for which the pair is passed over."""
    text = "" if value is None else str(value).strip().lower()
    return _KNOWN.get(text, "unknown_label")


def records_of(rows: Iterable[LabelledPair], tally: Tally) -> Iterator[PairRow]:
    """The records of labelled pairs as BGE makes them: by first sentence, positives and negatives together.

    They come in the order of the first sentences, each with the origin of its first pair; all pairs are held. A second
    sentence that is labelled both ways for one first sentence is a positive. Passed over and counted: `neutral`,
    `no_majority` (label `-`), `no_label`, `unknown_label`, `empty_text`, and `no_positive`, the pairs of first
    sentences that have negatives only.
    """
    groups: dict[str, _Group] = {}
    for first, second, label, origin, number in rows:
        says = label_of(label)
        where = f"{origin}, line {number}: {shown(first)}"
        if not (first and second):
            tally.pass_over("empty_text", where)
        elif says not in (POSITIVE, NEGATIVE):
            tally.pass_over(says, where)
        else:
            group = groups.setdefault(first, _Group(origin, number))
            group.texts[says][second] = None
            group.pairs += 1
    for first, group in groups.items():
        positives, negatives = group.texts[POSITIVE], group.texts[NEGATIVE]
        if positives:
            yield first, [*positives], [text for text in negatives if text not in positives], group.origin, group.line
        else:
            tally.pass_over("no_positive", f"{group.origin}, line {group.line}: {shown(first)}", group.pairs)
