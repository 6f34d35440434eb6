"""`bgeprep report`: a page about a set, for people to look at."""

from __future__ import annotations

import argparse
import json
from typing import Any

from bgeprep.report import report

__all__ = ["add", "run"]


def add(verbs: argparse._SubParsersAction[Any]) -> None:
    """Adds the verb."""
    one = verbs.add_parser(
        "report",
        help="a page about a shard set: sources, drops, duplicates, lengths, sample rows",
        description="Writes one HTML file that loads nothing from anywhere: open it in a browser, or send it.",
    )
    one.add_argument("shards", help="folder of a shard set")
    one.add_argument("--out", help="the page to write (report.html; with --json none)")
    one.add_argument("--title", help="what the page calls the set (the folder's name)")
    one.add_argument("--json", action="store_true", help="the figures as one JSON object for machines")


def run(args: argparse.Namespace) -> int:
    """Writes the page, or prints its figures, or both."""
    out = args.out or (None if args.json else "report.html")
    found = report(args.shards, out, title=args.title)
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        print(f"{out}: {found['rows_kept']:,} rows of {found['rows_read']:,} read, {len(found['sources'])} sources")
    return 0
