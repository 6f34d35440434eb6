"""The metrics equal trec_eval's, through pytrec_eval (an independent binding of NIST's own C code)."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from bgetrain.bm25 import bm25_run
from bgetrain.collection import open_collection
from bgetrain.ranking import METRICS, drop_identical_ids, mean_scores, score_query, score_run, trec_order

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "data" / "medquad-heldout"
MEASURES = {"ndcg@10": "ndcg_cut_10", "recall@100": "recall_100", "map@1000": "map_cut_1000"}

Found = dict[str, list[tuple[str, float]]]
Grades = dict[str, dict[str, int]]


def trec_eval(run: Found, qrels: Grades) -> dict[str, dict[str, float]]:
    """The four metrics by pytrec_eval; MRR@10 is its recip_rank of the run cut at ten in trec's order."""
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100", "map_cut.1000"})
    first = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"})
    cut = {}
    for query, documents in run.items():
        scores = dict(documents)
        single = dict(zip(scores, np.asarray(list(scores.values()), dtype=np.float32).tolist(), strict=True))
        order = sorted(scores, key=lambda document: (single[document], document), reverse=True)
        cut[query] = {document: scores[document] for document in order[:10]}
    full = evaluator.evaluate({query: dict(documents) for query, documents in run.items()})
    ranks = first.evaluate(cut)
    return {
        query: {name: row[measure] for name, measure in MEASURES.items()} | {"mrr@10": ranks[query]["recip_rank"]}
        for query, row in full.items()
    }


def assert_equal_to_trec_eval(run: Found, qrels: Grades) -> None:
    expected = trec_eval(run, qrels)
    found = score_run(run, qrels)
    assert set(expected) <= set(found)
    for query, row in expected.items():
        for metric in METRICS:
            assert abs(found[query][metric] - row[metric]) <= 1e-9, (query, metric)


@pytest.fixture(scope="module")
def real() -> tuple[Found, Grades]:
    """BM25 on the demo's collection: graded judgements, and queries that find nothing relevant."""
    collection = open_collection(DEMO)
    texts = (text for piece in collection.documents(100) for text in piece)
    queries = dict(list(collection.queries.items())[::6])
    run = bm25_run(zip(collection.document_ids, texts, strict=True), queries)
    return run, {query: collection.qrels[query] for query in queries}


@pytest.mark.parametrize("digits", [9, 1, 0], ids=["scores", "many ties", "nearly all tied"])
def test_a_real_run_scores_as_in_trec_eval(real: tuple[Found, Grades], digits: int) -> None:
    run = {query: [(doc, round(score, digits)) for doc, score in documents] for query, documents in real[0].items()}
    qrels = {query: dict(grades) for query, grades in real[1].items()}
    assert any(grade > 1 for grades in qrels.values() for grade in grades.values())
    if digits < 9:
        assert any(len({score for _, score in documents}) < len(documents) for documents in run.values())
    # Some queries of every sort that a run file holds.
    names = list(run)
    run["not judged"] = run[names[0]]
    run[names[1]] = []
    qrels[names[2]] = {document: 0 for document, _ in run[names[2]][:5]}
    run[names[3]] = [entry for entry in run[names[3]] if qrels[names[3]].get(entry[0], 0) <= 0]
    qrels[names[4]]["a document that is not in the corpus"] = 2
    for documents in run.values():
        random.Random(7).shuffle(documents)
    assert_equal_to_trec_eval(run, qrels)
    found = score_run(run, qrels)
    assert "not judged" not in found
    assert [set(found[name].values()) for name in names[1:4]] == [{0.0}] * 3


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(0, 1500), st.integers(-3, 3), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 1500), st.sampled_from([-1.5, 0.0, 0.1, 0.1 + 1e-12, 0.3, 2e9])), max_size=60),
    st.integers(0, 1200),
)
def test_any_run_scores_as_in_trec_eval(grades: dict[int, int], entries: list[tuple[int, float]], filler: int) -> None:
    documents = {f"d{number}": score for number, score in entries}
    # Long runs reach the cuts at 100 and 1000.
    documents |= {f"d{number}": 0.2 for number in range(1600, 1600 + filler)}
    qrels = {"q": {f"d{number}": grade for number, grade in grades.items()} | {"d1700": 1}}
    assert_equal_to_trec_eval({"q": list(documents.items())}, qrels)


def test_mrr_is_cut_at_ten_and_map_at_a_thousand() -> None:
    ranked = [f"d{number:04}" for number in range(1200)]
    assert score_query(ranked, {"d0009": 1})["mrr@10"] == 0.1
    assert score_query(ranked, {"d0010": 1})["mrr@10"] == 0.0
    assert score_query(ranked, {"d0999": 1})["map@1000"] == 1 / 1000
    assert score_query(ranked, {"d1000": 1})["map@1000"] == 0.0


def test_ties_go_to_the_larger_id_whatever_the_order_given() -> None:
    assert trec_order([("a", 1.0), ("c", 1.0), ("b", 2.0), ("é", 1.0)]) == ["b", "é", "c", "a"]
    # trec_eval holds scores in 32 bits, so these two are tied.
    assert trec_order([("a", 1.0 + 1e-12), ("b", 1.0)]) == ["b", "a"]


def test_identical_ids_can_be_left_out() -> None:
    assert drop_identical_ids({"q": [("q", 2.0), ("d", 1.0)], "d": [("q", 2.0)]}) == {
        "q": [("d", 1.0)],
        "d": [("q", 2.0)],
    }


def test_a_query_without_an_answer_lowers_the_mean() -> None:
    scores = score_run({"q1": [("d", 1.0)]}, {"q1": {"d": 1}, "q2": {"d": 1}})
    assert mean_scores(scores) == dict.fromkeys(METRICS, 0.5)
    with pytest.raises(ValueError, match="no judged queries"):
        mean_scores({})
