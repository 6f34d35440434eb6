"""`bgetrain encode` beside `SentenceTransformer.encode`: the same model, the same texts of mixed lengths, one process.

python -m benches.peers.encode --texts 500 --rounds 3

Half of the texts are passages of the demo's collection, half their first words, as queries are; in an order drawn by
chance. The two take turns, another one first each time, after their vectors were found equal to 1e-5. What is timed is
list of texts → vectors in memory for sentence-transformers, and list of texts → vectors in files for bgetrain, with all
that the command does once it has its model: hashing it, tokenising, embedding, writing. Prints Markdown.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benches.peers.report import machine, table

CORPUS = Path(__file__).resolve().parents[2] / "examples/demo/data/medquad-heldout"


def mixed_texts(count: int) -> list[str]:
    """Passages and short texts, in an order drawn by chance."""
    file = next(CORPUS.glob("corpus.jsonl*"))
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        passages = [json.loads(line)["text"] for line, _ in zip(lines, range(-(-count // 2)), strict=False)]
    texts = [*passages, *(passage[:60] for passage in passages)]
    random.Random(1).shuffle(texts)
    return texts[:count]


def main() -> None:
    """Measures and prints."""
    from sentence_transformers import SentenceTransformer

    from bgetrain.encode import Encoder
    from bgetrain.model_folder import installed_demo_model
    from bgetrain.texts import TextList
    from bgetrain.vectors import encode_texts

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=500, help="texts (500)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument("--batch-size", type=int, default=32, help="of sentence-transformers (32, its default)")
    parser.add_argument("--model", default=str(installed_demo_model()), help="a model folder (the demo's)")
    arguments = parser.parse_args()

    texts = mixed_texts(arguments.texts)
    encoder = Encoder.load(arguments.model)
    theirs = SentenceTransformer(arguments.model, device="cpu")
    with tempfile.TemporaryDirectory(prefix="bgetrain-encode-") as folder:
        turns = iter(range(1 << 30))

        def ours() -> np.ndarray:
            found = encode_texts(encoder, TextList(texts), Path(folder) / str(next(turns)))
            return found.rows_at(np.arange(len(found)))

        tools: dict[str, Callable[[], np.ndarray]] = {
            "bgetrain": ours,
            "sentence-transformers": lambda: theirs.encode(texts, batch_size=arguments.batch_size),
        }
        first = {name: tool() for name, tool in tools.items()}
        apart = float(np.abs(first["bgetrain"] - first["sentence-transformers"]).max())
        if not apart < 1e-5:
            raise SystemExit(f"the vectors are {apart:.2g} apart: there is nothing to compare")
        seconds: dict[str, list[float]] = {name: [] for name in tools}
        for turn in range(arguments.rounds):
            for name in list(tools) if turn % 2 == 0 else reversed(list(tools)):
                start = time.perf_counter()
                tools[name]()
                seconds[name].append(time.perf_counter() - start)
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    rows = []
    for name, taken in seconds.items():
        label = name if name == "bgetrain" else f"{name} {version(name)}, batch {arguments.batch_size}"
        spread = f"{middle[name]:.2f} ({min(taken):.2f}-{max(taken):.2f})"
        ratio = f"{middle['sentence-transformers'] / middle[name]:.2f}"
        rows.append([label, spread, f"{len(texts) / middle[name]:.1f}", ratio])
    characters = sum(map(len, texts)) / len(texts)
    about = f"{len(texts):,} texts, {characters:.0f} characters on average, vectors {apart:.1g} apart"
    header = ["texts → vectors", "s, median", "texts/s", "times sentence-transformers"]
    sys.stdout.write(f"{machine()}. {about}; {arguments.rounds} interleaved rounds.\n\n{table(header, rows)}\n")


if __name__ == "__main__":
    main()
