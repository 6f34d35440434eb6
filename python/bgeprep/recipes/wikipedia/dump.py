"""A MediaWiki XML dump, page by page.

The export is regular: one element a line, `<page>` … `</page>`, and all `<`, `>` and `&` of a text escaped. So a page
ends at the first `</page>`, and no XML parser (nor its entities) is needed to find it.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bgeprep.errors import CorpusError
from bgeprep.recipes.opened import opened, read_block

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FILE_AND_CATEGORY", "Page", "pages_of", "raw_pages", "read_namespaces"]

_HEADER = 1 << 20
_LONGEST_PAGE = 64 << 20
"""Bytes from which what looks like a page is damage: MediaWiki takes no text above 2 MiB."""

FILE_AND_CATEGORY = {"-2", "6", "14"}
"""The namespaces whose links show no text in a page: media, files and categories."""

_NAMESPACE = re.compile(rb'<namespace key="(-?\d+)"[^>]*>([^<]*)</namespace>')
_FIELD = {
    name: re.compile(rf"<{name}\b[^>]*>(.*?)</{name}>".encode(), re.DOTALL) for name in ("title", "ns", "model", "text")
}


@dataclass(frozen=True, slots=True)
class Page:
    """What the recipe asks of a page; None where the element is not there."""

    title: str | None
    namespace: str | None
    model: str | None
    redirect: bool
    text: str | None


def raw_pages(path: Path) -> Iterator[list[bytes]]:
    """The pages of a dump as they stand in it, about a MiB at a time.

    Raises:
        CorpusError: no MediaWiki dump, a damaged or truncated one, or a page above 64 MiB.
        OSError: the file cannot be read.
    """
    with opened(path) as file:
        pending, number = b"", 0
        scanned = 0
        while block := read_block(file, path):
            pending += block
            *whole, rest = _split(pending, scanned)
            number += len(whole)
            if not number and len(rest) > _HEADER and b"<page>" not in rest[:_HEADER]:
                raise _no_dump(path)
            if len(rest) > _LONGEST_PAGE:
                message = f"{path}: page {number + 1} does not end within {_LONGEST_PAGE >> 20} MiB: damaged"
                raise CorpusError(message, str(path))
            pending, scanned = rest, max(len(rest) - len(b"</page>"), 0)
            if whole:
                yield whole
        if not number and b"<mediawiki" not in pending:
            raise _no_dump(path)
        if b"<page>" in pending:
            raise CorpusError(f"{path}: ends inside page {number + 1}; hint: fetch it again", str(path))


def _split(pending: bytes, scanned: int) -> list[bytes]:
    """The pages of some bytes, without what stands around them, and last what follows the last whole one.

    The first `scanned` bytes hold no page end: a page over many blocks is not searched again from its beginning.
    """
    found, at = [], 0
    while (end := pending.find(b"</page>", max(at, scanned))) >= 0:
        start = pending.find(b"<page>", at, end)
        found.append(pending[start if start >= 0 else at : end])
        at = end + len(b"</page>")
    return [*found, pending[at:]]


def read_namespaces(path: Path) -> dict[str, str]:
    """Key → name of the namespaces that the header of a dump lists; empty if it has none."""
    with opened(path) as file:
        head = b""
        while b"<page>" not in head and len(head) < _HEADER and (block := read_block(file, path)):
            head += block
    head = head.partition(b"<page>")[0]
    return {key.decode(): html.unescape(name.decode("utf-8", "replace")) for key, name in _NAMESPACE.findall(head)}


def pages_of(raw: list[bytes]) -> Iterator[Page]:
    """What is in each page; of several revisions the last."""
    for page in raw:
        fields = {name: pattern.findall(page) for name, pattern in _FIELD.items()}
        title, namespace, model, text = (
            html.unescape(found[-1].decode("utf-8", "replace")) if found else None for found in fields.values()
        )
        yield Page(title, namespace, model, b"<redirect " in page, text)


def _no_dump(path: Path) -> CorpusError:
    message = f"{path}: expected a MediaWiki XML dump (<mediawiki> with <page> elements), found something else"
    return CorpusError(f"{message}; hint: take the file called pages-articles", str(path))
