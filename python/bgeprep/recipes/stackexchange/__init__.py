"""Stack Exchange: questions, each with its answer of most votes; from the dump or from files made of it."""

from __future__ import annotations

from array import array
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bgeprep.errors import CorpusError
from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.gather import as_ids, gathered, num_parts
from bgeprep.recipes.html_text import html_text, tidy_text
from bgeprep.recipes.json_lines import objects, text_fields
from bgeprep.recipes.lines import place
from bgeprep.recipes.stackexchange.dump import ANSWER, QUESTION, question_text, table_rows
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `stackexchange`."""
    files = raw.named(
        r"((^|/)Posts\.xml(\.gz|\.bz2)?|\.jsonl(\.gz)?)$", expected="Posts.xml of a dump, or <site>.jsonl.gz"
    )
    body, least = raw.chosen("query", ("title-body", "title")) == "title-body", raw.number("least_votes", 1)
    return {"stackexchange": pairs(partial(_rows, files, body, least), Purpose("retrieval", "en"))}


def _rows(files: list[RawFile], body: bool, least: int, tally: Tally) -> Iterator[PairRow]:
    for file in files:
        yield from _dump_rows(file, body, least, tally) if ".xml" in file.origin else _made_rows(file, tally)


def _made_rows(file: RawFile, tally: Tally) -> Iterator[PairRow]:
    """The lines `{"title_body", "upvoted_answer"}` of a site."""
    for number, value in objects(file, tally):
        if found := text_fields(value, ["title_body", "upvoted_answer"], tally, place(file, number)):
            question, answer = map(tidy_text, found)
            yield question, [answer], [], file.origin, number


def _dump_rows(file: RawFile, body: bool, least: int, tally: Tally) -> Iterator[PairRow]:
    """The questions of a site in their order, each with its answer of most votes: two passes over its posts."""
    lines, questions, answers = _best_answers(file, least, tally)
    if not len(questions):
        return
    records = np.arange(len(questions))
    ids = np.concatenate([as_ids(map(str, questions.tolist())), as_ids(map(str, answers.tolist()))])
    # the first pass has counted what is passed over
    texts = (
        (row["Id"], question_text(row, body=body) if row["PostTypeId"] == QUESTION else html_text(row.get("Body", "")))
        for _, row in table_rows(file, Tally())
        if row.get("PostTypeId") in (QUESTION, ANSWER) and "Id" in row
    )
    for record, found in gathered(ids, np.concatenate([records, records]), texts, num_parts(file.bytes)):
        question, answer = found[str(questions[record])], found[str(answers[record])]
        if question and answer:
            yield question, [answer], [], file.origin, int(lines[record])
        else:
            tally.pass_over("empty_text", place(file, int(lines[record])))


def _best_answers(file: RawFile, least: int, tally: Tally) -> tuple[NDArray[np.int64], ...]:
    """Lines and ids of the questions that have an answer of enough votes, and the id of the best one.

    Most votes win; of several with as many the one that the asker accepted, then the older one. Held are 24 bytes a
    post.
    """
    lines, questions, accepted = array("q"), array("q"), array("q")
    parents, votes, answers = array("q"), array("q"), array("q")
    for number, row in table_rows(file, tally):
        kind = row.get("PostTypeId")
        try:
            if kind == QUESTION:
                one = int(row["Id"]), int(row.get("AcceptedAnswerId", -1))
                lines.append(number)
                questions.append(one[0])
                accepted.append(one[1])
            elif kind == ANSWER:
                three = int(row["ParentId"]), int(row["Score"]), int(row["Id"])
                for column, value in zip((parents, votes, answers), three, strict=True):
                    column.append(value)
        except (KeyError, ValueError) as error:
            tally.pass_over("missing_field", f"{place(file, number)}: {error}")
    if not questions:
        raise CorpusError(f"{file.path}: expected posts of a Stack Exchange dump, found no question", str(file.path))
    at, asked, wanted = (np.frombuffer(column, np.int64) for column in (lines, questions, accepted))
    parent, score, answer = (np.frombuffer(column, np.int64) for column in (parents, votes, answers))
    enough = score >= least
    parent, score, answer = parent[enough], score[enough], answer[enough]
    order = np.lexsort((answer, ~np.isin(answer, wanted), -score, parent))
    parent, answer = parent[order], answer[order]
    first = np.ones(len(parent), bool)
    first[1:] = parent[1:] != parent[:-1]
    parent, answer = parent[first], answer[first]
    place_of = np.searchsorted(parent, asked)
    has = np.zeros(len(asked), bool)
    inside = place_of < len(parent)
    has[inside] = parent[place_of[inside]] == asked[inside]
    without = np.flatnonzero(~has)
    if len(without):
        tally.pass_over("no_answer", place(file, int(at[without[0]])), len(without))
    return at[has], asked[has], answer[place_of[has]]


RECIPE = Recipe(
    name="stackexchange",
    kind="pairs",
    stages=("stage 1",),
    languages=("en",),
    about="Stack Exchange: title and body of a question → its answer of most votes",
    where="https://archive.org/details/stackexchange: <site>.7z, unpacked (Posts.xml, which may be packed again by "
    "gzip "
    "or bzip2); or https://huggingface.co/datasets/flax-sentence-embeddings/"
    "stackexchange_title_body_best_voted_answer_jsonl: <site>.jsonl.gz",
    licence="CC BY-SA 2.5 to 4.0, by date",
    raw="XML, a <row Id PostTypeId ParentId AcceptedAnswerId Score Title Body …/> a line, bodies in HTML; "
    'or JSON lines {"title_body","upvoted_answer"}',
    makes="one pair a question that has an answer of one vote at least: title and body → the answer of most votes "
    "(then "
    "the accepted one, then the older one), without markup. Passed over: no_answer, empty_text, half_row, "
    "missing_field, "
    "no_text, wrong_encoding, no_json",
    citation="Stack Exchange Data Dump, https://archive.org/details/stackexchange",
    unchecked="the fields of the files on Hugging Face",
    options={
        "query": "title-body or title (title-body); dumps alone",
        "least_votes": "fewest votes of an answer (1); dumps alone",
    },
    read=read,
)
