"""Wikipedia: the sections of articles, (title and heading, passage)."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.passages import OPTION, first_passage
from bgeprep.recipes.stream import Stream, Tally, pairs
from bgeprep.recipes.wikipedia import WHERE, hosted_rows, is_dump, language_of, wikipedia_files
from bgeprep.recipes.wikipedia.articles import articles
from bgeprep.recipes.wikipedia.markup import NO_PROSE, plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]

_HEADING = re.compile(r"== (.+) ==$")
_LONGEST_HEADING = 60
_NO_HEADING_END = tuple(".,;:!?…\"')。，；：！？”」")


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `wikipedia-sections`; its `origin_line` counts the sections of a file."""
    files = wikipedia_files(raw)
    bounds = raw.number("least_chars", 100), raw.number("passage_chars", 1000)
    purpose = Purpose("retrieval", language_of(files, raw))
    return {"wikipedia-sections": pairs(partial(_rows, files, raw.processes, bounds), purpose)}


def _rows(files: list[RawFile], processes: int, bounds: tuple[int, int], tally: Tally) -> Iterator[PairRow]:
    least, most = bounds
    for file in files:
        number = 0
        for title, text in _articles(file, processes, tally):
            for heading, section in _sections(text):
                number += 1
                if len(section) < least:
                    tally.pass_over("short_section", f"{file.origin}, section {number}: {title} {heading}".rstrip())
                else:
                    yield f"{title} {heading}".rstrip(), [first_passage(section, most)], [], file.origin, number


def _articles(file: RawFile, processes: int, tally: Tally) -> Iterator[tuple[str, str]]:
    """Title and text of the articles, headings marked."""
    if is_dump(file):
        yield from ((row[0], row[1]) for row in articles(file, processes, partial(plain_text, headings=True), tally))
    else:
        yield from ((title, _marked(text)) for _, title, text in hosted_rows(file, tally))


def _marked(text: str) -> str:
    """Plain text in which what looks like a heading is marked as one: a short paragraph that ends without a stop."""
    kept: list[str] = []
    skipped = False
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text)):
        paragraph = paragraph.strip()
        lines_up = "\n" in paragraph or len(paragraph) > _LONGEST_HEADING or paragraph.endswith(_NO_HEADING_END)
        if number and paragraph and not lines_up:
            skipped = paragraph.casefold() in NO_PROSE
            kept.append(f"== {paragraph} ==")
        elif not skipped:
            kept.append(paragraph)
    return "\n".join(kept)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Heading (empty above the first) and text of the sections that have one."""
    heading, lines = "", list[str]()
    for line in (*text.split("\n"), "== =="):
        found = _HEADING.match(line)
        if not found and line != "== ==":
            lines.append(line)
            continue
        if section := "\n".join(lines).strip():
            yield heading, section
        heading, lines = found[1] if found else "", []


RECIPE = Recipe(
    name="wikipedia-sections",
    kind="pairs",
    stages=("stage 1",),
    languages=(),
    about="Wikipedia: title and heading → passage, in any language",
    where=WHERE,
    licence="CC BY-SA 4.0 (texts before June 2023: CC BY-SA 3.0), and GFDL",
    raw='as of the recipe wikipedia: dumps in XML, or rows {"id","url","title","text"} as Parquet or JSON lines',
    makes="one pair a section: title of the article and nearest heading → the first paragraphs under it; the title "
    "alone "
    "→ the beginning of the article. In rows, which mark no headings, a short paragraph without a stop is taken "
    "for one. "
    "Passed over: short_section, and what the recipe wikipedia passes over",
    citation="Wikimedia Foundation, Wikimedia Downloads, https://dumps.wikimedia.org",
    unchecked="that BGE took the nearest heading, and how long its passages were; that headings in the rows of Hugging "
    "Face are paragraphs of their own",
    options={
        "language": "language tag of the texts (from the names of the files)",
        "passage_chars": f"{OPTION} (1000)",
        "least_chars": "a section of fewer characters is passed over (100)",
    },
    read=read,
)
