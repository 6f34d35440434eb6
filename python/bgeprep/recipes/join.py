"""Joins of id files with collections of texts, both larger than memory.

1. Collections stay on disk; only ids and places are held (`collection`).
2. An id file is read in blocks of lines. Ids become places, a (query, passage) pair one number of 64 bits.
3. Each query keeps the distinct passages, or those `limit` of them whose keyed hash is smallest: a choice at random
   that neither order nor repetition of the lines can change, so that nothing has to be sorted first. Passages above a
   full query's largest kept hash are forgotten at once. Memory holds queries x limit x 8 bytes, some times over.
4. Queries come out in the order of their file, with texts fetched from disk for a few of them at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bgeprep.errors import CorpusError
from bgeprep.recipes.collection import ID_NAMES, Collection
from bgeprep.recipes.lines import place
from bgeprep.recipes.opened import opened, read_block
from bgeprep.recipes.stream import pair_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import Tally

__all__ = ["Chosen", "id_rows", "joined", "known_pairs"]

_BLOCK = 16 << 20
_AT_LEAST = 1 << 20
"""Pairs that wait before they are sorted into what is kept."""
_FRAME_BYTES = 8 << 20

U64 = np.uint64


def id_rows(file: RawFile, columns: Sequence[str], tally: Tally, *, numbers: bool = True) -> Iterator[pl.DataFrame]:
    """Rows of an id file, some hundred thousand at a time, with a column `line` (UInt32, from 1) behind the others.

    Fields are parted by tabs, or by single spaces as in TREC's files; a header is left out. Columns are Int64; those
    whose name ends in `id` are String where ids are no plain numbers, and `_`, a field that says nothing, is String
    too. Further fields are ignored.

    Args:
        file: the raw file, plain or packed with gzip or bzip2.
        columns: names of the first fields.
        tally: takes `half_row`, lines where a field is missing or no number.
        numbers: the ids may be plain numbers, as those of all collections are that the rows name; they are none where
            one of the first row is not. `007` is another id than `7` to a collection of other ids.

    Raises:
        CorpusError: the first line has too few fields.
        OSError: the file cannot be read.
    """
    import polars as pl

    with opened(file.path) as raw:
        block = read_block(raw, file.path, _BLOCK).removeprefix(b"\xef\xbb\xbf")
        head, _, after = block.partition(b"\n")
        before = 1 if head.split(b"\t")[0].strip().lower() in ID_NAMES else 0
        block = after if before else block
        first = block.partition(b"\n")[0].strip()
        separator = "\t" if b"\t" in first else " "
        fields = first.split(separator.encode())
        if first and len(fields) < len(columns):
            message = f"{file.path}: expected {len(columns)} fields ({', '.join(columns)}), found {len(fields)}"
            raise CorpusError(message, str(file.path), before + 1)
        ids = [one.strip() for one, column in zip(fields, columns, strict=False) if column.endswith("id")]
        plain = numbers and all(one.isdigit() and len(one) < 19 for one in ids)
        kind = pl.Int64() if plain else pl.String()
        rest = b""
        while block:
            whole, end, rest = (rest + block).rpartition(b"\n")
            block = read_block(raw, file.path, _BLOCK)
            if not block and rest:
                whole, end, rest = whole + end + rest, b"", b""
            if whole:
                frame = _parsed(whole + b"\n", columns, len(fields), separator, kind).with_columns(
                    pl.int_range(before + 1, before + 1 + pl.len(), dtype=pl.UInt32).alias("line")
                )
                yield _whole_rows(frame, file, tally)
                before += frame.height


def _parsed(lines: bytes, columns: Sequence[str], num_fields: int, separator: str, kind: pl.DataType) -> pl.DataFrame:
    import polars as pl

    names = [*columns, *(f"_{place}" for place in range(len(columns), num_fields))]
    kinds = (pl.String() if name[0] == "_" else kind if name.endswith("id") else pl.Int64() for name in names)
    rows = pl.read_csv(
        lines,
        has_header=False,
        separator=separator,
        quote_char=None,
        schema=dict(zip(names, kinds, strict=True)),
        ignore_errors=True,
        truncate_ragged_lines=True,
    )
    return rows.select(*columns)


def _whole_rows(frame: pl.DataFrame, file: RawFile, tally: Tally) -> pl.DataFrame:
    import polars as pl

    half = frame.select(pl.any_horizontal(pl.all().is_null())).to_series()
    _count(tally, "half_row", frame.filter(half), file)
    return frame.filter(~half) if half.any() else frame


def _count(tally: Tally, reason: str, passed_over: pl.DataFrame, file: RawFile) -> None:
    """Counts rows, with one example for all of a block."""
    if passed_over.height:
        tally.pass_over(reason, place(file, passed_over["line"][0]), passed_over.height)


def known_pairs(
    rows: pl.DataFrame, queries: tuple[str, Collection], passages: tuple[str, Collection], file: RawFile, tally: Tally
) -> NDArray[np.uint64]:
    """(query, passage) as one number each, uint64 (pairs,); without those of an id that has no text.

    Args:
        rows: of an id file, as `id_rows` gives them.
        queries: the column of query ids, and the collection they are of.
        passages: the column of passage ids, and the collection they are of.
        file: the id file.
        tally: takes `unknown_query` and `unknown_passage`.
    """
    query, passage = (collection.places(_as_ids(rows[column])) for column, collection in (queries, passages))
    asked, answered = query >= 0, passage >= 0
    if not (asked & answered).all():
        _count(tally, "unknown_query", rows.filter(~asked), file)
        _count(tally, "unknown_passage", rows.filter(asked & ~answered), file)
        query, passage = query[asked & answered], passage[asked & answered]
    pairs: NDArray[np.uint64] = (query.astype(U64) << U64(32)) | passage.astype(U64)
    return pairs


def _as_ids(series: pl.Series) -> NDArray[np.generic]:
    if series.dtype.is_integer():
        return series.to_numpy()
    return np.array([one.strip().encode() for one in series] or [b""])[: len(series)]


class Chosen:
    """The distinct passages of each query, or `limit` of them chosen by the seed."""

    def __init__(
        self, num_queries: int, *, limit: int = 0, seed: int = 0, but: NDArray[np.uint64] | None = None
    ) -> None:
        """Nothing yet.

        Args:
            num_queries: queries are places below this.
            limit: passages a query keeps; 0 = all.
            seed: another seed, another choice.
            but: pairs that are never kept, sorted.
        """
        self._limit = limit
        self._key = _mix(np.array([seed], U64))[0]
        self._but = but
        self._kept: NDArray[np.uint64] = np.empty(0, U64)
        self._waiting: list[NDArray[np.uint64]] = []
        self._num_waiting = 0
        self._highest = np.full(num_queries, 0xFFFF_FFFF, np.uint32) if limit else np.empty(0, np.uint32)

    def add(self, pairs: NDArray[np.uint64]) -> None:
        """Takes pairs in any order, as `known_pairs` makes them."""
        if self._limit:
            pairs = pairs[self._hashes(pairs) <= self._highest[pairs >> U64(32)]]
        if self._but is not None and len(self._but):
            at = np.minimum(np.searchsorted(self._but, pairs), len(self._but) - 1)
            pairs = pairs[self._but[at] != pairs]
        self._waiting.append(pairs)
        self._num_waiting += len(pairs)
        if self._num_waiting >= max(_AT_LEAST, len(self._kept)):
            self._settle()

    def pairs(self) -> NDArray[np.uint64]:
        """What is kept, sorted: by query, then by passage."""
        self._settle()
        return self._kept

    def _hashes(self, pairs: NDArray[np.uint64]) -> NDArray[np.uint32]:
        return (_mix(pairs ^ self._key) >> U64(32)).astype(np.uint32)

    def _settle(self) -> None:
        # sorted, then without what equals its neighbour: np.unique hashes, which takes several times as long
        pairs = np.sort(np.concatenate([self._kept, *self._waiting]))
        pairs = pairs[np.concatenate([[True], pairs[1:] != pairs[:-1]])[: len(pairs)]]
        self._waiting, self._num_waiting = [], 0
        self._kept = self._chosen(pairs) if self._limit and len(pairs) else pairs

    def _chosen(self, pairs: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Of sorted pairs each query's `limit` smallest by hash, sorted again; equal hashes go by passage."""
        query = pairs >> U64(32)
        hashes = self._hashes(pairs)
        order = np.argsort((query << U64(32)) | hashes.astype(U64), kind="stable")
        begins = np.flatnonzero(np.concatenate([[True], query[1:] != query[:-1]]))
        sizes = np.diff(np.append(begins, len(pairs)))
        rank = np.arange(len(pairs)) - np.repeat(begins, sizes)
        full = sizes >= self._limit
        last = order[begins[full] + self._limit - 1]
        self._highest[query[last]] = hashes[last]
        return np.sort(pairs[order[rank < self._limit]])


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a permutation of 64 bits that mixes them all."""
    with np.errstate(over="ignore"):
        mixed = numbers + U64(0x9E37_79B9_7F4A_7C15)
        mixed = (mixed ^ (mixed >> U64(30))) * U64(0xBF58_476D_1CE4_E5B9)
        mixed = (mixed ^ (mixed >> U64(27))) * U64(0x94D0_49BB_1331_11EB)
    result: NDArray[np.uint64] = mixed ^ (mixed >> U64(31))
    return result


def joined(
    queries: Collection,
    passages: Collection,
    positives: NDArray[np.uint64],
    negatives: NDArray[np.uint64],
    tally: Tally,
    tidy: Callable[[str], str] = str.strip,
) -> Iterator[pl.DataFrame]:
    """Records of the queries that have a positive, in the order of their file, some MiB of text at a time.

    Columns: query, pos, neg, origin_file, origin_line (those of the query). Queries without a positive are counted as
    `no_positive`.

    Args:
        queries: texts of the queries.
        passages: texts of the passages.
        positives: pairs, sorted.
        negatives: pairs, sorted.
        tally: takes the counts.
        tidy: what is done to each text.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("query", "pos", "neg", "origin_line")}
    size = 0
    asked = np.arange(len(queries) + 1, dtype=U64) << U64(32)
    pos_at, neg_at = np.searchsorted(positives, asked), np.searchsorted(negatives, asked)
    mask = U64(0xFFFF_FFFF)
    answered = np.flatnonzero(pos_at[1:] > pos_at[:-1])
    without = np.flatnonzero(pos_at[1:] == pos_at[:-1])
    if len(without):
        tally.pass_over("no_positive", place(queries.file, int(queries.lines[without[0]])), len(without))
    for at, query in zip(answered, queries.texts(answered), strict=True):
        pos = (positives[pos_at[at] : pos_at[at + 1]] & mask).astype(np.int64)
        neg = (negatives[neg_at[at] : neg_at[at + 1]] & mask).astype(np.int64)
        texts = [tidy(text) for text in passages.texts([*pos, *neg])]
        columns["query"].append(tidy(query))
        columns["pos"].append(texts[: len(pos)])
        columns["neg"].append(texts[len(pos) :])
        columns["origin_line"].append(int(queries.lines[at]))
        size += sum(map(len, texts))
        if size > _FRAME_BYTES:
            yield _frame(columns, queries.file.origin)
            columns = {name: [] for name in columns}
            size = 0
    if columns["query"]:
        yield _frame(columns, queries.file.origin)


def _frame(columns: dict[str, list[Any]], origin: str) -> pl.DataFrame:
    import polars as pl

    schema = pair_schema()
    found = pl.DataFrame(columns, schema={name: schema[name] for name in columns})
    return found.with_columns(pl.lit(origin).alias("origin_file")).select(*schema)
