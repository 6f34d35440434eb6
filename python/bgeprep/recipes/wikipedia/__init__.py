"""Wikipedia dumps (pages-articles, XML) → documents: the articles, without markup, redirects and other pages."""

from __future__ import annotations

import os
import re
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from bgeprep.errors import CorpusError
from bgeprep.inputs import natural_key
from bgeprep.recipes import Recipe
from bgeprep.recipes.stream import Stream, Tally
from bgeprep.recipes.wikipedia.dump import FILE_AND_CATEGORY, pages_of, raw_pages, read_namespaces
from bgeprep.recipes.wikipedia.markup import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import polars as pl

__all__ = ["RECIPE", "plain_text", "read"]

_DUMP = re.compile(r"\.(xml(-p\d+p\d+)?|bz2|gz)$")
_ARTICLE = "0"
_WIKITEXT = "wikitext"
_REDIRECT = re.compile(r"\s*#\s*(redirect|重定向|重新導向)\b", re.IGNORECASE)

Made = tuple[list[str], list[str], list[tuple[str, int, str]]]
"""Titles, texts, and what was passed over: reason, place among the pages, title."""


def read(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, processes: int = 1) -> dict[str, Stream]:
    """The articles of dumps, with `title` and `text`, in the order of the dump.

    Args:
        paths: dump files (`.xml`, `.xml.bz2`, `.xml.gz`) or folders of them.
        processes: how many take markup off; above 1, a script that calls this needs the usual
            `if __name__ == "__main__"`. Decides no byte.

    Returns:
        The one source `wikipedia`, as `bgeprep.shard` takes it.

    Raises:
        CorpusError: a path without a dump; while the stream is read, a damaged dump.
    """
    import polars as pl

    files = _find([paths] if isinstance(paths, (str, os.PathLike)) else paths)
    return {"wikipedia": Stream({"title": pl.String, "text": pl.String}, partial(_frames, files, processes))}


def _find(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise CorpusError(f"{path}: no such file or folder", str(path))
        inside = [one for one in path.iterdir() if _DUMP.search(one.name)] if path.is_dir() else [path]
        if not inside:
            raise CorpusError(f"{path}: expected dumps (.xml, .xml.bz2, .xml.gz), found none", str(path))
        found += sorted(inside, key=lambda one: natural_key(one.name))
    return found


def _frames(files: list[Path], processes: int, tally: Tally) -> Iterator[pl.DataFrame]:
    import polars as pl

    for file in files:
        names = frozenset(name for key, name in read_namespaces(file).items() if key in FILE_AND_CATEGORY)
        first = 1
        for pages, (titles, texts, passed_over) in _made(file, names, processes):
            for reason, place, title in passed_over:
                tally.pass_over(reason, f"{file.name}, page {first + place}: {title}")
            first += pages
            if titles:
                yield pl.DataFrame({"title": titles, "text": texts})


def _made(file: Path, names: frozenset[str], processes: int) -> Iterator[tuple[int, Made]]:
    """Numbers of pages and what was made of them, in order."""
    if processes == 1:
        yield from ((len(raw), _articles(raw, names)) for raw in raw_pages(file))
        return
    # spawned, not forked: polars has threads, which a fork would lose
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting: deque[tuple[int, Future[Made]]] = deque()
        for raw in raw_pages(file):
            waiting.append((len(raw), pool.submit(_articles, raw, names)))
            if len(waiting) > 2 * processes:
                number, made = waiting.popleft()
                yield number, made.result()
        yield from ((number, made.result()) for number, made in waiting)


def _articles(raw: list[bytes], names: frozenset[str]) -> Made:
    titles: list[str] = []
    texts: list[str] = []
    passed_over: list[tuple[str, int, str]] = []
    for place, page in enumerate(pages_of(raw)):
        reason = None
        text = ""
        if page.title is None or page.namespace is None:
            reason = "broken_page"
        elif page.namespace != _ARTICLE:
            reason = "other_namespace"
        elif page.redirect or _REDIRECT.match(page.text or ""):
            reason = "redirect"
        elif page.model not in (None, _WIKITEXT):
            reason = "no_wikitext"
        else:
            text = plain_text(page.text or "", hidden_namespaces=names)
            reason = None if text else "no_text"
        if reason:
            passed_over.append((reason, place, page.title or ""))
        else:
            titles.append(page.title or "")
            texts.append(text)
    return titles, texts, passed_over


RECIPE = Recipe(
    name="wikipedia",
    kind="text",
    about="articles of a Wikipedia in any language, without markup",
    where="https://dumps.wikimedia.org/<language>wiki/latest/: the file <language>wiki-latest-pages-articles.xml.bz2, "
    "or its multistream form, or the numbered parts of either; packed as it is",
    licence="CC BY-SA 4.0 (texts before June 2023: CC BY-SA 3.0), and GFDL",
    raw="MediaWiki XML: <page> with <title>, <ns>, <redirect> and <revision><text> in wiki markup; plain, bzip2, gzip",
    makes="one document an article: title, text. Passed over and counted: redirect, other_namespace (all but "
    "articles), "
    "no_wikitext, no_text (nothing is left without markup), broken_page. Templates, tables, references, files, "
    "formulas, headings and the sections of references and links go; the texts of links and lists stay",
    citation="Wikimedia Foundation, Wikimedia Downloads, https://dumps.wikimedia.org",
    read=lambda paths, processes: read(chain(paths), processes=processes),
)
