"""The loader's padded rectangles beside the trainer's own padding: the same rule, the same vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import bgeprep
from bgeprep import BatchLoader, Chunk
from bgetrain.data import chunk_tensors
from bgetrain.padding import TokenRows, length_sorted_chunks, pad
from tests.train.tiny import tiny_encoder, write_tiny_bert

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The tiny tokenizer is no WordPiece.
pytestmark = pytest.mark.filterwarnings("ignore::bgeprep.SlowTokenizerWarning")


@pytest.fixture(scope="module")
def opened(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo's pairs, and a tokenizer that takes a word for a token."""
    folder = tmp_path_factory.mktemp("chunks")
    exact = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"))
    bgeprep.shard(repository / "examples" / "demo" / "data" / "pairs", folder / "shards", config=exact)
    tokenizer = write_tiny_bert(folder / "bert", weights=False)
    return {"shards": folder / "shards", "tokenizer": tokenizer, "batch_size": 150, "max_steps": 4}


def _both(batch: Any) -> Iterator[tuple[TokenRows, list[Chunk]]]:
    yield TokenRows(batch.query_ids, batch.query_offsets), batch.query_chunks
    yield TokenRows(batch.doc_ids, batch.doc_offsets), batch.doc_chunks


@pytest.mark.parametrize("max_tokens", [1, 700, 4_096, 16_384])
def test_rectangles_are_those_of_the_trainer(opened: dict[str, Any], max_tokens: int) -> None:
    compared = 0
    for batch in BatchLoader(**opened, layout="padded", max_tokens=max_tokens):
        for rows, chunks in _both(batch):
            expected = length_sorted_chunks(rows.lengths, max_tokens)
            assert len(chunks) == len(expected)
            for chunk, own in zip(chunks, expected, strict=True):
                assert np.array_equal(chunk.rows, own)
                input_ids, attention_mask = chunk_tensors(chunk)
                ids, mask = pad(rows, own, 0)
                assert torch.equal(input_ids.long(), ids)
                assert torch.equal(attention_mask.long(), mask)
                compared += len(own)
    assert compared > 1_000


def test_tensors_share_the_memory_of_a_rectangle_and_an_encoder_takes_them(opened: dict[str, Any]) -> None:
    encoder = tiny_encoder().eval()
    batch = next(BatchLoader(**opened, layout="padded", max_tokens=400, passage_max_len=20, query_max_len=20))
    for rows, chunks in _both(batch):
        with torch.no_grad():
            expected, computed = encoder.embed(rows, batch_tokens=400)
            vectors = torch.full_like(expected, torch.nan)
            for chunk in chunks:
                input_ids, attention_mask = chunk_tensors(chunk)
                assert input_ids.data_ptr() == chunk.input_ids.ctypes.data
                vectors[torch.from_numpy(chunk.rows)] = encoder(input_ids, attention_mask)
        assert computed == sum(chunk.input_ids.size for chunk in chunks)
        assert torch.allclose(vectors, expected, rtol=0, atol=1e-12)


class _Batches(IterableDataset[Any]):
    """All that torch wants."""

    def __init__(self, loader: BatchLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)

    def __len__(self) -> int:
        return len(self.loader)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_torch_takes_the_loader_as_an_iterable_dataset(opened: dict[str, Any], workers: int) -> None:
    expected = [batch.row_ids.tolist() for batch in BatchLoader(**opened)]
    batches = DataLoader(_Batches(BatchLoader(**opened)), batch_size=None, num_workers=workers, collate_fn=lambda x: x)
    assert len(batches) == 4
    assert [batch.row_ids.tolist() for batch in batches] == expected
