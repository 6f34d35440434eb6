"""`bgeprep shard`: flags, progress, summary."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import typing
from collections.abc import Sequence
from typing import Any

from bgeprep.cli.look import summary_text
from bgeprep.config import (
    CleanConfig,
    DedupConfig,
    ExcludeConfig,
    PrepConfig,
    ReadConfig,
    ScoresConfig,
    ShardConfig,
    from_dict,
    load_config,
)
from bgeprep.errors import ConfigError
from bgeprep.progress import Progress
from bgeprep.shard import ShardResult, parse_bytes, shard
from bgeprep.shardset import inspect

__all__ = ["add", "run"]

_SECTIONS: dict[str, type[Any]] = {
    "read": ReadConfig,
    "clean": CleanConfig,
    "dedup": DedupConfig,
    "exclude": ExcludeConfig,
    "scores": ScoresConfig,
    "shard": ShardConfig,
}


def add(verbs: argparse._SubParsersAction[Any]) -> None:
    """Adds the verb."""
    one = verbs.add_parser(
        "shard",
        help="read pairs or texts, clean, drop duplicates, shuffle, write a shard set",
        usage="bgeprep shard --in PATH [PATH ...] --out DIR [options]",
        description="Reads files of pairs, or of texts, in any built-in format; writes a shuffled, checksummed "
        "shard set.",
        epilog="Formats: JSONL in the FlagEmbedding and sentence-transformers shapes, one big JSON array, CSV, TSV, "
        "Parquet, Arrow, plain text (.txt); plain or gzip, zstd, bzip2. "
        "First-level folders and files of --in become the sources.",
    )
    one.add_argument("--in", dest="inputs", nargs="+", default=[], metavar="PATH",
                     help="files, folders, globs or s3:// URLs; shard sets too, which are sharded again")  # fmt: skip
    one.add_argument("--against", nargs="+", metavar="SET",
                     help="shard sets that stay as they are: what equals a row of theirs is dropped")  # fmt: skip
    one.add_argument("--sources", type=_names, default=(), metavar="NAME,...", help="keep these sources only")
    one.add_argument("--drop-sources", type=_names, default=(), metavar="NAME,...", help="leave these sources out")
    one.add_argument("--out", required=True, help="folder of the shard set, or an s3:// URL")
    one.add_argument("--config", help="TOML file: rules, and sources with their columns, task, language, weight")
    one.add_argument("--threads", type=int, help="worker threads (all cores); on Ray of each task (1)")
    one.add_argument("--memory", default="256MiB", help="memory the run may hold, as 2GiB (256MiB); on Ray each task")
    one.add_argument("--tmp", help="folder for work files (<out>/.work, for a URL in the cache folder)")
    one.add_argument("--executor", choices=("threads", "ray"), default="threads",
                     help="threads of this process, or tasks on a Ray cluster (threads)")  # fmt: skip
    one.add_argument("--address", help="of the Ray cluster; auto = the one this machine belongs to (one of its own)")
    one.add_argument("--task-bytes", default="256MiB", help="input text that a Ray task works on (256MiB)")
    one.add_argument("--overwrite", action="store_true", help="replace a shard set made from other input or config")
    one.add_argument("--quiet", action="store_true", help="no progress, no summary")
    one.add_argument("--json", action="store_true", help="the summary as one JSON object")
    source = one.add_argument_group("for every source (a config file sets them one by one)")
    source.add_argument("--format", help="auto, jsonl, json, csv, tsv, parquet, arrow, txt (auto)")
    source.add_argument("--cut", help="what of plain text is one document: paragraph, document or line (paragraph)")
    source.add_argument("--task", help="retrieval, symmetric or classification (retrieval)")
    source.add_argument("--language", help="language tag, as en or zh")
    source.add_argument("--instruction", help="put before queries when training asks for it")
    source.add_argument("--weight", type=float, help="sampling weight")
    source.add_argument("--merge_positives", "--merge-positives", action="store_true", default=None,
                        help="positives of one query become one row")  # fmt: skip
    source.add_argument(
        "--columns",
        nargs="+",
        metavar="ROLE=NAME",
        help="as query=question pos=answer,body; of documents text=content title=headline",
    )
    source.add_argument(
        "--labels", nargs="+", metavar="LABEL=MEANING", help="positive, negative or drop, as neutral=drop"
    )
    short = {
        "dedup.mode": "--dedup",
        "exclude.paths": "--exclude",
        "exclude.corpus": "--exclude-corpus",
        "shard.seed": "--seed",
        "read.max_bad": "--max-bad",
        "scores.path": "--scores",
        "scores.min_score": "--min-score",
        "scores.missing": "--missing-scores",
    }
    for section, kind in _SECTIONS.items():
        group = one.add_argument_group(f"[{section}] of the config file")
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            key = f"{section}.{field.name}"
            flags = [f"--{key}"] + ([short[key]] if key in short else [])
            default = "" if field.default in ("", None, ()) else f" ({field.default})"
            text = f"{field.metadata['help']}{default}".replace("%", "%%")
            metavar = "PATH" if field.name == "paths" else _metavar(hints[field.name])
            if hints[field.name] is bool:
                group.add_argument(*flags, dest=key, nargs="?", const="true", metavar=metavar, help=text)
            else:
                nargs = "+" if metavar == "PATH" else None
                group.add_argument(*flags, dest=key, nargs=nargs, metavar=metavar, help=text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _metavar(hint: Any) -> str:  # noqa: ANN401 - a hint is any form of type
    hint = _without_none(hint)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return f"{_metavar(arguments[0])},…"
    return "{" + ",".join(map(str, arguments)) + "}" if arguments else str(getattr(hint, "__name__", hint)).upper()


def _without_none(hint: Any) -> Any:  # noqa: ANN401 - a hint is any form of type
    """`float | None` → `float`; a flag that is given is never None."""
    inner = [one for one in typing.get_args(hint) if one is not type(None)]
    return inner[0] if type(None) in typing.get_args(hint) else hint


def _config(args: argparse.Namespace) -> PrepConfig:
    """The config file with flags on top."""
    config = load_config(args.config) if args.config else PrepConfig()
    for section, kind in _SECTIONS.items():
        hints = typing.get_type_hints(kind)
        given = {
            name: _plain(value, _without_none(hints[name]), f"--{section}.{name}")
            for name in hints
            if (value := getattr(args, f"{section}.{name}")) is not None
        }
        if given:
            merged = {**dataclasses.asdict(getattr(config, section)), **given}
            config = dataclasses.replace(config, **{section: from_dict(kind, merged, f"{section}.")})
    return dataclasses.replace(config, against=tuple(args.against)) if args.against else config


def _plain(text: str | list[str], hint: type, flag: str) -> bool | int | float | str | list[str]:
    """A flag's text as the plain value that a config file would hold."""
    if isinstance(text, list):
        return text
    if typing.get_origin(hint) is tuple:
        return [item for item in text.split(",") if item]
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
        for name in ("format", "cut", "task", "language", "instruction", "weight", "merge_positives")
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


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    progress = None if args.quiet else Progress()
    try:
        result = shard(
            args.inputs,
            args.out,
            config=_config(args),
            source_overrides=_source_overrides(args),
            only_sources=args.sources,
            drop_sources=args.drop_sources,
            threads=args.threads,
            memory=parse_bytes(args.memory),
            tmp=args.tmp,
            overwrite=args.overwrite,
            report=progress,
            executor=args.executor,
            address=args.address,
            task_bytes=parse_bytes(args.task_bytes),
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
    print(summary_text(summary))
    if isinstance(result.path, str):
        print("\nnext: copy the set to the machine that trains: a loader maps its parts into memory")
    else:
        then = "bgeprep.TextLoader" if summary["kind"] == "text" else f"torchrun python/train.py --data {args.out}"
        print(f"\nnext: bgeprep show {args.out} -n 3, then {then}")
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
    for source, reasons in result.passed_over.items():
        said = ", ".join(f"{reason} {number:,}" for reason, number in reasons.items())
        notes.append(f"{source}: its recipe passed over {said}")
    notes += [f"warning: {warning}" for warning in result.warnings]
    if len(result.sources) > 100:
        notes.append(f"warning: {len(result.sources)} sources; hint: put files of one kind into one folder each")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
