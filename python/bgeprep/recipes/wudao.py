"""WuDaoCorpora: Chinese web pages, (title, passage)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.html_text import tidy_text
from bgeprep.recipes.json_array import array_objects
from bgeprep.recipes.json_lines import text_fields
from bgeprep.recipes.passages import OPTION, first_passage
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow, TextRow

__all__ = ["LICENCE", "OPTIONS", "RAW", "RECIPE", "UNCHECKED", "WHERE", "page_files", "pages"]

WHERE = (
    "https://data.baai.ac.cn (agreement to sign): WuDaoCorpus2.0_base_200G.rar (64 GB), unpacked: a folder of "
    "part-*.json"
)
LICENCE = "agreement of BAAI: for non-commercial use"
RAW = 'files of one JSON array each: {"id","uniqueKey","titleUkey","dataType","title","content"}; 200 GB unpacked'
UNCHECKED = "the names of the fields and of the parts; some 59 million pages"
OPTIONS = {"types": "take pages of these categories (dataType) alone, as 新闻,百科"}


def page_files(raw: Raw) -> list[RawFile]:
    """The parts, in natural order."""
    return raw.matching(r"(^|/)part-[^/]*\.json", expected="part-*.json")


def pages(files: list[RawFile], types: str, fields: list[str], tally: Tally) -> Iterator[TextRow]:
    """Title and content of the pages of some categories, of all if `types` is empty; `fields` must be there."""
    wanted = set(filter(None, types.split(",")))
    for file in files:
        for number, value in array_objects(file, tally):
            where = f"{file.origin}, element {number}"
            if wanted and value.get("dataType") not in wanted:
                tally.pass_over("other_type", f"{where}: {value.get('dataType')}")
            elif found := text_fields(value, fields, tally, where):
                title = value.get("title")
                yield tidy_text(title) if isinstance(title, str) else "", tidy_text(found[-1]), file.origin, number


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `wudao`."""
    rows = partial(_rows, page_files(raw), raw.options.get("types", ""), raw.number("passage_chars", 500))
    return {"wudao": pairs(rows, Purpose("retrieval", "zh"))}


def _rows(files: list[RawFile], types: str, most: int, tally: Tally) -> Iterator[PairRow]:
    for title, content, file, number in pages(files, types, ["title", "content"], tally):
        yield title, [first_passage(content, most)], [], file, number


RECIPE = Recipe(
    name="wudao",
    kind="pairs",
    stages=("stage 1",),
    languages=("zh",),
    about="WuDaoCorpora: title → passage of web pages",
    where=WHERE,
    licence=LICENCE,
    raw=RAW,
    makes="one pair a page: title → its first paragraphs. BGE then dropped pairs that text2vec scored below 0.43 "
    "(bgetrain score, bgeprep shard --scores). Passed over: missing_field, no_text, empty_text, no_object, other_type "
    "(where types are asked for)",
    citation="Yuan et al. 2021, WuDaoCorpora: A super large-scale Chinese corpora for pre-training language models, "
    "AI Open 2",
    unchecked=UNCHECKED,
    options={**OPTIONS, "passage_chars": f"{OPTION} (500)"},
    read=read,
)
