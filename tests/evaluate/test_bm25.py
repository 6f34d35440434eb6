"""BM25 equals its formula, and the figures published beside the collections where those are at hand."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from bgetrain.bm25 import bm25_run, words
from bgetrain.collection import open_collection
from bgetrain.evaluate import evaluate_bm25

ORIGINALS = os.environ.get("BGE_DATA", "")


def test_words() -> None:
    assert words("The Wings' flow, at Mach-2 (is) gas") == ["the", "wing", "flow", "at", "mach", "2", "is", "gas"]
    assert words("民法典 第2条 是") == ["民法", "法典", "第", "2", "条", "是"]
    assert words("") == []


def test_equals_the_formula() -> None:
    documents = {"d1": "flow over a wing", "d2": "wing wing", "d3": "heat", "d4": ""}
    run = bm25_run(iter(documents.items()), {"q": "wing flow wing", "none": "absent"})
    mean = (4 + 2 + 1 + 0) / 4

    def weight(tf: int, length: int, holders: int) -> float:
        idf = math.log(1 + (4 - holders + 0.5) / (holders + 0.5))
        return idf * 1.9 * tf / (tf + 0.9 * (0.6 + 0.4 * length / mean))

    expected = {"d1": 2 * weight(1, 4, 2) + weight(1, 4, 1), "d2": 2 * weight(2, 2, 2)}
    assert dict(run["q"]) == pytest.approx(expected, rel=1e-12)
    assert run["none"] == []
    assert bm25_run([], {"q": "wing"}) == {"q": []}


def test_ties_at_the_cut_go_to_the_larger_id() -> None:
    documents = [(f"d{number}", "same text") for number in (3, 1, 9, 4)]
    run = bm25_run(documents, {"q": "text"}, top_k=2)
    assert [document for document, _ in run["q"]] == ["d9", "d4"]


@pytest.mark.skipif(not ORIGINALS, reason="BGE_DATA names no folder with the published collections")
@pytest.mark.parametrize(
    ("name", "ndcg", "recall"), [("cranfield", 0.348, 0.709), ("cacm", 0.415, 0.582), ("vaswani-npl", 0.418, 0.571)]
)
def test_reaches_the_published_figures(name: str, ndcg: float, recall: float) -> None:
    scores = evaluate_bm25(open_collection(Path(ORIGINALS) / "ir-beir" / name))
    assert scores["ndcg@10"] == pytest.approx(ndcg, abs=0.0006)
    assert scores["recall@100"] == pytest.approx(recall, abs=0.0006)
