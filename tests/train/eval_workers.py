"""What the ranks of an evaluation run. A module of its own, since spawned processes import it by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist

from bgetrain.evaluate import evaluate, evaluate_similarity
from bgetrain.gather import Ranks
from bgetrain.sentence_pairs import SentencePairs


def write_collection(folder: Path, *, documents: int = 30, queries: int = 7, split: str = "dev", seed: int = 0) -> Path:
    """A collection of the tiny tokenizer's words; some documents are equal, so that scores tie."""
    rng = np.random.default_rng(seed)

    def text(words: int) -> str:
        return " ".join(f"w{word}" for word in rng.integers(0, 55, words))

    texts = [text(int(rng.integers(3, 12))) for _ in range(documents)]
    texts[-3:] = texts[:3]
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": f"d{place}", "text": value} for place, value in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"_id": f"q{place}", "text": text(4)} for place in range(queries)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # not in the order of the queries
    lines = [
        f"q{place}\td{(place * 5 + step) % documents}\t1\n" for place in reversed(range(queries)) for step in (0, 3)
    ]
    (folder / "qrels" / f"{split}.tsv").write_text("".join(lines))
    return folder


class TouchyEncoder:
    """Words as random vectors. What a text gets hangs on the texts beside it, as rounding does in a real encoder, but
    so much that scores show it; and it needs no transformer, whose import would be most of a rank's time."""

    query_instruction = "w1 w2 "

    def encode(self, texts: list[str], *, instruction: str = "", **_: Any) -> np.ndarray:
        table = np.random.default_rng(5).standard_normal((55, 16))
        rows = [[int(word[1:]) for word in (instruction + text).split()] for text in texts]
        vectors = np.stack([table[row].mean(axis=0) for row in rows]) + 0.3 * table[sum(map(len, rows)) % 55]
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def some_pairs() -> SentencePairs:
    """Nine sentences in seven pairs."""
    sentences = [" ".join(f"w{(place * step) % 55}" for step in range(1, 2 + place)) for place in range(9)]
    labels = np.array([0.5, 3.0, 1.0, 2.5, 4.0, 0.0, 2.0])
    return SentencePairs("few", "sts", sentences[:7], sentences[2:], labels, 0)


def score(folder: str, ranks: Ranks, *, piece: int = 4) -> dict[str, Any]:
    """The report of a model with an instruction, found in many small pieces; scores by query, runs on the first rank,
    and what the model says of pairs."""
    encoder: Any = TouchyEncoder()
    runs: dict[str, Any] = {}
    by_query: dict[str, Any] = {}
    with (
        mock.patch("bgetrain.retrieval.DOCUMENT_PIECE", piece),
        mock.patch("bgetrain.retrieval.QUERY_PIECE", 2),
        # blocks of one query, so that their borders are crossed
        mock.patch("bgetrain.retrieval._MERGED_SCORES", 1),
    ):
        found = evaluate(encoder, folder, split="dev", ranks=ranks, runs=runs, by_query=by_query)
        similarity, cosines = evaluate_similarity(encoder, some_pairs(), ranks=ranks)
    found |= {"by_query": by_query, "similarity": similarity, "cosines": cosines.tolist()}
    return found | {"runs": runs if ranks.is_main else None}


def run_rank(rank: int, world_size: int, meet: str, folder: str) -> None:
    """Meets the other ranks and writes what this one finds."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meet}/meet", rank=rank, world_size=world_size)
    found = score(folder, Ranks(rank=rank, world_size=world_size, local_rank=rank))
    (Path(meet) / f"rank-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
