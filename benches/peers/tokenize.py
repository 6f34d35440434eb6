"""`bgeprep.Tokenizer.encode` beside `tokenizers`' `encode_batch_fast`: the same texts, one core and two, one run.

python -m benches.peers.tokenize --rounds 5

Texts are sentences of the demo's data joined to passages, English and Chinese apart. The vocabulary is learned from
them, unless `--tokenizer` names a file. Each number of threads has a process of its own, as the library's pool keeps
its first size; in it the two take turns, another one first each time, after their ids were found equal. What is timed
is list of texts → ids in numpy for bgeprep, and list of texts → `Encoding` objects, whose ids nobody has taken yet,
for the library. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from benches.peers.corpus import TEXTS, read_sentences
from benches.peers.report import machine, table

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Sentences of a passage: about a thousand bytes.
JOINED = {"English": (" ", 8), "Chinese": ("", 8)}


def passages(folder: Path, count: int) -> dict[str, list[str]]:
    """Passages by language; the sentences come again where there are too few."""
    found = read_sentences(folder)
    made = {}
    for language, sentences in {"English": found.english, "Chinese": found.chinese}.items():
        glue, size = JOINED[language]
        groups = [sentences[start : start + size] for start in range(0, len(sentences), size)]
        made[language] = [glue.join(groups[number % len(groups)]) for number in range(count)]
    return made


def learn(texts: list[str], path: Path) -> None:
    """Writes a BERT tokenizer with a vocabulary of the texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=30_000, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    marks = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, marks)
    tokenizer.save(str(path))


def work(arguments: argparse.Namespace) -> dict[str, dict]:
    """One process: both tokenizers take turns; seconds by language."""
    from tokenizers import Tokenizer as Library

    from bgeprep import Tokenizer

    ours, library = Tokenizer(arguments.tokenizer), Library.from_file(str(arguments.tokenizer))
    library.no_truncation()
    library.no_padding()
    if ours.engine != "wordpiece":
        raise SystemExit(f"{arguments.tokenizer}: {ours.why_not}: there is nothing to compare")
    outcome = {}
    for language, texts in passages(arguments.texts, arguments.passages).items():
        ids, _ = ours.encode(texts, threads=arguments.threads)
        expected = chain.from_iterable(one.ids for one in library.encode_batch_fast(texts))
        if ids.tolist() != list(expected):
            raise SystemExit(f"{language}: the ids are not the same")
        tools = {
            "bgeprep": lambda texts=texts: ours.encode(texts, threads=arguments.threads),
            "tokenizers": lambda texts=texts: library.encode_batch_fast(texts),
        }
        seconds: dict[str, list[float]] = {name: [] for name in tools}
        for turn in range(arguments.rounds):
            for name in list(tools) if turn % 2 == 0 else reversed(list(tools)):
                start = time.perf_counter()
                tools[name]()
                seconds[name].append(time.perf_counter() - start)
        size = sum(len(text.encode()) for text in texts)
        outcome[language] = {"seconds": seconds, "tokens": len(ids), "bytes": size, "texts": len(texts)}
    return outcome


def render(outcomes: dict[int, dict[str, dict]]) -> str:
    """Table of figures and ratios."""
    rows = []
    for threads, outcome in outcomes.items():
        for language, found in outcome.items():
            middle = {name: statistics.median(taken) for name, taken in found["seconds"].items()}
            for name, taken in middle.items():
                rates = [f"{found['tokens'] / taken / 1e6:.2f}", f"{found['bytes'] / taken / 1e6:.1f}"]
                ratio = f"{middle['tokenizers'] / taken:.1f}"
                rows.append([f"{language}, {name} {version(name)}", str(threads), f"{taken:.3f}", *rates, ratio])
    header = ["list of texts → ids", "threads", "s, median", "M tokens/s", "MB/s", "times tokenizers"]
    return table(header, rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=10_000, help="passages a language (10000)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="folder the sentences come from (the demo's data)")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json (one learned from the texts)")
    parser.add_argument("--threads", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        sys.stdout.write(json.dumps(work(arguments)))
        return

    with tempfile.TemporaryDirectory(prefix="bgeprep-tokenize-") as folder:
        tokenizer = arguments.tokenizer or Path(folder) / "tokenizer.json"
        made = passages(arguments.texts, arguments.passages)
        if arguments.tokenizer is None:
            learn([*made["English"], *made["Chinese"]], tokenizer)
        flags = ["--passages", arguments.passages, "--rounds", arguments.rounds, "--texts", arguments.texts]
        outcomes = {}
        for threads in (1, 2):
            command = [sys.executable, "-m", "benches.peers.tokenize", *flags, "--tokenizer", tokenizer]
            parallel = {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": str(threads > 1).lower()}
            done = subprocess.run(
                [*map(str, command), "--threads", str(threads)],
                env=os.environ | parallel,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            outcomes[threads] = json.loads(done.stdout)
    about = "; ".join(
        f"{language}: {found['texts']:,} passages, {found['bytes'] / 1e6:.0f} MB, {found['tokens'] / 1e6:.2f} M tokens"
        for language, found in outcomes[1].items()
    )
    sys.stdout.write(f"{machine()}. {about}; {arguments.rounds} interleaved rounds.\n\n{render(outcomes)}\n")


if __name__ == "__main__":
    main()
