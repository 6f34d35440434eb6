"""The passages of MS MARCO: 8.8 million pieces of web pages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Recipe
from bgeprep.recipes.html_text import tidy_text
from bgeprep.recipes.json_lines import objects, text_fields
from bgeprep.recipes.lines import place
from bgeprep.recipes.stream import Stream, Tally, texts
from bgeprep.recipes.tab_separated import tab_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import TextRow

__all__ = ["RECIPE"]

_SHORTEST_TITLE = 3
"""RetroMAE takes a title along if it is longer than two characters: many are a dash."""


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `msmarco-passage`."""
    files = raw.matching(r"(^|/)(corpus\.jsonl|collection\.tsv)", expected="corpus.jsonl.gz or collection.tsv")
    return {"msmarco-passage": texts(partial(_rows, files), "en")}


def _rows(files: list[RawFile], tally: Tally) -> Iterator[TextRow]:
    for file in files:
        for number, title, text in _tab_separated(file, tally) if ".tsv" in file.origin else _objects(file, tally):
            yield title if len(title) >= _SHORTEST_TITLE else "", tidy_text(text), file.origin, number


def _objects(file: RawFile, tally: Tally) -> Iterator[tuple[int, str, str]]:
    for number, value in objects(file, tally):
        if found := text_fields(value, ["text"], tally, place(file, number)):
            title = value.get("title")
            yield number, tidy_text(title) if isinstance(title, str) else "", found[0]


def _tab_separated(file: RawFile, tally: Tally) -> Iterator[tuple[int, str, str]]:
    for number, (_, text) in tab_rows(file, 2, tally, joined=True):
        if text.strip():
            yield number, "", text
        else:
            tally.pass_over("empty_text", place(file, number))


RECIPE = Recipe(
    name="msmarco-passage",
    kind="text",
    stages=("pre-training",),
    languages=("en",),
    about="the passages of MS MARCO",
    where="https://huggingface.co/datasets/Tevatron/msmarco-passage-corpus: corpus.jsonl.gz (1 GB); "
    "or collection.tsv of https://microsoft.github.io/msmarco/",
    licence="MS MARCO: for non-commercial research",
    raw='JSON lines: {"docid","title","text"}; or lines of id, tab, text, without quoting',
    makes="one document a line: text, and the title where it is longer than two characters, as RetroMAE took them. "
    "Passed over: missing_field, no_text, empty_text, half_row, no_json, wrong_encoding",
    citation="Bajaj et al. 2016, MS MARCO: A Human Generated MAchine Reading COmprehension Dataset, arXiv 1611.09268",
    unchecked="8,841,823 passages; the layout of collection.tsv",
    read=read,
)
