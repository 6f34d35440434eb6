"""The queries and pairs that a person is to look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bgetrain.collection import open_collection
from bgetrain.ranking import score_run
from bgetrain.sentence_pairs import SentencePairs
from bgetrain.worst_cases import CHARACTERS, add_texts, judged_ranks, worst_pairs, worst_queries


def test_the_largest_losses_with_what_was_missed_and_found(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    rows = [{"_id": f"d{place}", "title": f"T{place}", "text": "x" * (900 if place == 2 else 3)} for place in range(5)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"_id": f"q{place}", "text": f"question {place}"} for place in range(4)]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (tmp_path / "qrels" / "test.tsv").write_text("q0\td0\t1\nq1\td1\t2\nq1\td4\t1\nq2\td9\t1\nq3\td3\t1\n")
    collection = open_collection(tmp_path)

    def run(orders: dict[str, str]) -> dict[str, list[tuple[str, float]]]:
        return {
            query: [(f"d{name}", -float(rank)) for rank, name in enumerate(order)] for query, order in orders.items()
        }

    own = run({"q0": "10", "q1": "24", "q2": "0", "q3": "3"})
    other = run({"q0": "01", "q1": "412", "q2": "9", "q3": "43"})
    values = [
        {query: row["ndcg@10"] for query, row in score_run(each, collection.qrels).items()} for each in (own, other)
    ]
    cases = worst_queries(collection, own, *values, judged_ranks(other, collection.qrels), 9)
    add_texts(collection, cases)
    # q2 loses all, q1 more than q0, and q3 is won
    assert [case["id"] for case in cases] == ["q2", "q1", "q0"]
    lost, graded, second = cases
    assert lost["judged"] == {"id": "d9", "grade": 1, "rank": None, "rank_against": 1, "text": None}
    assert lost["found"]["id"] == "d0"
    # the best grade, though the other system has the lesser one above it
    assert graded["judged"] | {"text": ""} == {"id": "d1", "grade": 2, "rank": None, "rank_against": 2, "text": ""}
    assert graded["judged"]["text"] == "T1 xxx"
    assert graded["found"] == {"id": "d2", "grade": 0, "text": f"T2 {'x' * (CHARACTERS - 3)}…"}
    assert (second["judged"]["rank"], second["judged"]["rank_against"], second["query"]) == (2, 1, "question 0")
    assert second["ndcg@10"] < second["ndcg@10_against"] == 1.0
    assert [
        case["id"] for case in worst_queries(collection, own, *values, judged_ranks(other, collection.qrels), 1)
    ] == ["q2"]
    assert worst_queries(collection, own, values[0], values[0], judged_ranks(own, collection.qrels), 9) == []


def test_a_query_for_which_nothing_was_found(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d0", "text": "a"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q0", "text": "a"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("q0\td0\t1\n")
    collection = open_collection(tmp_path)
    found = {"q0": [("d0", 1.0)]}
    cases = worst_queries(collection, {"q0": []}, {"q0": 0.0}, {"q0": 1.0}, judged_ranks(found, collection.qrels), 3)
    add_texts(collection, cases)
    assert cases[0]["found"] is None
    assert cases[0]["judged"]["text"] == "a"


def test_pairs_farthest_from_what_people_said() -> None:
    labels = np.array([5.0, 4.0, 3.0, 0.0])
    pairs = SentencePairs("few", "sts", list("abcd"), list("efgh"), labels, 0)
    # d is said to be unlike and looks alike most
    found = worst_pairs(pairs, np.array([0.8, 0.7, 0.5, 0.9]), 2)
    assert [case["first"] for case in found] == ["d", "a"]
    assert (found[0]["label"], found[0]["cosine"]) == (0.0, 0.9)
    assert (found[0]["by_label"], found[0]["by_cosine"]) == (0.125, 0.875)
    assert worst_pairs(pairs, labels, 0) == []
