"""JSONL → trimmed, filtered, first of each (query, positive), shuffled → saved Arrow, with Hugging Face datasets.

datasets has no operation that drops duplicates. What people write is a filter with a set of seen hashes, which has to
run in one process; so does this.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import datasets

source, target = sys.argv[1:]
seen: set[int] = set()


def trim(batch: dict) -> dict:
    """Takes white space off the ends of every text."""
    return {
        "query": [query.strip() for query in batch["query"]],
        "pos": [[text.strip() for text in texts] for texts in batch["pos"]],
        "neg": [[text.strip() for text in texts] for texts in batch["neg"]],
    }


def keep(batch: dict) -> list[bool]:
    """True for the first row of each (query, positive) with two characters or more in both."""
    verdicts = []
    for query, texts in zip(batch["query"], batch["pos"], strict=True):
        positive = texts[0]
        key = hash((query, positive))
        good = len(query) >= 2 and len(positive) >= 2 and query != positive and key not in seen
        seen.add(key)
        verdicts.append(good)
    return verdicts


with tempfile.TemporaryDirectory(dir=Path(target).parent) as cache:
    rows = datasets.load_dataset("json", data_files=source, split="train", cache_dir=cache)
    rows = rows.map(trim, batched=True).filter(keep, batched=True).shuffle(seed=42)
    rows.save_to_disk(target)
    print(json.dumps({"rows": len(rows), "version": datasets.__version__}))
