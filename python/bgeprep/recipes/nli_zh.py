"""nli-zh: five Chinese sets of sentence pairs that mean the same or do not, and one of them graded."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.choice import SPLITS, split_files
from bgeprep.recipes.labels import records_of
from bgeprep.recipes.lines import shown
from bgeprep.recipes.stream import Stream, pair_schema, pairs, rows_stream
from bgeprep.recipes.tab_separated import tab_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgeprep.recipes.labels import LabelledPair
    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow, Tally

__all__ = ["RECIPE"]

_FILE = re.compile(r"(ATEC|BQ|LCQMC|PAWSX|STS-B)\.(train|valid|test)\.data$", re.IGNORECASE)
_GRADED = "STS-B"
_SYMMETRIC = Purpose("symmetric", "zh")

GradedRow = tuple[str, "list[str]", "list[str]", "list[float]", str, int]
"""Query, positive, no negative, its grade, origin file, origin line."""


def read(raw: Raw) -> dict[str, Stream]:
    """The sources `nli-zh-atec`, `-bq`, `-lcqmc`, `-pawsx` and `-sts-b`, as far as there are files."""
    files = split_files(raw, _FILE.pattern, expected="ATEC/ATEC.train.data and its like")
    groups: dict[str, list[RawFile]] = {}
    for file in files:
        found = _FILE.search(file.path.name)
        groups.setdefault(found[1].upper() if found else "PAIRS", []).append(file)
    tidy = tidy_of(raw)
    return {f"nli-zh-{name.lower()}": _source(name, group, tidy) for name, group in groups.items()}


def _source(name: str, files: list[RawFile], tidy: Callable[[str], str]) -> Stream:
    import polars as pl

    if name != _GRADED:
        return pairs(partial(_records, files, tidy), _SYMMETRIC)
    query, pos, neg, *origin = pair_schema().items()
    schema = dict([query, pos, neg, ("pos_scores", pl.List(pl.Float32)), *origin])
    return rows_stream(schema, partial(_graded, files, tidy), _SYMMETRIC)


def _records(files: list[RawFile], tidy: Callable[[str], str], tally: Tally) -> Iterator[PairRow]:
    return records_of(_labelled(files, tidy, tally), tally)


def _labelled(files: list[RawFile], tidy: Callable[[str], str], tally: Tally) -> Iterator[LabelledPair]:
    for file in files:
        for number, (first, second, label) in tab_rows(file, 3, tally):
            yield tidy(first), tidy(second), label, file.origin, number


def _graded(files: list[RawFile], tidy: Callable[[str], str], tally: Tally) -> Iterator[GradedRow]:
    for first, second, label, origin, number in _labelled(files, tidy, tally):
        where = f"{origin}, line {number}: {shown(first)}"
        grade = str(label).strip()
        if not re.fullmatch(r"[0-5](\.\d+)?", grade):
            tally.pass_over("unknown_label", where)
        elif not (first and second):
            tally.pass_over("empty_text", where)
        else:
            yield first, [second], [], [float(grade)], origin, number


RECIPE = Recipe(
    name="nli-zh",
    kind="pairs",
    stages=("stage 2",),
    languages=("zh",),
    about="nli-zh: ATEC, BQ, LCQMC, PAWSX (same meaning or not) and STS-B (graded), five sources",
    where="https://huggingface.co/datasets/shibing624/nli_zh: senteval_cn.zip (16 MB), unpacked",
    licence="CC BY 4.0 by its card; the five sets have terms of their own",
    raw="NAME/NAME.{train,valid,test}.data: lines of sentence1, tab, sentence2, tab, label; 0 or 1, for STS-B 0 to 5",
    makes="by first sentence, as BGE: label 1 → positive, 0 → negative. STS-B: one record a line with the grade in "
    "pos_scores. Passed over: half_row, too_many_columns, unknown_label, no_label, empty_text, wrong_encoding; "
    "no_positive, the pairs of a first sentence that has negatives only",
    citation="Xu, Text2vec: Text to vector toolkit, https://github.com/shibing624/text2vec; the papers of the five "
    "sets",
    unchecked="the numbers of pairs: ATEC 62 k, BQ 100 k, LCQMC 239 k, PAWSX 49 k, STS-B 5.2 k for training",
    options={**SPLITS, **CHINESE_OPTIONS},
    read=read,
)
