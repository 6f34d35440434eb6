"""Quora: questions that ask the same, as people marked them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.shapes import HOME, PASSED_OVER, shaped_stream

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw
    from bgeprep.recipes.stream import Stream

__all__ = ["RECIPE"]

_EXPECTED = "quora_duplicates.jsonl.gz or quora_duplicates_triplets.jsonl.gz"


def read(raw: Raw) -> dict[str, Stream]:
    """The sources `quora` (pairs) and `quora-triplets`, as far as their files are there."""
    files = raw.matching(r"(^|/)quora_duplicates", expected=_EXPECTED)
    triplets = [file for file in files if "triplets" in file.origin]
    pairs = [file for file in files if file not in triplets]
    found = {"quora": pairs, "quora-triplets": triplets}
    return {name: shaped_stream(some, Purpose("symmetric", "en")) for name, some in found.items() if some}


RECIPE = Recipe(
    name="quora",
    kind="pairs",
    stages=("stage 2",),
    languages=("en",),
    about="Quora: questions that ask the same",
    where=f"{HOME}: {_EXPECTED}",
    licence="terms of Quora; free for non-commercial use",
    raw='JSON lines: ["question", "question"] in the first file; {"query", "pos", "neg"} or three texts in the second',
    makes=f"one record a line, a source a file: quora, quora-triplets (the same questions, with hard negatives). "
    f"{PASSED_OVER}",
    citation="Quora 2017, First Quora Dataset Release: Question Pairs",
    unchecked="the shape of the triplets; 103,663 pairs, 101,762 triplets",
    read=read,
)
