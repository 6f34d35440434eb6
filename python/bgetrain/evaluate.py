"""Retrieval scores of models on collections in the BEIR layout: the command `bgetrain evaluate`.

For each collection and model:

1. Encode the queries, once as they are and once with the model's instruction where it has one.
2. Encode the corpus piece by piece and keep, for every form of a query, the best documents (`search`).
3. Score the runs (`ranking`), beside BM25 on the same texts (`bm25`).

Progress goes to stderr; the table, or JSON with `--json`, to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bgetrain.bm25 import bm25_run
from bgetrain.collection import Collection, find_collections, open_collection
from bgetrain.errors import ConfigError
from bgetrain.ranking import METRICS, Run, drop_identical_ids, mean_scores, score_run, trec_order

if TYPE_CHECKING:
    from bgetrain.gather import Ranks

__all__ = ["TOP_K", "TextEncoder", "add_arguments", "evaluate", "evaluate_bm25", "run"]

TOP_K = 1000
"""Documents kept for each query: the depth of MAP@1000."""

PIECE = 2048
"""Documents read at a time for BM25."""

Progress = Callable[[str], None]


class TextEncoder(Protocol):
    """What evaluation needs of a model; `bgetrain.encode.Encoder` has it."""

    @property
    def query_instruction(self) -> str:
        """Text put before queries, empty for none."""

    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        max_length: int | None = None,
        batch_tokens: int = 16_384,
        device: Any = None,  # noqa: ANN401 - a torch device; naming its type would import torch for --help
    ) -> NDArray[np.float32]:
        """float32 [N, D]."""


def evaluate(
    encoder: TextEncoder,
    collection: Collection | str | Path,
    *,
    split: str = "test",
    query_instruction: str | None = None,
    query_max_len: int | None = None,
    passage_max_len: int | None = None,
    batch_tokens: int = 16_384,
    ignore_identical_ids: bool = False,
    device: str | None = None,
    runs: dict[str, Run] | None = None,
    progress: Progress = lambda _: None,
    both_forms: bool = True,
    ranks: Ranks | None = None,
    stop_wanted: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Searches a collection with a model and scores what it finds.

    Args:
        encoder: the model.
        collection: an open collection, or its folder.
        split: the judgements to use where a folder is given.
        query_instruction: text put before queries; None takes the encoder's own. Where it is not empty,
            queries are searched with and without it.
        query_max_len: tokens a query is cut to; None for the encoder's own limit.
        passage_max_len: the same for documents.
        batch_tokens: most tokens computed at once, padding included.
        ignore_identical_ids: leave out the document whose id is the query's.
        device: where to compute; None stays where the encoder is.
        runs: filled with the runs found, by `without` and `with` (instruction); with several ranks, those of
            this rank's share of the queries.
        progress: called with a line of text as the work goes on.
        both_forms: search without the instruction too where there is one.
        ranks: share the work with these processes, which must all call it; None is one process alone. Their
            number changes no score.
        stop_wanted: whether this process was asked to stop.

    Returns:
        `{"collection", "split", "documents", "queries", "judgements", "missing": {"queries", "documents"},
        "instruction", "without": {metric: value} or None, "with": {…} or None}`.

    Raises:
        CollectionError: the collection cannot be read.
        ModelError: the model gives vectors that are not finite.
        retrieval.Stopped: a rank was asked to stop.
    """
    # torch is imported where it is first needed, so that the command's help and its errors come at once.
    from bgetrain.gather import Ranks
    from bgetrain.retrieval import gather_scores, retrieve

    if not isinstance(collection, Collection):
        collection = open_collection(collection, split)
    ranks = ranks or Ranks()
    instruction = encoder.query_instruction if query_instruction is None else query_instruction
    forms = {"without": ""} if both_forms or not instruction else {}
    forms |= {"with": instruction} if instruction else {}
    found = retrieve(
        encoder,
        collection,
        list(forms.values()),
        # one more, so that a document left out for its id does not shorten the list
        top_k=TOP_K + ignore_identical_ids,
        query_max_len=query_max_len,
        passage_max_len=passage_max_len,
        batch_tokens=batch_tokens,
        device=device,
        ranks=ranks,
        stop_wanted=stop_wanted,
        progress=progress,
    )
    report = _describe(collection) | {"instruction": instruction, "without": None, "with": None}
    for form, found_run in zip(forms, found, strict=True):
        kept = _cut(found_run, ignore_identical_ids)
        own = score_run(kept, {query: collection.qrels[query] for query in kept})
        values = np.array([[row[metric] for metric in METRICS] for row in own.values()], dtype=np.float64)
        shared = gather_scores(values.reshape(-1, len(METRICS)), len(collection.queries), ranks).tolist()
        by_query = dict(zip(collection.queries, (dict(zip(METRICS, row, strict=True)) for row in shared), strict=True))
        # in the order of the judgements, since the order decides the last bit of a sum
        report[form] = mean_scores({query: by_query[query] for query in collection.qrels})
        if runs is not None:
            runs[form] = kept
    return report


def evaluate_bm25(
    collection: Collection, *, ignore_identical_ids: bool = False, runs: dict[str, Run] | None = None
) -> dict[str, float]:
    """Returns metric → value of BM25 on the collection; see `evaluate` for the arguments."""
    found = bm25_run(_texts(collection), collection.queries, top_k=TOP_K + ignore_identical_ids)
    kept = _cut(found, ignore_identical_ids)
    if runs is not None:
        runs["bm25"] = kept
    return mean_scores(score_run(kept, collection.qrels))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bgetrain evaluate`."""
    add = parser.add_argument
    add("--model", "--model_name_or_path", nargs="+", required=True, metavar="M", help="model folders or hub names")
    add("--data", nargs="+", required=True, metavar="DIR", help="collections in the BEIR layout, or a folder of them")
    add("--split", default="test", help="judgements to use, qrels/<split>.tsv (default: test)")
    add(
        "--query_instruction_for_retrieval",
        metavar="TEXT",
        help='text put before queries; default: what the model says; "" for none',
    )
    add("--pooling", choices=("cls", "mean"), help="default: what the model says, else cls")
    add("--query_max_len", type=_positive, metavar="N", help="tokens of a query (default: the model's limit)")
    add("--passage_max_len", type=_positive, metavar="N", help="tokens of a document (default: the model's limit)")
    add("--batch_tokens", type=_positive, default=16_384, metavar="N", help="tokens computed at once (default: 16384)")
    add("--device", help="cpu, cuda, cuda:1, … (default: cuda where there is one)")
    add("--ignore_identical_ids", action="store_true", help="leave out the document whose id is the query's")
    add("--no_bm25", action="store_true", help="leave out the BM25 baseline")
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--output_dir", type=Path, metavar="DIR", help="also write the runs there as TREC run files, and scores.json")
    add("--update_model_card", action="store_true", help="put the scores into the last model's README.md")
    add("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Runs the command and prints its table.

    Returns:
        0; what goes wrong is raised, and `bgetrain.main.report` turns it into a line and an exit code.

    Raises:
        BgetrainError: a collection, a model or a flag cannot be used.
        OSError: a file cannot be read or written.
    """
    reports = _run(args)
    print(json.dumps(reports, ensure_ascii=False, indent=2) if args.json else _table(reports))
    return 0


def _run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The work of the command: a report for each collection."""
    # Everything that can be wrong with the input is found before the first model is loaded.
    collections = [open_collection(path, args.split) for data in args.data for path in find_collections(data)]
    names = [collection.name for collection in collections]
    if len(set(names)) < len(names):
        raise ConfigError(f"--data: two collections have the same name: {', '.join(sorted(names))}")
    for collection in collections:
        for line in collection.warnings():
            print(f"warning: {line}", file=sys.stderr)
    progress = _silent if args.quiet else _say
    labels = _labels(args.model)
    reports = [_describe(collection) | {"runs": []} for collection in collections]

    for collection, report in zip(collections, reports, strict=True):
        if args.no_bm25:
            continue
        progress(f"{collection.name}: BM25")
        runs: dict[str, Run] = {}
        scores = evaluate_bm25(collection, ignore_identical_ids=args.ignore_identical_ids, runs=runs)
        report["runs"].append({"model": "BM25", "instruction": "", **scores})
        _write_run(args.output_dir, collection, "BM25", runs["bm25"])

    from bgetrain.encode import Encoder

    for label, model in zip(labels, args.model, strict=True):
        progress(f"loading {label}")
        encoder = Encoder.load(model, pooling=args.pooling)
        device = args.device or _default_device()
        for collection, report in zip(collections, reports, strict=True):
            runs = {}
            result = evaluate(
                encoder,
                collection,
                query_instruction=args.query_instruction_for_retrieval,
                query_max_len=args.query_max_len,
                passage_max_len=args.passage_max_len,
                batch_tokens=args.batch_tokens,
                ignore_identical_ids=args.ignore_identical_ids,
                device=device,
                runs=runs,
                progress=progress,
            )
            for form, found in runs.items():
                used = result["instruction"] if form == "with" else ""
                report["runs"].append({"model": label, "instruction": used, **result[form]})
                _write_run(args.output_dir, collection, label + ("+instruction" if used else ""), found)
    if args.output_dir:
        (args.output_dir / "scores.json").write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")
    if args.update_model_card:
        _update_card(args.model[-1], reports)
    return reports


def _describe(collection: Collection) -> dict[str, Any]:
    return {
        "collection": collection.name,
        "split": collection.split,
        "documents": len(collection.document_ids),
        "queries": len(collection.queries),
        "judgements": collection.judgements,
        "missing": {"queries": len(collection.missing_queries), "documents": len(collection.missing_documents)},
    }


def _cut(found: Run, ignore_identical_ids: bool) -> Run:
    """A run cut to the depth that the metrics see."""
    if ignore_identical_ids:
        found = drop_identical_ids(found)
    return {query: documents[:TOP_K] for query, documents in found.items()}


def _texts(collection: Collection) -> Iterator[tuple[str, str]]:
    texts = (text for piece in collection.documents(PIECE) for text in piece)
    yield from zip(collection.document_ids, texts, strict=True)


def _write_run(folder: Path | None, collection: Collection, label: str, found: Run) -> None:
    """A run as TREC lines: query Q0 document rank score label."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    tag = "".join(letter if letter.isalnum() or letter in "+-_." else "_" for letter in label)
    lines = []
    for query, documents in found.items():
        scores = dict(documents)
        for rank, document in enumerate(trec_order(documents), start=1):
            # Nine digits: as many as tell two 32-bit floats apart.
            lines.append(f"{query} Q0 {document} {rank} {scores[document]:.9g} {tag}\n")
    temporary = folder / f".{collection.name}.{tag}.tmp"
    temporary.write_text("".join(lines), encoding="utf-8")
    temporary.replace(folder / f"{collection.name}.{tag}.run")


def _update_card(model: str, reports: list[dict[str, Any]]) -> None:
    from bgetrain.export import write_scores

    scores: dict[str, dict[str, dict[str, float]]] = {}
    for report in reports:
        for row in report["runs"]:
            label = row["model"] + (" with instruction" if row["instruction"] else "")
            scores.setdefault(label, {})[report["collection"]] = {metric: row[metric] for metric in METRICS}
    write_scores(model, scores)


def _table(reports: list[dict[str, Any]]) -> str:
    """Aligned columns, one block for each collection."""
    blocks = []
    for report in reports:
        head = (
            f"{report['collection']} ({report['split']}): {report['documents']:,} documents, "
            f"{report['queries']:,} queries, {report['judgements']:,} judgements"
        )
        rows = [["model", "instruction", *METRICS]]
        for row in report["runs"]:
            instruction = "-" if row["model"] == "BM25" else ("with" if row["instruction"] else "without")
            rows.append([row["model"], instruction, *(f"{row[metric]:.4f}" for metric in METRICS)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        blocks.append("\n".join([head, *lines]))
    return "\n\n".join(blocks)


def _labels(models: Sequence[str]) -> list[str]:
    """The last name of each model, or as many of its last names as tell it from the others."""
    parts = [Path(model).resolve().parts if Path(model).is_dir() else tuple(model.split("/")) for model in models]
    if len(set(parts)) < len(parts):
        raise ConfigError(f"--model: a model is given twice: {', '.join(models)}")
    labels = []
    for own in parts:
        # `model` and `final` say nothing of which model it is.
        depth = 2 if own[-1] in {"model", "final", "export"} and len(own) > 1 else 1
        while any(other != own and other[-depth:] == own[-depth:] for other in parts):
            depth += 1
        labels.append("/".join(own[-depth:]))
    return labels


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(_: str) -> None:
    """Progress that nobody asked for."""
