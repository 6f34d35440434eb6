"""OCNLI: pairs of Chinese sentences, of which the first entails the second, contradicts it, or neither."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.choice import SPLITS, split_files
from bgeprep.recipes.json_lines import objects, text_fields
from bgeprep.recipes.labels import records_of
from bgeprep.recipes.lines import place
from bgeprep.recipes.stream import Stream, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgeprep.recipes.labels import LabelledPair
    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow, Tally

__all__ = ["RECIPE", "nli_source"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `ocnli`."""
    return {"ocnli": nli_source(raw)}


def nli_source(raw: Raw) -> Stream:
    """The records of JSON lines with `sentence1`, `sentence2` and `label`, by first sentence."""
    files = split_files(raw, r"\.(json|jsonl)(\.gz)?$", expected="train.50k.json and its like")
    return pairs(partial(_records, files, tidy_of(raw)), Purpose("symmetric", "zh"))


def _records(files: list[RawFile], tidy: Callable[[str], str], tally: Tally) -> Iterator[PairRow]:
    return records_of(_labelled(files, tidy, tally), tally)


def _labelled(files: list[RawFile], tidy: Callable[[str], str], tally: Tally) -> Iterator[LabelledPair]:
    for file in files:
        for number, row in objects(file, tally):
            if texts := text_fields(row, ["sentence1", "sentence2"], tally, place(file, number)):
                yield tidy(texts[0]), tidy(texts[1]), row.get("label"), file.origin, number


RECIPE = Recipe(
    name="ocnli",
    kind="pairs",
    stages=("stage 2",),
    languages=("zh",),
    about="OCNLI: Chinese sentence → one that it entails, negatives that contradict it",
    where="https://github.com/CLUEbenchmark/OCNLI: data/ocnli/train.50k.json (train.30k, train.10k … are parts of it)",
    licence="CC BY-NC 2.0",
    raw='JSON lines: {"level", "sentence1", "sentence2", "label", "label0" … "label4", "genre", "prem_id", "id"}; '
    "label "
    "entailment, neutral, contradiction or -; none in test.json",
    makes="by first sentence, as BGE: entailed sentences are positives, contradicting ones negatives. Passed over: "
    "neutral, no_majority (-), no_label, unknown_label, empty_text, missing_field, no_json; no_positive, the pairs "
    "of a "
    "first sentence that entails none",
    citation="Hu et al. 2020, OCNLI: Original Chinese Natural Language Inference, EMNLP Findings",
    options={**SPLITS, **CHINESE_OPTIONS},
    read=read,
)
