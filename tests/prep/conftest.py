"""Real documents, and tokenizers trained on them: what text sets, blocks and masks are tried on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

REPOSITORY = Path(__file__).resolve().parents[2]
CORPORA = ["medquad-heldout", "zh/csl-titles"]


@pytest.fixture(scope="session")
def documents() -> list[dict[str, str]]:
    """Medical answers in English and abstracts in Chinese, with their titles where they have one."""
    found = []
    for corpus in CORPORA:
        with gzip.open(REPOSITORY / "examples/demo/data" / corpus / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
            found += [json.loads(line) for _, line in zip(range(150), lines, strict=False)]
    return [{"title": record.get("title", ""), "text": record["text"]} for record in found]


def _word_piece(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=4000, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", [("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _sentence_piece(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=4000, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", "<s> $A </s> $B </s>", [("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def word_piece(tmp_path_factory: pytest.TempPathFactory, documents: list[dict[str, str]]) -> Path:
    """A folder with a tokenizer as BERT has it."""
    folder = tmp_path_factory.mktemp("word-piece")
    _word_piece([document["text"] for document in documents]).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def sentence_piece(tmp_path_factory: pytest.TempPathFactory, documents: list[dict[str, str]]) -> Path:
    """A folder with a tokenizer as XLM-RoBERTa has it: other special tokens, and no word borders in Chinese."""
    folder = tmp_path_factory.mktemp("sentence-piece")
    _sentence_piece([document["text"] for document in documents]).save(str(folder / "tokenizer.json"))
    return folder
