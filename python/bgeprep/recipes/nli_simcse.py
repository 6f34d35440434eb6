"""Natural language inference as SimCSE trains on it: premise, a sentence that follows, a sentence that contradicts."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.csv_rows import csv_rows
from bgeprep.recipes.lines import place, shown
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
        for number, cells in islice(csv_rows(file, tally), 1, None):
            if len(cells) != 3:
                reason = "half_row" if len(cells) < 3 else "too_many_columns"
                tally.pass_over(reason, f"{place(file, number)}: {shown(','.join(cells))}")
            elif not all(texts := [cell.strip() for cell in cells]):
                tally.pass_over("empty_text", f"{place(file, number)}: {shown(','.join(cells))}")
            else:
                yield texts[0], [texts[1]], [texts[2]], file.origin, number


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
    "broken_row, wrong_encoding",
    citation="Gao, Yao and Chen 2021, SimCSE: Simple Contrastive Learning of Sentence Embeddings, EMNLP",
    unchecked="the names in the header (sent0, sent1, hard_neg), which are not looked at; 275,601 rows",
    read=read,
)
