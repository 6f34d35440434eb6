"""A tiny random BERT: the smallest thing that has attention, LayerNorm, dropout and a tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{index}" for index in range(55))]
VOCABULARY = len(WORDS)


def tiny_backbone(*, dropout: float = 0.0, seed: int = 0, positions: int = 32, vocabulary: int = VOCABULARY) -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    return BertModel(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=positions,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            # wide enough that texts differ before any training
            initializer_range=0.3,
        )
    )


def tiny_tokenizer(positions: int = 32, words: Sequence[str] = WORDS) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=positions,
    )


def write_tiny_bert(
    folder: Path,
    *,
    dropout: float = 0.0,
    weights: bool = True,
    positions: int = 32,
    words: Sequence[str] = WORDS,
) -> Path:
    """A model folder.

    Args:
        folder: to write.
        dropout: of all kinds.
        weights: whether there are any.
        positions: tokens of the longest text.
        words: the vocabulary, which begins with the special tokens of `WORDS`.
    """
    backbone = tiny_backbone(dropout=dropout, positions=positions, vocabulary=len(words))
    if weights:
        backbone.save_pretrained(folder)
    else:
        backbone.config.save_pretrained(folder)
    tiny_tokenizer(positions, words).save_pretrained(folder)
    return folder


def write_tiny_reranker(folder: Path, *, outputs: int = 1) -> Path:
    """A folder of a random cross-encoder of 2 layers that reads queries and passages of the tiny tokenizer's words."""
    from tokenizers import processors
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
        num_labels=outputs,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return folder


def tiny_encoder(*, dtype: torch.dtype = torch.float64, pooling: str = "cls", dropout: float = 0.0) -> Any:
    """An encoder in training mode, the same for every caller."""
    from bgetrain.encode import Encoder

    return Encoder(
        tiny_backbone(dropout=dropout).to(dtype),
        tiny_tokenizer(),
        pooling=pooling,
        normalize=True,
        max_seq_length=32,
        position_limit=32,
    ).train()
