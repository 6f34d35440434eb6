"""DuReader-retrieval: questions that people asked Baidu, passages of the web, and negatives mined for each question."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.choice import SPLITS, split_files
from bgeprep.recipes.json_lines import objects
from bgeprep.recipes.labels import NEGATIVE, POSITIVE, label_of
from bgeprep.recipes.lines import place, shown, text_lines
from bgeprep.recipes.stream import Stream, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow, Tally

__all__ = ["RECIPE"]

Judged = tuple[str, str, str, int]
"""Query, a positive or empty, a negative or empty, line."""


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `dureader-retrieval`."""
    files = split_files(raw, r"(^|/)(dual\.train\.tsv|(train|dev)\.json)(\.gz)?$", expected="train/dual.train.tsv")
    return {"dureader-retrieval": pairs(partial(_rows, files, tidy_of(raw)), Purpose("retrieval", "zh"))}


def _rows(files: list[RawFile], tidy: Callable[[str], str], tally: Tally) -> Iterator[PairRow]:
    for file in files:
        rows = _answered(file, tidy, tally) if ".json" in file.path.name else _judged(file, tidy, tally)
        yield from rows


def _judged(file: RawFile, tidy: Callable[[str], str], tally: Tally) -> Iterator[PairRow]:
    """Lines that follow each other with one query are one record."""
    for query, lines in groupby(_lines(file, tidy, tally), key=lambda line: line[0]):
        together = list(lines)
        positives = list(dict.fromkeys(pos for _, pos, _, _ in together if pos))
        negatives = dict.fromkeys(neg for _, _, neg, _ in together if neg)
        number = together[0][3]
        if positives:
            yield query, positives, [text for text in negatives if text not in positives], file.origin, number
        else:
            tally.pass_over("no_positive", f"{place(file, number)}: {shown(query)}", len(together))


def _lines(file: RawFile, tidy: Callable[[str], str], tally: Tally) -> Iterator[Judged]:
    for number, line in text_lines(file, tally):
        cells = [tidy(cell) for cell in line.split("\t")]
        where = f"{place(file, number)}: {shown(line)}"
        if len(cells) == 6:
            query, _, pos, _, neg, _ = cells
        elif len(cells) == 4:
            query, _, text, label = cells
            says = label_of(label)
            if says not in (POSITIVE, NEGATIVE):
                tally.pass_over(says, where)
                continue
            pos, neg = (text, "") if says == POSITIVE else ("", text)
        else:
            tally.pass_over("half_row" if len(cells) < 6 else "too_many_columns", where)
            continue
        if query and (pos or neg):
            yield query, pos, neg, number
        else:
            tally.pass_over("empty_text", where)


def _answered(file: RawFile, tidy: Callable[[str], str], tally: Tally) -> Iterator[PairRow]:
    for number, row in objects(file, tally):
        question, answers = row.get("question"), row.get("answer_paragraphs")
        query = tidy(question) if isinstance(question, str) else ""
        found = [_text(one) for one in answers] if isinstance(answers, list) else []
        positives = list(dict.fromkeys(filter(None, map(tidy, found))))
        if query and positives:
            yield query, positives, [], file.origin, number
        else:
            tally.pass_over("no_positive" if query else "empty_text", f"{place(file, number)}: {shown(query)}")


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    text = value.get("paragraph_text") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


RECIPE = Recipe(
    name="dureader-retrieval",
    kind="pairs",
    stages=("stage 1", "stage 2"),
    languages=("zh",),
    about="DuReader-retrieval: Chinese question → passage of the web, with mined negatives",
    where="https://github.com/baidu/DuReader/tree/master/DuReader-Retrieval: "
    "dureader-retrieval-baseline-dataset.tar.gz, unpacked",
    licence="Apache-2.0",
    raw="train/dual.train.tsv: question, empty, positive, empty, negative, 0, by tabs; train/cross.train.tsv (named "
    'itself): question, empty, passage, label; dev/dev.json: JSON lines {"question", "question_id", '
    '"answer_paragraphs": [{"paragraph_id", "paragraph_text"}]}',
    makes="lines of one question that follow each other are one record; dedup unites what stands apart. Passed over: "
    "half_row, too_many_columns, no_label, no_majority, unknown_label, empty_text, no_positive, no_json, "
    "wrong_encoding",
    citation="Qiu et al. 2022, DuReader-Retrieval: A Large-scale Chinese Benchmark for Passage Retrieval from Web "
    "Search "
    "Engine, EMNLP",
    unchecked="the columns were read in its readme as others quote it, not in the files",
    options={**SPLITS, **CHINESE_OPTIONS},
    read=read,
)
