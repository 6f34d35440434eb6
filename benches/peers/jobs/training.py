"""What the training jobs have in common: their options, the model, the clock.

A job is `job.py --source FILE --model FOLDER …`: it trains a few steps as its library does, reading, tokenising and the
optimiser included, and prints one line of JSON. The first step is not timed: it loads kernels and fills memory pools.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch


def arguments(description: str | None) -> argparse.Namespace:
    """The options of a job."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--source", required=True, help="JSONL file, or the shard set made of it")
    parser.add_argument("--model", required=True, help="folder of the model and its tokenizer")
    parser.add_argument("--cache", required=True, help="folder for copies of the data")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=3, help="steps that are timed")
    parser.add_argument("--query-max-len", type=int, default=64)
    parser.add_argument("--passage-max-len", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=64, help="texts that go through the model at once; 0 is all")
    parser.add_argument("--temperature", type=float, default=0.02)
    parser.add_argument("--variant", default="", help="of the library")
    options = parser.parse_args()
    torch.manual_seed(42)
    return options


def measure(options: argparse.Namespace, version: str, step: Callable[[], float | tuple[float, int]]) -> None:
    """Times steps and prints what was found.

    Args:
        options: of the job.
        version: of the library.
        step: takes the next batch through the model and the optimiser, and gives its loss, and what it counts where
            that is not the batch.
    """
    step()
    started = time.perf_counter()
    done = [step() for _ in range(options.steps)]
    seconds = time.perf_counter() - started
    pairs = sum(one[1] if isinstance(one, tuple) else options.batch_size for one in done)
    loss = done[-1][0] if isinstance(done[-1], tuple) else done[-1]
    print(json.dumps({"version": version, "pairs": pairs, "seconds": seconds, "loss": loss}))
