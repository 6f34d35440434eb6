"""Stack Exchange: questions that were closed as duplicates, with the question that they repeat."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bgeprep.errors import CorpusError
from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.gather import as_ids, gathered, num_parts
from bgeprep.recipes.lines import place
from bgeprep.recipes.shapes import HOME, shaped_stream
from bgeprep.recipes.stackexchange.dump import QUESTION, question_text, table_rows
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]

_DUPLICATE = "3"
_FILES = {
    "stackexchange-duplicates-titles": r"title_title\.jsonl",
    "stackexchange-duplicates-bodies": r"(^|_)body_body\.jsonl",
    "stackexchange-duplicates-title-body": r"title-body_title-body\.jsonl",
}
_SYMMETRIC = Purpose("symmetric", "en")


def read(raw: Raw) -> dict[str, Stream]:
    """A source a file of sentence-transformers; `stackexchange-duplicates` of dumps."""
    links = raw.named(r"(^|/)PostLinks\.xml(\.gz|\.bz2)?$")
    made = {name: raw.named(pattern) for name, pattern in _FILES.items()}
    if not links and not any(made.values()):
        raw.named("a^", expected="stackexchange_duplicate_questions_*.jsonl.gz, or PostLinks.xml and Posts.xml")
    body = raw.chosen("text", ("title-body", "title")) == "title-body"
    both = [(one, _posts_beside(one, raw)) for one in links]
    found = {"stackexchange-duplicates": pairs(partial(_rows, both, body), _SYMMETRIC)} if both else {}
    return found | {name: shaped_stream(files, _SYMMETRIC) for name, files in made.items() if files}


def _posts_beside(links: RawFile, raw: Raw) -> RawFile:
    folder = links.origin.rpartition("/")[0]
    posts = [one for one in raw.named(r"(^|/)Posts\.xml(\.gz|\.bz2)?$") if one.origin.rpartition("/")[0] == folder]
    if not posts:
        raise CorpusError(f"{links.path}: expected Posts.xml beside it, found none", str(links.path))
    return posts[0]


def _rows(files: list[tuple[RawFile, RawFile]], body: bool, tally: Tally) -> Iterator[PairRow]:
    for links, posts in files:
        lines: list[int] = []
        ends: list[tuple[str, str]] = []
        for number, row in table_rows(links, tally):
            if row.get("LinkTypeId") != _DUPLICATE:
                tally.pass_over("no_duplicate", place(links, number))
            elif "PostId" in row and "RelatedPostId" in row:
                lines.append(number)
                ends.append((row["PostId"], row["RelatedPostId"]))
            else:
                tally.pass_over("missing_field", place(links, number))
        questions = (
            (row["Id"], question_text(row, body=body))
            for _, row in table_rows(posts, tally)
            if row.get("PostTypeId") == QUESTION and "Id" in row
        )
        ids, records = as_ids(one for both in ends for one in both), np.repeat(np.arange(len(ends)), 2)
        known = 0
        for record, found in gathered(ids, records, questions, num_parts(posts.bytes)):
            query, positive = (found.get(one, "") for one in ends[record])
            if query and positive:
                known += 1
                yield query, [positive], [], links.origin, lines[record]
        tally.pass_over("question_gone", links.origin, len(ends) - known)


RECIPE = Recipe(
    name="stackexchange-duplicates",
    kind="pairs",
    stages=("stage 2",),
    languages=("en",),
    about="Stack Exchange: questions that ask the same",
    where=f"{HOME}: stackexchange_duplicate_questions_{{title_title,body_body,title-body_title-body}}.jsonl.gz; or "
    "https://archive.org/details/stackexchange: <site>.7z, unpacked (PostLinks.xml and Posts.xml in one folder a site)",
    licence="CC BY-SA 2.5 to 4.0, by date",
    raw='JSON lines ["text", "text"]; or XML, a <row PostId RelatedPostId LinkTypeId …/> a line, where 3 is a '
    "duplicate",
    makes="one pair a line, a source a file (stackexchange-duplicates-titles, -bodies, -title-body); of dumps one "
    "pair a "
    "link, its line in PostLinks.xml (stackexchange-duplicates). Passed over: no_duplicate (links of other kinds), "
    "question_gone (an end that is deleted), half_row, missing_field, other_shape, no_text, empty_text",
    citation="Stack Exchange Data Dump, https://archive.org/details/stackexchange",
    unchecked="304,525, 250,519 and 250,460 lines",
    options={"text": "title-body or title (title-body); dumps alone"},
    read=read,
)
