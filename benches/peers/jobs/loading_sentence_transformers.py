"""Padded tensors as sentence-transformers' trainer makes them: its collator over a datasets.Dataset."""

from __future__ import annotations

import time

import datasets
import torch
from loading import arguments, measure
from sentence_transformers import SentenceTransformer, __version__
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from torch.utils.data import DataLoader

options = arguments(__doc__)
model = SentenceTransformer(options.tokenizer, device="cpu")
columns = ["query", "positive", *(f"negative_{number}" for number in range(1, options.group))]
started = time.perf_counter()


def flat(batch: dict) -> dict:
    """One column a text: what the trainer wants."""
    texts = {"query": batch["query"], "positive": [row[0] for row in batch["pos"]]}
    return texts | {name: [row[place] for row in batch["neg"]] for place, name in enumerate(columns[2:])}


rows = datasets.load_dataset("json", data_files=options.source, split="train", cache_dir=options.cache)
rows = rows.map(flat, batched=True, remove_columns=rows.column_names).select_columns(columns)
prepared = time.perf_counter() - started
collator = SentenceTransformerDataCollator(
    preprocess_fn=model.preprocess,
    router_mapping={name: "query" if name == "query" else "document" for name in columns},
    max_length={"query": options.query_max_len, "document": options.passage_max_len},
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
    __version__,
    prepared,
    batches,
    lambda batch: [batch[f"{name}_attention_mask"] for name in columns],
    lambda batch: len(batch["query_input_ids"]),
)
