"""Texts by id → the records that name them, in the order of the records, however large the texts are.

1. The wanted ids are held, sorted: 8 bytes a wanted text and the width of its id.
2. The texts pass once; those that are wanted are written down, in files by ranges of records.
3. The files are read one by one: each is what memory holds of the texts.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["as_ids", "gathered", "num_parts"]

_AT_ONCE = 4096
_PART_BYTES = 128 << 20
_MOST_PARTS = 256


def as_ids(ids: Iterable[str]) -> NDArray[np.bytes_]:
    """Ids as they are held: bytes of one width, shape (ids,)."""
    return np.array([one.encode() for one in ids], dtype=np.bytes_)


def num_parts(raw_bytes: int) -> int:
    """How many files keep each of them near 128 MiB, for raw files of that size, packed to a quarter."""
    return max(1, min(_MOST_PARTS, 4 * raw_bytes // _PART_BYTES))


def gathered(
    ids: NDArray[np.bytes_], records: NDArray[np.int64], texts: Iterable[tuple[str, str]], parts: int
) -> Iterator[tuple[int, dict[str, str]]]:
    """Each record that something was found for, with its texts by id, in ascending order.

    Args:
        ids: bytes (wanted,): the ids that records name.
        records: int64 (wanted,): the record that names each, from 0.
        texts: id and text, in any order; of an id that comes again the last text holds.
        parts: in how many files the texts are kept.
    """
    if not len(ids):
        return
    order = np.argsort(ids, kind="stable")
    ids, records = ids[order], records[order]
    per_part = int(records.max()) // parts + 1
    with tempfile.TemporaryDirectory(prefix="bgeprep-") as folder:
        paths = [Path(folder) / f"{part}.jsonl" for part in range(parts)]
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("w", encoding="utf-8")) for path in paths]
            coming = iter(texts)
            while batch := list(islice(coming, _AT_ONCE)):
                keys = as_ids([one for one, _ in batch])
                first, behind = np.searchsorted(ids, keys, "left"), np.searchsorted(ids, keys, "right")
                for at in np.flatnonzero(behind > first):
                    for record in records[first[at] : behind[at]].tolist():
                        files[record // per_part].write(json.dumps((record, *batch[at])) + "\n")
        for path in paths:
            found: dict[int, dict[str, str]] = {}
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    record, one, text = json.loads(line)
                    found.setdefault(record, {})[one] = text
            for record in sorted(found):
                yield record, found[record]
