"""`bgeprep export`: a shard set as JSON lines, for other trainers."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bgeprep.jsonl import write_jsonl

__all__ = ["add", "run"]


def add(verbs: argparse._SubParsersAction[Any]) -> None:
    """Adds the verb."""
    one = verbs.add_parser(
        "export",
        help="a shard set as FlagEmbedding's JSON lines",
        description="Writes the rows as FlagEmbedding's JSON lines: query, pos, neg, and where there are such "
        "pos_scores, neg_scores, id, prompt and type. A set of texts becomes lines of text and title.",
    )
    one.add_argument("shards", help="folder of a shard set")
    one.add_argument("--out", default="-", help="the file to write (- or nothing: stdout)")
    one.add_argument("--only", nargs="+", default=[], metavar="SOURCE", help="write these sources alone")


def run(args: argparse.Namespace) -> int:
    """Writes the lines."""
    written, bare = write_jsonl(args.shards, sys.stdout if args.out == "-" else args.out, only=args.only)
    if args.out != "-":
        print(f"{args.out}: {written:,} rows" + (f", {bare:,} of them without a negative" if bare else ""))
    return 0
