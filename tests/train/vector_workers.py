"""Processes that make vectors or scores. A module of its own, since spawned processes import it by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
import torch.distributed as dist

from bgetrain.encode import Encoder
from bgetrain.gather import Ranks
from bgetrain.score import score_pairs
from bgetrain.scorers import Cosine
from bgetrain.texts import TextList
from bgetrain.vectors import Vectors, encode_texts


def some_texts(count: int = 70) -> TextList:
    """Texts of the tiny tokenizer's words, of many lengths, one without a word."""
    texts = [" ".join(f"w{(place * step) % 55}" for step in range(place * 7 % 23)) for place in range(count)]
    return TextList(texts, [f"t{place}" for place in range(count)])


def encode(model: str, out: Path, *, ranks: Ranks | None = None, killed_after: int | None = None) -> Vectors:
    """Nine parts of 8 texts; kills its own process when so many texts are done."""

    def progress(done: int, total: int) -> None:
        if killed_after is not None and done >= killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    return encode_texts(
        Encoder.load(model),
        some_texts(),
        out,
        part_rows=8,
        batch_tokens=64,
        prompt="w3 ",
        ranks=ranks,
        progress=progress,
    )


def score(model: str, shards: str, out: Path, *, ranks: Ranks | None = None, killed_after: int | None = None) -> None:
    """Parts of 16 rows; kills its own process when so many rows are done."""
    from bgeprep.shardset import ShardSet

    def progress(done: int, total: int) -> None:
        if killed_after is not None and done >= killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    scorer = Cosine(Encoder.load(model), batch_tokens=64)
    score_pairs(ShardSet.open(shards), out, scorer, part_rows=16, ranks=ranks, progress=progress)


def run_scoring_rank(rank: int, world_size: int, meet: str, model: str, shards: str, killed_after: int | None) -> None:
    """Meets the other ranks and does this one's share."""
    torch.set_num_threads(1)
    if world_size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meet}/meet", rank=rank, world_size=world_size)
    place = Ranks(rank=rank, world_size=world_size, local_rank=rank)
    score(model, shards, Path(meet) / "out", ranks=place, killed_after=killed_after)
    if world_size > 1:
        dist.destroy_process_group()


def run_rank(rank: int, world_size: int, meet: str, model: str, killed_after: int | None) -> None:
    """Meets the other ranks and does this one's share."""
    torch.set_num_threads(1)
    place = Ranks(rank=rank, world_size=world_size, local_rank=rank)
    if world_size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meet}/meet", rank=rank, world_size=world_size)
    encode(model, Path(meet) / "out", ranks=place, killed_after=killed_after)
    if world_size > 1:
        dist.destroy_process_group()
