"""What a pipeline would be on a cluster: a SLURM script that runs as it is, with the estimates as its head.

Every step stands there as it would be typed. The script remembers which are done, and gives training its last
checkpoint, so a job that hit its time limit is submitted again as it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from typing import TYPE_CHECKING, Any

from bgeprep.amounts import byte_text
from bgetrain.flags import positive
from bgetrain.pipeline.estimate import Cost, Machine, estimate, gpu_peak
from bgetrain.pipeline.mix import mix_text
from bgetrain.pipeline.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bgetrain.pipeline.config import PipelineConfig
    from bgetrain.pipeline.plan import Plan, Step

__all__ = ["add_arguments", "told"]

_FUNCTIONS = """\
set -euo pipefail
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
done={folder}/slurm
mkdir -p "$done" {folder}/mixes

# on every GPU of every machine
gpus() {{
    srun --kill-on-bad-exit=1 torchrun --nnodes "$SLURM_NNODES" --nproc_per_node {gpus} --rdzv_backend c10d \\
        --rdzv_id "$SLURM_JOB_ID-$RANDOM" --rdzv_endpoint "$first:29500" -m "$@"
}}
# on one machine
one() {{ srun --nodes 1 --ntasks 1 "$@"; }}
# the flag that replaces what an earlier start of this job left: NAME FLAG
again() {{ if [ -e "$done/$1.begun" ]; then echo "$2"; fi; touch "$done/$1.begun"; }}
# the flag that goes on with a training where it was begun: NAME OUTPUT
begun() {{
    local anew
    anew=$(again "$1" --overwrite_output_dir)
    if compgen -G "$2/checkpoint-*" >/dev/null; then echo --resume_from_checkpoint last; else echo "$anew"; fi
}}
is_done() {{ [ -e "$done/$1" ]; }}
"""


def add_arguments(parser: argparse._ArgumentGroup) -> None:
    """Adds the flags of `--dry-run`."""
    add = parser.add_argument
    add("--nodes", type=positive, default=1, metavar="N", help="machines (1)")
    add("--gpus_per_node", type=positive, default=8, metavar="N", help="GPUs of a machine (8)")
    add("--gpu", default="a100", metavar="NAME", help="what they are, for their peak in bf16 (a100)")
    add("--peak_tflops", type=float, metavar="X", help="TFLOP/s of one in bf16, instead of the table's")
    add("--mfu", type=float, default=0.4, metavar="X", help="share of the peak that is reached (0.4)")
    add("--prepare_rate", type=float, default=80.0, metavar="X", help="MB of text a machine prepares in a second (80)")
    add("--time_limit", default="2-00:00:00", metavar="T", help="of the job, for sbatch (2-00:00:00)")


def told(config: PipelineConfig, plan: Plan, wanted: Sequence[Step], args: argparse.Namespace) -> str:
    """The script, or with `--json` the same for machines.

    Args:
        config: the file.
        plan: all steps.
        wanted: those to run.
        args: the flags of the command.

    Raises:
        ConfigError: a GPU whose peak is not known.
    """
    machine = Machine(
        gpu=args.gpu,
        peak_tflops=gpu_peak(args.gpu, args.peak_tflops),
        mfu=args.mfu,
        gpus=args.gpus_per_node,
        nodes=args.nodes,
        prepare_mb_per_second=args.prepare_rate,
    )
    steps = list(plan.steps.values())
    costs = [estimate(step, machine, steps) for step in wanted]
    if args.json:
        return json.dumps(_facts(plan, wanted, costs, machine), ensure_ascii=False, indent=2)
    from bgetrain.trec_run import tag_of

    name = tag_of(plan.folder.name) or "pipeline"
    lines = [
        "#!/usr/bin/env bash",
        f"#SBATCH --job-name={name}",
        f"#SBATCH --nodes={machine.nodes}",
        "#SBATCH --ntasks-per-node=1",
        f"#SBATCH --gpus-per-node={machine.gpus}",
        "#SBATCH --exclusive",
        f"#SBATCH --time={args.time_limit}",
        "#SBATCH --requeue",
        f"#SBATCH --output={name}-%j.log",
        "#",
        *(
            f"# {line}".rstrip()
            for line in [*config.about.splitlines(), "", *_table(costs, machine), "", *_sums(costs)]
        ),
        "",
        _FUNCTIONS.format(folder=shlex.quote(str(plan.folder)), gpus=machine.gpus).rstrip(),
    ]
    for step in wanted:
        lines += ["", *_commands(step, plan)]
    return "\n".join(lines)


def _table(costs: Sequence[Cost], machine: Machine) -> list[str]:
    rows = [["step", "hours", "GPU-hours", "disk", "while it runs", "GPU memory"]]
    for cost in costs:
        if cost.sums:
            sizes = [byte_text(one) if one else "" for one in (cost.disk_bytes, cost.work_bytes, cost.gpu_bytes)]
            rows.append([cost.step, f"{cost.hours:,.1f}", f"{cost.gpu_hours:,.0f}" if cost.gpu_hours else "", *sizes])
    hours, gpu_hours = sum(cost.hours for cost in costs), sum(cost.gpu_hours for cost in costs)
    disk = sum(cost.disk_bytes for cost in costs) + max((cost.work_bytes for cost in costs), default=0.0)
    rows.append(["in all", f"{hours:,.1f}", f"{gpu_hours:,.0f}", byte_text(disk), "", ""])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    told = [f"On {machine.nodes} x {machine.gpus} {machine.gpu}; steps without a size are not counted."]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        told.append("  ".join(cells).rstrip())
    return told


def _sums(costs: Sequence[Cost]) -> list[str]:
    return [line for cost in costs if cost.sums for line in [cost.step, *(f"  {one}" for one in cost.sums)]]


def _commands(step: Step, plan: Plan) -> list[str]:
    """A step as it is typed."""
    about = " ".join(step.about.split())
    lines = [f"# {step.name}" + (f": {about}" if about else "")]
    program, verb = step.run.split()
    words = step.words()
    if step.sources:
        mix = f"{plan.folder}/mixes/{step.name}.toml"
        lines += [f"cat >{shlex.quote(mix)} <<'MIX'", mix_text(step).rstrip(), "MIX"]
        words = [*words, "--config", mix]
    # `merge` reads models one after the other, and `evaluate` is one process
    shared = VERBS[step.run].gpu and step.run != "bgetrain evaluate"
    front = ["gpus", program, verb] if shared else ["one", program, verb]
    text = _wrapped(front, words)
    if step.run == "bgetrain train":
        text = f"{text} \\\n        $(begun {step.name} {shlex.quote(str(step.out))})"
    elif VERBS[step.run].anew:
        text = f"{text} \\\n        $(again {step.name} {VERBS[step.run].overwrite})"
    lines += [f"if ! is_done {step.name}; then", f"    {text}", f'    touch "$done/{step.name}"', "fi"]
    return lines


def _wrapped(front: Sequence[str], words: Sequence[str]) -> str:
    """A command, a flag with its values a line where it is long."""
    groups: list[list[str]] = [list(front)]
    for word in words:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(shlex.quote(word))
    lines, width = [" ".join(groups[0])], 100
    for group in groups[1:]:
        text = " ".join(group)
        if len(lines[-1]) + len(text) < width:
            lines[-1] += f" {text}"
        else:
            lines.append(f"        {text}")
    return " \\\n".join(lines)


def _facts(plan: Plan, wanted: Sequence[Step], costs: Sequence[Cost], machine: Machine) -> dict[str, Any]:
    steps = [
        {
            "step": step.name,
            "command": [*step.run.split(), *step.words()],
            "needs": list(step.needs),
            "out": str(step.out),
            "estimate": dataclasses.asdict(cost) if cost.sums else None,
        }
        for step, cost in zip(wanted, costs, strict=True)
    ]
    return {
        "output_dir": str(plan.folder),
        "machine": dataclasses.asdict(machine),
        "steps": steps,
        "gpu_hours": sum(cost.gpu_hours for cost in costs),
        "hours": sum(cost.hours for cost in costs),
        "disk_bytes": sum(cost.disk_bytes for cost in costs) + max((cost.work_bytes for cost in costs), default=0.0),
    }
