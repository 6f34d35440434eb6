"""Rows to mine for, and processes that mine: a module of its own, since spawned processes import it by name."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import torch

import bgeprep
from bgetrain import mining
from bgetrain.__main__ import main
from tests.train.tiny import WORDS

ROWS = 60

BLOCK = 16
"""Queries of a block, here and in who compares."""


def sentence(generator: random.Random, count: int = 14) -> list[str]:
    """Words of the tiny vocabulary."""
    return generator.choices(WORDS[5:], k=count)


def pairs() -> list[dict[str, Any]]:
    """Queries of words of their positives; every sixth stands in two rows, every fifth row has a negative."""
    generator = random.Random(3)
    rows = []
    for number in range(ROWS):
        words = sentence(generator)
        row: dict[str, Any] = {"query": " ".join(words[:6]), "pos": [" ".join(words)]}
        if number % 5 == 0:
            row["neg"] = [" ".join(sentence(generator))]
        rows.append(row)
        if number % 6 == 0:
            rows.append({"query": row["query"], "pos": [" ".join(sentence(generator))]})
    return rows


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_shards(folder: Path) -> Path:
    """A set of `pairs`."""
    bgeprep.shard(written(folder / "pairs.jsonl", pairs()), folder / "shards")
    return folder / "shards"


def mine(model: Path, *words: Any) -> int:
    """Runs the command in this process."""
    return main(["mine", "--model", str(model), *map(str, words), "--use_cpu", "--quiet"])


def run_mining_rank(rank: int, world_size: int, port: int, words: list[str], killed_in: int | None) -> None:
    """Mines as torchrun would have it; kills its own process in a block of some number."""
    torch.set_num_threads(1)
    mining.QUERY_BLOCK = BLOCK  # type: ignore[misc]
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    taken: list[int] = []
    block = mining._block

    def counted(*given: Any) -> Any:
        taken.append(len(taken))
        if killed_in is not None and len(taken) == killed_in:
            os.kill(os.getpid(), signal.SIGKILL)
        return block(*given)

    mining._block = counted
    code = main(["mine", *words])
    if code:
        raise SystemExit(code)
