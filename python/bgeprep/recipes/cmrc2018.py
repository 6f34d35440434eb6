"""CMRC 2018: questions on paragraphs of the Chinese Wikipedia, published in two forms that hold the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.choice import SPLITS, split_files
from bgeprep.recipes.json_array import json_array
from bgeprep.recipes.opened import opened
from bgeprep.recipes.squad import PAIRS, questions, questions_on, squad_streams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.squad import Question
    from bgeprep.recipes.stream import Stream, Tally

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The sources `cmrc2018` and `cmrc2018-answers`."""
    files = split_files(raw, r"cmrc2018[^/]*\.json(\.gz)?$", expected="cmrc2018_train.json and its like")
    # the same file in both forms is read once: squad-style-data/ sorts behind data/
    once = {file.path.name: file for file in sorted(files, key=lambda file: file.origin)}
    return squad_streams("cmrc2018", raw, list(once.values()), _questions, Purpose("retrieval", "zh"), tidy_of(raw))


def _questions(file: RawFile, tally: Tally) -> Iterator[Question]:
    with opened(file.path) as raw:
        original = raw.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    if original:
        paragraphs = (paragraph for _, paragraph in json_array(file, tally))
        return questions_on(paragraphs, ("context_text", "query_text"), file, tally)
    return questions(file, tally)


RECIPE = Recipe(
    name="cmrc2018",
    kind="pairs",
    stages=("stage 1",),
    languages=("zh",),
    about="CMRC 2018: Chinese question → paragraph of Wikipedia",
    where="https://github.com/ymcui/cmrc2018: squad-style-data/ or data/; a file that is there in both forms is "
    "read once",
    licence="CC BY-SA 4.0",
    raw='the shape of SQuAD, or an array of {"context_id", "context_text", "qas": [{"query_id", "query_text", '
    '"answers": '
    '["text"]}]}',
    makes="one pair a question; several answers that are alike count once. Passed over: no_answer, empty_text, "
    "broken_entry",
    citation="Cui et al. 2019, A Span-Extraction Dataset for Chinese Machine Reading Comprehension, EMNLP",
    unchecked="that the training file has 10,142 questions",
    options={**PAIRS, **SPLITS, **CHINESE_OPTIONS},
    read=read,
)
