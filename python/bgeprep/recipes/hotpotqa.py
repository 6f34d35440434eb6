"""HotpotQA: questions that take several passages of Wikipedia to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.shapes import HOME, PASSED_OVER, shaped_stream

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw
    from bgeprep.recipes.stream import Stream

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `hotpotqa`."""
    files = raw.matching(r"(^|/)hotpotqa\.jsonl", expected="hotpotqa.jsonl.gz")
    return {"hotpotqa": shaped_stream(files, Purpose("retrieval", "en"))}


RECIPE = Recipe(
    name="hotpotqa",
    kind="pairs",
    stages=("stage 2",),
    languages=("en",),
    about="HotpotQA: question over several articles → passages, with hard negatives",
    where=f"{HOME}: hotpotqa.jsonl.gz",
    licence="CC BY-SA 4.0",
    raw='JSON lines: {"query": text, "pos": [texts], "neg": [texts]}',
    makes=f"one record a line, all its positives and negatives. {PASSED_OVER}",
    citation="Yang et al. 2018, HotpotQA: A Dataset for Diverse, Explainable Multi-hop Question Answering, EMNLP",
    unchecked="name and shape of the file, and that it has some 84,500 lines",
    read=read,
)
