"""What pre-training is worth: a small BERT from random weights, with none, masked words, or RetroMAE, then one fit.

python -m benches.pretraining --texts texts.jsonl --pairs pairs.jsonl --collections collections/ --steps 300 --seeds 3

A vocabulary is trained on the texts. RetroMAE takes `--steps`; masked words (the same encoder mask) start from the same
weights and take as many steps as cost the same model FLOPs; then all three are fitted to the pairs in the same way and
searched with. Of each seed; mean and spread over seeds. What `--work` holds already is not done again. Prints Markdown.
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

from benches.peers.learning import pairs_of, per_query
from benches.peers.measure import run
from benches.peers.report import machine, table
from bgeprep import TextLoader
from bgetrain.collection import find_collections

ARMS = ("none", "mlm", "retromae")


def write_texts(given: list[Path], target: Path) -> None:
    """Joins files of `{"text"}` or BEIR's `{"title", "text"}`, plain or gzipped."""
    target.mkdir()
    for place, path in enumerate(given):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as lines, (target / f"{place}.jsonl").open("w") as out:
            for line in lines:
                row = json.loads(line)
                kept = {name: row[name] for name in ("title", "text") if row.get(name)}
                if "text" in kept:
                    out.write(json.dumps(kept, ensure_ascii=False) + "\n")


def commonest_token(shards: Path, model: Path, length: int) -> float:
    """The share of the masked tokens that are the commonest one: what a guess without looking would find."""
    counts = np.zeros(1, dtype=np.int64)
    for batch in TextLoader(shards, model, batch_size=256, max_seq_length=length, max_steps=20):
        found = np.bincount(batch.labels, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return float(counts.max() / counts.sum())


class Experiment:
    """One language: its commands and what they wrote."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        """Makes shards, vocabulary and sizes of the model."""
        self.arguments, self.folder = arguments, folder
        commands = Path(sys.executable).parent
        self.prep, self.train = str(commands / "bgeprep"), str(commands / "bgetrain")
        if (folder / "base" / "config.json").is_file():
            return
        write_texts(arguments.texts, folder / "texts")
        rows = pairs_of(arguments.pairs)
        source = folder / "pairs.jsonl"
        source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        for name, given in (("text_shards", folder / "texts"), ("pair_shards", source)):
            run([self.prep, "shard", "--in", str(given), "--out", str(folder / name), "--dedup", "exact", "--quiet"])
        sizes = ["--model_config", "tiny", "--hidden_size", str(arguments.width)]
        sizes += ["--num_hidden_layers", str(arguments.layers), "--num_attention_heads", str(arguments.width // 64)]
        sizes += ["--intermediate_size", str(4 * arguments.width)]
        vocab = ["--data", str(folder / "text_shards"), "--vocab_size", str(arguments.vocab), *sizes]
        run([self.train, "vocab", *vocab, "--output_dir", str(folder / "base")])

    def go(self, name: str, *flags: object) -> Path:
        """Trains; the folder of the model."""
        output = self.folder / name
        if (output / "model.safetensors").is_file():
            return output
        shutil.rmtree(output, ignore_errors=True)
        shared = ["--output_dir", output, "--report_to", "none", "--use_cpu", "--logging_steps", "1"]
        run([self.train, "train", *map(str, (*shared, *flags))])
        sys.stderr.write(f"{name} is trained\n")
        return output

    def pretrain(self, method: str, seed: int, steps: int, name: str) -> Path:
        """From random weights, the same for each method of a seed."""
        chosen = self.arguments
        return self.go(
            name,
            *("--data", self.folder / "text_shards", "--model_name_or_path", self.folder / "base", "--random_init"),
            *("--pretrain_method", method, "--max_seq_length", chosen.length, "--learning_rate", chosen.learning_rate),
            *("--global_batch_size", chosen.batch_size, "--max_steps", steps, "--num_train_epochs", 1_000),
            *("--seed", seed, "--save_steps", 1_000_000),
        )

    def fit(self, start: Path, seed: int, name: str, *more: object) -> Path:
        """The same contrastive fit for every arm."""
        chosen = self.arguments
        return self.go(
            name,
            *("--data", self.folder / "pair_shards", "--model_name_or_path", start, "--seed", seed, *more),
            *("--max_steps", chosen.fit_steps, "--num_train_epochs", 1_000),
            *("--global_batch_size", chosen.fit_batch_size),
            *("--learning_rate", chosen.fit_learning_rate, "--temperature", "0.05", "--query_max_len", 64),
            *("--passage_max_len", chosen.length, "--train_group_size", 1, "--save_steps", 1_000_000),
            *("--sentence_pooling_method", chosen.pooling),
        )


def windows(model: Path) -> list[dict]:
    """Records of a run's steps."""
    lines = (model / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "train"]


def flops(model: Path) -> float:
    """Model FLOPs of a run."""
    return sum(record["tflops"] * record["seconds"] for record in windows(model)) * 1e12


def curve(records: list[dict], name: str, tail: int = 10) -> str:
    """First and last values of a figure."""
    values = [record[name] for record in records if record.get(name) is not None]
    return f"{values[0]:.2f} → {np.mean(values[-tail:]):.2f}" if values else ""


def main() -> None:
    """Trains, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="JSONL of texts, also gzipped")
    parser.add_argument("--pairs", type=Path, required=True, help="JSONL pairs, or SQuAD's JSON")
    parser.add_argument("--collections", type=Path, nargs="+", required=True, help="collections in the BEIR layout")
    parser.add_argument("--steps", type=int, default=300, help="steps of RetroMAE (300)")
    parser.add_argument("--fit-steps", type=int, default=100, help="steps of the contrastive fit (100)")
    parser.add_argument("--batch-size", type=int, default=64, help="blocks a step (64)")
    parser.add_argument("--length", type=int, default=128, help="tokens of a block and of a passage (128)")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--vocab", type=int, default=8_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", default="1e-4", help="of pre-training (1e-4)")
    parser.add_argument("--fit-learning-rate", default="2e-4", help="of the fit (2e-4)")
    parser.add_argument(
        "--pooling", choices=("cls", "mean"), default="cls", help="of the fit and what is searched with (cls)"
    )
    parser.add_argument("--fit-batch-size", type=int, default=64, help="pairs a step of the fit (64)")
    parser.add_argument("--work", type=Path, help="keep models here, and go on from what is there")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    collections = [found for folder in arguments.collections for found in find_collections(folder)]
    with tempfile.TemporaryDirectory(prefix="bgetrain-pretraining-") as temporary:
        folder = arguments.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        experiment = Experiment(arguments, folder)
        guess = commonest_token(folder / "text_shards", folder / "base", arguments.length)
        pilot = experiment.pretrain("mlm", 0, 4, "pilot")
        each = flops(pilot) / 4
        told, models = [], []
        for seed in range(1, arguments.seeds + 1):
            retromae = experiment.pretrain("retromae", seed, arguments.steps, f"retromae-{seed}")
            mlm = experiment.pretrain("mlm", seed, max(1, round(flops(retromae) / each)), f"mlm-{seed}")
            for name, start in (("mlm", mlm), ("retromae", retromae)):
                records = windows(start)
                found = [np.mean([record[f"{part}_accuracy"] for record in records[-10:]]) for part in ("encoder",)]
                losses = [curve(records, "encoder_loss"), curve(records, "decoder_loss")]
                told.append([f"{name}, seed {seed}", str(len(records)), f"{flops(start) / 1e15:.2f}", *losses])
                told[-1].append(f"{100 * found[0]:.1f} (guess {100 * guess:.1f})")
            experiment.fit(folder / "base", seed, f"none-{seed}-fitted", "--random_init")
            experiment.fit(mlm, seed, f"mlm-{seed}-fitted")
            experiment.fit(retromae, seed, f"retromae-{seed}-fitted")
            models += [folder / f"{arm}-{seed}-fitted" for arm in ARMS] + [mlm, retromae]
        cut = [
            "--passage_max_len",
            str(arguments.length),
            "--pooling",
            arguments.pooling,
            "--no_bm25",
            "--output_dir",
            str(folder / "runs"),
        ]
        for model in models:
            if not (folder / "runs" / f"{collections[-1].name}.{model.name}.run").is_file():
                data = [str(collection) for collection in collections]
                run([experiment.train, "evaluate", "--model", str(model), "--data", *data, *cut])
        heads = ["pre-training", "steps", "model PFLOP", "encoder loss", "decoder loss", "masked tokens found, %"]
        sys.stdout.write(
            f"{machine()}\n\nBERT {arguments.layers} x {arguments.width}, {arguments.vocab:,} words, from random "
            f"weights; blocks of {arguments.length} tokens, {arguments.batch_size} a step.\n\n{table(heads, told)}\n\n"
        )
        scored = ["nDCG@10 (x 100)", *(f"{arm}, fitted" for arm in ARMS), "mlm as it is", "retromae as it is"]
        names = [*(f"{arm}-{{}}-fitted" for arm in ARMS), "mlm-{}", "retromae-{}"]
        rows = []
        for collection in collections:
            cells = []
            for name in names:
                means = [
                    100 * np.mean(list(per_query(folder / "runs", name.format(seed), collection).values()))
                    for seed in range(1, arguments.seeds + 1)
                ]
                cells.append(f"{np.mean(means):.1f} ± {np.std(means):.1f}")
            rows.append([collection.name, *cells])
        fit = f"{arguments.fit_steps} steps of {arguments.fit_batch_size} pairs, seeds: {arguments.seeds}"
        sys.stdout.write(f"{fit}.\n\n{table(scored, rows)}\n")


if __name__ == "__main__":
    main()
