"""A process of several that is killed: the others say so and end, and the same command goes on. A minute and a half."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.train.killing import flags_for, last_checkpoint, losses, start, wait_for, write_material

STEPS = 60


def _process_of(torchrun: subprocess.Popen[str], rank: int) -> int:
    """The process id of a rank."""
    for task in Path(f"/proc/{torchrun.pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
    raise AssertionError(f"torchrun has no rank {rank}")


@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks by /proc")
def test_a_rank_that_dies_ends_the_job_and_the_next_one_goes_on(tmp_path: Path) -> None:
    material = write_material(tmp_path)
    output, said = tmp_path / "run", tmp_path / "said"
    flags = flags_for(material, output, "--max_steps", STEPS, "--save_steps", 7)
    for victim, step in ((1, 15), (0, 33)):
        # the first launch finds no checkpoint
        resume = ["--resume_from_checkpoint", "last"] if output.exists() else []
        job = start([*flags, *resume], said, processes=2)
        try:
            wait_for(job, output, step)
            os.kill(_process_of(job, victim), signal.SIGKILL)
            died = time.monotonic()
            assert job.wait(timeout=60) not in (0, 130)
            assert time.monotonic() - died < 30
        finally:
            # torchrun takes its ranks with it
            job.terminate()
            job.wait()
        lines = said.read_text().splitlines()
        (line,) = [
            line for line in lines if line.startswith(f"error: rank {1 - victim}: another rank has ended in step")
        ]
        assert lines[lines.index(line) + 1].startswith("hint: ")
        assert "--resume_from_checkpoint last" in lines[lines.index(line) + 1]
        assert last_checkpoint(output) in range(step - 7, step + 20)
    assert start([*flags, "--resume_from_checkpoint", "last"], said, processes=2).wait(timeout=120) == 0, (
        said.read_text()
    )
    whole = flags_for(material, tmp_path / "whole", "--max_steps", STEPS)
    assert start(whole, said, processes=2).wait(timeout=120) == 0, said.read_text()
    assert losses(output) == losses(tmp_path / "whole")
    assert len(losses(output)) == STEPS
