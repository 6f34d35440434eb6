"""`bgeprep estimate`: flags, table, sums."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from bgeprep.amounts import byte_text, parse_amount, time_text
from bgeprep.config import DedupConfig, PrepConfig, from_dict, load_config
from bgeprep.errors import ConfigError, CorpusError
from bgeprep.estimate import (
    Cluster,
    Line,
    Measurement,
    Speed,
    Target,
    lines,
    measure,
    read_speed,
    training_lines,
)
from bgeprep.progress import Progress
from bgeprep.shard import parse_bytes

__all__ = ["add", "run"]

_EPILOG = """\
examples:
  bgeprep estimate --rows 1e9 --bytes 400GB --sample pairs/            this machine, all of it
  bgeprep estimate --rows 1e9 --bytes 400GB --sample pairs/ --nodes 16 --node-threads 64
  bgeprep estimate --rows 1e9 --bytes 400GB --sample pairs/ --json > measured.json
  bgeprep estimate --rows 1e9 --bytes 400GB --measured measured.json --nodes 32    nothing is run again
  bgeprep estimate --rows 1e9 --bytes 400GB --measured measured.json --nodes 4 \\
      --train-metrics output/trial --gpus-per-node 8                   and training, as fast as that run
  bgeprep estimate --rows 1e9 --tokens-per-second 90000 --tokens-per-row 150       training alone

The sample is prepared on this machine, twice: all of it and its first quarter. What both take tells what a run costs
anyway from what each row costs. --bytes counts files packed as those of the sample are. A sample of a minute or more
says most: take some hundred thousand rows, from all over the whole; near duplicates that lie far apart are not in it.

exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted
"""


def add(verbs: argparse._SubParsersAction[Any]) -> None:
    """Adds the verb."""
    one = verbs.add_parser(
        "estimate",
        help="what preparing and training on a corpus would cost, from a sample that is measured",
        description="Hours, disk, network and memory of a preparation, and GPU-hours of training: each figure is what "
        "was measured times a factor that is shown.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("--rows", required=True, metavar="N", help="pairs or texts of the whole, as 1e9")
    one.add_argument("--bytes", metavar="SIZE", help="of its files, packed as the sample's are, as 4e11 or 400GB")
    one.add_argument("--nodes", type=int, default=1, metavar="N", help="machines (1)")
    one.add_argument("--json", action="store_true", help="all figures and what was measured, as one JSON object")
    one.add_argument("--quiet", action="store_true", help="no progress while the sample runs")
    sample = one.add_argument_group("what is measured")
    sample.add_argument("--sample", default="pairs", metavar="PATH", help="some files of the whole (pairs)")
    sample.add_argument("--measured", metavar="FILE", help="what --json of an earlier estimate said, instead")
    sample.add_argument("--config", help="TOML file of rules, as for `bgeprep shard`; without sources")
    sample.add_argument("--dedup", choices=["near", "exact", "none"], help="as for `bgeprep shard` (near)")
    sample.add_argument("--threads", type=int, help="worker threads of the sample's runs (all cores)")
    sample.add_argument("--memory", default="256MiB", help="memory that they may hold (256MiB)")
    sample.add_argument("--tmp", metavar="DIR", help="where they work (the system's place for such files)")
    there = one.add_argument_group("the machines")
    there.add_argument("--node-threads", type=int, metavar="N", help="worker threads of each (those of the sample)")
    there.add_argument("--network-gbit", type=float, default=10.0, metavar="X", help="Gbit/s of each (10)")
    there.add_argument(
        "--store", action="store_true", help="input and set lie in an object store (with --nodes, always)"
    )
    train = one.add_argument_group("training")
    train.add_argument("--train-metrics", metavar="PATH", help="a run of bgetrain train, or its metrics.jsonl")
    train.add_argument("--tokens-per-second", type=float, metavar="X", help="of one GPU, instead")
    train.add_argument("--tokens-per-row", type=float, metavar="X", help="query and documents (those of the run)")
    train.add_argument("--epochs", type=float, default=1.0, metavar="X", help="passes over the set (1)")
    train.add_argument("--gpus-per-node", type=int, default=8, metavar="N", help="GPUs of a machine (8)")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    _check(args)
    rows = parse_amount(args.rows, "rows")
    speed = _speed(args)
    found: list[Line] = []
    measurement = None
    if args.bytes:
        target = Target(rows=rows, bytes=parse_amount(args.bytes, "bytes"))
        measurement = _measurement(args)
        cluster = Cluster(
            nodes=args.nodes,
            threads=args.node_threads or measurement.threads,
            network_gbit=args.network_gbit,
            store=args.store or args.nodes > 1,
        )
        found = lines(measurement, target, cluster)
    if speed is not None:
        kept, set_bytes = rows, None
        if measurement is not None:
            kept = rows * measurement.whole.kept / measurement.whole.rows
            set_bytes = next(line.value for line in found if line.stage == "set")
        found += training_lines(
            speed, rows=kept, epochs=args.epochs, gpus=args.gpus_per_node, nodes=args.nodes, set_bytes=set_bytes
        )
    if args.json:
        plain = {
            "rows": rows,
            "bytes": parse_amount(args.bytes, "bytes") if args.bytes else None,
            "nodes": args.nodes,
            "figures": [dataclasses.asdict(line) for line in found],
            "measured": measurement.plain() if measurement else None,
        }
        print(json.dumps(plain, ensure_ascii=False))
        return 0
    print(_text(found, measurement, args, rows))
    return 0


def _check(args: argparse.Namespace) -> None:
    for name in ("nodes", "threads", "node_threads", "gpus_per_node"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name.replace('_', '-')}: expected at least 1, found {value}")
    for name in ("network_gbit", "tokens_per_second", "tokens_per_row", "epochs"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"{name.replace('_', '-')}: expected more than 0, found {value}")
    if args.train_metrics and args.tokens_per_second:
        raise ConfigError("tokens-per-second: --train-metrics says it; hint: give one of the two")
    if not args.bytes and not (args.train_metrics or args.tokens_per_second):
        raise ConfigError("bytes: expected the size of the whole, found none; hint: --bytes 400GB")


def _speed(args: argparse.Namespace) -> Speed | None:
    if args.train_metrics:
        found = read_speed(Path(args.train_metrics))
        return dataclasses.replace(found, tokens_per_row=args.tokens_per_row or found.tokens_per_row)
    if args.tokens_per_second:
        return Speed(
            tokens_per_second=args.tokens_per_second, ranks=1, tokens_per_row=args.tokens_per_row, said="as given"
        )
    return None


def _measurement(args: argparse.Namespace) -> Measurement:
    if args.measured:
        try:
            plain = json.loads(Path(args.measured).read_text(encoding="utf-8"))
            return Measurement.of(plain["measured"])
        except (ValueError, KeyError, TypeError):
            raise CorpusError(
                f"{args.measured}: expected what `bgeprep estimate --json` said of a sample", args.measured
            ) from None
    config = load_config(args.config) if args.config else PrepConfig()
    if args.dedup:
        merged = {**dataclasses.asdict(config.dedup), "mode": args.dedup}
        config = dataclasses.replace(config, dedup=from_dict(DedupConfig, merged, "dedup."))
    progress = None if args.quiet else Progress()
    try:
        return measure(
            args.sample,
            config=config,
            threads=args.threads,
            memory=parse_bytes(args.memory),
            tmp=Path(args.tmp) if args.tmp else None,
            report=progress,
        )
    finally:
        if progress:
            progress.close()


def _text(found: list[Line], measurement: Measurement | None, args: argparse.Namespace, rows: float) -> str:
    out = []
    machines = f"{args.nodes} machine{'s' if args.nodes > 1 else ''}"
    if measurement is not None:
        whole = measurement.whole
        size = byte_text(parse_amount(args.bytes, "bytes"))
        out.append(f"{rows:,.0f} rows, {size}, on {machines} of {args.node_threads or measurement.threads} threads")
        out.append(
            f"measured: {whole.rows:,} rows, {byte_text(whole.bytes)}, {measurement.threads} threads, "
            f"--memory {measurement.limit >> 20}MiB"
        )
        out += _warnings(measurement, args, rows)
        out += ["", *_table(found)]
    else:
        out.append(f"{rows:,.0f} rows on {machines}")
    for line in found:
        if line.stage == "training" and line.quantity != "network":
            value = f"{line.value / 3600:,.1f} h" if "time" in line.quantity else f"{line.value:,.4g}"
            out.append(f"training, {line.quantity}: {value}")
    out += ["", "how each figure comes about (measured x factor):"]
    out += [f"  {line.stage}, {line.quantity}: {line.sum}" for line in found]
    if measurement is not None:
        seconds = sum(step.seconds for step in measurement.whole.steps.values())
        rate = measurement.whole.bytes / seconds / 1e6
        out += ["", f"for `bgetrain pipeline --dry-run` on a machine like this one: --prepare_rate {rate:.3g}"]
    return "\n".join(out)


def _warnings(measurement: Measurement, args: argparse.Namespace, rows: float) -> list[str]:
    out = []
    whole = measurement.whole
    seconds = sum(step.seconds for step in whole.steps.values())
    if seconds < 10:
        out.append(f"warning: the sample took {time_text(seconds)}; hint: a larger one says more")
    if measurement.part is None:
        out.append("warning: no smaller sample could be cut of it, so what a run costs anyway counts for each row")
    ratio = (parse_amount(args.bytes, "bytes") / rows) / (whole.bytes / whole.rows)
    if not 1 / 1.5 <= ratio <= 1.5:
        out.append(
            f"warning: a row of the whole has {ratio:.2g} times the bytes of one of the sample; "
            "hint: is the sample packed like the whole?"
        )
    return out


def _table(found: list[Line]) -> list[str]:
    stages = list(dict.fromkeys(line.stage for line in found if line.quantity == "time" and line.stage != "training"))
    table = [["step", "time", "work files written"]]
    for stage in stages:
        seconds = sum(line.value for line in found if line.stage == stage and line.quantity == "time")
        written = sum(line.value for line in found if line.stage == stage and line.quantity == "work files")
        table.append([stage, time_text(seconds), byte_text(written) if written else ""])
    seconds = sum(line.value for line in found if line.stage in stages and line.quantity == "time")
    written = sum(line.value for line in found if line.quantity == "work files")
    table.append(["in all", time_text(seconds), byte_text(written)])
    widths = [max(len(row[place]) for row in table) for place in range(3)]
    out = [
        "  ".join([row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2])]).rstrip() for row in table
    ]
    out.append("")
    for line in found:
        if line.stage == "training":
            continue
        if line.quantity in {"disk", "memory", "network"} and line.stage != "work, at one time":
            out.append(f"{line.quantity}, {line.stage}: {byte_text(line.value)}")
        elif line.quantity == "transfer":
            out.append(f"network, at its full rate: {time_text(line.value)}")
    return out
