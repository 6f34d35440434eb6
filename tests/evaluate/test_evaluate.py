"""One model on one collection, or on sentence pairs: what is searched and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
import scipy.stats
import sklearn.metrics
import torch

from bgetrain import evaluate as module
from bgetrain.collection import open_collection
from bgetrain.encode import Encoder
from bgetrain.errors import ModelError
from bgetrain.evaluate import evaluate, evaluate_similarity
from bgetrain.ranking import METRICS
from bgetrain.sentence_pairs import SentencePairs
from tests.evaluate.plain_encoder import SENTENCES, PlainEncoder


def test_searches_with_and_without_the_instruction(encoder: PlainEncoder, wings: Path) -> None:
    encoder.query_instruction = "Find: "
    runs: dict[str, Any] = {}
    report = evaluate(encoder, wings, runs=runs)
    # Queries in both forms, documents once and never with the instruction.
    assert encoder.seen == [("", 3), ("Find: ", 3), ("", 6)]
    assert report["with"].keys() == report["without"].keys() == set(METRICS)
    assert (report["documents"], report["queries"], report["judgements"]) == (6, 3, 5)
    assert report["missing"] == {"queries": 0, "documents": 1}

    collection = open_collection(wings)
    documents = encoder.encode([text for piece in collection.documents(9) for text in piece])
    for form, instruction in (("without", ""), ("with", "Find: ")):
        queries = encoder.encode(list(collection.queries.values()), instruction=instruction)
        expected = {
            query: dict(zip(collection.document_ids, row.tolist(), strict=True))
            for query, row in zip(collection.queries, queries @ documents.T, strict=True)
        }
        for query, found in runs[form].items():
            assert dict(found) == pytest.approx(expected[query], abs=1e-6)
        peer = pytrec_eval.RelevanceEvaluator(collection.qrels, {"ndcg_cut.10", "map_cut.1000"})
        rows = peer.evaluate({query: dict(found) for query, found in runs[form].items()}).values()
        for metric, measure in (("ndcg@10", "ndcg_cut_10"), ("map@1000", "map_cut_1000")):
            assert report[form][metric] == pytest.approx(np.mean([row[measure] for row in rows]), abs=1e-9)


def test_pieces_do_not_change_the_scores(encoder: PlainEncoder, wings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(encoder, wings)
    monkeypatch.setattr(module, "PIECE", 1)
    assert evaluate(encoder, wings) == whole
    assert whole["with"] is None


def test_identical_ids_are_left_out_when_asked(encoder: PlainEncoder, wings: Path) -> None:
    runs: dict[str, Any] = {}
    kept = evaluate(encoder, wings, runs=runs)
    assert runs["without"]["d0"][0][0] == "d0"
    without = evaluate(encoder, wings, ignore_identical_ids=True, runs=runs)
    assert "d0" not in dict(runs["without"]["d0"])
    assert len(runs["without"]["d0"]) == 5
    assert without["without"]["mrr@10"] > kept["without"]["mrr@10"]


def test_an_exported_model_scores_as_the_encoder_it_came_from(model: Path, encoder: PlainEncoder, wings: Path) -> None:
    encoder.query_instruction = "Find: "
    assert evaluate(Encoder.load(model), wings, batch_tokens=64) == evaluate(encoder, wings)


def test_damaged_weights_are_named(encoder: PlainEncoder, wings: Path) -> None:
    with torch.no_grad():
        encoder.backbone.embeddings.LayerNorm.weight[0] = float("nan")
    with pytest.raises(ModelError, match="wings: queries: 3 of 3 vectors are not finite"):
        evaluate(encoder, wings)


def test_pairs_are_scored_without_instruction(encoder: PlainEncoder) -> None:
    encoder.query_instruction = "Find: "
    pairs = SentencePairs("few", "sts", SENTENCES[:4], SENTENCES[1:5], np.array([4.0, 1.0, 3.0, 0.0]), 0)
    scores, cosines = evaluate_similarity(encoder, pairs)
    # five sentences of which three stand in two pairs
    assert encoder.seen == [("", 5)]
    vectors = encoder.encode(SENTENCES[:5]).astype(np.float64)
    expected = [
        sklearn.metrics.pairwise.cosine_similarity(vectors[[place]], vectors[[place + 1]]) for place in range(4)
    ]
    assert cosines == pytest.approx(np.array(expected).flatten(), abs=1e-9)
    assert scores["spearman"] == pytest.approx(scipy.stats.spearmanr(cosines, pairs.labels)[0], abs=1e-12)


def test_lengths_of_vectors_do_not_matter_to_pairs(encoder: PlainEncoder) -> None:
    pairs = SentencePairs("few", "pairs", SENTENCES[:4], SENTENCES[1:5], np.array([1.0, 0.0, 1.0, 0.0]), 0)
    scores, cosines = evaluate_similarity(encoder, pairs)
    encoder.normalize = False
    again, long = evaluate_similarity(encoder, pairs)
    assert long == pytest.approx(cosines, abs=1e-6)
    assert again["ap"] == scores["ap"]
    assert abs(np.linalg.norm(encoder.encode(SENTENCES[:1])) - 1) > 0.1
