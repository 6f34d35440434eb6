"""A passage of a long text: its first paragraphs, as many as fit, since an encoder sees the beginning alone."""

from __future__ import annotations

import re

__all__ = ["OPTION", "first_passage"]

OPTION = "most characters of a passage: whole paragraphs from the beginning, at least part of the first"
_SENTENCE_END = re.compile(r"[.!?…]['\")\]]*\s|[。！？][」』”’）]*")


def first_passage(text: str, most: int) -> str:
    """The first paragraphs (lines) of a text that fit in `most` characters.

    A first paragraph that is too long alone ends behind its last sentence that fits, else behind its last word.
    """
    if len(text) <= most:
        return text
    cut = text.rfind("\n", 0, most + 1)
    if cut > 0:
        return text[:cut].rstrip()
    head = text[:most]
    ends = [found.end() for found in _SENTENCE_END.finditer(head)]
    cut = ends[-1] if ends and ends[-1] >= most // 2 else head.rfind(" ")
    return head[: cut if cut > 0 else most].rstrip()
