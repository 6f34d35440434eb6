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
from bgeprep.errors import ConfigError
from bgeprep.mix import MIX

__all__ = ["add", "run", "run_recipes"]

_GROUPS = {
    "pre-training": "pre-training (RetroMAE): text",
    "stage 1": "stage 1: many pairs as they are found",
    "stage 2": "stage 2: labelled pairs, hard negatives",
    "any": "layouts that many data sets have",
}


def add(verbs: argparse._SubParsersAction[Any]) -> None:
    """Adds the verbs."""
    listing = verbs.add_parser(
        "recipes",
        help="the published data sets that `convert` knows",
        usage="bgeprep recipes [show NAME] [--json]",
        description="Lists the recipes by stage and language; `show NAME` says where the raw files come from, their "
        "licence and shape, and what is made of them.",
    )
    listing.add_argument("action", nargs="?", choices=["show"], help="show: all about one recipe")
    listing.add_argument("name", nargs="?", help="the recipe to show")
    listing.add_argument("--json", action="store_true", help="for machines")
    one = verbs.add_parser(
        "convert",
        help="raw files of a published data set → files that `shard` reads, by a recipe",
        description="Writes JSON lines, a file a source; mix.toml, the config with which `shard` reads them; and "
        "_recipe.json with the counts.",
    )
    one.add_argument("--recipe", required=True, metavar="NAME", help="as `bgeprep recipes` lists them")
    one.add_argument("--in", dest="inputs", nargs="+", required=True, metavar="PATH", help="raw files or folders")
    one.add_argument("--out", required=True, help="folder to write to; several recipes may share one")
    one.add_argument("--option", nargs="+", default=[], metavar="NAME=VALUE", dest="options", action="extend",
                     help="what a recipe can be asked beside, as `bgeprep recipes show` says")  # fmt: skip
    one.add_argument("--processes", type=int, help="processes, where the recipe can use them (all cores)")
    one.add_argument("--overwrite", action="store_true", help="replace what an earlier call wrote")
    one.add_argument("--quiet", action="store_true", help="no progress, no summary")
    one.add_argument("--json", action="store_true", help="the summary as one JSON object")


def run_recipes(args: argparse.Namespace) -> int:
    """Lists the recipes, or shows one."""
    if args.action and not args.name:
        print("error: show: expected the name of a recipe\nhint: bgeprep recipes lists them", file=sys.stderr)
        return 2
    if args.action:
        recipe = recipes.find(args.name)
        print(json.dumps(_said_of(recipe), ensure_ascii=False) if args.json else _page(recipe))
        return 0
    known = [recipes.find(name) for name in recipes.names()]
    if args.json:
        print(json.dumps([_said_of(recipe) for recipe in known], ensure_ascii=False))
        return 0
    for stage, heading in _GROUPS.items():
        print(heading)
        here = [(", ".join(recipe.languages) or "any", recipe) for recipe in known if stage in recipe.stages]
        for languages, recipe in sorted(here, key=lambda pair: (pair[0], pair[1].name)):
            print(f"  {languages:<8}{recipe.name:<26}{recipe.about}")
        print()
    print("bgeprep recipes show NAME says where to get the raw files")
    return 0


def _said_of(recipe: recipes.Recipe) -> dict[str, Any]:
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe) if field.name != "read"}
    return fields | {"options": {**recipe.options, **recipes.OPTIONS}}


def _page(recipe: recipes.Recipe) -> str:
    said = _said_of(recipe)
    options = said.pop("options")
    said["stages"] = ", ".join(recipe.stages)
    said["languages"] = ", ".join(recipe.languages) or "any"
    if recipe.unchecked:
        said["unchecked"] = f"from memory, not checked against the real files: {recipe.unchecked}"
    lines = [_entry(key, value) for key, value in said.items() if value]
    lines += ["", "options (--option NAME=VALUE)", *(_entry(f"  {key}", value) for key, value in options.items())]
    return "\n".join([*lines, "", f"next: bgeprep convert --recipe {recipe.name} --in RAW --out {recipe.kind}/"])


def _entry(key: str, value: str) -> str:
    return textwrap.fill(f"{key:<15} {value}", 110, subsequent_indent=" " * 16, break_on_hyphens=False)


def _options(given: list[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in given]
    for pair, (name, equals, _) in zip(given, split, strict=True):
        if not name or not equals:
            raise ConfigError(f"--option: expected NAME=VALUE, found {pair!r}; hint: --option encoding=latin-1")
    return {name: value for name, _, value in split}


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    shows = not args.quiet and sys.stderr.isatty()

    def report(source: str, records: int) -> None:
        print(f"\r{source}: {records:,} records", end="", file=sys.stderr, flush=True)

    summary = convert(
        args.recipe,
        args.inputs,
        args.out,
        options=_options(args.options),
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
        print(f"\nnext: bgeprep shard --config {os.path.join(args.out, MIX)} --out shards/")  # noqa: PTH118 - as typed
    return 0
