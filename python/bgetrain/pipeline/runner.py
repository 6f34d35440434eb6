"""Runs the steps of a plan: each as a process of its own, some at once, and each only where it has to.

1. What a step is made of is hashed when all that it needs is there. Where its output was made of the same, it is
   skipped.
2. Else its command starts, with `begun` in the record first. A step that was begun from the same goes on where it
   stopped; what was made of something else is replaced.
3. A step that fails ends the run: the others are asked to stop, keep what they have done, and go on the next time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bgetrain.errors import Interrupted
from bgetrain.interrupt import StopSignal
from bgetrain.pipeline.mix import write_mix
from bgetrain.pipeline.record import Entry, PipelineError, Record
from bgetrain.pipeline.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bgetrain.pipeline.plan import Plan, Step
    from bgetrain.pipeline.screen import Screen

__all__ = ["Launch", "run_steps"]

_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of prctl(2)
_LOOK_EVERY = 0.05
_STOP_SECONDS = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """How commands are started.

    Attributes:
        jobs: steps that may run at once.
        processes: of a step that computes with a model, under torchrun where there are several.
        threads: of a process; None shares the cores between the jobs.
        overwrite: whether a training of other settings may be replaced that has checkpoints.
    """

    jobs: int = 1
    processes: int = 1
    threads: int | None = None
    overwrite: bool = False

    def command(self, step: Step) -> list[str]:
        """The program and the verb of a step."""
        program, verb = step.run.split()
        if VERBS[step.run].gpu and self.processes > 1:
            torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(self.processes)]
            return [sys.executable, *torchrun, "-m", program, verb]
        return [sys.executable, "-m", program, verb]

    def environment(self) -> dict[str, str]:
        """The variables of a step's process."""
        cores = len(os.sched_getaffinity(0))
        threads = self.threads or max(1, cores // (self.jobs * self.processes))
        return {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        }


@dataclass(slots=True)
class _Running:
    step: Step
    process: subprocess.Popen[bytes]
    log: Path
    since: float
    made_of: str


def run_steps(plan: Plan, wanted: Sequence[Step], record: Record, launch: Launch, screen: Screen) -> None:
    """Brings the wanted steps up to date.

    Args:
        plan: all steps.
        wanted: those to look at; what they need besides must be done.
        record: of the plan's folder.
        launch: how to start commands.
        screen: is told what happens.

    Raises:
        PipelineError: a step failed, needs one that is not done, or would replace checkpoints.
        ConfigError: an input of a step is not there.
        Interrupted: a signal asked to stop.
        OSError: the folder cannot be written.
    """
    waiting = {step.name: step for step in wanted}
    running: list[_Running] = []
    with StopSignal() as stop:
        try:
            while waiting or running:
                for step in [one for one in waiting.values() if not waiting.keys() & set(one.needs)]:
                    if stop.requested:
                        break
                    if any(name == one.step.name for one in running for name in step.needs):
                        continue
                    if len(running) >= launch.jobs:
                        break
                    started = _start(plan, step, record, launch, screen)
                    del waiting[step.name]
                    running += [started] if started else []
                for one in [one for one in running if one.process.poll() is not None]:
                    # Ctrl-C reaches the steps as well: that one ends without success is then no failure
                    if stop.requested and one.process.returncode:
                        continue
                    running.remove(one)
                    _end(one, record, screen)
                if stop.requested and (waiting or running):
                    raise Interrupted("stopped", hint="the same command goes on")
                if running:
                    time.sleep(_LOOK_EVERY)
                    screen.tick()
        finally:
            _stop(running, record, screen)


def _start(plan: Plan, step: Step, record: Record, launch: Launch, screen: Screen) -> _Running | None:
    """Begins a step, or finds that it need not be."""
    made_of = record.made_of(step, plan.steps)
    if record.is_done(step, made_of):
        screen.say(step.name, "skipped")
        return None
    before = record[step.name]
    goes_on = before is not None and before.made_of == made_of and before.state == "begun"
    if before is None and _holds_something(step.out):
        raise PipelineError(
            f"{step.name}: {step.out} is there, and nothing is remembered of how it was made",
            path=str(step.out),
            hint="remove it, or choose another --output_dir",
        )
    seconds = before.seconds if before is not None and goes_on else 0.0
    replaces = before is not None and (before.replaces if goes_on else True)
    if not goes_on:
        checkpoints = list(step.out.glob("checkpoint-*"))
        if checkpoints and not launch.overwrite:
            raise PipelineError(
                f"{step.name}: {step.out} has checkpoints of other settings or other input than now",
                path=str(step.out),
                hint="put those back to go on, choose another --output_dir, or --overwrite replaces the training",
            )
        # a kill right after this line must not leave checkpoints of other settings to go on from
        for checkpoint in checkpoints:
            shutil.rmtree(checkpoint)
    record.write(step.name, Entry(made_of=made_of, state="begun", seconds=seconds, replaces=replaces))
    more = _continuing(step, goes_on=goes_on, begun_before=before is not None, replaces=replaces)
    words = [*step.words(), *write_mix(step, plan.folder), *more]
    command = [*launch.command(step), *words]
    log = plan.folder / "logs" / f"{step.name}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as said:
        said.write(f"$ {shlex.join([*step.run.split(), *words])}\n".encode())
        said.flush()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=launch.environment(),
            pass_fds=record.lock,
            preexec_fn=_end_with_parent,
        )
    screen.say(step.name, "running", log=log, before=seconds, goes_on=goes_on)
    return _Running(step, process, log, time.monotonic(), made_of)


def _holds_something(out: Path) -> bool:
    return out.is_file() or (out.is_dir() and any(out.iterdir()))


def _continuing(step: Step, *, goes_on: bool, begun_before: bool, replaces: bool) -> list[str]:
    """The flags that say what to do with what is there already."""
    verb = VERBS[step.run]
    if not verb.overwrite:
        return []
    if step.run == "bgetrain train":
        if goes_on and any(step.out.glob("checkpoint-*")):
            return ["--resume_from_checkpoint", "last"]
        return [verb.overwrite] if begun_before else []
    return [verb.overwrite] if replaces or (verb.anew and begun_before) else []


def _end_with_parent() -> None:
    """In the child: a pipeline that is killed leaves nobody behind who still writes."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGTERM)


def _end(one: _Running, record: Record, screen: Screen) -> None:
    code = one.process.returncode
    entry = record[one.step.name]
    seconds = time.monotonic() - one.since + (entry.seconds if entry else 0.0)
    if code == 0:
        record.finish(one.step, one.made_of, seconds)
        screen.say(one.step.name, "done", seconds=seconds)
        return
    record.stop(one.step.name, seconds)
    screen.say(one.step.name, "failed", seconds=seconds)
    said = _last_lines(one.log)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    raise PipelineError(
        f"{one.step.name}: {one.step.run} {how}\n{said}",
        path=str(one.log),
        hint=f"all it said is in {one.log}; once it is put right, the same command goes on from there",
    )


def _last_lines(log: Path, most: int = 12) -> str:
    """What a command said last, behind its own first line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    begun = max((place for place, line in enumerate(lines) if line.startswith("$ ")), default=-1)
    return "\n".join(f"  | {line}" for line in lines[begun + 1 :][-most:])


def _stop(running: list[_Running], record: Record, screen: Screen) -> None:
    """Asks what still runs to stop, waits, and remembers how long it ran."""
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for one in running:
        try:
            one.process.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        if one.process.returncode == 0:
            # it was done before it heard the wish; where it left nothing it is begun, as before
            with contextlib.suppress(PipelineError):
                _end(one, record, screen)
                continue
        entry = record[one.step.name]
        seconds = time.monotonic() - one.since + (entry.seconds if entry else 0.0)
        record.stop(one.step.name, seconds)
        screen.say(one.step.name, "stopped", seconds=seconds)
