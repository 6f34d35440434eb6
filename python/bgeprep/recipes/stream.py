"""The records of one source as a recipe makes them: frames in order, as often as asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import polars as pl

__all__ = ["Stream", "Tally"]

_EXAMPLES = 20


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

    def pass_over(self, reason: str, place: str) -> None:
        """Counts one entry of the raw files that becomes no record."""
        self.passed_over[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(place)

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

    Attributes:
        schema: names and types of the columns.
        tally: the counts of the latest pass; final when it has come to its end.
        error: what ended the latest pass, if anything did.
    """

    def __init__(self, schema: Mapping[str, Any], frames: Callable[[Tally], Iterator[pl.DataFrame]]) -> None:
        """`frames` makes all frames anew from the raw files, the same ones in the same order each time."""
        self.schema = dict(schema)
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
