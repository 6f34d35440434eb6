"""A job of two machines of two processes each, one of which is lost; the next launch goes on with one, or with two."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.system.nodes import end, give_up, kill_node, start_nodes
from tests.train.killing import ROOT, flags_for, last_checkpoint, losses, wait_for, write_material

STEPS = 40
TRAIN = str(ROOT / "python" / "train.py")


@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes of a machine by /proc")
def test_a_lost_machine_ends_the_job_and_the_next_launch_goes_on(tmp_path: Path) -> None:
    material = write_material(tmp_path, dropout=0.0)
    said = [tmp_path / "first", tmp_path / "second"]

    def flags(output: Path, *more: object) -> list[str]:
        return [TRAIN, *flags_for(material, output, "--max_steps", STEPS, "--save_steps", 7, *more)]

    whole = tmp_path / "whole"
    end(start_nodes(flags(whole), said), said)
    expected = losses(whole)
    assert len(expected) == STEPS

    lost = tmp_path / "lost"
    nodes = start_nodes(flags(lost), said)
    try:
        wait_for(nodes[0], lost, 16)
        kill_node(nodes[1])
        died = time.monotonic()
        assert nodes[0].wait(timeout=90) not in (0, 130)
        assert time.monotonic() - died < 60
    finally:
        give_up(nodes)
    lines = said[0].read_text().splitlines()
    told = [number for number, line in enumerate(lines) if "another rank has ended in step" in line]
    assert told, lines
    assert all(lines[number].startswith("error: rank ") for number in told)
    assert any("--resume_from_checkpoint last" in line for line in lines if line.startswith("hint: "))
    assert "Traceback" not in "\n".join(lines[: told[-1] + 2])
    assert 7 <= last_checkpoint(lost) < STEPS

    # as many machines again, in a copy of what the lost job left
    again = tmp_path / "again"
    shutil.copytree(lost, again)
    end(start_nodes(flags(again, "--resume_from_checkpoint", "last"), said), said)
    assert losses(again) == expected

    end(start_nodes(flags(lost, "--resume_from_checkpoint", "last"), said[:1]), said[:1])
    assert "on 2 processes instead of 4" in said[0].read_text()
    found = losses(lost)
    assert found != expected, "the control: other sums are rounded otherwise"
    assert found == pytest.approx(expected, rel=1e-5)
