"""Batches without duplicates: `no_duplicates.py FILE CACHE BATCH_SIZE plain|hashed`, sentence-transformers' sampler.

Hashing is part of the sampler's first pass, and of the time; reading the file is not.
"""

from __future__ import annotations

import json
import sys
import time

import datasets
import torch
from sentence_transformers import __version__
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

source, cache, batch_size, variant = sys.argv[1:]
# The hashes of one round are not to be found by the next.
datasets.disable_caching()


def flat(batch: dict) -> dict:
    """One column a text: what the trainer wants."""
    return {"query": batch["query"], "positive": [row[0] for row in batch["pos"]]}


rows = datasets.load_dataset("json", data_files=source, split="train", cache_dir=cache)
rows = rows.map(flat, batched=True, remove_columns=rows.column_names)
started = time.perf_counter()
sampler = NoDuplicatesBatchSampler(
    rows,
    int(batch_size),
    drop_last=False,
    generator=torch.Generator(),
    seed=42,
    precompute_hashes=variant == "hashed",
    # None is one process less than there are cores
    precompute_num_proc=None,
)
pairs = sum(len(batch) for batch in sampler)
print(json.dumps({"version": __version__, "pairs": pairs, "seconds": time.perf_counter() - started}))
