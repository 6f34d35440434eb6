"""Measures models on retrieval collections, sentence pairs and tasks of mteb: the command `bgetrain evaluate`.

Inputs are opened before a model is loaded, models are taken one after the other (`evaluate`), and what is found goes
into tables (`scoreboard`), which are printed, written and shown on a page (`report.evaluation`).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgetrain.collection import find_collections, open_collection
from bgetrain.errors import ConfigError
from bgetrain.evaluate import evaluate, evaluate_bm25, evaluate_similarity
from bgetrain.flags import add_computing, natural, positive
from bgetrain.resumable import write_whole
from bgetrain.scoreboard import BM25, PairTable, RetrievalTable, TaskTable, as_text, labels_of, reports_of
from bgetrain.sentence_pairs import find_sentence_pairs, open_sentence_pairs
from bgetrain.trec_run import id_with_white_space, tag_of, write_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bgetrain.collection import Collection
    from bgetrain.embedding_cache import EmbeddingCache
    from bgetrain.encode import Encoder
    from bgetrain.evaluate import Scores, TextEncoder
    from bgetrain.gather import Ranks
    from bgetrain.ranking import Run
    from bgetrain.scoreboard import Table
    from bgetrain.sentence_pairs import SentencePairs
    from bgetrain.vectors import Vectors

__all__ = ["TEACHING", "add_arguments", "run"]

TEACHING = """\
Measure models, and see where they differ.

  bgetrain evaluate --model output/stage2 --data collections/medquad
  bgetrain evaluate --model BAAI/bge-small-en-v1.5 output/stage1 output/stage2 --data collections/ \\
      --sts stsb.tsv --pairs ocnli.tsv --cache_dir vectors/ --report report.html
  bgetrain evaluate --model output/stage2 --mteb SciFact collections/medquad
  torchrun --nproc_per_node 8 -m bgetrain evaluate --model output/stage2 --data collections/

--data is a folder in the BEIR layout (corpus.jsonl, queries.jsonl, qrels/test.tsv) or in FlagEmbedding's (corpus.jsonl,
test_queries.jsonl, test_qrels.jsonl), or a folder of such. --sts and --pairs are files of two sentences and a score or
a label a line, separated by tabs (or JSON lines). --mteb names tasks whose data is on this machine, or a folder that
mteb is to score.

Of several models the first is what the others are compared to: each difference has a 95 % interval by the paired
bootstrap, and on the page stand the queries that lost most. Sentences of --sts and --pairs never get an instruction.

With --cache_dir nothing is embedded twice, and a run that was stopped goes on. --embeddings takes what
`bgetrain encode` made."""


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What is to be measured on, opened."""

    collections: list[Collection]
    pairs: list[SentencePairs]
    tasks: list[Any]
    made: list[Vectors]

    @property
    def names(self) -> list[str]:
        """What everything is called, which has to differ."""
        named = [collection.name for collection in self.collections] + [pairs.name for pairs in self.pairs]
        return named + [f"mteb {task.metadata.name}" for task in self.tasks]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bgetrain evaluate`."""
    add = parser.add_argument
    add("--model", "--model_name_or_path", nargs="+", required=True, metavar="M", help="model folders or hub names")
    add("--data", nargs="+", default=[], metavar="DIR", help="retrieval collections, or a folder of them")
    add("--sts", nargs="+", default=[], metavar="FILE", help="sentence pairs with a score, or a folder of such files")
    add("--pairs", nargs="+", default=[], metavar="FILE", help="sentence pairs with a label, 1 or 0; or a folder")
    add("--mteb", nargs="+", default=[], metavar="TASK", help="tasks of mteb by name, or collections for mteb to score")
    add("--split", default="test", help="judgements to use of a collection (default: test)")
    add(
        "--query_instruction_for_retrieval",
        metavar="TEXT",
        help='text put before queries; default: what the model says; "" for none',
    )
    add(
        "--instruction",
        choices=("both", "with", "without"),
        default="both",
        help="measure retrieval with the instruction, without, or both where a model has one (default: both)",
    )
    add("--pooling", choices=("cls", "mean"), help="default: what the model says, else cls")
    add("--query_max_len", type=positive, metavar="N", help="tokens of a query (default: the model's limit)")
    add(
        "--passage_max_len",
        type=positive,
        metavar="N",
        help="tokens of a document, and of a sentence of --sts and --pairs (default: the model's limit)",
    )
    add_computing(parser)
    add("--device", help="cpu, cuda, cuda:1, … (default: cuda where there is one)")
    add("--cache_dir", type=Path, metavar="DIR", help="keep vectors there, and take those that are there")
    add("--embeddings", nargs="+", default=[], metavar="DIR", help="take vectors that `bgetrain encode` made")
    add("--ignore_identical_ids", action="store_true", help="leave out the document whose id is the query's")
    add("--no_bm25", action="store_true", help="leave out the BM25 baseline")
    add("--worst_cases", type=natural, default=5, metavar="N", help="most to show of each model (default: 5)")
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--output_dir", type=Path, metavar="DIR", help="also write the runs there as TREC run files, and scores.json")
    add("--report", type=Path, metavar="FILE", help="also write a page about it, which loads nothing")
    add("--update_model_card", action="store_true", help="put the scores into the last model's README.md")
    add("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Runs the command and prints its table.

    Returns:
        0; what goes wrong is raised, and `bgetrain.main.report` turns it into a line and an exit code.

    Raises:
        BgetrainError: an input, a model or a flag cannot be used.
        OSError: a file cannot be read or written.
    """
    # Everything that can be wrong with the input is found before the first model is loaded.
    labels = labels_of(args.model)
    inputs = _open(args)
    _try_outputs(args)

    from bgetrain.gather import joined

    with joined(use_cpu=args.use_cpu or args.device == "cpu") as joined_ranks:
        ranks = _on_device(joined_ranks, args.device)
        if ranks.is_main:
            for line in (line for collection in inputs.collections for line in collection.warnings()):
                sys.stderr.write(f"warning: {line}\n")
        tables = _Measuring(args, inputs, ranks).tables(labels)
        if not ranks.is_main:
            return 0
    reports = reports_of(tables)
    _write(args, reports, dict(zip(labels, args.model, strict=True)))
    if args.json:
        print(json.dumps(reports, ensure_ascii=False, indent=2))
    else:
        print(as_text(reports))
    return 0


def _open(args: argparse.Namespace) -> _Inputs:
    from bgetrain.embedding_cache import find_vectors

    if not (args.data or args.sts or args.pairs or args.mteb):
        raise ConfigError("nothing to measure on", hint="--data DIR, --sts FILE, --pairs FILE or --mteb TASK")
    tasks: list[Any] = []
    if args.mteb:
        from bgetrain.mteb_tasks import local_task, open_task

        for name in args.mteb:
            found = find_collections(name) if Path(name).is_dir() else []
            opened = [open_collection(place, args.split) for place in found]
            tasks += [local_task(each, ignore_identical_ids=args.ignore_identical_ids) for each in opened]
            tasks += [] if found else [open_task(name)]
    inputs = _Inputs(
        [open_collection(place, args.split) for data in args.data for place in find_collections(data)],
        [
            *(open_sentence_pairs(place, "sts") for data in args.sts for place in find_sentence_pairs(data, "sts")),
            *(
                open_sentence_pairs(place, "pairs")
                for data in args.pairs
                for place in find_sentence_pairs(data, "pairs")
            ),
        ],
        tasks,
        find_vectors(args.embeddings),
    )
    twice = sorted({name for name in inputs.names if inputs.names.count(name) > 1})
    if twice:
        raise ConfigError(f"two things to measure on have the same name: {', '.join(twice)}")
    return inputs


def _on_device(ranks: Ranks, device: str | None) -> Ranks:
    """The place of this process with the device that was asked for."""
    import torch

    if device is None:
        return ranks
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"--device {device}: no such device: expected cpu, cuda, cuda:1, …") from error
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: this machine shows no GPU")
    if ranks.world_size > 1 and wanted.type != "cpu":
        raise ConfigError("--device: with several processes each takes its own", hint="leave it out, or --use_cpu")
    return replace(ranks, device=wanted)


def _try_outputs(args: argparse.Namespace) -> None:
    """Finds out now, not hours later, whether what is asked for can be written."""
    page = args.report and args.report.parent
    for flag, folder in {"--output_dir": args.output_dir, "--report": page, "--cache_dir": args.cache_dir}.items():
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".bgetrain-evaluate.tmp"
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"{flag} {folder}: cannot be written: {error.strerror}") from error
    if args.report and args.report.is_dir():
        raise ConfigError(f"--report {args.report}: a folder; expected a file to write")


class _Measuring:
    """The models, one after the other, on everything that was opened."""

    def __init__(self, args: argparse.Namespace, inputs: _Inputs, ranks: Ranks) -> None:
        self._args = args
        self._inputs = inputs
        self._ranks = ranks
        self._device = str(ranks.device)
        self._progress = _say if ranks.is_main and not args.quiet else _silent
        worst = args.worst_cases
        self._retrieval = [RetrievalTable(collection, worst=worst) for collection in inputs.collections]
        self._pairs = [PairTable(pairs, worst=worst) for pairs in inputs.pairs]
        self._mteb = [
            TaskTable(task.metadata.name, task.metadata.main_score, {"splits": list(task.eval_splits)})
            for task in inputs.tasks
        ]

    def tables(self, labels: Sequence[str]) -> list[Table]:
        """Measures; of several processes the first gets the rows."""
        if not self._args.no_bm25 and self._ranks.is_main:
            for collection, table in zip(self._inputs.collections, self._retrieval, strict=True):
                self._bm25(collection, table)
        for label, model in zip(labels, self._args.model, strict=True):
            self._model(label, model)
        return [*self._retrieval, *self._pairs, *self._mteb]

    def _bm25(self, collection: Collection, table: RetrievalTable) -> None:
        self._progress(f"{collection.name}: {BM25}")
        runs: dict[str, Run] = {}
        by_query: dict[str, Scores] = {}
        ignore = self._args.ignore_identical_ids
        scores = evaluate_bm25(collection, ignore_identical_ids=ignore, runs=runs, by_query=by_query)
        table.add_bm25(scores, by_query["bm25"], runs["bm25"])
        self._write_run(collection, BM25, runs["bm25"])

    def _model(self, label: str, model: str) -> None:
        from bgetrain.encode import Encoder
        from bgetrain.encode_texts import pack_if_possible

        args = self._args
        self._progress(f"loading {label}")
        loaded = Encoder.load(model, pooling=args.pooling)
        pack_if_possible(loaded, args.precision, self._ranks)
        cache = self._cache(loaded)
        encoder: TextEncoder = loaded
        if args.precision != "fp32":
            from bgetrain.embed import HalfPrecision

            encoder = HalfPrecision(loaded, args.precision)
        given = "" if args.instruction == "without" else args.query_instruction_for_retrieval
        common: dict[str, Any] = {"batch_tokens": args.batch_tokens, "device": self._device, "ranks": self._ranks}
        common["cache"] = cache
        lengths = {"query_max_len": args.query_max_len, "passage_max_len": args.passage_max_len}
        for collection, table in zip(self._inputs.collections, self._retrieval, strict=True):
            runs: dict[str, Run] = {}
            by_query: dict[str, Scores] = {}
            result = evaluate(
                encoder,
                collection,
                query_instruction=given,
                both_forms=args.instruction != "with",
                ignore_identical_ids=args.ignore_identical_ids,
                runs=runs,
                by_query=by_query,
                progress=self._progress,
                **lengths,
                **common,
            )
            if self._ranks.is_main:
                table.add_model(label, result, by_query, runs)
                for form, found in runs.items():
                    used = form == "with" and bool(result["instruction"])
                    self._write_run(collection, label + ("+instruction" if used else ""), found)
        for pairs, pair_table in zip(self._inputs.pairs, self._pairs, strict=True):
            self._progress(f"{pairs.name}: {len(pairs):,} pairs")
            scores, cosines = evaluate_similarity(encoder, pairs, max_length=args.passage_max_len, **common)
            pair_table.add_model(label, scores, cosines)
        if self._inputs.tasks:
            self._score_tasks(label, encoder, given, lengths | common)

    def _score_tasks(self, label: str, encoder: TextEncoder, given: str | None, options: dict[str, Any]) -> None:
        from bgetrain.mteb_tasks import MtebEncoder, score_task

        wrapped = MtebEncoder(encoder, label, query_instruction=given, **options)
        instruction = encoder.query_instruction if given is None else given
        for task, table in zip(self._inputs.tasks, self._mteb, strict=True):
            self._progress(f"{task.metadata.name}: by mteb")
            found = score_task(task, wrapped)
            table.add_model(label, instruction if found.instructed else "", found.value)
            if self._args.output_dir and self._ranks.is_main:
                place = self._args.output_dir / f"{tag_of(task.metadata.name)}.{tag_of(label)}.mteb.json"
                _write_json(place, found.result)

    def _cache(self, encoder: Encoder) -> EmbeddingCache | None:
        args = self._args
        if args.cache_dir is None and not self._inputs.made:
            return None
        from bgetrain.embedding_cache import EmbeddingCache

        bars = _Bars(quiet=args.quiet or not self._ranks.is_main)
        cache = EmbeddingCache(
            encoder.to(self._device),
            args.cache_dir,
            ranks=self._ranks,
            made=self._inputs.made,
            precision=args.precision,
            batch_tokens=args.batch_tokens,
            progress=bars,
        )
        if self._inputs.made and not cache.fits and self._ranks.is_main:
            sys.stderr.write("warning: --embeddings: none of these vectors are of this model; they are not used\n")
        return cache

    def _write_run(self, collection: Collection, label: str, found: Run) -> None:
        """A run as a file for trec_eval; where an id holds white space there can be none."""
        folder = self._args.output_dir
        if folder is None or not self._ranks.is_main:
            return
        bad = id_with_white_space([*collection.queries, *collection.document_ids])
        if bad is not None:
            sys.stderr.write(f"warning: {collection.name}: no run file: the id {bad!r} holds white space\n")
            return
        tag = tag_of(label)
        write_run(folder / f"{collection.name}.{tag}.run", found, tag)


class _Bars:
    """A bar for each thing that is embedded; nothing for what is found."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bars: dict[str, Callable[[int, int], None]] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        from bgetrain.progress import Bar

        if total:
            self._bars.setdefault(name, Bar(name, "texts", quiet=self._quiet))(done, total)
        elif not self._quiet:
            _say(f"{name}: embedded already")


def _write(args: argparse.Namespace, reports: list[dict[str, Any]], models: dict[str, str]) -> None:
    """Everything that was asked for besides the table."""
    if args.output_dir:
        _write_json(args.output_dir / "scores.json", reports)
    if args.report:
        from bgetrain.report.evaluation import render

        page = render(reports, models, _settings(args))
        write_whole(args.report, lambda file: file.write(page.encode("utf-8", "replace")))
    if args.update_model_card:
        from bgetrain.export import write_scores

        scores: dict[str, dict[str, dict[str, float]]] = {}
        for report in reports:
            for row in report["runs"] if report["kind"] != "mean" else []:
                label = row["model"] + (" with instruction" if row["instruction"] else "")
                shown = {metric: row[metric] for metric in report["metrics"]}
                scores.setdefault(label, {})[report["collection"]] = shown
        write_scores(args.model[-1], scores)


def _settings(args: argparse.Namespace) -> dict[str, str]:
    """The flags that decide scores, for the page."""
    names = ("split", "query_instruction_for_retrieval", "pooling", "query_max_len", "passage_max_len", "precision")
    return {name: str(getattr(args, name)) for name in names if getattr(args, name) is not None} | {
        "ignore_identical_ids": str(args.ignore_identical_ids).lower()
    }


def _write_json(path: Path, value: object) -> None:
    write_whole(path, lambda file: file.write((json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(_: str) -> None:
    """Progress that nobody asked for."""
