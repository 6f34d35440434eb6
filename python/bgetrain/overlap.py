"""How much two passages have in common: Jaccard over 5-grams of tokens, as `bgeprep shard` measures near duplicates.

For the few texts that are about to become negatives; a set is compared in the compiled half. Combining marks go with
the run or the character they follow.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

__all__ = ["jaccard", "nearly_equal", "shingles"]

_GRAM = 5
_CJK = (
    "\u3005-\u3007\u3021-\u3029\u3038-\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


_ASCII = str.maketrans({chr(code): " " for code in range(128) if not chr(code).isalnum()})

Gram = tuple[str, ...]


def shingles(text: str) -> frozenset[Gram]:
    """The 5-grams of a passage's tokens; of fewer tokens the one shingle of all, of none nothing."""
    return frozenset(_grams(text))


def _grams(text: str) -> Iterator[Gram]:
    """The 5-grams one by one, the same one more than once perhaps."""
    # of ASCII the slow way would find the same
    words = text.lower().translate(_ASCII).split() if text.isascii() else _tokens(text)
    length = min(_GRAM, len(words))
    return zip(*(words[start:] for start in range(length)), strict=False)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def nearly_equal(text: str, others: Sequence[frozenset[Gram]], least: float) -> bool:
    """Whether a text's similarity to one of some others is at least so much.

    Args:
        text: the passage.
        others: `shingles` of the others.
        least: of `jaccard`, above 0.
    """
    # most passages share no shingle: that is seen without a set of their own
    if all(other.isdisjoint(_grams(text)) for other in others):
        return False
    own = shingles(text)
    return any(jaccard(own, other) >= least for other in others)


def jaccard(one: frozenset[Gram], other: frozenset[Gram]) -> float:
    """Shared shingles over all, 0 where there are none."""
    return len(one & other) / (len(one | other) or 1)
