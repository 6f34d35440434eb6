"""WuDaoCorpora: Chinese web pages as documents."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Recipe
from bgeprep.recipes.stream import Stream, texts
from bgeprep.recipes.wudao import LICENCE, OPTIONS, RAW, UNCHECKED, WHERE, page_files, pages

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `wudao-text`."""
    files, types = page_files(raw), raw.options.get("types", "")
    return {"wudao-text": texts(partial(pages, files, types, ["content"]), "zh")}


RECIPE = Recipe(
    name="wudao-text",
    kind="text",
    stages=("pre-training",),
    languages=("zh",),
    about="WuDaoCorpora: Chinese web pages",
    where=WHERE,
    licence=LICENCE,
    raw=RAW,
    makes="one document a page: title, text; paragraphs are lines. Passed over: missing_field, no_text, empty_text, "
    "no_object, other_type (where types are asked for)",
    citation="Yuan et al. 2021, WuDaoCorpora: A super large-scale Chinese corpora for pre-training language models, "
    "AI Open 2",
    unchecked=UNCHECKED,
    options=OPTIONS,
    read=read,
)
