"""How often a near copy of a positive becomes a negative: planted copies, real pairs, the rules of `bgetrain mine`.

python -m benches.planted_negatives --pairs squad.json.gz --queries 200
python -m benches.planted_negatives --pairs cmrc2018.json.gz --vectors lexical

The pool holds passages of the pairs and, of the positive of each query, copies that nobody has marked: one word (or
character) changed, one sentence dropped, punctuation and width changed; and, as a copy that is none any more, one word
in ten changed. What is chosen as a negative is counted by kind: by the default rules, by these with other thresholds of
`--near`, without the check, and by plain windows of ranks. What the check takes away of passages that are no copy of
the query's positive is counted too, at every threshold; the most alike of them are shown. `--vectors lexical` takes
hashed words, characters and pairs of them in place of a model: Chinese without a Chinese model, and in seconds. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import sys
import tempfile
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import bgeprep
from benches.peers.jobs.mining import embedded, leave, texts_of
from benches.peers.learning import pairs_of
from benches.peers.report import machine, table
from bgetrain.mine import add_arguments, work_of
from bgetrain.mine_run import mine
from bgetrain.model_folder import installed_demo_model
from bgetrain.overlap import jaccard, shingles

_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_WIDE = str.maketrans({**{chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)}, "，": ",", "。": "."})
_THIN = str.maketrans({",": "", ";": "", "'": "’", '"': "”", "-": "–"})
_DIM = 512

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RULES: dict[str, list[str]] = {
    "default (`--near` 0.5)": [],
    **{f"`--near` {threshold}": ["--near", str(threshold)] for threshold in THRESHOLDS if threshold != 0.5},
    "`--near off`": ["--near", "off"],
    "best 200, no ceiling": ["--near", "off", "--max_relative", "off"],
    "window 2-200 at random": ["--near", "off", "--max_relative", "off", "--range", "2-200"],
    "window 10-210 at random": ["--near", "off", "--max_relative", "off", "--range", "10-210"],
}


def changed(text: str, generator: random.Random, words: Sequence[str], share: float) -> str:
    """The text with a share of its words, at least one, replaced by others of the pool."""
    found = list(_TOKEN.finditer(text))
    chosen = generator.sample(found, min(len(found), max(1, round(len(found) * share))))
    for match in sorted(chosen, key=lambda one: -one.start()):
        text = text[: match.start()] + generator.choice(words) + text[match.end() :]
    return text


def shortened(text: str, generator: random.Random) -> str:
    """The text without one of its sentences; as it is where it has but one."""
    sentences = [one for one in _SENTENCE.split(text) if one]
    if len(sentences) > 1:
        del sentences[generator.randrange(len(sentences))]
    return ("" if is_chinese(text) else " ").join(sentences)


def retyped(text: str, _: random.Random) -> str:
    """The same words with other marks: full-width where it is Chinese, else quotes, dashes, commas and capitals."""
    return text.translate(_WIDE) if is_chinese(text) else text.translate(_THIN).upper()


def is_chinese(text: str) -> bool:
    """Whether a third of the characters are Han."""
    return 3 * sum("\u3400" <= one <= "\u9fff" for one in text) > len(text)


def lexical(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors of hashed words, Han characters and pairs of them, weighted by rarity; float32 [N, 512]."""
    counts = np.zeros((len(texts), 1 << 14), dtype=np.float32)
    for row, text in enumerate(texts):
        units = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
        for unit in [*units, *map("".join, itertools.pairwise(units))]:
            counts[row, zlib.crc32(unit.encode()) & 0x3FFF] += 1
    rarity = np.log((len(texts) + 1) / (1 + (counts > 0).sum(axis=0)))
    signs = np.random.default_rng(0).choice(np.float32([-1, 1]), (1 << 14, _DIM)) / np.float32(_DIM**0.5)
    vectors = (np.log1p(counts) * rarity).astype(np.float32) @ signs
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def model_vectors(model: Path, texts: Sequence[str], length: int) -> np.ndarray:
    """Vectors of a model, float32 [N, D]."""
    from bgetrain.encode import Encoder

    return Encoder.load(str(model)).encode(list(texts), max_length=length)


class Planted:
    """Rows, pool and copies, on disk with their vectors."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        """Chooses rows, makes the copies, embeds everything once."""
        rows = [row for row in map(_row, pairs_of(arguments.pairs)) if len(row["pos"][0]) >= arguments.least_length]
        passages = list(dict.fromkeys(row["pos"][0] for row in rows))[: arguments.passages]
        # a passage's first question alone: with all of them every passage would be asked about many times
        first = {row["pos"][0]: row for row in reversed(rows)}
        places = np.linspace(0, len(passages) - 1, min(arguments.queries, len(passages))).astype(int)
        self.rows = [first[passages[place]] for place in places]
        words = sorted({match.group() for text in passages for match in _TOKEN.finditer(text)})
        generator = random.Random(arguments.seed)
        kinds: dict[str, Callable[[str], str]] = {
            "word": lambda text: changed(text, generator, words, 0),
            "sentence": lambda text: shortened(text, generator),
            "marks": lambda text: retyped(text, generator),
            "tenth": lambda text: changed(text, generator, words, 0.1),
        }
        self.copies: dict[str, tuple[str, str]] = {}
        for row in self.rows:
            for kind, make in kinds.items():
                copy = make(row["pos"][0])
                if copy.strip() and copy not in first:
                    self.copies.setdefault(copy, (kind, row["pos"][0]))
        self.pool = [*passages, *self.copies]
        self.folder = folder
        _write(folder / "pairs.jsonl", self.rows)
        _write(folder / "pool.jsonl", [{"text": text} for text in self.pool])
        once = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"))
        bgeprep.shard(folder / "pairs.jsonl", folder / "shards", config=once)
        texts = {role: [text for _, text in source] for role, source in texts_of(folder).items()}
        everything = list(dict.fromkeys(text for own in texts.values() for text in own))
        vectors = (
            lexical(everything)
            if arguments.vectors == "lexical"
            else model_vectors(arguments.model, everything, arguments.max_len)
        )
        place = {text: number for number, text in enumerate(everything)}
        leave(folder, lambda role, _: vectors[[place[text] for text in texts[role]]])

    def kind(self, row: dict[str, Any], text: str) -> str:
        """What kind of copy of the row's positive a text is; empty for any other passage."""
        kind, positive = self.copies.get(text, ("", ""))
        return kind if positive in row["pos"] else ""

    def mined(self, flags: Sequence[str]) -> list[dict[str, Any]]:
        """The rows with their negatives."""
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        out = self.folder / "mined.jsonl"
        given = ["--model", "bench", "--data", str(self.folder / "shards"), "--pool", str(self.folder / "pool.jsonl")]
        args = parser.parse_args([*given, "--out", str(out), "--overwrite", "--quiet", *flags])
        mine(work_of(args), embedded(self.folder, note=" ".join(flags)))
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def _row(given: Any) -> dict[str, Any]:  # noqa: ANN401 - of JSON
    """A row with one positive, of an object or a pair."""
    query, answers = given if isinstance(given, list) else (given["query"], given["pos"])
    answer = answers if isinstance(answers, str) else answers[0]
    # as cleaning leaves it, so that a mined row's positive is found again
    return {"query": query, "pos": [" ".join(answer.split())]}


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Plants, mines, counts, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="JSONL of pairs, or SQuAD's JSON")
    parser.add_argument("--queries", type=int, default=200, help="queries, each with a passage of its own (200)")
    parser.add_argument("--passages", type=int, default=600, help="passages at most, copies not counted (600)")
    parser.add_argument("--least-length", type=int, default=60, help="characters of a passage, at least (60)")
    parser.add_argument("--vectors", choices=("model", "lexical"), default="model", help="what ranks (model)")
    parser.add_argument("--model", type=Path, default=installed_demo_model(), help="embedding model (the demo's)")
    parser.add_argument("--max-len", type=int, default=128, help="tokens of a text (128)")
    parser.add_argument("--seed", type=int, default=42, help="decides what is changed (42)")
    parser.add_argument("--examples", type=int, default=3, help="passages shown that the default takes away (3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bgetrain-planted-") as folder:
        made = Planted(arguments, Path(folder))
        kinds = list(dict.fromkeys(kind for kind, _ in made.copies.values()))
        lines = []
        for name, flags in RULES.items():
            chosen = [made.kind(row, text) for row in made.mined(flags) for text in row["neg"]]
            each = [chosen.count(kind) for kind in kinds]
            near = sum(each) - chosen.count("tenth")
            lines.append([name, f"{len(chosen):,}", *map(str, each), f"{near / max(len(chosen), 1):.2%}"])
        others = [
            (max(jaccard(shingles(text), shingles(positive)) for positive in row["pos"]), text, row["pos"][0])
            for row in made.mined(["--near", "off"])
            for text in row["neg"]
            if not made.kind(row, text)
        ]
    counts = Counter(kind for kind, _ in made.copies.values())
    planted = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    header = ["rules", "negatives", *(f"own copy: {kind}" for kind in kinds), "near copies, all but `tenth`"]
    removed = ", ".join(f"{sum(like >= low for like, *_ in others)} at {low}" for low in THRESHOLDS)
    sys.stdout.write(
        f"{machine()}\n\n{arguments.pairs.name}, {arguments.vectors} vectors: {len(made.rows)} queries, "
        f"{len(made.pool):,} passages, planted {planted}.\n\n{table(header, lines)}\n\n"
        f"Of {len(others):,} chosen passages that are no copy of the positive the check takes away: {removed}.\n"
    )
    for like, text, positive in sorted(others, reverse=True)[: arguments.examples]:
        sys.stdout.write(f"\n- {like:.2f}: {text[:160]} …\n  positive: {positive[:160]} …\n")


if __name__ == "__main__":
    main()
