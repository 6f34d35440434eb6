"""Natural Questions: questions that people asked Google, each with a passage of Wikipedia that answers it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.shapes import shaped_pairs
from bgeprep.recipes.stream import Stream, pairs

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `nq`."""
    files = raw.matching(r"(^|/)NQ-train_pairs\.jsonl", expected="NQ-train_pairs.jsonl.gz")
    return {"nq": pairs(partial(shaped_pairs, files), Purpose("retrieval", "en"))}


RECIPE = Recipe(
    name="nq",
    kind="pairs",
    stages=("stage 2",),
    languages=("en",),
    about="Natural Questions: question → passage of Wikipedia",
    where="https://huggingface.co/datasets/sentence-transformers/embedding-training-data: "
    "NQ-train_pairs.jsonl.gz (27 MB)",
    licence="CC BY-SA 3.0",
    raw='JSON lines: ["question", "passage"], 100,231 of them',
    makes="one pair a line. Passed over: other_shape, no_text, empty_text, no_json, wrong_encoding",
    citation="Kwiatkowski et al. 2019, Natural Questions: a Benchmark for Question Answering Research, TACL 7",
    read=read,
)
