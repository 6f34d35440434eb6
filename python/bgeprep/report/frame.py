"""What every page of ours is put into: head, title, table of contents, sections, foot. It loads nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bgeprep.report.markup import Child, Markup, tag

__all__ = ["card", "document"]

#: Nothing is loaded and no script runs, whatever a text in the data may try.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(
    title: str, header: Markup, sections: Iterable[tuple[str, str, Markup]], footer: Markup, *more: str
) -> str:
    """A whole HTML document.

    Args:
        title: what the browser shows.
        header: what stands above the table of contents.
        sections: name for links, heading and content of each.
        footer: the last lines.
        more: rules of style beside those that all pages share; written by us, since they are not escaped.
    """
    sections = list(sections)
    style = "\n".join([Path(__file__).with_name("page.css").read_text(encoding="utf-8"), *more])
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        # Written by us, and inside <style> nothing is decoded: it must not be escaped.
        Markup(f"<style>\n{style}</style>"),
    )
    contents = tag("nav", [tag("a", name, href=f"#{key}") for key, name, _ in sections], aria_label="Contents")
    body = tag(
        "body",
        tag("header", header),
        contents,
        tag("main", [_section(key, name, part) for key, name, part in sections]),
        tag("footer", footer),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _section(key: str, name: str, body: Markup) -> Markup:
    return tag("section", tag("h2", name, id=f"{key}-title"), body, id=key, aria_labelledby=f"{key}-title")


def card(name: str, value: Child, note: str, class_: str = "") -> Markup:
    """A headline figure."""
    return tag(
        "div",
        tag("p", name, class_="card-name"),
        tag("p", value, class_="card-value"),
        tag("p", note, class_="card-note"),
        class_=f"card {class_}".strip(),
    )
