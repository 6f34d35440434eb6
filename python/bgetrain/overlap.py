"""How much two passages have in common: Jaccard over 5-grams of tokens, as `bgeprep shard` measures near duplicates.

For the few texts that are about to become negatives; a set is compared in the compiled half. Combining marks go with
the run or the character they follow.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["jaccard", "shingles"]

_GRAM = 5
_CJK = (
    "\u3005-\u3007\u3021-\u3029\u3038-\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """The 5-grams of a passage's tokens; of fewer tokens the one shingle of all, of none nothing."""
    words = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
    length = min(_GRAM, len(words))
    return frozenset(zip(*(words[start:] for start in range(length)), strict=False))


def jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    """Shared shingles over all, 0 where there are none."""
    return len(one & other) / (len(one | other) or 1)
