"""Wikipedia: articles as documents, from a dump (pages-articles, XML) or from Hugging Face's rows of plain text."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from bgeprep.recipes import Recipe
from bgeprep.recipes.json_lines import objects, text_fields
from bgeprep.recipes.parquet import is_parquet, parquet_objects
from bgeprep.recipes.stream import Stream, Tally, texts
from bgeprep.recipes.wikipedia.articles import articles
from bgeprep.recipes.wikipedia.markup import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import TextRow

__all__ = ["RECIPE", "WHERE", "hosted_rows", "is_dump", "language_of", "plain_text", "wikipedia_files"]

WHERE = (
    "https://dumps.wikimedia.org/<language>wiki/latest/: the file <language>wiki-latest-pages-articles.xml.bz2, "
    "or its multistream form, or the numbered parts of either, packed as it is; or the Parquet files of "
    "https://huggingface.co/datasets/wikipedia (20220301.en and others; RetroMAE took 20200501.en)"
)

_FILES = r"\.(xml(-p\d+p\d+)?|bz2|gz|parquet|jsonl|json)$"
_HOSTED = re.compile(r"\.(parquet|jsonl|json|jsonl\.gz|json\.gz)$", re.IGNORECASE)
_LANGUAGE = re.compile(r"(?:^|/)([a-z]{2,3})wiki[-_]|(?:^|/)\d{8}\.([a-z]{2,3})\b")


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `wikipedia`: articles with `title` and `text`, in the order of the files."""
    files = wikipedia_files(raw)
    return {"wikipedia": texts(partial(_rows, files, raw.processes), language_of(files, raw))}


def _rows(files: list[RawFile], processes: int, tally: Tally) -> Iterator[TextRow]:
    for file in files:
        if is_dump(file):
            yield from articles(file, processes, plain_text, tally)
        else:
            yield from ((title, text, file.origin, number) for number, title, text in hosted_rows(file, tally))


def wikipedia_files(raw: Raw) -> list[RawFile]:
    """The dumps and tables among the raw files."""
    return raw.matching(_FILES, expected="dumps (.xml, .xml.bz2, .xml.gz) or rows (.parquet, .jsonl)")


def is_dump(file: RawFile) -> bool:
    """Whether a file is to be read as a dump in XML."""
    return not (_HOSTED.search(file.origin) or is_parquet(file))


def language_of(files: list[RawFile], raw: Raw) -> str:
    """The language that was asked for, or that the names of the files give away (`enwiki-…`, `20220301.en`)."""
    names = (str(file.path) for file in files)
    found = next((one for name in names if (one := _LANGUAGE.search(name))), None)
    return raw.options.get("language") or (found[1] or found[2] if found else "")


def hosted_rows(file: RawFile, tally: Tally) -> Iterator[tuple[int, str, str]]:
    """Number, title and text of the rows `{"id", "url", "title", "text"}` of a file."""
    rows: Iterator[tuple[int, dict[str, Any]]]
    rows = parquet_objects(file, ["title", "text"]) if is_parquet(file) else objects(file, tally)
    for number, row in rows:
        if found := text_fields(row, ["title", "text"], tally, f"{file.origin}, row {number}"):
            yield number, found[0], found[1]


RECIPE = Recipe(
    name="wikipedia",
    kind="text",
    stages=("pre-training",),
    languages=(),
    about="articles of a Wikipedia in any language, without markup",
    where=WHERE,
    licence="CC BY-SA 4.0 (texts before June 2023: CC BY-SA 3.0), and GFDL",
    raw="MediaWiki XML: <page> with <title>, <ns>, <redirect> and <revision><text> in wiki markup; plain, bzip2, gzip. "
    'Or rows {"id","url","title","text"} in plain text, as Parquet or JSON lines',
    makes="one document an article: title, text. Passed over and counted: redirect, other_namespace (all but "
    "articles), "
    "no_wikitext, no_text (nothing is left without markup), broken_page. Templates, tables, references, files, "
    "formulas, headings and the sections of references and links go; the texts of links and lists stay. "
    "Of rows: missing_field, no_text, empty_text",
    citation="Wikimedia Foundation, Wikimedia Downloads, https://dumps.wikimedia.org",
    options={"language": "language tag of the texts (from the names of the files)"},
    read=read,
)
