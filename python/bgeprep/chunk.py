"""`Chunk`: texts of nearly one length as one padded rectangle, as `BatchLoader(layout="padded")` makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Chunk"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chunk:
    """b texts of a batch, padded to one length L, longest first. The attention mask follows from `lengths`.

    Attributes:
        rows: int64[b], places of the texts in the batch: of rows for queries, of documents for documents.
        input_ids: int32[b, L], special tokens included; the tokenizer's padding id stands behind the end of a text.
        lengths: int32[b], tokens of each text.
    """

    rows: npt.NDArray[np.int64]
    input_ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
