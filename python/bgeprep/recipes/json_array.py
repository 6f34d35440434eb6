"""One big JSON array as a stream of its elements; memory holds a block and one element."""

from __future__ import annotations

import codecs
import json
import re
from typing import IO, TYPE_CHECKING, Any

from bgeprep.errors import CorpusError
from bgeprep.recipes.json_lines import half_character
from bgeprep.recipes.lines import shown
from bgeprep.recipes.opened import is_zstd, opened, read_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import Tally

__all__ = ["array_objects", "is_array", "json_array"]

_BEHIND = " \t\r\n,]"
_LONGEST = 64 << 20
_SPACE = re.compile(r"[ \t\r\n]*")


def is_array(file: RawFile) -> bool:
    """Whether a file, which may be packed, begins as a JSON array."""
    if is_zstd(file.path):
        return False
    with opened(file.path) as raw:
        return read_block(raw, file.path, 1 << 12).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def json_array(file: RawFile, tally: Tally) -> Iterator[tuple[int, Any]]:
    """The elements of the array that a file holds, each with its number from 1; `half_character` is passed over.

    Raises:
        CorpusError: no array, one that is broken or ends half-way, text in another encoding, or an element above 64 Mi
            characters.
        OSError: the file cannot be read.
    """
    with opened(file.path) as raw:
        text = _Characters(file, raw)
        if (mark := text.mark()) != "[":
            raise text.broken(f"expected a JSON array, found {mark or 'nothing'}")
        text.at += 1
        while (mark := text.mark()) != "]":
            if text.number:
                if mark != ",":
                    raise text.broken(f"expected a comma, found {mark}" if mark else "ends inside the array")
                text.at += 1
                text.mark()
            value, source = text.element()
            if half_character(source, value):
                tally.pass_over("half_character", f"{file.origin}, element {text.number}: {shown(source)}")
            else:
                yield text.number, value
        text.at += 1
        if mark := text.mark():
            raise text.broken(f"the array ends, and {mark} follows")


def array_objects(file: RawFile, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of the array in a file, each with its number; other values are passed over as `no_object`."""
    for number, value in json_array(file, tally):
        if isinstance(value, dict):
            yield number, value
        else:
            found = shown(json.dumps(value, ensure_ascii=False))
            tally.pass_over("no_object", f"{file.origin}, element {number}: {found}")


class _Characters:
    """What of a file is read and not taken yet: `text` from `at` on; `number` elements are taken."""

    def __init__(self, file: RawFile, raw: IO[bytes]) -> None:
        encoding = "utf-8-sig" if file.encoding == "utf-8" else file.encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._scan = json.JSONDecoder().raw_decode
        self._file, self._raw = file, raw
        self._ended = False
        self.text, self.at, self.number = "", 0, 0

    def mark(self) -> str:
        """The next character that is no white space, empty at the end of the file; `at` is its place."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr] # it matches anywhere
            if self.at < len(self.text) or self._ended:
                return self.text[self.at : self.at + 1]
            self._read()

    def element(self) -> tuple[Any, str]:
        """The element at `at`, and the JSON it was read from."""
        tried = 0
        while True:
            there = len(self.text) - self.at
            # tried again only when there is twice as much: work in proportion to the length, not to its square
            if self._ended or there >= 2 * tried:
                tried = there
                try:
                    value, end = self._scan(self.text, self.at)
                except (ValueError, RecursionError):
                    pass
                else:
                    # a number at the end of what is read may go on, also behind a point
                    after = self.text[end : end + 1]
                    if self._ended or (after and (after in _BEHIND or not isinstance(value, int | float))):
                        source = self.text[self.at : end]
                        self.at, self.number = end, self.number + 1
                        return value, source
            if self._ended or there > _LONGEST:
                raise self.broken("broken or truncated, or longer than 64 Mi characters")
            self._read()

    def _read(self) -> None:
        block = read_block(self._raw, self._file.path)
        self._ended = not block
        try:
            self.text, self.at = self.text[self.at :] + self._decoder.decode(block, self._ended), 0
        except UnicodeDecodeError as error:
            raise self.broken(f"not {self._file.encoding}: {error.reason}; hint: --option encoding=latin-1") from None

    def broken(self, what: str) -> CorpusError:
        """The error that says so, with the place."""
        path = str(self._file.path)
        return CorpusError(f"{path}: after element {self.number}: {what}", path, self.number + 1)
