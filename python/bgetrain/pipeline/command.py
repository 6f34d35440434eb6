"""The whole path as one command: `bgetrain pipeline`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bgetrain.errors import ConfigError
from bgetrain.flags import positive
from bgetrain.pipeline import cluster
from bgetrain.pipeline.config import PipelineConfig, read_pipeline
from bgetrain.pipeline.plan import Plan, make_plan

__all__ = ["TEACHING", "add_arguments", "run"]

TEACHING = """\
Run all steps from raw texts to a measured model; each only where its output is not there, or no longer fits.

  bgetrain pipeline --config configs/pipeline-small-en.toml --jobs 2
  bgetrain pipeline --config configs/bge-en.toml --dry-run --nodes 6 --gpu a100 > job.sh
  bgetrain pipeline --config configs/bge-en.toml --scale 0.001 --set raw=/data base=google/bert_uncased_L-4_H-256_A-4
  bgetrain pipeline --config configs/bge-en.toml --from stage2

Each step is one of the commands that you could give yourself; what it says goes to logs/STEP.log in the output folder.
The same call goes on after a stop, and does again only what is made of something else than before: another flag,
another settings file, other input. Checkpoints of a training that changed are replaced with --overwrite alone.
--scale is a trial on the first rows, with small batches and few updates, in a folder of its own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bgetrain pipeline`."""
    add = parser.add_argument
    add("--config", required=True, type=Path, metavar="FILE", help="the pipeline as TOML, see configs/")
    add("--output_dir", type=Path, metavar="DIR", help="where outputs go, instead of the file's")
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="variables, instead of the file's")
    add("--scale", type=float, default=1.0, metavar="X", help="a trial: this share of rows, batches and updates (1)")
    add("--overwrite", action="store_true", help="replace trainings of other settings, with their checkpoints")
    add("--only", metavar="STEP", help="this step alone; what it needs must be there")
    add("--from", dest="first", metavar="STEP", help="begin at this step; what it needs must be there")
    add("--jobs", type=positive, default=1, metavar="N", help="steps that may run at once (1)")
    add("--processes", type=positive, default=1, metavar="N", help="of a step that computes with a model (1)")
    add(
        "--dry-run",
        "--dry_run",
        dest="dry_run",
        action="store_true",
        help="print a SLURM script and what it would cost",
    )
    add("--json", action="store_true", help="print what was done, or would be, as JSON")
    add("--quiet", action="store_true", help="no table on stderr")
    cluster.add_arguments(parser.add_argument_group("for --dry-run"))


def run(args: argparse.Namespace) -> int:
    """Runs the command; prints the last table.

    Returns:
        0; what goes wrong is raised, and `bgetrain.main.report` turns it into a line and an exit code.

    Raises:
        BgetrainError: the file, a flag or a step cannot be used, or a step failed.
        OSError: a file cannot be read or written.
    """
    from bgetrain.pipeline.scale import scaled_plan

    config, plan = _open(args)
    plan = scaled_plan(plan, args.scale, cut=not args.dry_run)
    wanted = plan.chosen(args.only, args.first)
    if args.dry_run:
        print(cluster.told(config, plan, wanted, args))
        return 0

    from bgetrain.pipeline.record import opened_record
    from bgetrain.pipeline.runner import Launch, run_steps
    from bgetrain.pipeline.screen import Screen

    screen = Screen(wanted, quiet=args.quiet)
    launch = Launch(jobs=args.jobs, processes=args.processes, overwrite=args.overwrite)
    with opened_record(plan.folder) as record:
        run_steps(plan, wanted, record, launch, screen)
    summary = _summary(config, plan, {step.name for step in wanted})
    if args.json:
        facts = {"output_dir": str(plan.folder), "steps": screen.rows(), "summary": summary}
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return 0
    if summary is not None:
        from bgetrain.pipeline.summary import markdown

        print(markdown(summary))
        print()
    for page in sorted(path for step in plan.steps.values() for path in step.out.glob("*.html")):
        print(page)
    return 0


def _open(args: argparse.Namespace) -> tuple[PipelineConfig, Plan]:
    """The file and its steps."""
    given: dict[str, str] = {}
    for pair in args.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair}: expected NAME=VALUE")
        given[name] = value
    config = read_pipeline(args.config)
    folder = args.output_dir or Path(config.output_dir)
    if args.scale != 1 and args.output_dir is None:
        # a trial in the folder of the whole would take all of its steps for changed
        folder = folder.with_name(f"{folder.name}-scale-{args.scale:g}")
    try:
        return config, make_plan(config, folder, args.config.parent, given)
    except ConfigError as error:
        raise ConfigError(f"{args.config}: {error}", hint=error.hint, path=str(args.config)) from None


def _summary(config: PipelineConfig, plan: Plan, ran: set[str]) -> dict[str, Any] | None:
    """The last table, where the step it is of belongs to what was asked for."""
    if config.summary is None or config.summary.step not in ran:
        return None
    from bgetrain.collection import find_collections, open_collection
    from bgetrain.pipeline.summary import per_query, summarise

    step = plan.steps[config.summary.step]
    scores = step.out / "scores.json"
    if not scores.is_file():
        sys.stderr.write(f"warning: {scores} is not there, so there is no table\n")
        return None
    split = str(step.flags.get("split", "test"))
    opened = [
        open_collection(path, split) for place in step.inputs().get("data", []) for path in find_collections(place)
    ]
    qrels = {collection.name: collection.qrels for collection in opened}
    return summarise(config.summary, scores, per_query(step.out, qrels, config.summary.metric))
