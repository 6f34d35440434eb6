"""CMNLI: MNLI and XNLI in Chinese translation, as CLUE has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgeprep.recipes import Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS
from bgeprep.recipes.choice import SPLITS
from bgeprep.recipes.ocnli import nli_source

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw
    from bgeprep.recipes.stream import Stream

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `cmnli`."""
    return {"cmnli": nli_source(raw)}


RECIPE = Recipe(
    name="cmnli",
    kind="pairs",
    stages=("stage 2",),
    languages=("zh",),
    about="CMNLI: Chinese sentence → one that it entails, negatives that contradict it",
    where="https://github.com/CLUEbenchmark/CLUE: cmnli_public.zip, train.json",
    licence="none stated",
    raw='JSON lines: {"sentence1", "sentence2", "label"}; 391,783 for training; label entailment, neutral, '
    "contradiction "
    "or -",
    makes="by first sentence, as BGE: entailed sentences are positives, contradicting ones negatives. Passed over: "
    "neutral, no_majority (-), no_label, unknown_label, empty_text, missing_field, no_json; no_positive",
    citation="Xu et al. 2020, CLUE: A Chinese Language Understanding Evaluation Benchmark, COLING",
    unchecked="the shape, the name of the archive and the number of rows",
    options={**SPLITS, **CHINESE_OPTIONS},
    read=read,
)
