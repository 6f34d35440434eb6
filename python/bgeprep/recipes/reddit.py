"""Reddit: posts of the years 2010 to 2021, (title, body)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.html_text import tidy_text
from bgeprep.recipes.json_lines import objects, text_fields
from bgeprep.recipes.lines import place
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]

_GONE = frozenset({"[deleted]", "[removed]", "[deleted by user]"})


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `reddit`."""
    files = raw.matching(r"(^|/)reddit_title_text_\d{4}\.jsonl", expected="reddit_title_text_2010.jsonl.gz … 2021")
    return {"reddit": pairs(partial(_rows, files), Purpose("retrieval", "en"))}


def _rows(files: list[RawFile], tally: Tally) -> Iterator[PairRow]:
    for file in files:
        for number, value in objects(file, tally):
            found = text_fields(value, ["title", "body"], tally, place(file, number))
            if found and _GONE.isdisjoint(found):
                title, body = map(tidy_text, found)
                yield title, [body], [], file.origin, number
            elif found:
                tally.pass_over("deleted", f"{place(file, number)}: {found[0]}")


RECIPE = Recipe(
    name="reddit",
    kind="pairs",
    stages=("stage 1",),
    languages=("en",),
    about="Reddit: title → body of posts",
    where="https://huggingface.co/datasets/sentence-transformers/reddit-title-body: "
    "reddit_title_text_2010.jsonl.gz … reddit_title_text_2021.jsonl.gz (39 GB)",
    licence="none stated",
    raw='JSON lines: {"title","body","subreddit"}',
    makes="one pair a line: title → body, entities of HTML resolved. Passed over: deleted (a title or body that is "
    "[deleted] or [removed]), missing_field, no_text, empty_text, no_json, wrong_encoding",
    citation="sentence-transformers/reddit-title-body, Hugging Face",
    unchecked="the fields; some 127 million lines",
    read=read,
)
