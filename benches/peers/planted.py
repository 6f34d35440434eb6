"""A seeded JSONL corpus of pairs with planted near duplicates, and the truth about each of them.

python -m benches.peers.planted --rows 200000 --shape short --out corpus.jsonl --truth truth.parquet

1. A chain of words (characters in Chinese) is fitted on the sentences of the demo: the next word is one that follows an
   occurrence of this word, or, now and then, any word of the texts. Frequencies are those of real text and phrases
   recur, as they do there; whole texts do not.
2. A row is `{"query", "pos": [one]}`: `short` about 400 bytes (10 + 49 words), `long` about 1.2 KB. 15 % are Chinese.
3. 80 % are base rows, 10 % exact copies of an earlier row, 10 % near copies of one: both sides changed (half of them),
   the passage alone under another query, or the query alone with another passage (a quarter each). A change aims at a
   similarity drawn from [0.5, 1): words are replaced, put in, taken out, or the text is cut or goes on at an end. Most
   originals are copied once, some more often.
4. The truth has a row a copy: `line_a` (original), `line_b` (copy), counted from 1, `kind` (exact, both, passage,
   query), `language` (en, zh), `j_query`, `j_passage`: Jaccard of the two texts as `tests/reference/near.py` has it.

The first n rows are the same for every number of rows. Rows are streamed; a fixed number of originals is held.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import islice, pairwise
from json.encoder import encode_basestring
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benches.peers.corpus import CHINESE_SHARE, EXACT_SHARE, NEAR_SHARE, TEXTS, read_sentences

CHUNK = 8192
HELD_ORIGINALS = 65_536  # of each language
COPIED_AGAIN = 0.3
MOST_TRIES = 10_000
SHAPES = {"short": 49, "long": 178}  # words of a passage, on average
QUERY_WORDS = 10
CHARACTERS_A_WORD = 2.1  # Chinese texts of that many characters a word have the bytes of English ones

Truth = tuple[int, int, str, str, float, float]
Original = tuple[int, str, str]  # line, query, passage

_CJK = "\u3005-\u3007\u3021-\u3029\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_TOKEN = re.compile(f"[{_CJK}]|[^\\W_{_CJK}]+")


@dataclass(frozen=True)
class Language:
    """How a language is written, and the chain of its pieces.

    Attributes:
        pieces: words or characters, by number.
        stream: (n,) the sentences one after another, as numbers of pieces.
        follows: (n,) the piece after each occurrence, the occurrences of one piece side by side.
        first, count: (pieces,) where in `follows` the occurrences of a piece stand.
        starts: (sentences,) first pieces of sentences.
        jump: probability that the next piece is any of the stream.
    """

    name: str
    glue: str
    pieces: list[str]
    stream: npt.NDArray[np.int64]
    follows: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    jump: float

    @classmethod
    def fit(cls, name: str, glue: str, sentences: list[list[str]], jump: float) -> Language:
        """Counts which piece follows which."""
        numbers: dict[str, int] = {}
        stream = np.array([numbers.setdefault(piece, len(numbers)) for one in sentences for piece in one], np.int64)
        after = np.roll(stream, -1)
        count = np.bincount(stream)
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        starts = np.array([numbers[one[0]] for one in sentences], np.int64)
        order = np.argsort(stream, kind="stable")
        return cls(name, glue, list(numbers), stream, after[order], first, count, starts, jump)

    def texts(self, generator: np.random.Generator, number: int, words: float) -> list[str]:
        """New texts of 0.6 to 1.4 times `words` pieces."""
        lengths = generator.integers(round(words * 0.6), round(words * 1.4) + 1, number)
        current = generator.choice(self.starts, number)
        columns = [current]
        for _ in range(int(lengths.max(initial=1)) - 1):
            draw = generator.random(number)
            step = self.follows[self.first[current] + (draw * self.count[current]).astype(np.int64)]
            current = np.where(generator.random(number) < self.jump, generator.choice(self.stream, number), step)
            columns.append(current)
        take = self.pieces.__getitem__
        rows = np.stack(columns, axis=1).tolist()
        return [self.glue.join(map(take, row[:length])) for row, length in zip(rows, lengths.tolist(), strict=True)]

    def split(self, text: str) -> list[str]:
        """The pieces of a text made by `texts`."""
        return text.split(" ") if self.glue else list(text)


@cache
def read_languages(folder: Path) -> list[Language]:
    """English and Chinese as the texts below a folder have them."""
    sentences = read_sentences(folder)
    plain = re.compile(r"[^\s]+")
    english = [plain.findall(one) for one in sentences.english if not _has_marks(one)]
    # The white space of Chinese texts stands beside Latin words; characters alone make the chain.
    chinese = [list("".join(one.split())) for one in sentences.chinese if not _has_marks(one)]
    return [Language.fit("en", " ", english, 0.2), Language.fit("zh", "", chinese, 0.1)]


def _has_marks(text: str) -> bool:
    """Whether pieces of the text could join with what is put before them."""
    plain = "" if text.isascii() else unicodedata.normalize("NFKC", text)
    return any(unicodedata.category(one)[0] in "MC" for one in plain)


def shingles(text: str, is_query: bool) -> set[tuple[str, ...]]:
    """What `tests/reference/near.py` finds in texts without combining marks, quicker."""
    plain = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    words = _TOKEN.findall(plain)
    if is_query:
        return {(word,) for word in words} | set(pairwise(words))
    return set(zip(*(words[start:] for start in range(5)), strict=False)) or {tuple(words)}


def similarity(a: str, b: str, is_query: bool) -> float:
    """Jaccard of two texts."""
    if a == b:
        return 1.0
    first, second = shingles(a, is_query), shingles(b, is_query)
    return len(first & second) / len(first | second)


def _change(stream: random.Random, language: Language, text: str, is_query: bool) -> tuple[str, float] | None:
    """A near copy of a text, and its similarity: at least 0.5, below 1; None of one that has no such copy.

    Of a text of one word among marks any change loses all or nothing; there is one in some millions.
    """
    pieces = language.split(text)
    # Shingles in all, how many a change in the midst takes, how many a piece at an end takes.
    in_all, midst, end = (2 * len(pieces) - 1, 3, 2) if is_query else (max(1, len(pieces) - 4), 5, 1)
    for _ in range(MOST_TRIES):
        aim = stream.uniform(0.5, 1.0)
        changed = list(pieces)
        way = stream.choice(["midst", "midst", "cut", "go on"])
        if way == "midst":
            for _ in range(max(1, round(in_all * (1 - aim) / (1 + aim) / midst))):
                place = stream.randrange(len(changed))
                taken, put = stream.choice([(1, 1), (1, 1), (1, 0), (0, 1)])
                changed[place : place + taken] = [_any_piece(stream, language) for _ in range(put)]
        elif way == "cut":
            number = min(max(1, round(in_all * (1 - aim) / end)), len(pieces) - 1)
            changed = changed[number:] if stream.random() < 0.5 else changed[:-number]
        else:
            more = [_any_piece(stream, language) for _ in range(max(1, round(in_all * (1 / aim - 1) / end)))]
            changed = more + changed if stream.random() < 0.5 else changed + more
        # White space of the pieces themselves would be lost when the row is read.
        copy = language.glue.join(changed).strip()
        reached = similarity(text, copy, is_query) if copy else 0.0
        if 0.5 <= reached < 1:
            return copy, reached
    return None


def _any_piece(stream: random.Random, language: Language) -> str:
    return language.pieces[language.stream[stream.randrange(len(language.stream))]]


@dataclass
class Originals:
    """Rows of one language that copies are taken from; one that is full admits a row when another has left."""

    rows: list[Original] = field(default_factory=list)

    def offer(self, row: Original) -> None:
        """Holds the row if there is room."""
        if len(self.rows) < HELD_ORIGINALS:
            self.rows.append(row)

    def take(self, stream: random.Random) -> Original:
        """Any of the rows; most often it will not be taken again."""
        place = stream.randrange(len(self.rows))
        row = self.rows[place]
        if stream.random() >= COPIED_AGAIN:
            self.rows[place] = self.rows[-1]
            self.rows.pop()
        return row


def planted_rows(languages: list[Language], shape: str, seed: int) -> Iterator[tuple[str, str, Truth | None]]:
    """Rows without end: query, passage and, for a copy, the truth about it."""
    generator = np.random.default_rng(seed)
    stream = random.Random(seed)
    originals = [Originals() for _ in languages]
    line = 0
    while True:
        is_chinese = generator.random(CHUNK) < CHINESE_SHARE
        draws = generator.random(CHUNK).tolist()
        fresh = []
        for number, language in enumerate(languages):
            rows = int((is_chinese == bool(number)).sum())
            factor = 1.0 if language.glue else CHARACTERS_A_WORD
            queries = language.texts(generator, rows, QUERY_WORDS * factor)
            fresh.append(zip(queries, language.texts(generator, rows, SHAPES[shape] * factor), strict=True))
        for number, draw in zip(is_chinese.astype(int).tolist(), draws, strict=True):
            line += 1
            query, passage = next(fresh[number])
            language, held = languages[number], originals[number]
            if draw >= EXACT_SHARE + NEAR_SHARE or not held.rows:
                held.offer((line, query, passage))
                yield query, passage, None
                continue
            other, old_query, old_passage = held.take(stream)
            kind = "exact" if draw < EXACT_SHARE else stream.choice(["both", "both", "passage", "query"])
            if kind == "exact":
                yield old_query, old_passage, (other, line, kind, language.name, 1.0, 1.0)
                continue
            if kind == "passage":
                new_query: tuple[str, float] | None = (query, similarity(old_query, query, True))
            else:
                new_query = _change(stream, language, old_query, True)
            if kind == "query":
                new_passage: tuple[str, float] | None = (passage, similarity(old_passage, passage, False))
            else:
                new_passage = _change(stream, language, old_passage, False)
            if new_query and new_passage:
                (query, near_query), (passage, near_passage) = new_query, new_passage
                yield query, passage, (other, line, kind, language.name, near_query, near_passage)
            else:
                yield query, passage, None


@dataclass(frozen=True)
class Written:
    """What a corpus holds: rows in all, exact copies and near copies among them, bytes of the file."""

    rows: int
    exact: int
    near: int
    bytes: int


def write_planted(path: Path, truth_path: Path, rows: int, shape: str, seed: int, texts: Path) -> Written:
    """Writes a corpus and its truth (Parquet), and says what is in it."""
    import polars as pl

    truths: list[Truth] = []
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for query, passage, truth in islice(planted_rows(read_languages(texts), shape, seed), rows):
            file.write(f'{{"query": {encode_basestring(query)}, "pos": [{encode_basestring(passage)}]}}\n')
            if truth:
                truths.append(truth)
    schema = {
        "line_a": pl.UInt64,
        "line_b": pl.UInt64,
        "kind": pl.String,
        "language": pl.String,
        "j_query": pl.Float64,
        "j_passage": pl.Float64,
    }
    pl.DataFrame(truths, schema=schema, orient="row").write_parquet(truth_path)
    exact = sum(truth[2] == "exact" for truth in truths)
    return Written(rows, exact, len(truths) - exact, path.stat().st_size)


def make_planted(path: Path, truth_path: Path, rows: int, shape: str, seed: int, texts: Path) -> Written:
    """`write_planted` in a process of its own, whose memory does not count as the peak of what is measured next."""
    flags = {"--rows": rows, "--shape": shape, "--seed": seed, "--texts": texts, "--out": path, "--truth": truth_path}
    words = [str(word) for flag in flags.items() for word in flag]
    done = subprocess.run([sys.executable, "-m", "benches.peers.planted", *words], stdout=subprocess.PIPE, check=True)
    return Written(**json.loads(done.stdout))


def main() -> None:
    """Writes a corpus and its truth; prints what was planted as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the file (200000)")
    parser.add_argument("--shape", choices=list(SHAPES), default="short", help="length of the rows (short)")
    parser.add_argument("--seed", type=int, default=42, help="decides every row (42)")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="folder the sentences come from (the demo's data)")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--truth", type=Path, required=True, help="Parquet file for the planted pairs")
    arguments = parser.parse_args()
    written = write_planted(
        arguments.out, arguments.truth, arguments.rows, arguments.shape, arguments.seed, arguments.texts
    )
    json.dump(asdict(written), sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
