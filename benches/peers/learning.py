"""What is learned from the same rows: bgetrain beside sentence-transformers' trainer, seeds and bootstrap.

python -m benches.peers.learning --pairs pairs.jsonl --collections collections/dev --steps 24 --seeds 3

Both start from one base model and take the same rows, steps, batch, length, rate and temperature; sentence-transformers
samples without duplicates (equal texts), the stronger of its two ways. Models are measured by `bgetrain evaluate`.
Of each collection: mean nDCG@10 over seeds with its spread, and the difference with a 95 % interval by a paired
bootstrap over queries, of each query's mean over seeds. `--pairs` also takes files in SQuAD's form. Prints Markdown.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from benches.peers.environments import interpreter
from benches.peers.loader import JOBS, PEERS
from benches.peers.measure import run
from benches.peers.report import machine, table
from bgetrain.bootstrap import mean_difference
from bgetrain.collection import find_collections, open_collection
from bgetrain.model_folder import installed_demo_model
from bgetrain.ranking import score_run
from bgetrain.trec_run import read_run

TEMPERATURE = "0.02"  # a scale of 50


def pairs_of(path: Path) -> list[dict]:
    """Rows of a JSONL file, or questions and paragraphs of a file in SQuAD's form."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        text = file.read()
    if '"paragraphs"' not in text[:100_000]:
        return [json.loads(line) for line in text.splitlines()]
    return [
        {"query": question["question"], "pos": [paragraph["context"]]}
        for article in json.loads(text)["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def per_query(runs: Path, label: str, collection: Path) -> dict[str, float]:
    """nDCG@10 of each query of a saved run."""
    found = read_run(runs / f"{collection.name}.{label}.run")
    return {query: scores["ndcg@10"] for query, scores in score_run(found, open_collection(collection).qrels).items()}


def main() -> None:
    """Trains, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="JSONL pairs, or SQuAD's JSON")
    parser.add_argument("--collections", type=Path, nargs="+", required=True, help="collections in the BEIR layout")
    parser.add_argument("--model", type=Path, default=installed_demo_model(), help="base model (the demo's)")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", default="5e-5")
    parser.add_argument("--max-len", default="96", help="tokens of any text, in training")
    parser.add_argument("--sampler", default="no_duplicates", choices=["no_duplicates", "batch_sampler"])
    arguments = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    commands = Path(sys.executable).parent
    bgeprep, bgetrain = str(commands / "bgeprep"), str(commands / "bgetrain")
    python = str(interpreter(PEERS))
    collections = [found for folder in arguments.collections for found in find_collections(folder)]
    with tempfile.TemporaryDirectory(prefix="bgetrain-learning-") as work:
        folder = Path(work)
        rows = pairs_of(arguments.pairs)
        source = folder / "pairs.jsonl"
        source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        run([bgeprep, "shard", "--in", str(source), "--out", f"{work}/shards", "--dedup", "exact", "--quiet"])
        size = [str(arguments.steps), str(arguments.batch_size)]
        # a name of its own, by which its run is found
        shutil.copytree(arguments.model.resolve(), folder / "base")
        models = {"base": f"{work}/base"}
        for seed in range(1, arguments.seeds + 1):
            ours, theirs = f"{work}/bgetrain-{seed}", f"{work}/peer-{seed}"
            flags = ["--data", f"{work}/shards", "--model_name_or_path", str(arguments.model), "--output_dir", ours]
            flags += ["--max_steps", size[0], "--per_device_train_batch_size", size[1], "--seed", str(seed)]
            flags += ["--query_max_len", arguments.max_len, "--passage_max_len", arguments.max_len]
            flags += ["--train_group_size", "1"]
            flags += ["--temperature", TEMPERATURE, "--learning_rate", arguments.learning_rate, "--use_cpu"]
            run([bgetrain, "train", *flags, "--report_to", "none"])
            job = [python, str(JOBS / "learning_sentence_transformers.py"), str(source), str(arguments.model), theirs]
            run([*job, str(seed), *size, arguments.sampler, arguments.max_len, arguments.learning_rate])
            models |= {f"bgetrain-{seed}": ours, f"peer-{seed}": theirs}
            sys.stderr.write(f"seed {seed} is trained\n")
        data = [str(collection) for collection in collections]
        cut = ["--passage_max_len", "192", "--no_bm25", "--output_dir", f"{work}/runs"]
        run([bgetrain, "evaluate", "--model", *models.values(), "--data", *data, *cut])
        lines = [_line(folder / "runs", collection, "base", arguments.seeds) for collection in collections]
        header = ["nDCG@10 (x 100)", "base", "bgetrain", "sentence-transformers", "difference, 95 % interval"]
        sys.stdout.write(
            f"{machine()}\n\n{len(rows):,} rows of {arguments.pairs.name}; {arguments.steps} steps of "
            f"{arguments.batch_size}, {arguments.seeds} seeds (mean ± spread); sampler {arguments.sampler}.\n\n"
            f"{table(header, lines)}\n"
        )


def _line(runs: Path, collection: Path, base: str, seeds: int) -> list[str]:
    before = per_query(runs, base, collection)
    each = {}
    for tool in ("bgetrain", "peer"):
        found = [per_query(runs, f"{tool}-{seed}", collection) for seed in range(1, seeds + 1)]
        each[tool] = 100 * np.array([[scores[query] for query in before] for scores in found])
    change = mean_difference([each["bgetrain"].mean(axis=0) - each["peer"].mean(axis=0)])
    shown = [f"{scores.mean():.2f} ± {scores.mean(axis=1).std():.2f}" for scores in each.values()]
    start = f"{100 * np.mean(list(before.values())):.2f}"
    return [collection.name, start, *shown, f"{change.value:+.2f} ({change.low:+.2f} … {change.high:+.2f})"]


if __name__ == "__main__":
    main()
