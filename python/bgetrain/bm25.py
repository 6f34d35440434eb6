"""BM25, the score every embedding model is shown beside.

Okapi BM25 as Lucene computes it (Robertson & Zaragoza 2009; k1 = 0.9 and b = 0.4 are Anserini's):
score(q, d) = Σ over words t of q: idf(t) · tf / (tf + k1 · (1 − b + b · |d| / mean |d|)), times (k1 + 1),
idf(t) = ln(1 + (N − n + 0.5) / (n + 0.5)). A word that the query has twice counts twice.

Words: runs of letters and digits, lower case, without a final s if longer than three letters; Chinese
characters in pairs. This is a
baseline without a stemmer or stop list, not a tuned one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

__all__ = ["bm25_run", "words"]

K1 = 0.9
B = 0.4

# Han, kana and hangul, which are written without spaces.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_IS_CJK = re.compile(rf"[{_CJK}]")


def words(text: str) -> list[str]:
    """Returns the words of a text, in order, as BM25 counts them."""
    found: list[str] = []
    for token in _TOKEN.findall(text.lower()):
        if not _IS_CJK.match(token):
            found.append(token[:-1] if len(token) > 3 and token.endswith("s") else token)
        elif len(token) == 1:
            found.append(token)
        else:
            found.extend(token[i : i + 2] for i in range(len(token) - 1))
    return found


def bm25_run(
    documents: Iterable[tuple[str, str]], queries: Mapping[str, str], *, top_k: int = 1000
) -> dict[str, list[tuple[str, float]]]:
    """Searches all documents for all queries; only words that some query has are indexed.

    Args:
        documents: (id, text), read once.
        queries: id → text.
        top_k: documents kept for each query; only those with a score above 0 count as found.

    Returns:
        query id → (document id, score), in trec_eval's order.
    """
    asked = {query: Counter(words(text)) for query, text in queries.items()}
    postings: dict[str, tuple[list[int], list[int]]] = {word: ([], []) for counts in asked.values() for word in counts}
    ids: list[str] = []
    sizes: list[int] = []
    for number, (document, text) in enumerate(documents):
        counts = Counter(words(text))
        ids.append(document)
        sizes.append(sum(counts.values()))
        for word, count in counts.items():
            if word in postings:
                postings[word][0].append(number)
                postings[word][1].append(count)
    if not ids:
        return {query: [] for query in queries}
    length = np.asarray(sizes, dtype=np.float64)
    norm = K1 * (1 - B + B * length / max(float(length.mean()), 1e-9))
    # trec_eval's order of equal scores: the larger id first, by its bytes.
    place = np.empty(len(ids), dtype=np.int64)
    place[sorted(range(len(ids)), key=lambda number: ids[number].encode())] = np.arange(len(ids))

    index = {}
    for word, (where, often) in postings.items():
        rows, tf = np.asarray(where, dtype=np.int64), np.asarray(often, dtype=np.float64)
        idf = np.log(1 + (len(ids) - len(rows) + 0.5) / (len(rows) + 0.5))
        index[word] = rows, idf * (K1 + 1) * tf / (tf + norm[rows])

    run = {}
    scores = np.zeros(len(ids))
    for query, counts in asked.items():
        scores[:] = 0
        for word, times in counts.items():
            rows, weight = index[word]
            scores[rows] += times * weight
        # As 32-bit floats, the precision in which trec_eval compares.
        found = np.flatnonzero(scores)
        best = found[np.lexsort((-place[found], -scores[found].astype(np.float32)))][:top_k]
        run[query] = [(ids[number], float(scores[number])) for number in best]
    return run
