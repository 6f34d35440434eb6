"""The records of one source as a recipe makes them: frames in order, as often as asked for."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import polars as pl

    from bgeprep.recipes.purpose import Purpose

__all__ = ["PairRow", "Stream", "Tally", "TextRow", "origin_schema", "pair_schema", "pairs", "rows_stream", "texts"]

_EXAMPLES = 20
_FRAME_ROWS = 4096

PairRow = tuple[str, "list[str]", "list[str]", str, int]
"""Query, positives, negatives, origin file, origin line."""

TextRow = tuple[str, str, str, int]
"""Title, text, origin file, origin line."""


class Tally:
    """What a pass over the raw files took and what it passed over, by reason, with the first places of each.

    Attributes:
        records: records given out.
        passed_over: their number by reason.
        examples: by reason, the first 20 places: file, counter and what stands there.
    """

    def __init__(self) -> None:
        """Nothing counted yet."""
        self.records = 0
        self.passed_over: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def pass_over(self, reason: str, place: str, number: int = 1) -> None:
        """Counts one entry of the raw files that becomes no record, or a number of them with one example."""
        if number:
            self.passed_over[reason] += number
            examples = self.examples.setdefault(reason, [])
            if len(examples) < _EXAMPLES:
                # half a surrogate pair, which JSON can say, can be written to no file
                examples.append(place.encode("utf-8", "backslashreplace").decode())

    def as_dict(self) -> dict[str, Any]:
        """The counts as they stand in a file, reasons sorted."""
        reasons = sorted(self.passed_over)
        return {
            "records": self.records,
            "passed_over": {reason: self.passed_over[reason] for reason in reasons},
            "examples": {reason: self.examples[reason] for reason in reasons},
        }


class Stream:
    """Records of one source; an Arrow stream, and an iterable of polars frames, each pass from the beginning.

    Its frames have the columns `origin_file` (the raw file, relative to the input folder, with `/`) and `origin_line`
    (the raw entry: physical line, element or row, counted from 1), beside those of a pair or a text record.

    Attributes:
        schema: names and types of the columns.
        purpose: task and language of the records.
        tally: the counts of the latest pass; final when it has come to its end.
        error: what ended the latest pass, if anything did.
    """

    def __init__(
        self, schema: Mapping[str, Any], frames: Callable[[Tally], Iterator[pl.DataFrame]], purpose: Purpose
    ) -> None:
        """`frames` makes all frames anew from the raw files, the same ones in the same order each time."""
        self.schema = dict(schema)
        self.purpose = purpose
        self.tally = Tally()
        self.error: Exception | None = None
        self._frames = frames

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """The frames, each of `schema`; a few are held at once."""
        self.tally, self.error = Tally(), None
        try:
            for frame in self._frames(self.tally):
                self.tally.records += frame.height
                yield frame
        except Exception as error:
            self.error = error
            raise

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The records as an Arrow C stream (PyCapsule), made while it is read."""
        import polars as pl
        from polars.io.plugins import register_io_source

        def frames(columns: list[str] | None, *_unused: object) -> Iterator[pl.DataFrame]:
            for frame in self:
                yield frame if columns is None else frame.select(columns)

        lazy = register_io_source(frames, schema=pl.Schema(self.schema))
        return lazy.collect_batches(maintain_order=True).__arrow_c_stream__(requested_schema)


def origin_schema() -> dict[str, Any]:
    """The two columns that say where a record comes from."""
    import polars as pl

    return {"origin_file": pl.String, "origin_line": pl.UInt64}


def pair_schema() -> dict[str, Any]:
    """The columns of pairs."""
    import polars as pl

    return {"query": pl.String, "pos": pl.List(pl.String), "neg": pl.List(pl.String), **origin_schema()}


def rows_stream(
    schema: Mapping[str, Any], rows: Callable[[Tally], Iterator[tuple[Any, ...]]], purpose: Purpose
) -> Stream:
    """A stream of rows that come one by one, as tuples in the order of the schema; 4,096 of them are held."""
    import polars as pl

    def frames(tally: Tally) -> Iterator[pl.DataFrame]:
        coming = rows(tally)
        while batch := list(islice(coming, _FRAME_ROWS)):
            # column by column: of rows, polars makes a series of every list
            yield pl.DataFrame(dict(zip(schema, zip(*batch, strict=True), strict=True)), schema=dict(schema))

    return Stream(schema, frames, purpose)


def pairs(rows: Callable[[Tally], Iterator[PairRow]], purpose: Purpose) -> Stream:
    """A stream of pairs: `query`, `pos`, `neg` and the origin."""
    return rows_stream(pair_schema(), rows, purpose)


def texts(rows: Callable[[Tally], Iterator[TextRow]], language: str) -> Stream:
    """A stream of documents: `title` (empty where there is none), `text` and the origin."""
    import polars as pl

    from bgeprep.recipes.purpose import Purpose

    schema = {"title": pl.String, "text": pl.String, **origin_schema()}
    return rows_stream(schema, rows, Purpose("retrieval", language))
