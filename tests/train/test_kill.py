"""A process of `python/train.py` that is stopped and killed at random steps, and what the next ones make of it."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.train.killing import flags_for, last_checkpoint, last_step, losses, start, stop_after, write_material

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 110
"""Almost three passes; no checkpoint lies at the end of one."""


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::bgeprep.errors.SlowTokenizerWarning")
def test_killed_at_a_random_step_and_resumed_goes_on_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM, then SIGKILL, then to the end: every loss is that of the run that nothing stopped."""
    from bgetrain import contrastive
    from bgetrain.main import main

    shares = []

    def watched(*arguments: Any, **words: Any) -> Any:
        result = batch_gradient(*arguments, **words)
        shares.append(result.replayed / result.computed)
        return result

    batch_gradient = contrastive.batch_gradient
    monkeypatch.setattr(contrastive, "batch_gradient", watched)
    material = write_material(tmp_path)
    # a batch is five chunks, and there is room for the graphs of some
    more = ("--max_steps", STEPS, "--save_steps", 11, "--micro_batch_tokens", 64, "--activation_memory", 0.0005)
    assert main(flags_for(material, tmp_path / "whole", *more)) == 0
    assert max(shares) > 0, "no graph is computed again"
    assert max(shares) < 1, "no graph is kept"
    assert main(flags_for(material, tmp_path / "other", *more, "--seed", 43, "--max_steps", 3)) == 0
    whole = losses(tmp_path / "whole")
    assert len(whole) == STEPS
    assert all(ours != theirs for ours, theirs in zip(losses(tmp_path / "other"), whole, strict=False))

    chance = random.Random(6)
    output, said = tmp_path / "run", tmp_path / "said"
    moments = chance.randrange(12, 20), chance.randrange(25, 45)
    asked = start(flags_for(material, output, *more), said)
    assert stop_after(asked, output, moments[0], chance.uniform(0, 0.05), signal.SIGTERM) == 130
    stopped = last_step(output)
    assert f"checkpoint-{stopped} is saved" in said.read_text()
    resume = ["--resume_from_checkpoint", "last", "--output_dir", str(output)]
    killed = start(resume, said)
    assert stop_after(killed, output, moments[1], chance.uniform(0, 0.05), signal.SIGKILL) == -signal.SIGKILL
    assert last_checkpoint(output) <= STEPS - 50, "the kill came too late to leave 50 steps"
    # in this process, which has read its modules already
    assert main(resume) == 0
    assert losses(output) == whole
    assert (output / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
