"""What the data-loading jobs have in common: their options, the clock, the tokens of the tensors.

A job is `job.py --source FILE …`: it makes padded batches of token ids out of a file, as tensors, and prints one line
of JSON. Nothing but the loop over batches is timed: imports are not, and what is made once for a file (shards, an Arrow
copy) is told apart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

# Batches whose tokens are counted, in a loop of its own: counting is no part of the work.
COUNTED = 5


def arguments(description: str | None) -> argparse.Namespace:
    """The options of a job."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--source", required=True, help="JSONL file, or the shard set made of it")
    parser.add_argument("--tokenizer", required=True, help="folder of a sentence-transformers model")
    parser.add_argument("--cache", required=True, help="folder for copies of the data")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--batches", type=int, help="batches at most (all)")
    parser.add_argument("--query-max-len", type=int, default=64)
    parser.add_argument("--passage-max-len", type=int, default=256)
    parser.add_argument("--group", type=int, default=1, help="documents a row: 1 is the positive alone")
    parser.add_argument("--workers", type=int, default=0, help="worker processes, or threads of bgeprep")
    return parser.parse_args()


def measure(
    options: argparse.Namespace,
    version: str,
    prepared: float,
    batches: Callable[[], Iterable[Any]],
    masks: Callable[[Any], list[Any]],
    rows: Callable[[Any], int],
) -> None:
    """Times a loop over batches, counts the tokens of a few, and prints what was found.

    Args:
        options: of the job.
        version: of the library.
        prepared: seconds that were spent once for the file.
        batches: begins anew at each call.
        masks: the attention masks of a batch.
        rows: the pairs of a batch.
    """
    started = time.perf_counter()
    first, pairs = 0.0, 0
    for batch in islice(batches(), options.batches):
        first = first or time.perf_counter() - started
        pairs += rows(batch)
    seconds = time.perf_counter() - started
    tokens = padded = counted = 0
    for batch in islice(batches(), COUNTED):
        counted += rows(batch)
        for mask in masks(batch):
            tokens += int(mask.sum())
            padded += mask.numel()
    found = {"version": version, "prepared": prepared, "pairs": pairs, "seconds": seconds, "first": first}
    print(json.dumps(found | {"counted": counted, "tokens": tokens, "padded": padded}))
