"""Natural Questions: questions that people asked Google, each with a passage of Wikipedia that answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.shapes import HOME, PASSED_OVER, shaped_stream

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw
    from bgeprep.recipes.stream import Stream

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `nq`."""
    files = raw.matching(r"(^|/)NQ-train_pairs\.jsonl", expected="NQ-train_pairs.jsonl.gz")
    return {"nq": shaped_stream(files, Purpose("retrieval", "en"))}


RECIPE = Recipe(
    name="nq",
    kind="pairs",
    stages=("stage 2",),
    languages=("en",),
    about="Natural Questions: question → passage of Wikipedia",
    where=f"{HOME}: NQ-train_pairs.jsonl.gz",
    licence="CC BY-SA 3.0",
    raw='JSON lines: ["question", "passage"], 100,231 of them',
    makes=f"one pair a line. {PASSED_OVER}",
    citation="Kwiatkowski et al. 2019, Natural Questions: a Benchmark for Question Answering Research, TACL 7",
    read=read,
)
