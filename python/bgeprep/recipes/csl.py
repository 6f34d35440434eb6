"""CSL: titles, abstracts and keywords of 396,209 papers of Chinese journals; the whole corpus, or its benchmark."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.choice import SPLITS, chosen_pairs, split_files
from bgeprep.recipes.lines import place, shown, text_lines
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]

KINDS = ("abstract", "keywords")
_FILES = r"csl\w*\.tsv|(^|/)(ts|kg)/(train|dev|test)\.tsv"

Paper = tuple[str, str, str]
"""Title, abstract, keywords joined by `_`; empty where the row does not say."""


def read(raw: Raw) -> dict[str, Stream]:
    """The sources `csl`, title → abstract, and `csl-keywords`, title → keywords."""
    files = split_files(raw, _FILES, expected="csl_camera_readly.tsv, or ts/train.tsv and kg/train.tsv", default="all")
    sources = {"abstract": "csl", "keywords": "csl-keywords"}
    rows = partial(_rows, files, tidy_of(raw))
    kinds = chosen_pairs(raw, KINDS, "abstract")
    return {sources[kind]: pairs(partial(rows, kind), Purpose("retrieval", "zh")) for kind in kinds}


def _rows(files: list[RawFile], tidy: Callable[[str], str], kind: str, tally: Tally) -> Iterator[PairRow]:
    titles = _titles(files) if kind == "keywords" else {}
    for file in files:
        for number, line in text_lines(file, tally):
            paper = _paper(line, titles)
            where = f"{place(file, number)}: {shown(line)}"
            if paper is None:
                tally.pass_over("half_row", where)
                continue
            title, abstract, keywords = map(tidy, paper)
            positive = abstract if kind == "abstract" else "，".join(filter(None, keywords.split("_")))
            if title and positive:
                yield title, [positive], [], file.origin, number
            elif kind == "keywords" and positive:
                tally.pass_over("no_title", where)
            elif keywords if kind == "abstract" else abstract:
                tally.pass_over("other_task", where)
            else:
                tally.pass_over("empty_text", where)


def _paper(line: str, titles: dict[str, str]) -> Paper | None:
    """What a line says of a paper; None where fields are missing."""
    cells = line.split("\t")
    if len(cells) >= 5:
        return cells[0], cells[1], cells[2]
    if len(cells) == 3 and cells[0] == "to title":
        return cells[2], cells[1], ""
    if len(cells) == 3 and cells[0] == "to keywords":
        return titles.get(cells[1], ""), "", cells[2]
    return None


def _titles(files: list[RawFile]) -> dict[str, str]:
    """Abstract and title as the keyword task has them in one → title, from the files of the title task."""
    found: dict[str, str] = {}
    for file in files:
        for _, line in text_lines(file, Tally()):
            cells = line.split("\t")
            if len(cells) == 3 and cells[0] == "to title":
                found[f"{cells[1]} {cells[2]}"] = cells[2]
    return found


RECIPE = Recipe(
    name="csl",
    kind="pairs",
    stages=("stage 1",),
    languages=("zh",),
    about="CSL: title of a Chinese paper → abstract, and → keywords",
    where="https://github.com/ydli-ai/CSL: the whole corpus csl_camera_readly.tsv (link in its readme), or the "
    "folders ts/ "
    "and kg/ of benchmark/",
    licence="Apache-2.0",
    raw="tab-separated, no header. Corpus: title, abstract, keywords joined by _, discipline, category. Benchmark: "
    '"to title", abstract, title (ts/); "to keywords", abstract + space + title, keywords (kg/)',
    makes="title → abstract; as csl-keywords title → keywords joined by ，, for which the benchmark's titles are taken "
    "from ts/. Passed over: half_row, empty_text, no_title, other_task (rows of the benchmark's other task), "
    "wrong_encoding",
    citation="Li et al. 2022, CSL: A Large-scale Chinese Scientific Literature Dataset, COLING",
    unchecked="the order of the corpus's columns was read in programs of others, not in the file",
    options={
        "pairs": "abstract: title → abstract; keywords: title → keywords; all: both, as two sources (abstract)",
        **SPLITS | {"splits": "parts to read of the benchmark, as train,dev (all)"},
        **CHINESE_OPTIONS,
    },
    read=read,
)
