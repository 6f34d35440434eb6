"""MS MARCO: questions asked to Bing, each with passages that answer it and passages that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.shapes import HOME, PASSED_OVER, shaped_stream

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw
    from bgeprep.recipes.stream import Stream

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `msmarco`."""
    files = raw.matching(r"(^|/)msmarco-triplets\.jsonl", expected="msmarco-triplets.jsonl.gz")
    return {"msmarco": shaped_stream(files, Purpose("retrieval", "en"))}


RECIPE = Recipe(
    name="msmarco",
    kind="pairs",
    stages=("stage 2",),
    languages=("en",),
    about="MS MARCO: question to Bing → passage, with hard negatives",
    where=f"{HOME}: msmarco-triplets.jsonl.gz",
    licence="MS MARCO: for non-commercial research",
    raw='JSON lines: {"query": text, "pos": [texts], "neg": [texts]}',
    makes=f"one record a line, all its positives and negatives. {PASSED_OVER}",
    citation="Bajaj et al. 2016, MS MARCO: A Human Generated MAchine Reading COmprehension Dataset, arXiv 1611.09268",
    unchecked="that the file has 499,184 lines of this shape",
    read=read,
)
