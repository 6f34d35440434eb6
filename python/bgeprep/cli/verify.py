"""`bgeprep verify`: is every byte as it was written, and does the plan keep its promise?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from bgeprep.cli import batches
from bgeprep.plan import audit
from bgeprep.progress import Progress
from bgeprep.shardset import verify

__all__ = ["add", "run"]


def add(verbs: argparse._SubParsersAction[Any]) -> None:
    """Adds the verb."""
    one = verbs.add_parser("verify", help="check checksums, counts and schema of a shard set")
    one.add_argument("shards", help="folder of a shard set")
    one.add_argument("--threads", type=int, help="threads (all cores)")
    one.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="also plan a run with global batches of N rows, and prove that no batch holds a false negative",
    )
    batches.add_plan_options(one)
    one.add_argument("--json", action="store_true", help="one JSON object for machines")


def run(args: argparse.Namespace) -> int:
    """Is every byte as it was written?"""
    progress = None if args.json else Progress()
    try:
        report = verify(args.shards, threads=args.threads or len(os.sched_getaffinity(0)), report=progress)
    finally:
        if progress:
            progress.close()
    plan = _audit(args) if report["ok"] and args.batch_size is not None else None
    ok = report["ok"] and (plan is None or plan["ok"])
    if args.json:
        print(json.dumps(report | ({} if plan is None else {"batches": plan}) | {"ok": ok}, ensure_ascii=False))
        return 0 if ok else 1
    for problem in report["problems"]:
        print(f"error: {problem}", file=sys.stderr)
    if report["ok"]:
        print(f"{args.shards}: {report['rows']:,} rows in {report['parts']} parts, every byte as written")
    if plan is not None:
        print(_audit_text(plan))
    return 0 if ok else 1


def _audit(args: argparse.Namespace) -> dict[str, Any]:
    """Plans a run of the set, checks every batch, and says whether the promise is kept in `ok`."""
    progress = None if args.json else Progress()
    try:
        found = audit(args.shards, batch_size=args.batch_size, report=progress, **batches.plan_keywords(args))
    finally:
        if progress:
            progress.close()
    found["ok"] = not sum(found["plan"][kind][rule] for kind in ("exact", "by_key") for rule in found["plan"][kind])
    return found


def _audit_text(found: dict[str, Any]) -> str:
    """What `_audit` found, for people."""
    plan = found["plan"]
    lines = [
        f"{plan['batches']:,} batches of {plan['rows']:,} rows, the smallest of {plan['smallest']:,}",
        f"violations by exact keys: {_violations(plan['exact'])}",
        f"violations by batching keys: {_violations(plan['by_key'])}",
    ]
    near = plan["near"]
    lines += [_rate_text(near, role) for role in ("queries", "documents") if near[role]]
    width = max([len(source["name"]) for source in found["sources"]] + [6])
    figures = ("batches", "rows", "lent_rows", "short_batches", "waited", "unplaced")
    lines.append(f"{'source':<{width}}" + "".join(f"{name.replace('_', ' '):>15}" for name in figures))
    for source in found["sources"]:
        source = {**source, "unplaced": source["unplaced_conflict"] + source["unplaced_last_batch"]}
        lines.append(f"{source['name']:<{width}}" + "".join(f"{source[name]:>15,}" for name in figures))
    lines += [
        f"  row {row['row']} was left out of pass {row['pass']}: {row['reason'].replace('_', ' ')}"
        for row in found["unplaced"][:10]
    ]
    if len(found["unplaced"]) > 10:
        lines.append(f"  … {len(found['unplaced']) - 10:,} more; --json lists all")
    for one in plan["examples"]:
        print(f"error: batch {one['step']}, rows {one['rows'][0]} and {one['rows'][1]}: {one['rule']}", file=sys.stderr)
    return "\n".join(lines)


def _rate_text(near: dict[str, Any], role: str) -> str:
    rate = near[role]
    return (
        f"near duplicates by exact Jaccard, {role}: {rate['found']:,} of {rate['pairs']:,} rows in "
        f"{near['batches']:,} batches, {rate['rate']:.4%} ({rate['low']:.4%} to {rate['high']:.4%})"
    )


def _violations(counts: dict[str, int]) -> str:
    return ", ".join(f"{rule} {counts[rule]:,}" for rule in ("queries", "documents", "own"))
