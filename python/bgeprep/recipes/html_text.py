"""HTML → text: what is left of a post or a page when its markup is gone."""

from __future__ import annotations

import html
import re

__all__ = ["html_text", "tidy_text"]

_GONE = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_LINE_END = re.compile(r"</?(?:p|div|br|li|ul|ol|h[1-6]|pre|blockquote|tr|table|hr)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>]*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_BLANKS = re.compile(r"[ \t\r\f\v\u00a0]+")
_BLANK_LINES = re.compile(r" ?\n[ \n]*")


def html_text(markup: str) -> str:
    """The text of some HTML: a line a paragraph, list item or line of code; entities become characters."""
    text = _TAG.sub("", _LINE_END.sub("\n", _GONE.sub("", markup)))
    return tidy_text(text)


def tidy_text(text: str) -> str:
    """A text whose entities are characters and whose blanks and blank lines are single."""
    text = html.unescape(text) if "&" in text else text
    return _BLANK_LINES.sub("\n", _BLANKS.sub(" ", text)).strip()
