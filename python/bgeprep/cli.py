"""`bgeprep`: prepare text pairs for training embedding models."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import bgeprep
from bgeprep.config import CleanConfig, DedupConfig, PrepConfig, ReadConfig, ShardConfig, from_dict, load_config
from bgeprep.errors import BgeprepError, ConfigError
from bgeprep.progress import Progress
from bgeprep.shard import ShardResult, parse_bytes, shard
from bgeprep.shardset import ShardSet, inspect, verify

__all__ = ["main"]

_SECTIONS: dict[str, type[Any]] = {
    "read": ReadConfig,
    "clean": CleanConfig,
    "dedup": DedupConfig,
    "shard": ShardConfig,
}
_EPILOG = """\
examples:
  bgeprep shard --in pairs/ --out shards/          every file below pairs/, formats detected
  bgeprep shard --in 'nq/*.jsonl.gz' --out shards/ --task retrieval --language en
  bgeprep shard --config mix.toml --out shards/    sources, columns, tasks and weights from a file
  bgeprep shard --in s3://data/pairs --out s3://data/shards    AWS_ variables hold endpoint and credentials
  bgeprep inspect shards/                          what is in there, and what was dropped and why
  bgeprep show shards/ -n 5                        look at rows
  bgeprep verify shards/                           is every byte as it was written?

exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    """Wrong usage exits with 2 and says where help is."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"error: {message}\nhint: {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bgeprep", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"bgeprep {bgeprep.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    _add_shard(verbs)

    one = verbs.add_parser("inspect", help="sources, rows, lengths and drops of a shard set")
    one.add_argument("shards", help="folder of a shard set")
    one.add_argument("--json", action="store_true", help="one JSON object for machines")

    one = verbs.add_parser("show", help="look at rows of a shard set")
    one.add_argument("shards", help="folder of a shard set")
    one.add_argument("-n", "--rows", type=int, default=5, help="how many rows (5)")
    one.add_argument("--source", help="only rows of this source")
    one.add_argument("--start", type=int, default=0, help="first row, counted from 0")
    one.add_argument("--json", action="store_true", help="one JSON object a row")

    one = verbs.add_parser("verify", help="check checksums, counts and schema of a shard set")
    one.add_argument("shards", help="folder of a shard set")
    one.add_argument("--threads", type=int, help="threads (all cores)")
    one.add_argument("--json", action="store_true", help="one JSON object for machines")
    return parser


def _add_shard(verbs: argparse._SubParsersAction[_Parser]) -> None:
    one = verbs.add_parser(
        "shard",
        help="read pairs, clean, drop duplicates, shuffle, write a shard set",
        usage="bgeprep shard --in PATH [PATH ...] --out DIR [options]",
        description="Reads pair files of any built-in format and writes a shuffled, checksummed shard set.",
        epilog="Formats: JSONL in the FlagEmbedding and sentence-transformers shapes, one big JSON array, CSV, TSV, "
        "Parquet, Arrow; plain or gzip, zstd, bzip2. First-level folders and files of --in become the sources.",
    )
    one.add_argument(
        "--in", dest="inputs", nargs="+", default=[], metavar="PATH", help="files, folders or globs; s3:// URLs too"
    )
    one.add_argument("--out", required=True, help="folder of the shard set, or an s3:// URL")
    one.add_argument("--config", help="TOML file: rules, and sources with their columns, task, language, weight")
    one.add_argument("--threads", type=int, help="worker threads (all cores)")
    one.add_argument("--memory", default="256MiB", help="memory the run may hold, as 2GiB (256MiB)")
    one.add_argument("--tmp", help="folder for work files (<out>/.work, for a URL in the cache folder)")
    one.add_argument("--overwrite", action="store_true", help="replace a shard set made from other input or config")
    one.add_argument("--quiet", action="store_true", help="no progress, no summary")
    one.add_argument("--json", action="store_true", help="the summary as one JSON object")
    source = one.add_argument_group("for every source (a config file sets them one by one)")
    source.add_argument("--format", help="auto, jsonl, json, csv, tsv, parquet, arrow (auto)")
    source.add_argument("--task", help="retrieval, symmetric or classification (retrieval)")
    source.add_argument("--language", help="language tag, as en or zh")
    source.add_argument("--instruction", help="put before queries when training asks for it")
    source.add_argument("--weight", type=float, help="sampling weight")
    source.add_argument("--merge_positives", "--merge-positives", action="store_true", default=None,
                        help="positives of one query become one row")  # fmt: skip
    source.add_argument("--columns", nargs="+", metavar="ROLE=NAME", help="as query=question pos=answer,body")
    source.add_argument(
        "--labels", nargs="+", metavar="LABEL=MEANING", help="positive, negative or drop, as neutral=drop"
    )
    short = {"dedup.mode": "--dedup", "shard.seed": "--seed", "read.max_bad": "--max-bad"}
    for section, kind in _SECTIONS.items():
        group = one.add_argument_group(f"[{section}] of the config file")
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            key = f"{section}.{field.name}"
            flags = [f"--{key}"] + ([short[key]] if key in short else [])
            text = f"{field.metadata['help']} ({field.default})".replace("%", "%%")
            group.add_argument(*flags, dest=key, metavar=_metavar(hints[field.name]), help=text)


def _metavar(hint: object) -> str:
    arguments = typing.get_args(hint)
    return "{" + ",".join(map(str, arguments)) + "}" if arguments else str(getattr(hint, "__name__", hint)).upper()


def _config(args: argparse.Namespace) -> PrepConfig:
    """The config file with flags on top."""
    config = load_config(args.config) if args.config else PrepConfig()
    for section, kind in _SECTIONS.items():
        hints = typing.get_type_hints(kind)
        given = {
            name: _plain(value, hints[name], f"--{section}.{name}")
            for name in hints
            if (value := getattr(args, f"{section}.{name}")) is not None
        }
        if given:
            merged = {**dataclasses.asdict(getattr(config, section)), **given}
            config = dataclasses.replace(config, **{section: from_dict(kind, merged, f"{section}.")})
    return config


def _plain(text: str, hint: type, flag: str) -> bool | int | float | str:
    """A flag's text as the plain value that a config file would hold."""
    try:
        if hint is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if hint is int:
            return int(text)
        return float(text) if hint is float else text
    except (KeyError, ValueError):
        raise ConfigError(f"{flag}: expected {hint.__name__}, found {text!r}") from None


def _source_overrides(args: argparse.Namespace) -> dict[str, Any]:
    given = {
        name: getattr(args, name)
        for name in ("format", "task", "language", "instruction", "weight", "merge_positives")
        if getattr(args, name) is not None
    }
    if args.columns:
        columns = _pairs("--columns", args.columns, "query=question pos=answer")
        given["columns"] = {role: names.split(",") for role, names in columns.items()}
    if args.labels:
        given["labels"] = _pairs("--labels", args.labels, "neutral=drop")
    return given


def _pairs(flag: str, given: Sequence[str], example: str) -> dict[str, str]:
    split = [pair.partition("=") for pair in given]
    for pair, (left, _, right) in zip(given, split, strict=True):
        if not left or not right:
            raise ConfigError(f"{flag}: expected NAME=VALUE, found {pair!r}; hint: {example}")
    return {left: right for left, _, right in split}


def _run_shard(args: argparse.Namespace) -> int:
    progress = None if args.quiet else Progress()
    try:
        result = shard(
            args.inputs,
            args.out,
            config=_config(args),
            source_overrides=_source_overrides(args),
            threads=args.threads,
            memory=parse_bytes(args.memory),
            tmp=args.tmp,
            overwrite=args.overwrite,
            report=progress,
        )
    finally:
        if progress:
            progress.close()
    summary = inspect(args.out)
    if args.json:
        print(json.dumps({**summary, "up_to_date": result.up_to_date, "resumed": result.resumed}, ensure_ascii=False))
        return 0
    if args.quiet:
        return 0
    for note in _notes(result):
        print(note, file=sys.stderr)
    print(_summary(summary))
    if isinstance(result.path, str):
        print("\nnext: copy the set to the machine that trains: a loader maps its parts into memory")
    else:
        print(f"\nnext: bgeprep show {args.out} -n 3, then torchrun python/train.py --data {args.out}")
    return 0


def _notes(result: ShardResult) -> list[str]:
    notes = []
    if result.up_to_date:
        notes.append("up to date: this input and config made the set that is there")
    if result.resumed and not result.up_to_date:
        notes.append("went on with the work of an earlier run")
    if result.discarded:
        notes.append("threw away work files of other input or another config")
    if result.empty_files:
        notes.append(f"files without a record: {_some(result.empty_files)}")
    if result.skipped_files:
        notes.append(f"files left out by their name: {_some(result.skipped_files)}")
    if len(result.sources) > 100:
        notes.append(f"warning: {len(result.sources)} sources; hint: put files of one kind into one folder each")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _summary(found: dict[str, Any]) -> str:
    """The counts of a set as text for people."""
    lines = [f"{found['rows_kept']:,} rows of {found['rows_read']:,} read, {found['hash']}"]
    width = max([len(source["name"]) for source in found["sources"]] + [6])
    lines.append(f"{'source':<{width}}  {'task':<14} {'rows':>12} {'MB':>9} {'query':>7} {'pos':>7} {'neg':>7}")
    for source in found["sources"]:
        median = [source["lengths"][role]["p50"] for role in ("query", "pos", "neg")]
        lines.append(
            f"{source['name']:<{width}}  {source['task']:<14} {source['rows']:>12,} {source['bytes'] / 1e6:>9.1f} "
            + " ".join(f"{value:>7,}" for value in median)
        )
        if source["unmapped"]:
            lines.append(f"{'':<{width}}  columns not used: {_counts(source['unmapped'])}")
    lines.append("(query, pos, neg: median characters)")
    lines.append(f"rows dropped: {_counts(found['dropped']) or 'none'}")
    removed = found["removed"]
    if removed["positives"] or removed["negatives"]:
        lines.append(
            f"removed from rows that stayed: positives: {_counts(removed['positives']) or 'none'}; "
            f"negatives: {_counts(removed['negatives']) or 'none'}"
        )
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def _run_inspect(args: argparse.Namespace) -> int:
    found = inspect(args.shards)
    print(json.dumps(found, ensure_ascii=False) if args.json else f"{_summary(found)}\n\n{_lengths(found)}")
    return 0


def _lengths(found: dict[str, Any]) -> str:
    """Percentiles of text lengths as a table."""
    figures = ("p5", "p50", "p95", "p99", "max")
    width = max([len(source["name"]) for source in found["sources"]] + [6])
    lines = [f"{'length in characters':<{width + 6}} {'texts':>12} {'mean':>9}" + "".join(f"{f:>9}" for f in figures)]
    for source in found["sources"]:
        for role in ("query", "pos", "neg"):
            stats = source["lengths"][role]
            if stats["count"]:
                row = f"{source['name']:<{width}} {role:<6}{stats['count']:>12,} {stats['mean']:>9,.1f}"
                lines.append(row + "".join(f"{stats[f]:>9,}" for f in figures))
    return "\n".join(lines)


def _run_show(args: argparse.Namespace) -> int:
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
    lines = [f"row {number}  {row['source']}  {row['origin_file']}:{row['origin_line']}", f"  query  {row['query']}"]
    for role in ("pos", "neg"):
        for item, text in enumerate(row[role]):
            scores = row[f"{role}_scores"]
            score = f"  [{scores[item]:.4g}]" if scores and scores[item] is not None else ""
            lines.append(f"  {role}    {text if len(text) <= 400 else text[:400] + '…'}{score}")
    return "\n".join(lines) + "\n"


def _run_verify(args: argparse.Namespace) -> int:
    progress = None if args.json else Progress()
    try:
        report = verify(args.shards, threads=args.threads or len(os.sched_getaffinity(0)), report=progress)
    finally:
        if progress:
            progress.close()
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
        return 0 if report["ok"] else 1
    for problem in report["problems"]:
        print(f"error: {problem}", file=sys.stderr)
    if report["ok"]:
        print(f"{args.shards}: {report['rows']:,} rows in {report['parts']} parts, every byte as written")
    return 0 if report["ok"] else 1


_VERBS = {"shard": _run_shard, "inspect": _run_inspect, "show": _run_show, "verify": _run_verify}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (0 done, 1 failed, 2 wrong usage, 130 interrupted)."""
    try:
        args = _parser().parse_args(argv)
        return _VERBS[args.verb](args)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has seen enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (BgeprepError, OSError) as error:
        print(f"error: {_say(error)}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def _say(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{Path(os.fsdecode(error.filename))}: " if error.filename else ""
        return f"{place}{error.strerror}"
    return str(error)


if __name__ == "__main__":
    raise SystemExit(main())
