"""A seeded JSONL corpus with planted duplicates, made of real sentences.

python -m benches.peers.corpus --rows 200000 --out corpus.jsonl

1. Sentences are taken from the texts of the demo (`--texts`, any folder of .jsonl, .csv, .tsv or .txt, also gzipped).
2. Row i is a base row (80 %), an exact copy of an earlier base row (10 %) or a near copy of one (10 %): its positive
   with about one word in twenty-five changed. 15 % of the base rows are Chinese.
3. A row is `{"query", "pos": [one], "neg": [one]}`, about 1.2 KB. Its query ends in its number, so that no two base
   rows are equal by chance: exactly the planted copies are duplicates.

Row i depends on (seed, i) alone; nothing but the sentences is kept in memory. Standard library only.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import random
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TEXTS = REPOSITORY / "examples/demo/data"
ROW_BYTES = 1200
CHINESE_SHARE = 0.15
EXACT_SHARE = 0.10
NEAR_SHARE = 0.10

_HAN = re.compile(r"[\u4e00-\u9fff]")
_SENTENCE = re.compile(r"[^.!?。！？]+[.!?。！？]?")


@dataclass(frozen=True)
class Sentences:
    """Distinct sentences by language."""

    english: list[str]
    chinese: list[str]


@dataclass(frozen=True)
class Planted:
    """What a corpus holds: rows in all, exact copies and near copies among them, bytes of the file."""

    rows: int
    exact: int
    near: int
    bytes: int


def read_sentences(folder: Path) -> Sentences:
    """Takes every sentence of 20 to 400 characters from the files below a folder, in their order."""
    english: dict[str, None] = {}
    chinese: dict[str, None] = {}
    for path in sorted(folder.rglob("*")):
        for text in _texts(path):
            for sentence in (found.strip() for found in _SENTENCE.findall(" ".join(text.split()))):
                if 20 <= len(sentence) <= 400:
                    (chinese if _HAN.search(sentence) else english)[sentence] = None
    if len(english) < 1000 or len(chinese) < 1000:
        raise SystemExit(
            f"error: {folder}: expected at least 1,000 English and 1,000 Chinese sentences, "
            f"found {len(english)} and {len(chinese)}\nhint: --texts FOLDER"
        )
    return Sentences(list(english), list(chinese))


def _texts(path: Path) -> Iterator[str]:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    if not path.is_file() or not suffixes or suffixes[-1] not in {".jsonl", ".csv", ".tsv", ".txt"}:
        return
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = io.StringIO(data.decode("utf-8"), newline="")
    if suffixes[-1] == ".jsonl":
        for line in lines:
            yield from _strings(json.loads(line))
    elif suffixes[-1] == ".csv":
        for row in csv.reader(lines):
            yield from row
    else:
        for line in lines:
            yield from line.split("\t")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _kind(seed: int, index: int) -> tuple[str, random.Random]:
    """What row `index` is, and the stream its choices come from. Row 0 has nothing to copy."""
    stream = random.Random(seed << 40 | index)
    draw = stream.random()
    if index == 0 or draw >= EXACT_SHARE + NEAR_SHARE:
        return "base", stream
    return ("exact" if draw < EXACT_SHARE else "near"), stream


def _base(sentences: Sentences, stream: random.Random, index: int) -> tuple[str, str, str]:
    """Query, positive and negative of a base row."""
    is_chinese = stream.random() < CHINESE_SHARE
    pool = sentences.chinese if is_chinese else sentences.english
    glue = "" if is_chinese else " "
    opening = stream.choice(pool)
    words = opening[:18] if is_chinese else " ".join(opening.split()[:9])
    query = f"{words}{glue}（{index}）" if is_chinese else f"{words} ({index})"
    room = (ROW_BYTES - 60 - len(query.encode())) // 2

    def passage() -> str:
        parts: list[str] = []
        size = 0
        while size < room - 60:
            sentence = stream.choice(pool)
            parts.append(sentence)
            size += len(sentence.encode()) + 1
        return glue.join(parts)

    return query, passage(), passage()


def _near(text: str, stream: random.Random) -> str:
    """Changes about one word in twenty-five (one character in twenty-five where there are no spaces)."""
    is_chinese = _HAN.search(text) is not None
    pieces = list(text) if is_chinese else text.split(" ")
    for _ in range(max(1, len(pieces) // 25)):
        pieces[stream.randrange(len(pieces))] = stream.choice(pieces)
    changed = ("" if is_chinese else " ").join(pieces)
    # A piece may have been drawn for its own place, or its like (`,` and `，`): no near copy is an exact one.
    return changed if _compared(changed) != _compared(text) else f"{text} {pieces[0]}"


def _compared(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def row(sentences: Sentences, seed: int, index: int) -> tuple[str, str]:
    """The kind of row `index` and its JSON line, without the line end."""
    kind, stream = _kind(seed, index)
    original, choices = index, stream
    if kind != "base":
        while True:
            original = stream.randrange(index)
            original_kind, choices = _kind(seed, original)
            if original_kind == "base":
                break
    query, positive, negative = _base(sentences, choices, original)
    if kind == "near":
        positive = _near(positive, stream)
    return kind, json.dumps({"query": query, "pos": [positive], "neg": [negative]}, ensure_ascii=False)


def write_corpus(path: Path, rows: int, seed: int, texts: Path) -> Planted:
    """Writes a corpus and says what is in it."""
    sentences = read_sentences(texts)
    counts = {"base": 0, "exact": 0, "near": 0}
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for index in range(rows):
            kind, line = row(sentences, seed, index)
            counts[kind] += 1
            file.write(line)
            file.write("\n")
    return Planted(rows, counts["exact"], counts["near"], path.stat().st_size)


def make_corpus(path: Path, rows: int, seed: int, texts: Path) -> Planted:
    """`write_corpus` in a process of its own, whose memory does not count as the peak of what is measured next."""
    flags = {"--rows": rows, "--seed": seed, "--texts": texts, "--out": path}
    words = [str(word) for flag in flags.items() for word in flag]
    done = subprocess.run([sys.executable, "-m", "benches.peers.corpus", *words], stdout=subprocess.PIPE, check=True)
    return Planted(**json.loads(done.stdout))


def main() -> None:
    """Writes a corpus; prints what was planted as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the file (200000)")
    parser.add_argument("--seed", type=int, default=42, help="decides every row (42)")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="folder the sentences come from (the demo's data)")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    planted = write_corpus(arguments.out, arguments.rows, arguments.seed, arguments.texts)
    json.dump(asdict(planted), sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
