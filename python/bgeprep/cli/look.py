"""`bgeprep inspect` and `show`: looking at a set that is there."""

from __future__ import annotations

import argparse
import json
from typing import Any

from bgeprep.errors import ConfigError
from bgeprep.shardset import ShardSet, inspect

__all__ = ["add", "counts_text", "run_inspect", "run_show", "summary_text"]


def add(verbs: argparse._SubParsersAction[Any]) -> None:
    """Adds the verbs."""
    one = verbs.add_parser("inspect", help="sources, rows, lengths and drops of a shard set")
    one.add_argument("shards", help="folder of a shard set")
    one.add_argument("--json", action="store_true", help="one JSON object for machines")

    one = verbs.add_parser("show", help="look at rows of a shard set")
    one.add_argument("shards", help="folder of a shard set")
    one.add_argument("-n", "--rows", type=int, default=5, help="how many rows (5)")
    one.add_argument("--source", help="only rows of this source")
    one.add_argument("--start", type=int, default=0, help="first row, counted from 0")
    one.add_argument("--json", action="store_true", help="one JSON object a row")


def summary_text(found: dict[str, Any]) -> str:
    """The counts of a set as text for people."""
    lines = [f"{found['rows_kept']:,} rows of {found['rows_read']:,} read, {found['hash']}"]
    width = max([len(source["name"]) for source in found["sources"]] + [6])
    texts = found["kind"] == "text"
    roles = ("title", "text") if texts else ("query", "pos", "neg")
    named = " ".join(f"{role:>7}" for role in roles)
    lines.append(f"{'source':<{width}}  {'task':<14} {'rows':>12} {'MB':>9} {named}")
    for source in found["sources"]:
        median = [source["lengths"][role]["p50"] for role in roles]
        task = "text" if texts else source["task"]
        lines.append(
            f"{source['name']:<{width}}  {task:<14} {source['rows']:>12,} {source['bytes'] / 1e6:>9.1f} "
            + " ".join(f"{value:>7,}" for value in median)
        )
        if source["unmapped"]:
            lines.append(f"{'':<{width}}  columns not used: {counts_text(source['unmapped'])}")
    lines.append(f"({', '.join(roles)}: median characters)")
    lines.append(f"rows dropped: {counts_text(found['dropped']) or 'none'}")
    removed = found["removed"]
    if removed["positives"] or removed["negatives"]:
        lines.append(
            f"removed from rows that stayed: positives: {counts_text(removed['positives']) or 'none'}; "
            f"negatives: {counts_text(removed['negatives']) or 'none'}"
        )
    lines += [f"near duplicates, {space['name']}: {_near_text(space)}" for space in found["near"]]
    for one in found["benchmarks"]:
        hits = {kind: count for kind, count in one["hits"].items() if count}
        lines.append(f"kept out, {one['name']}: {counts_text(hits) or 'no hit'}")
    return "\n".join(lines)


def _near_text(space: dict[str, Any]) -> str:
    """Clusters of a space, and how much of what is near was found, in words."""
    text = f"{space['clusters']:,} clusters of {space['clustered_texts']:,} texts"
    if recall := space["recall"]:
        text += (
            f"; recall {recall['rate']:.1%} ({recall['low']:.1%} to {recall['high']:.1%}) on {recall['pairs']:,} pairs"
        )
    return text


def counts_text(counts: dict[str, int]) -> str:
    """Counts by name, the largest first."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def run_inspect(args: argparse.Namespace) -> int:
    """What is in a set."""
    found = inspect(args.shards)
    print(json.dumps(found, ensure_ascii=False) if args.json else f"{summary_text(found)}\n\n{_lengths(found)}")
    return 0


def _lengths(found: dict[str, Any]) -> str:
    """Percentiles of text lengths as a table."""
    figures = ("p5", "p50", "p95", "p99", "max")
    width = max([len(source["name"]) for source in found["sources"]] + [6])
    lines = [f"{'length in characters':<{width + 6}} {'texts':>12} {'mean':>9}" + "".join(f"{f:>9}" for f in figures)]
    for source in found["sources"]:
        for role, stats in source["lengths"].items():
            if stats["count"]:
                row = f"{source['name']:<{width}} {role:<6}{stats['count']:>12,} {stats['mean']:>9,.1f}"
                lines.append(row + "".join(f"{stats[f]:>9,}" for f in figures))
    return "\n".join(lines)


def run_show(args: argparse.Namespace) -> int:
    """Rows of a set."""
    rows = ShardSet.open(args.shards)
    first, end = 0, len(rows)
    if args.source is not None:
        for source in rows.sources:
            if source["name"] == args.source:
                first, end = source["first"], source["first"] + source["rows"]
                break
        else:
            names = ", ".join(source["name"] for source in rows.sources)
            raise ConfigError(f"--source: expected one of {names}, found {args.source!r}")
    first += max(args.start, 0)
    for number in range(first, min(first + max(args.rows, 0), end)):
        row = rows[number]
        print(json.dumps(row, ensure_ascii=False) if args.json else _row_text(number, row))
    return 0


def _row_text(number: int, row: dict[str, Any]) -> str:
    lines = [f"row {number}  {row['source']}  {row['origin_file']}:{row['origin_line']}"]
    if "text" in row:
        lines += [f"  title  {row['title']}"] if row["title"] else []
        return "\n".join([*lines, f"  text   {_shortened(row['text'])}"]) + "\n"
    lines.append(f"  query  {row['query']}")
    for role in ("pos", "neg"):
        for item, text in enumerate(row[role]):
            scores = row[f"{role}_scores"]
            score = f"  [{scores[item]:.4g}]" if scores and scores[item] is not None else ""
            lines.append(f"  {role}    {_shortened(text)}{score}")
    return "\n".join(lines) + "\n"


def _shortened(text: str) -> str:
    return text if len(text) <= 400 else text[:400] + "…"
