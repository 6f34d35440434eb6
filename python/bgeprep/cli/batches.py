"""`bgeprep batches`: what shares a batch."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from bgeprep.cli.look import counts_text
from bgeprep.errors import ConfigError
from bgeprep.plan import BatchPlan, PlanKeywords
from bgeprep.shardset import ShardSet

if TYPE_CHECKING:
    from bgeprep.batch_arrays import GlobalBatch

__all__ = ["add", "add_plan_options", "plan_keywords", "run"]

_CUT = 96


def add(verbs: argparse._SubParsersAction[Any]) -> None:
    """Adds the verb."""
    one = verbs.add_parser(
        "batches",
        help="look at what shares a batch, or list all batches of a run",
        description="Plans the global batches of a run. With --json one line a batch: {step, epoch, source, rows, "
        "positives, negatives}, where a row is its place in the set.",
    )
    one.add_argument("shards", help="folder of a shard set")
    one.add_argument("--batch-size", type=int, required=True, help="rows of a global batch, over all ranks")
    add_plan_options(one)
    one.add_argument("--show", type=int, default=3, metavar="N", help="rows of each batch to show (3)")
    one.add_argument("--steps", type=int, metavar="N", help="batches to show (3); with --json all, if not given")
    one.add_argument("--json", action="store_true", help="one JSON object a batch, for machines")


def add_plan_options(one: argparse.ArgumentParser) -> None:
    """Adds the options that decide batches; their names are those of `bgeprep.BatchLoader`."""
    one.add_argument("--epochs", type=int, default=1, metavar="N", help="epochs of the run (1)")
    one.add_argument("--seed", type=int, default=42, help="decides every random choice (42)")
    one.add_argument(
        "--train-group-size",
        type=int,
        default=8,
        metavar="N",
        help="documents a row: its positive and N - 1 negatives (8)",
    )
    one.add_argument("--alpha", type=float, help="share of a source: rows to this power (every row once an epoch)")
    one.add_argument(
        "--batch-by",
        choices=["source", "mixed", "cluster"],
        default="source",
        help="rows of a batch come from one source, from all in proportion, or from one topic cluster (source)",
    )
    one.add_argument("--clusters", metavar="FILE", help="Parquet file of row and cluster, for --batch-by cluster")
    one.add_argument(
        "--cluster-share", type=float, default=0.5, metavar="F", help="share of rows in batches of one cluster (0.5)"
    )
    one.add_argument("--drop-last", action="store_true", help="leave out batches shorter than --batch-size")
    one.add_argument(
        "--no-top-up",
        action="store_true",
        help="do not fill short batches with rows of sources of one task and language",
    )


def plan_keywords(args: argparse.Namespace) -> PlanKeywords:
    """What `add_plan_options` was given, as arguments of `bgeprep.BatchPlan`."""
    return {
        "num_epochs": args.epochs,
        "seed": args.seed,
        "train_group_size": args.train_group_size,
        "alpha": args.alpha,
        "batch_by": args.batch_by,
        "clusters": args.clusters,
        "cluster_share": args.cluster_share,
        "drop_last": args.drop_last,
        "top_up": not args.no_top_up,
    }


def run(args: argparse.Namespace) -> int:
    """The batches of a run."""
    for name, value in (("--show", args.show), ("--steps", args.steps)):
        if value is not None and value < 0:
            raise ConfigError(f"{name}: expected at least 0, found {value}")
    plan = BatchPlan(args.shards, batch_size=args.batch_size, **plan_keywords(args))
    if args.json:
        for batch in plan:
            if args.steps is not None and batch.step >= args.steps:
                break
            print(json.dumps(batch.as_dict()))
        return 0
    rows = ShardSet.open(args.shards)
    shown = False
    for batch in plan:
        shown = True
        if batch.step >= (3 if args.steps is None else args.steps):
            print(f"… `bgeprep batches {args.shards} --batch-size {args.batch_size} --steps N` shows more")
            break
        print(_batch_text(rows, batch, args.show))
    if not shown:
        print(f"no batch of {args.batch_size} rows; hint: a smaller --batch-size, or no --drop-last")
    return 0


def _batch_text(rows: ShardSet, batch: GlobalBatch, show: int) -> str:
    """A batch for people: its sources and the first rows in it."""
    ids = batch.rows.tolist()
    sources = Counter(rows[row]["source"] for row in ids)
    lines = [
        f"batch {batch.step}, epoch {batch.epoch}: {len(batch):,} rows, {len(batch.negatives):,} hard negatives"
        f"  ({counts_text(sources)})"
    ]
    for place, number in enumerate(ids[:show]):
        row = rows[number]
        lines.append(f"  row {number}  {row['source']}  {row['origin_file']}:{row['origin_line']}")
        lines.append(f"    query  {_cut(row['query'])}")
        lines.append(f"    pos    {_cut(row['pos'][batch.positives[place]])}")
        lines += [f"    neg    {_cut(row['neg'][item])}" for item in batch.negatives_of(place)]
    return "\n".join(lines) + "\n"


def _cut(text: str) -> str:
    return text if len(text) <= _CUT else text[:_CUT] + "…"
