"""Padded tensors from a shard set: `BatchLoader` with `layout="padded"`, and `chunk_tensors`."""

from __future__ import annotations

from collections.abc import Iterator

from loading import arguments, measure
from torch import Tensor

from bgeprep import BatchLoader, __version__
from bgetrain.data import chunk_tensors

options = arguments(__doc__)


def batches() -> Iterator[tuple[int, list[tuple[Tensor, Tensor]]]]:
    """Rows, and (input_ids, attention_mask) of each rectangle."""
    loader = BatchLoader(
        options.source,
        options.tokenizer,
        batch_size=options.batch_size,
        train_group_size=options.group,
        query_max_len=options.query_max_len,
        passage_max_len=options.passage_max_len,
        threads=options.workers or None,
        layout="padded",
    )
    with loader:
        for batch in loader:
            chunks = [*(batch.query_chunks or []), *(batch.doc_chunks or [])]
            yield len(batch.row_ids), [chunk_tensors(chunk) for chunk in chunks]


measure(options, __version__, 0.0, batches, lambda batch: [mask for _, mask in batch[1]], lambda batch: batch[0])
