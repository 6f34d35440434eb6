"""A collection of texts by id that stays on disk: lines of `id TAB text`, found again by id without reading the rest.

Held in memory are the ids and where each text lies (32 bytes a text where ids are numbers), so that nine million
passages take 290 MB, whatever the texts weigh. Nothing is copied: texts are read from the raw file.
"""

from __future__ import annotations

import os
from array import array
from io import BufferedReader
from typing import TYPE_CHECKING

import numpy as np

from bgeprep.errors import CorpusError
from bgeprep.recipes.lines import place, shown
from bgeprep.recipes.opened import opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import Tally

__all__ = ["ID_NAMES", "Collection"]

ID_NAMES = frozenset({b"id", b"_id", b"pid", b"qid", b"docid", b"did", b"query_id", b"query-id", b"corpus-id"})
"""What the first field of a header is called: a line that begins so is no row."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_IDS_AT_ONCE = 1 << 20


class Collection:
    """Texts of a file by id, in the order of the file.

    Quotes mean nothing, a text may hold tabs, and goes to the end of its line. Passed over and counted: `half_row` (no
    tab, no id or no text: also what a line break within a text leaves behind), `wrong_encoding`, `repeated_id` (the
    first stays).

    Attributes:
        file: the raw file.
        ids: int64, or bytes of fixed width where one id is no plain number; shape (distinct ids,), sorted.
        lines: uint32 (texts,): the line of each text in the file, from 1.
    """

    def __init__(self, file: RawFile, tally: Tally) -> None:
        """Finds the texts of a file.

        Raises:
            CorpusError: a packed file, one in another encoding, or one without a single text.
            OSError: the file cannot be read.
        """
        self.file = file
        lines, starts, lengths = array("I"), array("Q"), array("I")
        blocks: list[NDArray[np.generic]] = []
        block: list[bytes] = []
        undecodable = 0
        for number, start, key, text in _rows(file):
            if not (key.strip() and text.strip()):
                tally.pass_over("half_row", f"{place(file, number)}: {shown(key.decode(file.encoding, 'replace'))}")
            elif not _decodes(text, file.encoding):
                undecodable += 1
                tally.pass_over("wrong_encoding", place(file, number))
            else:
                block.append(key.strip())
                lines.append(number)
                starts.append(start)
                lengths.append(len(text))
                if len(block) == _IDS_AT_ONCE:
                    blocks.append(_packed_ids(block))
                    block = []
        if block:
            blocks.append(_packed_ids(block))
        if undecodable > len(lines):
            message = f"{file.path}: expected {file.encoding}, found {undecodable} lines that are not and {len(lines)}"
            raise CorpusError(f"{message} that are; hint: --option encoding=gb18030", str(file.path))
        if not blocks:
            raise CorpusError(f"{file.path}: expected lines of an id, a tab and a text, found none", str(file.path))
        self.lines = np.frombuffer(lines, np.uint32)
        self._starts = np.frombuffer(starts, np.uint64)
        self._lengths = np.frombuffer(lengths, np.uint32)
        self.ids, self._order = self._sorted(_joined_ids(blocks), tally)
        # ids that count through are looked up by subtraction, as those of MS MARCO and T2Ranking
        counted = self.ids.dtype == np.int64 and int(self.ids[-1]) - int(self.ids[0]) == len(self.ids) - 1
        self._first = int(self.ids[0]) if counted else None

    def _sorted(self, ids: NDArray[np.generic], tally: Tally) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        """The distinct ids, sorted, and the place of each among the texts."""
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        repeated = np.zeros(len(ids), bool)
        repeated[1:] = ids[1:] == ids[:-1]
        for at in np.sort(order[repeated]):
            tally.pass_over("repeated_id", place(self.file, int(self.lines[at])))
        return ids[~repeated], order[~repeated]

    @property
    def numbered(self) -> bool:
        """Whether all ids are plain numbers."""
        return self.ids.dtype == np.int64

    def __len__(self) -> int:
        """How many lines hold a text; of a repeated id all count, since places go by them."""
        return len(self.lines)

    def places(self, ids: NDArray[np.generic]) -> NDArray[np.int64]:
        """The place of each id's text among the texts of the file, -1 where there is none; shape (ids,)."""
        ids = self._comparable(ids)
        if self._first is not None:
            at = np.asarray(ids, np.int64) - self._first
            known = (at >= 0) & (at < len(self.ids))
            at[~known] = 0
        else:
            at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
            known = self.ids[at] == ids
        found = self._order[at]
        found[~known] = -1
        return found

    def _comparable(self, ids: NDArray[np.generic]) -> NDArray[np.generic]:
        """Ids as those of the collection are held: numbers, or bytes."""
        if self.ids.dtype == np.int64 and ids.dtype.kind == "S":
            text = ids.astype(np.bytes_)
            plain = np.char.isdigit(text) & (np.char.str_len(text) < 19)
            plain &= (np.char.str_len(text) == 1) | ~np.char.startswith(text, b"0")
            return np.where(plain, text, b"-1").astype(np.int64)
        return ids.astype(np.bytes_) if self.ids.dtype.kind == "S" and ids.dtype.kind == "i" else ids

    def texts(self, places: Iterable[int]) -> Iterator[str]:
        """The texts at these places, read from disk one by one."""
        path = self.file.path
        with path.open("rb", buffering=0) as raw:
            for at in places:
                length = int(self._lengths[at])
                text = os.pread(raw.fileno(), length, int(self._starts[at]))
                if len(text) != length:
                    raise CorpusError(f"{path}: changed while it was read; hint: start again", str(path))
                yield text.decode(self.file.encoding)


def _rows(file: RawFile) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Line, where the text starts, id and text of each line of a file, without its header and blank lines."""
    start = 0
    with opened(file.path) as raw:
        if not isinstance(raw, BufferedReader):
            message = f"{file.path}: packed; texts are fetched from the middle of the file by id"
            raise CorpusError(f"{message}; hint: unpack it", str(file.path))
        for number, line in enumerate(raw, 1):
            shift = len(_BYTE_ORDER_MARK) if number == 1 and line.startswith(_BYTE_ORDER_MARK) else 0
            key, tab, text = line[shift:].partition(b"\t")
            if line.strip() and not (number == 1 and key.strip().lower() in ID_NAMES):
                yield number, start + shift + len(key) + len(tab), key, text.rstrip(b"\r\n")
            start += len(line)


def _decodes(text: bytes, encoding: str) -> bool:
    try:
        text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _packed_ids(block: list[bytes]) -> NDArray[np.generic]:
    """Numbers where all are plain numbers (`7`, not `07`), else bytes of fixed width."""
    ids = np.array(block)
    if all(one.isdigit() and len(one) < 19 and (one[0] != 0x30 or len(one) == 1) for one in block):
        return ids.astype(np.int64)
    return ids


def _joined_ids(blocks: list[NDArray[np.generic]]) -> NDArray[np.generic]:
    if all(block.dtype == np.int64 for block in blocks):
        return np.concatenate(blocks)
    return np.concatenate([block.astype("S") for block in blocks])
