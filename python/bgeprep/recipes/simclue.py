"""SimCLUE: sentences that mean the same, of nine Chinese sets, with hard negatives."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.json_lines import objects, text_fields
from bgeprep.recipes.labels import POSITIVE, label_of
from bgeprep.recipes.lines import place
from bgeprep.recipes.stream import Stream, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow, Tally

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `simclue`."""
    files = raw.matching(r"(^|/)train_rank\.json", expected="train_rank.json")
    return {"simclue": pairs(partial(_rows, files, tidy_of(raw)), Purpose("symmetric", "zh"))}


def _rows(files: Iterable[RawFile], tidy: Callable[[str], str], tally: Tally) -> Iterator[PairRow]:
    for file in files:
        for number, row in objects(file, tally):
            where = place(file, number)
            names = ["sentence1", "sentence2"] if "sentence1" in row else ["query", "title", "neg_title"]
            if "neg_title" not in row:
                names = names[:2]
            if "label" in row and label_of(row["label"]) != POSITIVE:
                tally.pass_over("no_positive", f"{where}: label {row['label']}")
            elif texts := text_fields(row, names, tally, where):
                query, positive, *negatives = map(tidy, texts)
                yield query, [positive], negatives, file.origin, number


RECIPE = Recipe(
    name="simclue",
    kind="pairs",
    stages=("stage 1",),
    languages=("zh",),
    about="SimCLUE: Chinese sentence → one that means the same, with a hard negative",
    where="https://github.com/CLUEbenchmark/SimCLUE: simclue_public.zip; of a folder train_rank.json is read, "
    "another file "
    "where it is named itself",
    licence="none stated",
    raw='JSON lines: train_rank.json {"query", "title", "neg_title"}, 389,370 of them, as many as BGE used; pairs '
    '{"query", '
    '"title"}; dev and test {"sentence1", "sentence2", "label": "0"/"1"}',
    makes="one record a line. Passed over: no_positive (label 0), missing_field, no_text, empty_text, no_json",
    citation="CLUE team 2022, SimCLUE: 3000000+ Chinese Semantic Understanding and Matching Dataset",
    options=CHINESE_OPTIONS,
    read=read,
)
