"""A small vocabulary, and an encoder that uses transformers alone: the reference of these tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "What are the symptoms of a broken wing?",
    "A broken wing is swollen, painful and hangs lower than the other.",
    "How is lift related to the angle of attack?",
    "Lift grows with the angle of attack until the flow separates.",
    "boundary layer " * 60,
    "x",
]


@dataclass
class PlainEncoder:
    """The reference: one text at a time, no padding, pooling written out; for small tests only."""

    backbone: Any
    tokenizer: Any
    pooling: str = "mean"
    normalize: bool = True
    query_instruction: str = ""
    max_seq_length: int = 32
    seen: list[tuple[str, int]] = field(default_factory=list)

    @torch.no_grad()
    def encode(
        self,
        texts: list[str],
        *,
        instruction: str = "",
        max_length: int | None = None,
        batch_tokens: int = 0,
        device: str = "cpu",
    ) -> NDArray[np.float32]:
        """Embeds each text alone."""
        self.seen.append((instruction, len(texts)))
        rows = []
        for text in texts:
            ids = self.tokenizer(
                instruction + text, truncation=True, max_length=max_length or self.max_seq_length, return_tensors="pt"
            )
            hidden = self.backbone(**ids).last_hidden_state[0]
            vector = hidden[0] if self.pooling == "cls" else hidden.mean(dim=0)
            rows.append(torch.nn.functional.normalize(vector, dim=0) if self.normalize else vector)
        return torch.stack(rows).numpy()


def small_tokenizer(texts: list[str], size: int = 300) -> PreTrainedTokenizerFast:
    """A BERT tokenizer with a WordPiece vocabulary learned from `texts`."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=size, special_tokens=special))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # As in the MiniLM checkpoint: a stored truncation that an export must not hand on.
    backend.enable_truncation(8)
    backend.enable_padding()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
