"""Natural language inference as SimCSE trains on it: premise, a sentence that follows, a sentence that contradicts."""

from __future__ import annotations

import csv
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from bgeprep.errors import CorpusError
from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.lines import place, shown, text_lines
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `nli-simcse`."""
    files = raw.matching(r"(^|/)nli_for_simcse\.csv", expected="nli_for_simcse.csv")
    return {"nli-simcse": pairs(partial(_rows, files), Purpose("symmetric", "en"))}


def _rows(files: list[RawFile], tally: Tally) -> Iterator[PairRow]:
    for file in files:
        for number, cells in _cells(file, tally):
            if len(cells) != 3:
                reason = "half_row" if len(cells) < 3 else "too_many_columns"
                tally.pass_over(reason, f"{place(file, number)}: {shown(','.join(cells))}")
            elif not all(texts := [cell.strip() for cell in cells]):
                tally.pass_over("empty_text", f"{place(file, number)}: {shown(','.join(cells))}")
            else:
                yield texts[0], [texts[1]], [texts[2]], file.origin, number


def _cells(file: RawFile, tally: Tally) -> Iterator[tuple[int, list[str]]]:
    """The rows behind the header, each with the line it begins on; a quoted field may hold line breaks."""
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in text_lines(file, tally):  # noqa: B007 - read by the caller
            yield line + "\n"

    coming = lines()
    next(coming, None)
    for line in coming:
        start = number
        yield start, _row(file, start, chain([line], coming))


def _row(file: RawFile, start: int, lines: Iterator[str]) -> list[str]:
    """The row that begins with the next of these lines, and takes as many as it needs."""
    try:
        return next(csv.reader(lines, strict=True))
    except csv.Error as error:
        raise CorpusError(f"{file.path}: line {start}: no CSV row: {error}", str(file.path), start) from error


RECIPE = Recipe(
    name="nli-simcse",
    kind="pairs",
    stages=("stage 2",),
    languages=("en",),
    about="NLI as SimCSE has it: premise, entailment, contradiction",
    where="https://huggingface.co/datasets/princeton-nlp/datasets-for-simcse: nli_for_simcse.csv (46 MB)",
    licence="SNLI: CC BY-SA 4.0; MultiNLI: several",
    raw="CSV with quoting and a header, three columns by position: premise, entailed sentence, contradicting sentence",
    makes="one record a row: premise, positive, negative. Passed over: half_row, too_many_columns, empty_text, "
    "wrong_encoding",
    citation="Gao, Yao and Chen 2021, SimCSE: Simple Contrastive Learning of Sentence Embeddings, EMNLP",
    unchecked="the names in the header (sent0, sent1, hard_neg), which are not looked at; 275,601 rows",
    read=read,
)
