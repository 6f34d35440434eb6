"""What is learned from the same rows: bgetrain beside sentence-transformers' trainer, seeds and bootstrap.

python -m benches.peers.learning --pairs pairs.jsonl --collections collections/dev --steps 24 --seeds 3

Both start from the same weights and take the same rows, steps, batch, length, rate and temperature. The peer
samples in both of its ways, at random (its default) and without duplicates (no equal texts in a batch). With
`--from-scratch 8000` the weights are those of a small BERT with a vocabulary of so many words, drawn once. Models are
measured by `bgetrain evaluate`. Of each collection: mean nDCG@10 over seeds with its spread, and our difference with a
95 % interval by a paired bootstrap over queries, of each query's mean over seeds. `--pairs` also takes files in SQuAD's
form. What `--work` holds already is not done again. Prints Markdown.
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
SAMPLERS = ["batch_sampler", "no_duplicates"]
PREP, TRAIN = (str(Path(sys.executable).parent / command) for command in ("bgeprep", "bgetrain"))


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


def per_query(runs: Path, label: str, collection: Path, split: str = "test") -> dict[str, float]:
    """nDCG@10 of each query of a saved run."""
    found = read_run(runs / f"{collection.name}.{label}.run")
    scored = score_run(found, open_collection(collection, split).qrels)
    return {query: scores["ndcg@10"] for query, scores in scored.items()}


def small_bert(folder: Path, shards: Path, words: int, layers: int, width: int) -> None:
    """A BERT with its own vocabulary and drawn weights, as a folder that everybody loads alike."""
    import torch
    from transformers import AutoConfig, AutoModel

    sizes = ["--num_hidden_layers", str(layers), "--hidden_size", str(width), "--intermediate_size", str(4 * width)]
    sizes += ["--model_config", "tiny", "--num_attention_heads", str(width // 64)]
    run([TRAIN, "vocab", "--data", str(shards), "--vocab_size", str(words), *sizes, "--output_dir", str(folder)])
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)


class Trial:
    """The rows, the weights everybody starts from, and what is trained from them."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        """Writes the rows, shards them, and lays the base model beside them."""
        self.arguments, self.folder = arguments, folder
        self.source, self.shards, self.base = folder / "pairs.jsonl", folder / "shards", folder / "base"
        self.rows = pairs_of(arguments.pairs)
        if (self.base / "config.json").is_file():
            return
        self.source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows), "utf-8")
        run([PREP, "shard", "--in", str(self.source), "--out", str(self.shards), "--quiet"])
        if arguments.from_scratch:
            small_bert(self.base, self.shards, arguments.from_scratch, arguments.layers, arguments.width)
        else:
            # under a name of its own, by which its run is found
            shutil.copytree(arguments.model.resolve(), self.base)

    def ours(self, seed: int) -> Path:
        """Trains by bgetrain; the folder of the model."""
        out, chosen = self.folder / f"bgetrain-{seed}", self.arguments
        flags = ["--data", str(self.shards), "--model_name_or_path", str(self.base), "--output_dir", str(out)]
        flags += ["--max_steps", str(chosen.steps), "--num_train_epochs", "1000", "--seed", str(seed)]
        flags += ["--per_device_train_batch_size", str(chosen.batch_size), "--train_group_size", "1"]
        flags += ["--query_max_len", chosen.max_len, "--passage_max_len", chosen.max_len]
        flags += ["--temperature", TEMPERATURE, "--learning_rate", chosen.learning_rate, "--use_cpu"]
        flags += ["--sentence_pooling_method", "mean", "--save_steps", "1000000"]
        return self._once(out, [TRAIN, "train", *flags, "--report_to", "none"])

    def theirs(self, sampler: str, seed: int) -> Path:
        """Trains by the peer."""
        out, chosen = self.folder / f"{sampler}-{seed}", self.arguments
        job = [str(interpreter(PEERS)), str(JOBS / "learning_sentence_transformers.py"), str(self.source)]
        job += [str(self.base), str(out), str(seed), str(chosen.steps), str(chosen.batch_size), sampler]
        return self._once(out, [*job, chosen.max_len, chosen.learning_rate])

    def _once(self, out: Path, command: list[str]) -> Path:
        if not (out / "modules.json").is_file():
            shutil.rmtree(out, ignore_errors=True)
            run(command)
            sys.stderr.write(f"{out.name} is trained\n")
        return out


def main() -> None:
    """Trains, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="JSONL pairs, or SQuAD's JSON")
    parser.add_argument("--collections", type=Path, nargs="+", required=True, help="collections in the BEIR layout")
    parser.add_argument("--split", default="test", help="whose judgements (test)")
    parser.add_argument("--model", type=Path, default=installed_demo_model(), help="base model (the demo's)")
    parser.add_argument("--from-scratch", type=int, metavar="WORDS", help="a small BERT with drawn weights instead")
    parser.add_argument("--layers", type=int, default=4, help="of that BERT (4)")
    parser.add_argument("--width", type=int, default=256, help="of that BERT (256)")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", default="5e-5")
    parser.add_argument("--max-len", default="96", help="tokens of any text, in training")
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=SAMPLERS, help="the peer's (both)")
    parser.add_argument("--work", type=Path, help="keep models here, and go on from what is there")
    arguments = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    collections = [found for folder in arguments.collections for found in find_collections(folder)]
    with tempfile.TemporaryDirectory(prefix="bgetrain-learning-") as temporary:
        folder = arguments.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        trial = Trial(arguments, folder)
        models = [trial.base]
        for seed in range(1, arguments.seeds + 1):
            models += [trial.ours(seed), *(trial.theirs(sampler, seed) for sampler in arguments.samplers)]
        # as long as in training: the peer's folder says that length, ours the base model's
        flags = ["--passage_max_len", arguments.max_len, "--split", arguments.split, "--no_bm25", "--quiet"]
        flags += ["--pooling", "mean", "--output_dir", str(folder / "runs")]
        for model in models:
            # each alone, so that what is measured stays measured
            if not (folder / "runs" / f"{collections[-1].name}.{model.name}.run").is_file():
                data = [str(collection) for collection in collections]
                run([TRAIN, "evaluate", "--model", str(model), "--data", *data, *flags])
        lines = [line for collection in collections for line in _lines(folder / "runs", collection, arguments)]
    header = ["nDCG@10 (x 100)", "base", "bgetrain", "peer's sampler", "peer", "difference, 95 % interval"]
    sys.stdout.write(
        f"{machine()}\n\n{len(trial.rows):,} rows of {arguments.pairs.name}; {arguments.steps} steps of "
        f"{arguments.batch_size}, {arguments.seeds} seeds (mean ± spread).\n\n{table(header, lines)}\n"
    )


def _lines(runs: Path, collection: Path, arguments: argparse.Namespace) -> list[list[str]]:
    """A line of the table for each sampler of the peer."""
    before = per_query(runs, "base", collection, arguments.split)

    def scores(label: str) -> np.ndarray:
        seeds = range(1, arguments.seeds + 1)
        each = [per_query(runs, f"{label}-{seed}", collection, arguments.split) for seed in seeds]
        return 100 * np.array([[own[query] for query in before] for own in each])

    ours = scores("bgetrain")
    lines = []
    for sampler in arguments.samplers:
        theirs = scores(sampler)
        change = mean_difference([ours.mean(axis=0) - theirs.mean(axis=0)])
        shown = [f"{found.mean():.2f} ± {found.mean(axis=1).std():.2f}" for found in (ours, theirs)]
        interval = f"{change.value:+.2f} ({change.low:+.2f} … {change.high:+.2f})"
        start = f"{100 * np.mean(list(before.values())):.2f}"
        lines.append([collection.name, start, shown[0], sampler, shown[1], interval])
    return lines


if __name__ == "__main__":
    main()
