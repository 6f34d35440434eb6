"""What mined negatives are worth: stage 2 with them, beside the same stage 2 with random ones.

python -m benches.mined --pairs examples/demo/data/pairs --collections examples/demo/data/medquad-heldout --work mined/

1. Stage 1: the base model is trained on the pairs with in-batch negatives (`--stage1` takes a model that is there).
2. `bgetrain mine` finds negatives with it among the set's own passages. A second set of the same rows gets as many
   random ones a row from the same passages, none of them a known positive of the query.
3. Stage 2, a run a seed and an arm: same start, rows, steps, batch, rate and order of rows.
4. All models search the collections. Of each collection: nDCG@10 as mean and spread over seeds, and the difference with
   a 95 % interval by a paired bootstrap over queries, of each query's mean over seeds.

Models and runs stay in `--work`, and what is there is not made again: the same command goes on where one was stopped.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benches.peers.learning import pairs_of, per_query
from benches.peers.measure import run
from benches.peers.report import machine, table
from bgeprep.rewrite import rewrite
from bgeprep.shardset import ShardSet
from bgetrain.bootstrap import mean_difference
from bgetrain.collection import find_collections, open_collection
from bgetrain.model_folder import installed_demo_model
from bgetrain.negatives import mixed
from bgetrain.pool import KnownPositives
from bgetrain.texts import ShardTexts

ARMS = ("mined", "random")


class RandomNegatives:
    """Gives a row that has mined negatives as many random ones; seed, query and passage decide which."""

    def __init__(self, shards: Path, *, seed: int = 42) -> None:
        """Reads keys and passages of the set that was mined."""
        self._known = KnownPositives(shards, ShardTexts(shards, "queries"))
        passages = ShardTexts(shards, "passages")
        self._keys = passages.keys
        self._texts = [text for _, text in passages]
        self._seed = np.uint64(seed)

    def __call__(self, _: int, row: dict[str, Any]) -> dict[str, Any]:
        """The row with others."""
        key = np.array([row["query_exact_key"]], dtype=np.uint64)
        query = int(self._known.number(key)[0])
        known, _ = self._known.known(range(query, query + 1))
        drawn = np.argsort(mixed(self._keys, mixed(key, self._seed)), kind="stable")
        allowed = drawn[~np.isin(self._keys[drawn], known)][: len(row["neg"])]
        return {**row, "neg": [self._texts[place] for place in allowed.tolist()], "neg_scores": [], "pos_scores": []}


class Experiment:
    """The folder of one experiment and what it makes there, each thing once."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Writes the pairs and smaller collections where they are missing."""
        self.arguments, self.folder = arguments, arguments.work
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_settings()
        commands = Path(sys.executable).parent
        self._bgeprep, self._bgetrain = str(commands / "bgeprep"), str(commands / "bgetrain")
        given = [
            "--in",
            str(self._pairs()),
            "--out",
            str(self.folder / "shards"),
            "--dedup",
            arguments.dedup,
            "--quiet",
        ]
        self._once(self.folder / "shards" / "manifest.json", [self._bgeprep, "shard", *given])
        found = [one for folder in arguments.collections for one in find_collections(folder)]
        self.collections = [self._smaller(folder) for folder in found]

    def _pairs(self) -> Path:
        """What `bgeprep shard` reads: the given path, or questions and paragraphs of a file in SQuAD's form."""
        given: Path = self.arguments.pairs
        if not given.name.endswith((".json", ".json.gz")):
            return given
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in pairs_of(given)]
        (self.folder / "pairs.jsonl").write_text("".join(lines), encoding="utf-8")
        return self.folder / "pairs.jsonl"

    def _check_settings(self) -> None:
        """Keeps the settings; a folder of others is an error, not a mixture."""
        left_out = {"work", "seeds", "collections", "queries", "eval_max_len"}
        said = {name: str(value) for name, value in vars(self.arguments).items() if name not in left_out}
        file = self.folder / "settings.json"
        if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != said:
            sys.exit(f"{self.folder}: holds models of other settings (settings.json); choose another --work")
        file.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")

    def _smaller(self, folder: Path) -> Path:
        """The collection with some of its queries alone, at equal distances; the same documents."""
        queries = list(open_collection(folder).queries)
        most = self.arguments.queries
        if not most or len(queries) <= most:
            return folder
        made = self.folder / "collections" / folder.name
        (made / "qrels").mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.jsonl*"):
            (made / path.name).unlink(missing_ok=True)
            (made / path.name).symlink_to(path.resolve())
        kept = {queries[place] for place in np.linspace(0, len(queries) - 1, most).astype(int)}
        lines = (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        chosen = [line for line in lines if line.split("\t")[0] in kept]
        (made / "qrels" / "test.tsv").write_text("".join(chosen), encoding="utf-8")
        return made

    def _once(self, made: Path, command: list[str]) -> None:
        """Runs a command whose last file is `made`, where that is missing."""
        if not made.exists():
            began = time.perf_counter()
            run(command)
            sys.stderr.write(f"{made}: {time.perf_counter() - began:.0f} s\n")

    def train(self, name: str, start: Path, data: Path, *, seed: int, size: tuple[int, int], group: int) -> Path:
        """Trains a model with so many steps of so many rows, or finds it trained."""
        chosen, output = self.arguments, self.folder / "models" / name
        if not (output / "trained").exists():
            # half a run is made anew: a few minutes, and the same bytes
            flags = ["--data", data, "--model_name_or_path", start, "--output_dir", output, "--overwrite_output_dir"]
            flags += ["--seed", seed, "--max_steps", size[0], "--per_device_train_batch_size", size[1]]
            flags += ["--train_group_size", group, "--learning_rate", chosen.learning_rate]
            flags += ["--query_max_len", chosen.max_len, "--passage_max_len", chosen.max_len, "--num_train_epochs", 99]
            flags += ["--temperature", chosen.temperature, "--report_to", "none", "--save_steps", 1_000_000]
            self._once(output / "trained", [self._bgetrain, "train", *map(str, flags)])
            (output / "trained").touch()
        return output

    def mine(self, stage1: Path) -> dict[str, Path]:
        """The two sets of the same rows with as many negatives."""
        sets = {arm: self.folder / arm for arm in ARMS}
        flags = ["--model", stage1, "--data", self.folder / "shards", "--out", sets["mined"], "--quiet"]
        flags += ["--negative_number", self.arguments.negatives, "--passage_max_len", self.arguments.max_len]
        flags += ["--query_max_len", self.arguments.max_len]
        self._once(sets["mined"] / "mine.json", [self._bgetrain, "mine", *map(str, flags)])
        if not (sets["random"] / "manifest.json").is_file():
            rewrite(sets["mined"], sets["random"], RandomNegatives(self.folder / "shards"), overwrite=True)
        return sets

    def evaluate(self, model: Path) -> None:
        """Writes the model's runs, where they are missing."""
        runs = self.folder / "runs"
        missing = [
            one for one in self.collections if not (runs / model.name / f"{one.name}.{model.name}.run").is_file()
        ]
        if missing:
            flags = ["--model", model, "--data", *missing, "--passage_max_len", self.arguments.eval_max_len]
            flags += ["--no_bm25", "--output_dir", runs / model.name, "--quiet"]
            last = runs / model.name / f"{missing[-1].name}.{model.name}.run"
            self._once(last, [self._bgetrain, "evaluate", *map(str, flags)])

    def scores(self, label: str, collection: Path) -> dict[str, float]:
        """nDCG@10 of each query."""
        return per_query(self.folder / "runs" / label, label, collection)


def main() -> None:
    """Trains, mines, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="what `bgeprep shard` reads, or SQuAD's JSON (.json)")
    add("--collections", type=Path, nargs="+", required=True, help="collections in the BEIR layout")
    add("--work", type=Path, required=True, help="folder for models and runs, which stay")
    add("--model", type=Path, default=installed_demo_model(), help="base model (the demo's)")
    add("--stage1", type=Path, help="a stage-1 model (default: trained here)")
    add("--stage1-steps", type=int, default=40, help="steps of stage 1 (40)")
    add("--stage1-batch-size", type=int, default=64, help="rows a step there; --batch-size of stage 2 is another (64)")
    add("--steps", type=int, default=40, help="steps of stage 2 (40)")
    add("--batch-size", type=int, default=16, help="rows a step of stage 2 (16)")
    add("--negatives", type=int, default=4, help="negatives a row (4)")
    add("--seeds", type=int, default=3, help="runs of each arm (3)")
    add("--learning-rate", default="2e-5")
    add("--temperature", default="0.02")
    add("--max-len", type=int, default=96, help="tokens of any text, in training and mining (96)")
    add("--eval-max-len", type=int, default=96, help="tokens of a document that is searched (96)")
    add("--queries", type=int, default=0, help="queries of a collection at most (all)")
    add("--dedup", choices=("exact", "near"), default="near", help="of the shard set (near)")
    arguments = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    made = Experiment(arguments)
    stage1 = arguments.stage1 or _stage1(made)
    sets = made.mine(stage1)
    given = [len(row["neg"]) for row in ShardSet.open(sets["mined"])]
    labels: dict[str, list[str]] = {arm: [] for arm in ARMS}
    made.evaluate(stage1)
    for seed in range(1, arguments.seeds + 1):
        for arm in ARMS:
            group = 1 + arguments.negatives
            size = arguments.steps, arguments.batch_size
            model = made.train(f"{arm}-{seed}", stage1, sets[arm], seed=seed, size=size, group=group)
            made.evaluate(model)
            labels[arm].append(model.name)
    lines = [_line(made, collection, stage1.name, labels) for collection in made.collections]
    header = [
        "nDCG@10 (x 100)",
        "queries",
        "stage 1",
        *(f"stage 2, {arm}" for arm in ARMS),
        "difference, 95 % interval",
    ]
    sys.stdout.write(
        f"{machine()}\n\n{len(given):,} rows of {arguments.pairs.name}; negatives a row {np.mean(given):.1f} of "
        f"{arguments.negatives}; stage 2 {arguments.steps} steps of {arguments.batch_size}, "
        f"{arguments.seeds} seeds (mean ± spread).\n\n{table(header, lines)}\n"
    )


def _stage1(made: Experiment) -> Path:
    chosen = made.arguments
    size = chosen.stage1_steps, chosen.stage1_batch_size
    return made.train("stage1", chosen.model, made.folder / "shards", seed=0, size=size, group=1)


def _line(made: Experiment, collection: Path, start: str, labels: dict[str, list[str]]) -> list[str]:
    before = made.scores(start, collection)
    each = {}
    for arm, names in labels.items():
        found = [made.scores(name, collection) for name in names]
        each[arm] = 100 * np.array([[scores[query] for query in before] for scores in found])
    change = mean_difference([each["mined"].mean(axis=0) - each["random"].mean(axis=0)])
    shown = [f"{scores.mean():.2f} ± {scores.mean(axis=1).std():.2f}" for scores in each.values()]
    first = f"{100 * np.mean(list(before.values())):.2f}"
    interval = f"{change.value:+.2f} ({change.low:+.2f} … {change.high:+.2f})"
    return [collection.name, f"{len(before):,}", first, *shown, interval]


if __name__ == "__main__":
    main()
