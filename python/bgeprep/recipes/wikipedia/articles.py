"""The articles of a dump in its order, their markup taken off by several processes."""

from __future__ import annotations

import re
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Protocol

from bgeprep.recipes.wikipedia.dump import FILE_AND_CATEGORY, pages_of, raw_pages, read_namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import Tally, TextRow

__all__ = ["articles"]

_ARTICLE = "0"
_WIKITEXT = "wikitext"
_REDIRECT = re.compile(r"\s*#\s*(redirect|重定向|重新導向)\b", re.IGNORECASE)

Made = tuple[int, list[tuple[int, str, str]], list[tuple[int, str, str]]]
"""How many pages; of the articles place among them, title and text; of the others place, title and reason."""


class TextOf(Protocol):
    """What takes the markup off; a function of a module, since it goes to other processes."""

    def __call__(self, markup: str, *, hidden_namespaces: frozenset[str]) -> str:
        """The text of a page; empty if nothing is left."""


def articles(file: RawFile, processes: int, text_of: TextOf, tally: Tally) -> Iterator[TextRow]:
    """Title and text of the articles of a dump, each with the number of its page.

    Raises:
        CorpusError: no dump, or a damaged one.
    """
    names = frozenset(name for key, name in read_namespaces(file.path).items() if key in FILE_AND_CATEGORY)
    first = 1
    for pages, found, passed_over in _made(file, partial(_made_of, names=names, text_of=text_of), processes):
        for place, title, reason in passed_over:
            tally.pass_over(reason, f"{file.origin}, page {first + place}: {title}")
        yield from ((title, text, file.origin, first + place) for place, title, text in found)
        first += pages


def _made(file: RawFile, made_of: partial[Made], processes: int) -> Iterator[Made]:
    if processes == 1:
        yield from map(made_of, raw_pages(file.path))
        return
    # spawned, not forked: polars has threads, which a fork would lose
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[Made]] = deque()
        for raw in raw_pages(file.path):
            waiting.append(pool.submit(made_of, raw))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        yield from (made.result() for made in waiting)


def _made_of(raw: list[bytes], *, names: frozenset[str], text_of: TextOf) -> Made:
    found: list[tuple[int, str, str]] = []
    passed_over: list[tuple[int, str, str]] = []
    for place, page in enumerate(pages_of(raw)):
        reason, text = "", ""
        if page.title is None or page.namespace is None:
            reason = "broken_page"
        elif page.namespace != _ARTICLE:
            reason = "other_namespace"
        elif page.redirect or _REDIRECT.match(page.text or ""):
            reason = "redirect"
        elif page.model not in (None, _WIKITEXT):
            reason = "no_wikitext"
        else:
            text = text_of(page.text or "", hidden_namespaces=names)
            reason = "" if text else "no_text"
        title = page.title or ""
        if reason:
            passed_over.append((place, title, reason))
        else:
            found.append((place, title, text))
    return len(raw), found, passed_over
