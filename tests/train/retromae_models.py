"""Tiny models of the families that pre-training knows, and texts in their words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tests.train.tiny import VOCABULARY, tiny_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

BACKBONES = ("bert", "roberta", "electra", "modernbert")
SPECIAL = {0, 2, 3, 4}
TEXTS = [
    "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16",
    "w20",
    "w5 w5 w6 w5 w30 w31 w32",
    "w40 w41 w42 w43 w44 w45 w46 w47 w48 w49 w50 w51 w52 w53 w54 w1 w2 w3 w4 w5 w6 w7",
    "w9 w8 w7 w6 w5",
    "w11 w12",
]


def write_backbone(name: str, folder: Path) -> Path:
    """A masked-LM model of two layers of 16 with its tokenizer; `dropout` is the BERT that has some."""
    import transformers

    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "pad_token_id": 0,
        "initializer_range": 0.3,
    }
    rate = 0.1 if name == "dropout" else 0.0
    no_dropout = {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}
    kinds: dict[str, tuple[str, str, dict[str, Any]]] = {
        "bert": ("BertConfig", "BertForMaskedLM", {"max_position_embeddings": 32, **no_dropout}),
        "roberta": ("RobertaConfig", "RobertaForMaskedLM", {"max_position_embeddings": 33, **no_dropout}),
        "electra": (
            "ElectraConfig",
            "ElectraForMaskedLM",
            {"max_position_embeddings": 32, "embedding_size": 8, **no_dropout},
        ),
        "modernbert": (
            "ModernBertConfig",
            "ModernBertForMaskedLM",
            {"max_position_embeddings": 32, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
        ),
    }
    config, model, more = kinds["bert" if name == "dropout" else name]
    torch.manual_seed(0)
    made = getattr(transformers, model)(getattr(transformers, config)(**sizes, **more))
    made.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
