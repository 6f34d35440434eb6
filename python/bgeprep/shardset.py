"""Shard sets: open one, look at its rows, ask what it holds, check that it is whole."""

from __future__ import annotations

import itertools
import json
import operator
import os
from typing import TYPE_CHECKING, Any, SupportsIndex

from bgeprep import _native
from bgeprep.objects import is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import polars as pl

__all__ = ["ShardSet", "inspect", "verify"]

_TOTALS = ("rows_read", "rows_kept", "dropped", "merged", "removed", "seed", "hash")
_OF_A_SOURCE = (
    "name",
    "rows",
    "bytes",
    "task",
    "language",
    "weight",
    "instruction",
    "rows_read",
    "dropped",
    "removed",
    "unmapped",
    "also_pos_excess",
    "lengths",
)


class ShardSet:
    """The rows of a shard set, memory-mapped; any row is reached in constant time.

    A row is a dict with the columns of a part: `query` (str), `pos` and `neg` (lists of str), `pos_scores` and
    `neg_scores` (empty, or one float or None a text), `query_key`, `pos_keys`, `neg_keys`, `also_pos_keys`,
    `query_exact_key`, `pos_exact_keys`, `neg_exact_keys` (64-bit
    keys as int), `id`, `prompt`, `source`, `origin_file` (str), `origin_line` (int, from 1). A row's place counts
    through the sources and their parts in manifest order.

    A row of a set of texts (`kind` is `text`) is a dict of `text`, `title` (str, empty where there is none),
    `text_key`, `text_exact_key`, `source`, `origin_file` and `origin_line`.

    The set is also an Arrow stream (`pyarrow.table(rows)`, `polars.DataFrame(rows)`): its record batches are
    handed over without a copy.

    Made by `bgeprep.open(path)`.
    """

    def __init__(self, reader: _native.ShardReader, path: str) -> None:
        """Wraps an open reader; use `ShardSet.open`."""
        self._reader = reader
        self.path = path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ShardSet:
        """Opens the set in the folder `path`.

        Raises:
            ShardError: there is no complete set, or a part is missing or has another length than was written.
        """
        return cls(_native.ShardReader.open(path), os.fspath(path))

    @property
    def manifest(self) -> dict[str, Any]:
        """What the set says of itself: the content of `manifest.json`."""
        manifest: dict[str, Any] = json.loads(self._reader.manifest_json())
        return manifest

    @property
    def kind(self) -> str:
        """What the rows are: `pairs` or `text`."""
        return str(self.manifest["kind"])

    @property
    def hash(self) -> str:
        """Identifies the set: that of its manifest."""
        found: str = self.manifest["hash"]
        return found

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The sources in set order: `name`, `task`, counts, lengths …, and their rows `first` … `first + rows - 1`."""
        firsts = [first for first, _ in self._reader.source_ranges()]
        return _sources(self.manifest, firsts)

    def scan(self) -> pl.LazyFrame:
        """The rows as a polars LazyFrame, read from the mapped parts when it is collected.

        Checksums are not looked at on this way: `verify` does that.

        Raises:
            ShardError: the set has no part.
        """
        import polars as pl

        from bgeprep.errors import ShardError

        paths = self._reader.part_paths()
        if not paths:
            raise ShardError(f"{self.path}: a set without a row has nothing to scan", self.path)
        return pl.scan_ipc(paths)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._reader)

    def __getitem__(self, place: SupportsIndex) -> dict[str, Any]:
        """The row at `place`; negative places count from the end.

        Raises:
            IndexError: there is no such row.
            ShardError: the record batch the row lies in is damaged.
        """
        number = operator.index(place)
        count = len(self)
        if not -count <= number < count:
            raise IndexError(f"no row {number}, the set has {count}")
        return self._reader.row(number % count)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All rows in set order, which is the shuffled order within each source."""
        return map(self._reader.row, range(len(self)))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The record batches as an Arrow C stream (PyCapsule)."""
        return self._reader.record_batches().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        """Path and size."""
        return f"ShardSet({self.path!r}, rows={len(self)})"


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a shard set holds and what was dropped on the way.

    Args:
        path: the set's folder, or its URL in an object store.

    Returns:
        A dict that is JSON as it stands: `rows_read` = `rows_kept` + the sum of `dropped` (rows by reason),
        `merged` (those of them whose positives went into another row), `removed` (single positives and negatives
        by reason), `sources` (a dict each: `name`, `rows`, `bytes` of text, `task`, `language`, `weight`,
        `instruction`, `first` row, the same counts, and `lengths` in characters with count, mean, p5, p50, p95,
        p99 and max of query, pos and neg,
        or of title and text in a set of texts), `kind` (`pairs` or `text`), `near` (clusters, near pairs and measured
        recall of queries and of passages), `benchmarks` (those kept out, with their hits), `seed` and `hash`.

    Raises:
        ShardError: there is no complete set, or a part is missing or has another length than was written.
        StoreError: the store refuses or cannot be reached.
    """
    if is_url(os.fspath(path)):
        manifest = json.loads(_native.published(os.fspath(path)))
        sources = _sources(manifest, itertools.accumulate((one["rows"] for one in manifest["sources"]), initial=0))
    else:
        rows = ShardSet.open(path)
        manifest, sources = rows.manifest, rows.sources
    return {
        **_pick(manifest, _TOTALS),
        "near": manifest.get("near", {}).get("spaces", []),
        "benchmarks": manifest.get("benchmarks", []),
        "kind": manifest["kind"],
        "format_version": manifest["format_version"],
        "sources": sources,
    }


def verify(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    report: Callable[..., None] | None = None,
) -> dict[str, Any]:
    """Checks that every byte of a shard set is as it was written, and that it says what it must.

    Files are hashed before they are parsed; then counts, schema, keys and footers are held against the manifest,
    and the folders searched for parts it does not name.

    Args:
        path: the set's folder.
        threads: files checked at once; None for one a core.
        report: called about ten times a second with the counters of the native run, for a progress bar.

    Returns:
        `{"ok": bool, "parts": int, "rows": int, "bytes": int, "problems": [str, …]}`; a problem names the file, the
        record batch where one is at fault, what was expected and what was found.

    Raises:
        ShardError: there is no manifest, or it is damaged itself, so that there is nothing to check against.
    """
    parts, rows, size, problems = _native.verify(path, threads or os.cpu_count() or 1, report)
    return {"ok": not problems, "parts": parts, "rows": rows, "bytes": size, "problems": problems}


def _sources(manifest: dict[str, Any], firsts: Iterable[int]) -> list[dict[str, Any]]:
    """The sources of a manifest with their first rows; documents, which travel as pairs, under their own names."""
    sources = [
        {**_pick(entry, _OF_A_SOURCE), "first": first}
        for entry, first in zip(manifest["sources"], firsts, strict=False)
    ]
    if manifest["kind"] == "text":
        for source in sources:
            lengths = source["lengths"]
            source["lengths"] = {"title": lengths["query"], "text": lengths["pos"]}
    return sources


def _pick(entry: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: entry[name] for name in names}
