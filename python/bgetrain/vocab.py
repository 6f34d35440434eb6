"""A WordPiece vocabulary for the texts of shard sets: the command `bgetrain vocab`.

1. A sample of rows is drawn by the seed, so that memory is bounded however large the sets are.
2. The characters of the sample are counted: the vocabulary gets those that cover nearly all of it, alone and as
   continuations (`##x`), in a fixed order. The trainer of `tokenizers` would number them as its hash map lies, and
   break ties by these numbers; so this is what makes two runs give the same bytes.
3. The trainer merges; its vocabulary goes into a tokenizer in BERT's form, whose files transformers and bgeprep read.
4. If asked, a config.json of a BERT of that vocabulary lies beside it: `bgetrain train --random_init` starts there.
"""

from __future__ import annotations

import argparse
import json
import re
import string
import sys
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bgetrain.errors import ConfigError, LaunchError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from tokenizers import Tokenizer

__all__ = ["SIZES", "TEACHING", "ModelSize", "Vocabulary", "add_arguments", "run", "train_vocabulary"]

TEACHING = """\
Train a WordPiece vocabulary in the manner of BERT on the texts of shard sets, to pre-train a model from scratch.

  bgetrain vocab --data shards/ --output_dir fresh/ --vocab_size 30522
  bgetrain vocab --data zh-shards/ --output_dir fresh-zh/ --vocab_size 21128 --model_config base
  bgetrain train --model_name_or_path fresh-zh/ --random_init --learning_rate 1e-4 --data zh-shards/

Case is folded unless --cased is given. Each Chinese character is a word of its own. With --model_config, or with
sizes of your own, the folder gets the config.json of a BERT whose weights are then drawn from the run's seed."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "config.json")
_SLICE = 2048


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The sizes of a BERT."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    intermediate_size: int


SIZES = {
    "tiny": ModelSize(2, 128, 2, 512),
    "mini": ModelSize(4, 256, 4, 1024),
    "small": ModelSize(4, 512, 8, 2048),
    "medium": ModelSize(8, 512, 8, 2048),
    "base": ModelSize(12, 768, 12, 3072),
    "large": ModelSize(24, 1024, 16, 4096),
}
"""The BERT sizes of Devlin et al. 2019 and, below base, of Turc et al. 2019 (arXiv 1908.08962)."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What `train_vocabulary` made.

    Attributes:
        path: the folder.
        tokens: the size of the vocabulary; below what was asked for where the texts give no more.
        characters: characters that are tokens of their own.
        texts: texts that were read.
        text_bytes: their size.
        sampled: the share of rows that was read.
    """

    path: Path
    tokens: int
    characters: int
    texts: int
    text_bytes: int
    sampled: float


def train_vocabulary(
    data: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    vocab_size: int = 30_522,
    lowercase: bool = True,
    min_frequency: int = 2,
    character_coverage: float = 0.9999,
    max_bytes: int = 512 << 20,
    seed: int = 42,
    model: ModelSize | None = None,
    max_position_embeddings: int = 512,
    overwrite: bool = False,
) -> Vocabulary:
    """Trains a vocabulary and writes it as a tokenizer folder; the same bytes each time.

    Args:
        data: shard sets, of texts (titles and texts) or of pairs (queries, positives and negatives).
        out: the folder to write tokenizer.json, tokenizer_config.json and vocab.txt to.
        vocab_size: most tokens, special ones included.
        lowercase: fold case and strip accents, as the uncased models of BERT do.
        min_frequency: how often two pieces must meet to become one.
        character_coverage: share of all characters that the vocabulary must be able to write; the rarest are [UNK].
        max_bytes: about how much text is read; of larger sets a sample of rows.
        seed: decides the sample.
        model: also write a config.json of a BERT of these sizes.
        max_position_embeddings: its positions; also the longest text of the tokenizer.
        overwrite: replace a tokenizer that is in `out`.

    Returns:
        What was made.

    Raises:
        ConfigError: a setting that cannot work.
        LaunchError: `out` holds a tokenizer or a model already.
        bgeprep.ShardError: a set is not there, or damaged.
    """
    _check(vocab_size, min_frequency, character_coverage, max_bytes, model)
    folder = Path(out)
    _refuse_what_is_there(folder, overwrite=overwrite)
    sample = _Sample(data, max_bytes, seed)
    tokenizer = _empty(lowercase)
    initial, continuing = _characters(sample, tokenizer, character_coverage, vocab_size)
    words = _trained(sample, tokenizer, initial, continuing, vocab_size, min_frequency)
    if sample.texts == 0:
        raise ConfigError("data: the sets hold no text to train a vocabulary on")
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, words, lowercase=lowercase, positions=max_position_embeddings, model=model)
    return Vocabulary(folder, len(words), len(initial), sample.texts, sample.text_bytes, sample.share)


class _Sample:
    """The texts of some sets, or of rows drawn by the seed; the same ones in the same order each time."""

    def __init__(self, data: Sequence[str | os.PathLike[str]], max_bytes: int, seed: int) -> None:
        import bgeprep

        self._sets = [bgeprep.open(path) for path in data]
        total = sum(source["bytes"] for rows in self._sets for source in rows.sources)
        self.share = min(1.0, max_bytes / max(total, 1))
        self._seed = seed
        self.texts = self.text_bytes = 0

    def __iter__(self) -> Iterator[list[str]]:
        self.texts = self.text_bytes = 0
        drawn = np.random.Generator(np.random.PCG64(self._seed))
        for rows in self._sets:
            if not len(rows):
                continue
            columns = ["title", "text"] if rows.kind == "text" else ["query", "pos", "neg"]
            frames = rows.scan().select(columns).collect_batches(maintain_order=True)
            for frame in (part for batch in frames for part in batch.iter_slices(_SLICE)):
                kept = frame.filter(drawn.random(frame.height) < self.share) if self.share < 1 else frame
                texts: list[str] = []
                for column in columns:
                    values = kept[column]
                    values = values.explode() if column in ("pos", "neg") else values
                    texts += [text for text in values.to_list() if text]
                self.texts += len(texts)
                self.text_bytes += sum(len(text.encode()) for text in texts)
                yield texts


def _empty(lowercase: bool) -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _characters(
    texts: Iterable[list[str]], tokenizer: Tokenizer, coverage: float, vocab_size: int
) -> tuple[list[str], list[str]]:
    """The characters that cover the texts, most frequent first, and those of them that go on a word, in that order."""
    first: Counter[str] = Counter()
    later: Counter[str] = Counter()
    word = _word_pattern()
    for batch in texts:
        for text in batch:
            words = word.findall(tokenizer.normalizer.normalize_str(text))
            first.update(one[0] for one in words)
            later.update("".join(one[1:] for one in words))
    both = first + later
    ordered = sorted(both, key=lambda one: (-both[one], one))
    needed, seen = coverage * both.total(), 0
    kept: list[str] = []
    room = vocab_size - len(SPECIAL)
    for character in ordered:
        # half of the vocabulary at most: the rest is for what characters make together
        cost = 1 + (character in later)
        if seen >= needed or (room - cost) * 2 < vocab_size:
            break
        kept.append(character)
        seen += both[character]
        room -= cost
    return kept, [character for character in kept if character in later]


def _word_pattern() -> re.Pattern[str]:
    """Words as BERT's pre-tokenizer cuts them: at white space, and punctuation alone."""
    marks = set(string.punctuation)
    marks |= {chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith("P")}
    inside = "".join(map(re.escape, sorted(marks)))
    return re.compile(f"[{inside}]|[^{inside}\\s]+")


def _trained(
    texts: Iterable[list[str]],
    tokenizer: Tokenizer,
    initial: list[str],
    continuing: list[str],
    vocab_size: int,
    min_frequency: int,
) -> list[str]:
    """The vocabulary in the order of its ids."""
    from tokenizers import trainers

    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        show_progress=False,
        limit_alphabet=len(initial),
        initial_alphabet=initial,
        # they are numbered first, in this order
        special_tokens=[*SPECIAL, *initial, *(f"##{character}" for character in continuing)],
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def _write(folder: Path, words: list[str], *, lowercase: bool, positions: int, model: ModelSize | None) -> None:
    from tokenizers import decoders, models, processors

    tokenizer = _empty(lowercase)
    ids = {word: number for number, word in enumerate(words)}
    tokenizer.model = models.WordPiece(ids, unk_token="[UNK]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))
    settings: dict[str, Any] = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lowercase,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "model_max_length": positions,
        **{f"{token[1:-1].lower()}_token": token for token in SPECIAL},
    }
    texts = {
        "vocab.txt": "".join(f"{word}\n" for word in words),
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
        "tokenizer.json": tokenizer.to_str(pretty=True) + "\n",
    }
    if model:
        config = {
            "architectures": ["BertForMaskedLM"],
            "model_type": "bert",
            "vocab_size": len(words),
            **asdict(model),
            "max_position_embeddings": positions,
            "type_vocab_size": 2,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-12,
            "pad_token_id": ids["[PAD]"],
        }
        texts["config.json"] = json.dumps(config, indent=2) + "\n"
    for name, text in texts.items():
        beside = folder / f".{name}.part"
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(folder / name)


def _check(vocab_size: int, min_frequency: int, coverage: float, max_bytes: int, model: ModelSize | None) -> None:
    checks: list[tuple[str, float, float, float]] = [
        ("vocab_size", vocab_size, 100, 1 << 24),
        ("min_frequency", min_frequency, 1, 1 << 31),
        ("character_coverage", coverage, 0.5, 1.0),
        ("max_bytes", max_bytes, 1, 1 << 50),
    ]
    for name, value, least, most in checks:
        if not least <= value <= most:
            raise ConfigError(f"{name}: expected {least} to {most}, found {value}")
    if model and model.hidden_size % model.num_attention_heads:
        raise ConfigError(
            f"hidden_size: {model.hidden_size} does not divide by num_attention_heads {model.num_attention_heads}"
        )


def _refuse_what_is_there(folder: Path, *, overwrite: bool) -> None:
    weights = [path.name for path in folder.glob("*.safetensors")] if folder.is_dir() else []
    if weights:
        raise LaunchError(f"{folder}: holds a model ({weights[0]})", hint="its tokenizer stays; choose another folder")
    there = [name for name in _FILES if (folder / name).exists()]
    if there and not overwrite:
        raise LaunchError(f"{folder}: holds {there[0]} already", hint="choose another folder, or give --overwrite")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bgetrain vocab`."""
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="SET", help="shard sets, of texts or of pairs")
    add("--output_dir", "--out", required=True, type=Path, metavar="DIR", help="the folder to make")
    add("--vocab_size", type=int, default=30_522, help="most tokens (30522)")
    case = parser.add_mutually_exclusive_group()
    case.add_argument("--lowercase", action="store_true", help="fold case and strip accents (what happens anyway)")
    case.add_argument("--cased", action="store_true", help="keep case and accents")
    add("--min_frequency", type=int, default=2, help="how often two pieces must meet to become one (2)")
    add("--character_coverage", type=float, default=0.9999, help="share of characters that are no [UNK] (0.9999)")
    add("--max_bytes", default="512MiB", help="about how much text is read, rows drawn by the seed (512MiB)")
    add("--seed", type=int, default=42, help="decides the sample (42)")
    add("--model_config", choices=sorted(SIZES), help="also write the config.json of a BERT of that size")
    for name in ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"):
        add(f"--{name}", type=int, metavar="N", help="instead of that of --model_config")
    add("--max_position_embeddings", type=int, default=512, metavar="N", help="longest text in tokens (512)")
    add("--overwrite", action="store_true", help="replace a tokenizer that is in the folder")
    add("--json", action="store_true", help="print what was made as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command and says what it made.

    Raises:
        BgetrainError: a setting or the folder cannot be used.
        bgeprep.BgeprepError: a set cannot be read.
    """
    from bgeprep.shard import parse_bytes

    made = train_vocabulary(
        args.data,
        args.output_dir,
        vocab_size=args.vocab_size,
        lowercase=not args.cased,
        min_frequency=args.min_frequency,
        character_coverage=args.character_coverage,
        max_bytes=parse_bytes(args.max_bytes),
        seed=args.seed,
        model=_size(args),
        max_position_embeddings=args.max_position_embeddings,
        overwrite=args.overwrite,
    )
    if args.json:
        print(json.dumps({**asdict(made), "path": str(made.path)}))
        return 0
    sample = "" if made.sampled >= 1 else f", {made.sampled:.1%} of the rows"
    print(
        f"{made.path}: {made.tokens:,} tokens, {made.characters:,} characters among them, from {made.texts:,} texts "
        f"({made.text_bytes / 1e6:,.1f} MB{sample})"
    )
    if _size(args):
        print(f"next: bgetrain train --model_name_or_path {made.path} --random_init --learning_rate 1e-4 --data …")
    return 0


def _size(args: argparse.Namespace) -> ModelSize | None:
    names = [field.name for field in fields(ModelSize)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if not (args.model_config or given):
        return None
    base: dict[str, int] = asdict(SIZES[args.model_config]) if args.model_config else {}
    missing = [name for name in names if name not in given and name not in base]
    if missing:
        raise ConfigError(f"{missing[0]}: missing; give all four sizes, or --model_config with some instead of its own")
    return ModelSize(**{**base, **given})
