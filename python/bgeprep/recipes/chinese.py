"""Chinese text: one script, one width, sentences and passages.

Nothing is changed unless it is asked for: `script = simplified` by OpenCC's tables (`opencc-python-reimplemented`, the
extra `zh`), `width = half` for letters, digits and the ideographic space, not for punctuation, which is full-width in
Chinese on purpose.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING

from bgeprep.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgeprep.recipes.raw import Raw

__all__ = ["CHINESE_OPTIONS", "half_width", "passages", "sentences", "simplified", "tidy_of"]

CHINESE_OPTIONS = {
    "script": "simplified: traditional characters become simplified ones (pip install 'bgeprep[zh]'); as published "
    "without it",
    "width": "half: full-width letters, digits and spaces become half-width; as published without it",
}
"""Options of the recipes whose texts are Chinese."""

_SHIFT = 0xFEE0
_WIDE = [*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)]
_HALF = {code: code - _SHIFT for code in _WIDE} | {0x3000: 0x20}

# an end of a sentence with the quotes and brackets that close behind it; a full stop ends one where no digit follows
_END = re.compile(r"(?:[。！？；!?;…]+|\.+(?![\w.]))[”’」』）》〉】\"')\]]*\s*|\n+")


def tidy_of(raw: Raw) -> Callable[[str], str]:
    """What is done to each text of a Chinese recipe: white space at its ends goes, and what the options ask for.

    Raises:
        ConfigError: an unknown value, or a package that is not installed.
    """
    steps: list[Callable[[str], str]] = []
    for name, value, step in (("script", "simplified", simplified), ("width", "half", lambda: half_width)):
        asked = raw.options.get(name)
        if asked == value:
            steps.append(step())
        elif asked:
            raise ConfigError(f"options.{name}: expected {value}, found {asked!r}")
    if not steps:
        return str.strip

    def tidy(text: str) -> str:
        for step in steps:
            text = step(text)
        return text.strip()

    return tidy


def simplified() -> Callable[[str], str]:
    """A function that writes traditional characters simplified, by phrases first (頭髮 → 头发, 發展 → 发展).

    Raises:
        ConfigError: `opencc` is not installed.
    """
    try:
        converter = import_module("opencc").OpenCC("t2s")
    except ImportError:
        message = "options.script: simplified needs the package opencc-python-reimplemented"
        raise ConfigError(f"{message}; hint: pip install 'bgeprep[zh]'") from None
    convert: Callable[[str], str] = converter.convert
    return convert


def half_width(text: str) -> str:
    """Letters, digits and spaces at their half width: `ＡＢ１２　` → `AB12 `."""
    return text.translate(_HALF)


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with the marks that end it and the quotes that close behind them.

    Joined again they are the text. A line break ends a sentence too.
    """
    ends = [found.end() for found in _END.finditer(text)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    starts = [0, *ends[:-1]]
    return [text[start:end] for start, end in zip(starts, ends, strict=True) if start < end]


def passages(text: str, longest: int) -> list[str]:
    """A text cut between sentences into passages of at most so many characters; a longer sentence is cut where it must.

    Raises:
        ConfigError: `longest` below 1.
    """
    if longest < 1:
        raise ConfigError(f"passage_chars: expected at least 1, found {longest}")
    found, passage = [], ""
    for sentence in sentences(text):
        if len(passage) + len(sentence.rstrip()) > longest:
            found.append(passage)
            passage = ""
        while len(sentence.rstrip()) > longest:
            found.append(sentence[:longest])
            sentence = sentence[longest:]
        passage += sentence
    return [stripped for one in [*found, passage] if (stripped := one.strip())]
