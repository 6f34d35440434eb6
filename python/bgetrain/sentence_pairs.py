"""Reads pairs of sentences with what people said of them: a score (STS), or whether they belong together (pairs).

```
sentence1 <tab> sentence2 <tab> score      a header names the columns, among others that are left out
A man eats. <tab> Someone eats. <tab> 4.2  or none: then there are three columns, the last is the score or label
{"sentence1": "…", "sentence2": "…", "label": "entailment"}        JSON lines
```

Lines are split at tabs alone and quotes are text, as in the files of STS-B and of MRPC; plain or gzipped, UTF-8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bgetrain.collection import CollectionError, read_lines, read_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Kind", "SentencePairs", "find_sentence_pairs", "open_sentence_pairs"]

Kind = Literal["sts", "pairs"]

_TEXTS = (
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("text1", "text2"),
    ("sent1", "sent2"),
    ("s1", "s2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("#1 string", "#2 string"),
)
_LABELS = ("score", "label", "labels", "similarity", "relatedness_score", "gold_label", "is_duplicate", "quality")

_CLASSES = {"1": 1.0, "true": 1.0, "entailment": 1.0, "0": 0.0, "false": 0.0, "contradiction": 0.0}
_CLASSES |= {"not_entailment": 0.0, "1.0": 1.0, "0.0": 0.0}
# neither of the two, or no majority
_LEFT_OUT = {"neutral", "-", "", "none", "null"}


@dataclass(frozen=True, slots=True)
class SentencePairs:
    """Pairs of sentences and what people said of them.

    Attributes:
        name: the file's name without its endings.
        kind: `sts` for scores, `pairs` for labels 0 and 1.
        first: the first sentence of each pair.
        second: the second one.
        labels: scores or labels, float64 [N].
        left_out: pairs that are neither 0 nor 1 (neutral, or without a majority).
    """

    name: str
    kind: Kind
    first: list[str]
    second: list[str]
    labels: NDArray[np.float64]
    left_out: int

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.first)


def find_sentence_pairs(path: str | Path, kind: Kind) -> list[Path]:
    """Returns the file, or the .tsv and .jsonl files of a folder, sorted by name.

    Raises:
        CollectionError: there is none.
    """
    place = Path(path)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise CollectionError(f"{place}: no such file or folder", path=str(place), hint=_hint(kind))
    endings = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz")
    found = sorted(file for file in place.iterdir() if file.is_file() and file.name.lower().endswith(endings))
    if not found:
        raise CollectionError(f"{place}: no file that ends in {', '.join(endings)}", path=str(place), hint=_hint(kind))
    return found


def open_sentence_pairs(path: str | Path, kind: Kind) -> SentencePairs:
    """Reads a file.

    Args:
        path: tab-separated, or JSON lines where its name says .json or .jsonl.
        kind: `sts` where people gave scores, `pairs` where they said 0 or 1.

    Raises:
        CollectionError: the file is absent, badly formed, or holds nothing that a score can be made of.
    """
    place = Path(path)
    name = place.name.removesuffix(".gz")
    first, second, labels, left_out = [], [], [], 0
    rows = _json_rows(place) if name.lower().endswith((".json", ".jsonl")) else _tsv_rows(place, kind)
    try:
        for line, one, other, said in rows:
            label = _label(place, line, said, kind)
            if label is None:
                left_out += 1
                continue
            first.append(one)
            second.append(other)
            labels.append(label)
    except OSError as error:
        raise CollectionError(f"{place}: cannot be read: {error.strerror}", path=str(place)) from error
    if len(set(labels)) < 2:
        found = f"all {len(labels)} pairs have {labels[0]:g}" if labels else "no pairs"
        need = "expected pairs with different scores" if kind == "sts" else "expected pairs with 1 and pairs with 0"
        raise CollectionError(f"{place}: {found}: {need}", path=str(place))
    stem = name.rsplit(".", 1)[0] or name
    return SentencePairs(stem, kind, first, second, np.array(labels, dtype=np.float64), left_out)


def _tsv_rows(path: Path, kind: Kind) -> Iterator[tuple[int, str, str, str]]:
    """Line, both sentences and what is said of them."""
    places: tuple[int, int, int] | None = None
    width = 0
    for line, text in read_lines(path):
        if not text.strip():
            continue
        fields = text.rstrip("\r\n").split("\t")
        if places is None:
            width = len(fields)
            header = _header([field.strip().lower() for field in fields])
            places = header or (0, 1, 2)
            if header is None and width != 3:
                message = f"{path}:{line}: expected three columns with tabs between, or a header, found {width}"
                raise CollectionError(message, path=str(path), hint=_hint(kind))
            if header is not None:
                continue
        if len(fields) != width:
            message = f"{path}:{line}: expected {width} columns, found {len(fields)}"
            raise CollectionError(message, path=str(path))
        one, other, said = (fields[place].strip() for place in places)
        yield line, one, other, said


def _header(names: list[str]) -> tuple[int, int, int] | None:
    """The columns of both sentences and of the label, where the names are known ones."""
    pair = next((pair for pair in _TEXTS if pair[0] in names and pair[1] in names), None)
    label = next((name for name in _LABELS if name in names), None)
    return (names.index(pair[0]), names.index(pair[1]), names.index(label)) if pair and label else None


def _json_rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    for line, row in read_objects(path):
        names = list(row)
        places = _header(names)
        if places is None:
            wanted = '{"sentence1": "…", "sentence2": "…", "score" or "label": …}'
            found = ", ".join(names[:8]) or "an empty object"
            raise CollectionError(f"{path}:{line}: expected {wanted}, found {found}", path=str(path))
        one, other, said = (row[names[place]] for place in places)
        if not isinstance(one, str) or not isinstance(other, str) or isinstance(said, list | dict):
            raise CollectionError(f"{path}:{line}: expected two texts and a score or label", path=str(path))
        yield line, one.strip(), other.strip(), str(said)


def _label(path: Path, line: int, said: str, kind: Kind) -> float | None:
    """What is said of a pair as a number; None for one that is left out."""
    if kind == "sts":
        try:
            score = float(said)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            hint = "--pairs takes labels" if said.lower() in _CLASSES | dict.fromkeys(_LEFT_OUT) else _hint(kind)
            raise CollectionError(f"{path}:{line}: expected a score, found {said[:80]!r}", path=str(path), hint=hint)
        return score
    word = said.lower()
    if word in _LEFT_OUT:
        return None
    if word not in _CLASSES:
        message = f"{path}:{line}: expected 1 or 0 (or entailment, contradiction), found {said[:80]!r}"
        raise CollectionError(message, path=str(path), hint="--sts takes scores")
    return _CLASSES[word]


def _hint(kind: Kind) -> str:
    last = "score" if kind == "sts" else "label"
    return f"--{kind} takes sentence1, sentence2 and {last}, separated by tabs, with or without a header"
