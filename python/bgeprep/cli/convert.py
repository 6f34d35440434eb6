"""`bgeprep recipes` and `bgeprep convert`: published data sets in the form they are published in."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import textwrap
from typing import Any

from bgeprep import recipes
from bgeprep.convert import convert

__all__ = ["add", "run", "run_recipes"]


def add(verbs: argparse._SubParsersAction[Any]) -> None:
    """Adds the verbs."""
    listing = verbs.add_parser(
        "recipes",
        help="the published data sets that `convert` knows",
        usage="bgeprep recipes [show NAME] [--json]",
        description="Lists the recipes; `show NAME` says where the raw files come from, their licence and shape, and "
        "what is made of them.",
    )
    listing.add_argument("action", nargs="?", choices=["show"], help="show: all about one recipe")
    listing.add_argument("name", nargs="?", help="the recipe to show")
    listing.add_argument("--json", action="store_true", help="for machines")
    one = verbs.add_parser(
        "convert",
        help="raw files of a published data set → files that `shard` reads, by a recipe",
        description="Writes JSON lines, a file a source, and _recipe.json with the counts.",
    )
    one.add_argument("--recipe", required=True, metavar="NAME", help="as `bgeprep recipes` lists them")
    one.add_argument("--in", dest="inputs", nargs="+", required=True, metavar="PATH", help="raw files or folders")
    one.add_argument("--out", required=True, help="folder to write to")
    one.add_argument("--processes", type=int, help="processes, where the recipe can use them (all cores)")
    one.add_argument("--overwrite", action="store_true", help="replace what an earlier call wrote")
    one.add_argument("--quiet", action="store_true", help="no progress, no summary")
    one.add_argument("--json", action="store_true", help="the summary as one JSON object")


def run_recipes(args: argparse.Namespace) -> int:
    """Lists the recipes, or shows one."""
    if args.action and not args.name:
        print("error: show: expected the name of a recipe\nhint: bgeprep recipes lists them", file=sys.stderr)
        return 2
    shown = [recipes.find(args.name)] if args.action else [recipes.find(name) for name in recipes.names()]
    if args.json:
        plain = [{key: value for key, value in _fields(one).items() if key != "read"} for one in shown]
        print(json.dumps(plain[0] if args.action else plain, ensure_ascii=False))
    elif args.action:
        for key, value in _fields(shown[0]).items():
            if key != "read":
                print(textwrap.fill(f"{key:<10}{value}", 110, subsequent_indent=" " * 10, break_on_hyphens=False))
        print(f"\nnext: bgeprep convert --recipe {args.name} --in RAW --out {args.name}/")
    else:
        for one in shown:
            print(f"{one.name:<20} {one.kind:<6} {one.about}")
        print("\nbgeprep recipes show NAME says where to get the raw files")
    return 0


def _fields(recipe: recipes.Recipe) -> dict[str, Any]:
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    shows = not args.quiet and sys.stderr.isatty()

    def report(source: str, records: int) -> None:
        print(f"\r{source}: {records:,} records", end="", file=sys.stderr, flush=True)

    summary = convert(
        args.recipe,
        args.inputs,
        args.out,
        processes=len(os.sched_getaffinity(0)) if args.processes is None else args.processes,
        overwrite=args.overwrite,
        report=report if shows else None,
    )
    if shows:
        print(file=sys.stderr)
    if args.json:
        print(json.dumps(summary, ensure_ascii=False))
    elif not args.quiet:
        for name, source in summary["sources"].items():
            passed = ", ".join(f"{reason} {number:,}" for reason, number in source["passed_over"].items())
            print(f"{name}: {source['records']:,} records; passed over: {passed or 'nothing'}")
        print(f"\nnext: bgeprep shard --in {args.out} --out shards/")
    return 0
