"""Retrieval metrics on a run, equal to trec_eval's.

A run is, for each query, documents with scores. trec_eval ignores the order in which they are given: it
sorts by score (as a 32-bit float) descending and, where scores are equal, by document id descending. All
metrics here see that order. The mean is taken over all judged queries, as `trec_eval -c` does: a query
for which nothing was found counts 0.

- nDCG@10: gain = grade, discount 1 / log2(rank + 1), against the best order of the judged documents
  (Järvelin & Kekäläinen 2002, as trec_eval `ndcg_cut.10`).
- MRR@10: 1 / rank of the first relevant document among the first ten, else 0 (`recip_rank` of the run cut at 10).
- Recall@100: relevant documents among the first hundred / all relevant (`recall.100`).
- MAP@1000: mean of the precisions at each relevant document among the first thousand (`map_cut.1000`).

A document is relevant from grade 1 on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2

import numpy as np

__all__ = ["METRICS", "Run", "drop_identical_ids", "mean_scores", "score_query", "score_run", "trec_order"]

METRICS = ("ndcg@10", "mrr@10", "recall@100", "map@1000")
"""Names of the metrics, in the order in which they are shown."""

Run = Mapping[str, Sequence[tuple[str, float]]]
"""query id → (document id, score), in any order."""


def trec_order(documents: Sequence[tuple[str, float]]) -> list[str]:
    """Returns the document ids in trec_eval's order: score descending, then id descending, byte by byte."""
    if not documents:
        return []
    ids, scores = zip(*documents, strict=True)
    # Python orders text by code point, which is the byte order of UTF-8.
    ranked = sorted(zip(np.asarray(scores, dtype=np.float32).tolist(), ids, strict=True), reverse=True)
    return [document for _, document in ranked]


def score_query(ranked: Sequence[str], grades: Mapping[str, int]) -> dict[str, float]:
    """Returns the metrics of one query.

    Args:
        ranked: document ids, best first.
        grades: document id → grade; grades below 1 mean not relevant.

    Returns:
        metric → value between 0 and 1.
    """
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    if not ideal:
        return dict.fromkeys(METRICS, 0.0)
    gains = [max(grades.get(document, 0), 0) for document in ranked[:1000]]
    hits = [rank for rank, gain in enumerate(gains, start=1) if gain > 0]
    first = hits[0] if hits else 0
    return {
        "ndcg@10": _discounted(gains[:10]) / _discounted(ideal[:10]),
        "mrr@10": 1.0 / first if 0 < first <= 10 else 0.0,
        "recall@100": sum(rank <= 100 for rank in hits) / len(ideal),
        "map@1000": sum(found / rank for found, rank in enumerate(hits, start=1)) / len(ideal),
    }


def score_run(run: Run, qrels: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, float]]:
    """Returns the metrics of every judged query; queries of the run without judgements are left out.

    Args:
        run: what was found.
        qrels: query id → document id → grade.

    Returns:
        query id → metric → value, in the order of `qrels`.
    """
    return {query: score_query(trec_order(run.get(query, ())), grades) for query, grades in qrels.items()}


def mean_scores(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Returns metric → mean over the queries.

    Raises:
        ValueError: there are no queries.
    """
    if not scores:
        raise ValueError("no judged queries to take a mean over")
    return {metric: sum(row[metric] for row in scores.values()) / len(scores) for metric in METRICS}


def drop_identical_ids(run: Run) -> dict[str, list[tuple[str, float]]]:
    """Returns the run without documents whose id is the query's: for collections whose queries are in the corpus."""
    return {query: [entry for entry in documents if entry[0] != query] for query, documents in run.items()}


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, start=1))
