"""A random BERT with a vocabulary of its own, for every test of this folder."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

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
