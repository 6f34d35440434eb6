"""`mine_hard_negatives` of sentence-transformers with faiss, by a model that looks its vectors up."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import sentence_transformers
import torch
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives


class Looked:
    """A model that knows the vector of each text by the number in it."""

    device = torch.device("cpu")
    prompts: dict[str, str] = {}  # noqa: RUF012
    model_card_data = SimpleNamespace(base_model="")

    def __init__(self, folder: Path) -> None:
        """Reads the vectors."""
        self._pool, self._queries = np.load(folder / "pool.npy"), np.load(folder / "queries.npy")

    def _at(self, vectors: np.ndarray, texts: list[str], tensors: bool) -> np.ndarray | torch.Tensor:
        found = vectors[[int(text.split()[1]) for text in texts]]
        return torch.from_numpy(found) if tensors else found

    def encode_document(
        self, texts: list[str], *, convert_to_tensor: bool = False, **_: object
    ) -> np.ndarray | torch.Tensor:
        """The vectors of some texts."""
        return self._at(self._pool, list(texts), convert_to_tensor)

    def encode_query(
        self, texts: list[str], *, convert_to_tensor: bool = False, **_: object
    ) -> np.ndarray | torch.Tensor:
        """The vectors of some texts."""
        return self._at(self._queries, list(texts), convert_to_tensor)

    def get_embedding_dimension(self) -> int:
        """Length of a vector."""
        return int(self._pool.shape[1])

    @staticmethod
    def similarity_pairwise(one: np.ndarray, other: np.ndarray) -> torch.Tensor:
        """Products row by row."""
        return (torch.as_tensor(one) * torch.as_tensor(other)).sum(dim=1)


def main() -> None:
    """Times it; reading the files is not timed."""
    folder, depth = Path(sys.argv[1]), int(sys.argv[2])
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").open(encoding="utf-8")]
    pairs = Dataset.from_dict({"query": [row["query"] for row in rows], "pos": [row["pos"][0] for row in rows]})
    corpus = [json.loads(line)["text"] for line in (folder / "pool.jsonl").open(encoding="utf-8")]
    model: Any = Looked(folder)
    began = time.perf_counter()
    mine_hard_negatives(
        pairs, model, corpus=corpus, range_max=depth, relative_margin=0.05, num_negatives=15, use_faiss=True,
        faiss_batch_size=16_384, output_format="n-tuple", verbose=False,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    print(json.dumps({"pairs": len(rows), "seconds": seconds, "version": sentence_transformers.__version__}))


if __name__ == "__main__":
    main()
