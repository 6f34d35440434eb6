"""Hard negatives for the rows of a shard set, found with a model: the command `bgetrain mine`.

1. Queries, positives and the pool are embedded, each text once (`vectors`).
2. For each query the nearest passages are searched (`neighbours`) and sifted (`negatives`, `mining`).
3. The rows are written again with them: as a shard set, or as FlagEmbedding's JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from bgetrain.apart import apart
from bgetrain.errors import ConfigError
from bgetrain.flags import add_computing, positive
from bgetrain.mine_run import Work, embed, mine
from bgetrain.negatives import Rules
from bgetrain.neighbours import check_engine

__all__ = ["TEACHING", "add_arguments", "run", "work_of"]

TEACHING = """\
Mine hard negatives: passages a model finds close to a query and that do not answer it.

  bgetrain mine --model output/stage1 --data shards/ --out mined/
  bgetrain mine --model output/stage1 --data shards/ --pool corpus.jsonl.gz --out mined/ --index ivf
  bgetrain mine --model output/stage1 --data train.jsonl --out mined.jsonl --range 10-210 --max_relative off
  bgetrain mine --model output/stage2 --from mined/ --out mined2/
  torchrun --nproc_per_node 8 -m bgetrain mine --model output/stage1 --data shards/ --out mined/

Passages come from --pool (a shard set, a folder in the BEIR layout, .jsonl, .txt, .parquet), else from the set
itself, its positives and negatives. What is known to be a positive never becomes a negative: of any row with the query
or a near duplicate of it, as the same text or a near duplicate; and by id where a pool in the BEIR layout judges
documents (qrels/) of that query, which is found by its text or by the row's id.

By default the best 15 of the first 200 are taken that score at most 0.95 of the query's lowest-scoring positive
(NV-Retriever's TopK-PercPos). --range 10-210 is FlagEmbedding's window: then 15 are drawn from it at random, still
below that ceiling; --max_relative off lifts it, and then many of them are positives that nobody has marked. Ranks are
counted without known positives.

Negatives that rows have already are replaced, as FlagEmbedding does; --earlier add keeps them beside the new ones, and
--earlier mix, which --from means, takes half from each. Where negatives are replaced, the scores of the old ones go,
and those of the positives with them; --write_scores writes the ones of this model or of --reranker.

Rows of classification sources stay as they are. A run that was stopped is gone on with by the same command, also with
another number of processes, and gives the same negatives."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bgetrain mine`."""
    add = parser.add_argument
    add("--model", "--model_name_or_path", "--embedder_name_or_path", required=True, metavar="M", help="folder or name")
    add("--data", "--input_file", type=Path, metavar="PATH", help="a shard set, or pairs to make one of")
    add("--from", dest="earlier_round", type=Path, metavar="DIR", help="as --data DIR --earlier mix")
    add("--out", "--output_file", type=Path, required=True, metavar="PATH", help="shard set to make, or .jsonl file")
    add("--format", choices=("shards", "jsonl"), help="of --out (default: by its name)")
    add("--pool", "--candidate_pool", type=Path, metavar="PATH", help="where negatives come from (default: the set)")
    add("--negative_number", type=positive, default=15, metavar="N", help="negatives for a query, at most (15)")
    add("--range", "--range_for_sampling", dest="window", metavar="A-B", help="ranks that may be taken (0-200)")
    add("--sampling", choices=("top", "random"), help="the best, or any (default: top, with --range random)")
    add("--max_relative", default="0.95", metavar="F", help="highest share of the positive's score, or off (0.95)")
    add("--margin", type=float, metavar="F", help="least distance below the positive's score")
    add("--max_score", type=float, metavar="F", help="highest score of a negative")
    add("--min_score", type=float, metavar="F", help="lowest score of a negative")
    add(
        "--near",
        default="auto",
        metavar="F",
        help="Jaccard similarity to a positive from which a passage is no negative, or off "
        "(default: 0.5, unless the set's own keys say which texts are near)",
    )
    add("--earlier", choices=("replace", "add", "mix"), help="negatives that are there already (default: replace)")
    add("--reranker", metavar="M", help="a cross-encoder that must also find a negative worse than the positives")
    add("--write_scores", action="store_true", help="write pos_scores and neg_scores: the reranker's, or the model's")
    add("--index", choices=("exact", "ivf", "hnsw"), default="exact", help="exact search, or an approximate one")
    add("--index_lists", type=positive, default=0, metavar="N", help="lists of ivf (4 x the root of the pool's size)")
    add("--index_probes", type=positive, default=0, metavar="N", help="lists looked at by ivf (32), efSearch of hnsw")
    add("--search_engine", choices=("auto", "faiss", "torch"), default="auto", help="faiss where it is installed")
    add("--query_instruction_for_retrieval", metavar="TEXT", help="default: what the model says; a stage-1 model none")
    add("--passage_instruction_for_retrieval", default="", metavar="TEXT", help="put before passages (none, as BGE)")
    add("--pooling", choices=("cls", "mean"), help="default: what the model says, else cls")
    add("--query_max_len", type=positive, metavar="N", help="tokens of a query (default: the model's limit)")
    add("--passage_max_len", type=positive, metavar="N", help="tokens of a passage (default: the model's limit)")
    add("--dtype", choices=("float32", "float16"), default="float32", help="of the stored vectors")
    add("--vectors", type=Path, metavar="DIR", help="keep vectors here (default: with the work files, which go)")
    add_computing(parser)
    add("--seed", type=int, default=42, help="decides what is drawn (42)")
    add("--overwrite", action="store_true", help="replace what is in --out, and work files of another run")
    add("--json", action="store_true", help="print what was done as JSON")
    add("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Runs the command and says what it did.

    Returns:
        0; what goes wrong is raised, and `bgetrain.main.report` turns it into a line and an exit code.

    Raises:
        BgetrainError: the model, the texts, a folder or a flag cannot be used.
        bgeprep.errors.BgeprepError: the shard set cannot be read or written.
        OSError: a file cannot be read or written.
    """
    work = work_of(args)
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if alone and "torch" not in sys.modules and args.reranker is None:
        # torch takes most of a gigabyte, and what comes after embedding does without it
        report = mine(work, apart(embed, work))
    else:
        from bgetrain.gather import joined

        with joined(use_cpu=args.use_cpu) as ranks:
            report = mine(work, embed(work, ranks), ranks)
            if not ranks.is_main:
                return 0
    print(json.dumps(report, indent=2) if args.json else _told(args.out, report))
    return 0


def work_of(args: argparse.Namespace) -> Work:
    """Reads the flags, and refuses what cannot work before anything is embedded.

    Raises:
        ConfigError: a flag cannot be used.
        LaunchError: a flag needs a package that is not installed.
    """
    data, earlier = _data(args)
    jsonl = args.format == "jsonl" or (args.format is None and args.out.suffix in {".jsonl", ".json"})
    if data.resolve() == args.out.resolve():
        raise ConfigError(f"--out: {args.out} is what is read", hint="choose another name")
    work = Work(
        args=args,
        rules=_rules(args),
        data=data,
        earlier=earlier,
        jsonl=jsonl,
        folder=args.out.with_name(f"{args.out.name}.work"),
        near=_number("--near", "off" if args.near == "auto" else args.near),
    )
    check_engine(work.search())
    return work


def _rules(args: argparse.Namespace) -> Rules:
    first, last = 0, 200
    if args.window is not None:
        ends = args.window.split("-")
        if len(ends) != 2 or not all(end.isdigit() for end in ends):
            raise ConfigError(f"--range: expected two ranks as 10-210, found {args.window!r}")
        first, last = int(ends[0]), int(ends[1])
    return Rules(
        count=args.negative_number,
        first=first,
        last=last,
        sampling=args.sampling or ("top" if args.window is None else "random"),
        max_relative=_number("--max_relative", args.max_relative),
        margin=args.margin,
        max_score=args.max_score,
        min_score=args.min_score,
        seed=args.seed,
    )


def _number(flag: str, text: str) -> float | None:
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{flag}: expected a number or off, found {text!r}") from None


def _data(args: argparse.Namespace) -> tuple[Path, str]:
    if (args.data is None) == (args.earlier_round is None):
        raise ConfigError("--data or --from: expected one of the two")
    data: Path = args.data or args.earlier_round
    if not data.exists():
        raise ConfigError(f"--{'data' if args.data else 'from'}: {data}: no such file or folder")
    return data, args.earlier or ("replace" if args.data else "mix")


def _told(out: Path, report: dict[str, Any]) -> str:
    if report.get("up_to_date"):
        return f"{out}: up to date, {report['rows_kept']:,} rows"
    went = ", ".join(f"{reason} {count:,}" for reason, count in report["went"].items() if count and reason != "short")
    lines = [
        f"{out}: {report['rows_kept']:,} rows, {report['negatives']:,} negatives mined from {report['pool']:,} passages"
        f" for {report['queries']:,} queries; {report['kept']:,} kept, {report['replaced']:,} replaced",
        f"candidates that went: {went or 'none'}",
    ]
    if report["went"]["short"]:
        lines.append(f"{report['went']['short']:,} queries have fewer negatives than asked for")
    if report["rows_without_negatives"]:
        lines.append(f"{report['rows_without_negatives']:,} rows have no negative")
    return "\n".join(lines)
