"""A random BERT with a vocabulary of its own, for every test of this folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from bgetrain.export import save_pretrained
from tests.evaluate.plain_encoder import SENTENCES, PlainEncoder, small_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One vocabulary for the session."""
    return small_tokenizer(SENTENCES)


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerFast) -> PlainEncoder:
    """A random two-layer BERT of 32 dimensions."""
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        # Wide weights: at the usual 0.02 every text has nearly the same vector and no difference shows.
        initializer_range=0.3,
    )
    return PlainEncoder(BertModel(config).eval(), tokenizer)


@pytest.fixture
def wings(tmp_path: Path) -> Path:
    """Six documents, three queries of which one is also a document, one judged document missing."""
    folder = tmp_path / "data" / "wings"
    (folder / "qrels").mkdir(parents=True)
    texts = SENTENCES
    rows = [{"_id": f"d{number}", "title": "", "text": text} for number, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"_id": "d0", "text": SENTENCES[0]}, {"_id": "q1", "text": SENTENCES[2]}, {"_id": "q2", "text": "wing"}]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels" / "test.tsv").write_text("d0\td1\t2\nd0\td4\t1\nq1\td3\t1\nq2\td1\t1\nq2\td8\t1\n")
    return folder


@pytest.fixture
def model(encoder: PlainEncoder, tmp_path: Path) -> Path:
    encoder.query_instruction = "Find: "
    return save_pretrained(encoder, tmp_path / "wing-model", recipe={"base_model": "none"})
