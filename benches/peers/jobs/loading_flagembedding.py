"""Padded tensors as FlagEmbedding's trainer makes them: its dataset and its collator."""

from __future__ import annotations

import time
from importlib.metadata import version

import torch
from FlagEmbedding.abc.finetune.embedder.AbsArguments import AbsEmbedderDataArguments
from FlagEmbedding.abc.finetune.embedder.AbsDataset import AbsEmbedderCollator, AbsEmbedderTrainDataset
from loading import arguments, measure
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

options = arguments(__doc__)
tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
started = time.perf_counter()
rows = AbsEmbedderTrainDataset(
    AbsEmbedderDataArguments(train_data=[options.source], cache_path=options.cache, train_group_size=options.group),
    tokenizer,
)
prepared = time.perf_counter() - started
collator = AbsEmbedderCollator(
    tokenizer, query_max_len=options.query_max_len, passage_max_len=options.passage_max_len, padding=True
)


def batches() -> DataLoader:
    """A shuffled pass."""
    seeded = torch.Generator().manual_seed(42)
    return DataLoader(
        rows,
        batch_size=options.batch_size,
        shuffle=True,
        generator=seeded,
        collate_fn=collator,
        num_workers=options.workers,
    )


measure(
    options,
    version("FlagEmbedding"),
    prepared,
    batches,
    lambda batch: [batch[name]["attention_mask"] for name in ("queries", "passages")],
    lambda batch: len(batch["queries"]["input_ids"]),
)
