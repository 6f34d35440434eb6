"""WikiAtomicEdits: sentences of the Chinese Wikipedia before and after one phrase went in or out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.lines import place, shown
from bgeprep.recipes.stream import Stream, pairs
from bgeprep.recipes.tab_separated import tab_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow, Tally

__all__ = ["RECIPE"]

_HEADER = ("base_sentence", "phrase", "edited_sentence")


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `wiki-atomic-edits`."""
    files = raw.matching(
        r"(^|/)(insertions|deletions)\.tsv", expected="chinese/insertions.tsv.gz, chinese/deletions.tsv.gz"
    )
    return {"wiki-atomic-edits": pairs(partial(_rows, files, tidy_of(raw)), Purpose("symmetric", "zh"))}


def _rows(files: list[RawFile], tidy: Callable[[str], str], tally: Tally) -> Iterator[PairRow]:
    for file in files:
        for number, (original, phrase, edited) in tab_rows(file, 3, tally, header=_HEADER):
            before, after = tidy(original), tidy(edited)
            if before and after:
                yield before, [after], [], file.origin, number
            else:
                tally.pass_over("empty_text", f"{place(file, number)}: {shown(phrase)}")


RECIPE = Recipe(
    name="wiki-atomic-edits",
    kind="pairs",
    stages=("stage 1",),
    languages=("zh",),
    about="WikiAtomicEdits: Chinese sentence → the same with one phrase put in or taken out",
    where="https://github.com/google-research-datasets/wiki-atomic-edits: chinese/insertions.tsv.gz and "
    "deletions.tsv.gz",
    licence="CC BY-SA 4.0",
    raw="tab-separated: original, phrase, edited; 0.7 M insertions, 0.4 M deletions",
    makes="one pair a line; both texts differ in a few characters, so near dedup of passages takes many. Passed over: "
    "half_row, too_many_columns, empty_text, wrong_encoding",
    citation="Faruqui et al. 2018, WikiAtomicEdits: A Multilingual Corpus of Wikipedia Edits, EMNLP",
    unchecked="whether the files have a header; a line base_sentence, phrase, edited_sentence is none",
    options=CHINESE_OPTIONS,
    read=read,
)
