"""Near duplicates, slow and clear: what a token, a shingle and a similarity are, one character at a time.

1. A text is normalised as everywhere (`tests/reference/dedup.py`): NFKC, full case folding, white space collapsed.
2. A token is one of
   - a CJK character alone: Han ideographs with all extensions and the compatibility forms, the marks and numerals
     written like them (々 〇 〡), Hiragana, Katakana. The list is `CJK`; unassigned code points of its ranges count, so
     that a new Unicode version moves nothing;
   - a run of other letters or digits: general categories L* and N*. Hangul is such a run: Korean has spaces.
   A combining mark (category M*) that follows a token directly belongs to it. All else separates.
3. Shingles of a passage are its 5-grams of tokens, as a set; 1 to 4 tokens are one shingle together.
4. Shingles of a query are its tokens and its pairs of neighbouring tokens, as one set: ten words have no use for
   5-grams.
5. Similarity is Jaccard. A text without any token has no shingle and resembles nothing, not even its equal: that is
   what exact comparison is for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from tests.reference.dedup import normalise

Shingles = frozenset[tuple[str, ...]]

PASSAGE_LENGTH = 5
CJK = [
    (0x3005, 0x3007),  # 々 〆 〇
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3038, 0x303C),
    (0x3041, 0x3096),  # Hiragana
    (0x309D, 0x309F),
    (0x30A1, 0x30FA),  # Katakana
    (0x30FC, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x1AFF0, 0x1B16F),  # Kana, supplements and extensions
    (0x20000, 0x3FFFF),  # the planes of Han: extensions B to J and the compatibility supplement
]


def tokens(text: str) -> list[str]:
    found: list[str] = []
    state = "between"  # or "run", or "alone" right after a CJK character
    for character in normalise(text):
        category = unicodedata.category(character)[0]
        if any(first <= ord(character) <= last for first, last in CJK):
            found.append(character)
            state = "alone"
        elif category == "M" and state != "between":
            found[-1] += character
        elif category in "LN":
            if state == "run":
                found[-1] += character
            else:
                found.append(character)
            state = "run"
        else:
            state = "between"
    return found


def passage_shingles(text: str) -> Shingles:
    words = tokens(text)
    if not words:
        return frozenset()
    length = min(PASSAGE_LENGTH, len(words))
    return frozenset(tuple(words[start : start + length]) for start in range(len(words) - length + 1))


def query_shingles(text: str) -> Shingles:
    words = tokens(text)
    return frozenset([(word,) for word in words] + [(words[i], words[i + 1]) for i in range(len(words) - 1)])


def jaccard(a: Shingles, b: Shingles) -> float:
    return len(a & b) / len(a | b) if a and b else 0.0


def near_pairs(
    texts: Sequence[str], rule: Literal["query", "passage"], threshold: float
) -> list[tuple[int, int, float]]:
    """Every pair of texts (first < second) that reaches the threshold, with its similarity: all are compared."""
    shingles = [query_shingles(text) if rule == "query" else passage_shingles(text) for text in texts]
    found = []
    for (first, a), (second, b) in combinations(enumerate(shingles), 2):
        similarity = jaccard(a, b)
        if similarity >= threshold:
            found.append((first, second, similarity))
    return found
