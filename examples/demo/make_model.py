"""Makes a small BERT with random weights, and a WordPiece vocabulary learned from a shard set.

python examples/demo/make_model.py --shards .demo/shards --out .demo/model

For languages that the demo's base model does not know, and for machines where it is not installed. Such
a model has to be trained at a high learning rate, and a few minutes of it show the path, not a score.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import bgeprep

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
POSITIONS = 256


def texts(shards: Path) -> Iterator[str]:
    """Every query and positive of a shard set."""
    for row in bgeprep.open(shards):
        yield row["query"]
        yield from row["pos"]


def learn_tokenizer(lines: Iterator[str], size: int) -> PreTrainedTokenizerFast:
    """A BERT tokenizer whose vocabulary comes from `lines`; Chinese characters stand alone, as in BERT."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, handle_chinese_chars=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=size, min_frequency=2, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **names)


def main() -> int:
    """Writes the folder of the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="shard set to learn the vocabulary from")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--vocab_size", type=int, default=8000, help="entries of the vocabulary (default: 8000)")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    tokenizer = learn_tokenizer(texts(arguments.shards), arguments.vocab_size)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=POSITIONS,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    print(f"{arguments.out}: random BERT, vocabulary of {len(tokenizer)} entries", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
