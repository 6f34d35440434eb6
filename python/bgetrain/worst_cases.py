"""Queries and pairs on which a model does worst, for a person to look at.

Of a query: where nDCG@10 falls farthest behind that of another system (BM25, or the first model), the judged document
that was missed and the one found instead. Of a sentence pair: where its place by cosine is farthest from its place by
score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bgetrain.similarity import ranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from bgetrain.collection import Collection, Qrels
    from bgetrain.ranking import Run
    from bgetrain.sentence_pairs import SentencePairs

__all__ = ["CHARACTERS", "Ranks", "add_texts", "judged_ranks", "worst_pairs", "worst_queries"]

CHARACTERS = 400
"""Texts are cut to so many."""

Ranks = dict[str, dict[str, int]]
"""query id → relevant document that was found → its rank from 1."""


def judged_ranks(run: Run, qrels: Qrels) -> Ranks:
    """Where a run has the relevant documents: all that is kept of it.

    Args:
        run: in trec_eval's order.
        qrels: query id → document id → grade.
    """
    return {
        query: {
            document: rank for rank, (document, _) in enumerate(documents, start=1) if qrels[query].get(document, 0) > 0
        }
        for query, documents in run.items()
    }


def worst_queries(
    collection: Collection,
    run: Run,
    own: Mapping[str, float],
    other: Mapping[str, float],
    other_ranks: Ranks,
    count: int,
) -> list[dict[str, Any]]:
    """The queries with the largest losses, largest first.

    Args:
        collection: what was searched.
        run: what the model found, in trec_eval's order.
        own: its nDCG@10 by query.
        other: that of the other system.
        other_ranks: where that one has the relevant documents.
        count: most queries to give.

    Returns:
        For each: `id`, `query`, `ndcg@10`, `ndcg@10_against`, `judged` (`id`, `grade`, `rank`, `rank_against`, each
        rank None where the document is not among those found) and `found` (`id`, `grade`). Texts of documents are
        missing as yet: `add_texts`.
    """
    loss = {query: other[query] - own[query] for query in collection.queries}
    chosen = sorted((query for query in loss if loss[query] > 0), key=lambda query: -loss[query])[:count]
    here = judged_ranks({query: run[query] for query in chosen}, collection.qrels)
    cases = []
    for query in chosen:
        grades = {document: grade for document, grade in collection.qrels[query].items() if grade > 0}
        beside = other_ranks[query]
        # the best grade, and of several the one that the other system has highest
        judged = min(grades, key=lambda document: (-grades[document], beside.get(document, 1 << 30), document))
        # since the other system does better, something less good stands above
        instead = next(
            (document for document, _ in run[query] if grades.get(document, 0) < grades[judged]),
            None,
        )
        cases.append(
            {
                "id": query,
                "query": _cut(collection.queries[query]),
                "ndcg@10": own[query],
                "ndcg@10_against": other[query],
                "judged": {
                    "id": judged,
                    "grade": grades[judged],
                    "rank": here[query].get(judged),
                    "rank_against": beside.get(judged),
                },
                "found": None if instead is None else {"id": instead, "grade": grades.get(instead, 0)},
            }
        )
    return cases


def add_texts(collection: Collection, cases: Sequence[dict[str, Any]]) -> None:
    """Puts a `text` beside each document of some cases, by one pass over the corpus; None for one that is not in it.

    Raises:
        CollectionError: the corpus changed since it was opened.
    """
    documents = [case[side] for case in cases for side in ("judged", "found") if case[side] is not None]
    if not documents:
        return
    texts = collection.texts_of(document["id"] for document in documents)
    for document in documents:
        text = texts.get(document["id"])
        document["text"] = None if text is None else _cut(text)


def worst_pairs(pairs: SentencePairs, cosines: NDArray[np.float64], count: int) -> list[dict[str, Any]]:
    """The pairs whose place by cosine is farthest from that by score, farthest first.

    Args:
        pairs: the sentences, and what people said of them.
        cosines: of a model, float64 [N].
        count: most pairs to give.

    Returns:
        For each: `first`, `second`, `label`, `cosine`, and its places `by_label` and `by_cosine` as shares of all
        pairs that lie below, 0 to 1.
    """
    by_label, by_cosine = ((ranks(values) - 0.5) / len(pairs) for values in (pairs.labels, cosines))
    order = np.argsort(-np.abs(by_label - by_cosine), kind="stable")[:count]
    return [
        {
            "first": _cut(pairs.first[place]),
            "second": _cut(pairs.second[place]),
            "label": float(pairs.labels[place]),
            "cosine": float(cosines[place]),
            "by_label": float(by_label[place]),
            "by_cosine": float(by_cosine[place]),
        }
        for place in order.tolist()
    ]


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"
