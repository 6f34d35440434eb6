"""Training as processes that can be killed: real rows, a tiny BERT with dropout, signals at a chosen step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.train.tiny import WORDS, write_tiny_bert

ROOT = Path(__file__).parents[2]
_TOPICS = ROOT / "examples" / "demo" / "data" / "pairs" / "topics.jsonl"
_ROWS = 250


def write_material(folder: Path, *, dropout: float = 0.1) -> Path:
    """Real questions and answers as `shards`, and as `model` a tiny BERT with dropout that knows their words."""
    import bgeprep

    rows = [json.loads(line) for line in _TOPICS.read_text(encoding="utf-8").splitlines()[:_ROWS]]
    (folder / "pairs").mkdir()
    (folder / "pairs" / "topics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    bgeprep.shard(folder / "pairs", folder / "shards", threads=1)
    words = sorted({word for row in rows for text in row for word in text.split()} - set(WORDS))
    write_tiny_bert(folder / "model", dropout=dropout, words=[*WORDS[:5], *words])
    return folder


def flags_for(material: Path, output: Path, *more: object) -> list[str]:
    """Batches of 6: 41 a pass. Texts of 12 and 32 tokens, metrics of every step."""
    words = [
        *("--data", material / "shards", "--model_name_or_path", material / "model", "--output_dir", output),
        *("--use_cpu", "--report_to", "none", "--query_max_len", 12, "--passage_max_len", 32),
        *("--global_batch_size", 6, "--learning_rate", 1e-3, "--temperature", 0.1, "--logging_steps", 1),
    ]
    return [str(word) for word in [*words, *more]]


def start(flags: list[str], said: Path, *, processes: int = 0) -> subprocess.Popen[str]:
    """Starts `python/train.py`, under torchrun where there are processes; what it says goes to a file."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "python")}
    with said.open("w") as file:
        return subprocess.Popen(
            [sys.executable, *(torchrun if processes else []), str(ROOT / "python" / "train.py"), *flags],
            cwd=said.parent,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=file,
            text=True,
        )


def wait_for(process: subprocess.Popen[str], output: Path, step: int) -> None:
    """Returns when a step is done."""
    deadline = time.monotonic() + 120
    while last_step(output) < step:
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline, f"step {step} does not come"
        time.sleep(0.002)


def stop_after(process: subprocess.Popen[str], output: Path, step: int, delay: float, number: signal.Signals) -> int:
    """Sends a signal once a step is done and a moment has passed: anywhere in the next step, or while it is saved."""
    try:
        wait_for(process, output, step)
        time.sleep(delay)
        process.send_signal(number)
        return process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()


def last_step(output: Path) -> int:
    """The last step that a run has told of."""
    file = output / "metrics.jsonl"
    # the last line of a process at work may be half of one
    lines = [line for line in file.read_text().splitlines() if line.endswith("}")] if file.exists() else []
    return max((json.loads(line).get("step", 0) for line in lines), default=0)


def last_checkpoint(output: Path) -> int:
    """The step of the newest checkpoint."""
    return max(int(folder.name.split("-")[1]) for folder in output.glob("checkpoint-*"))


def losses(output: Path) -> list[float]:
    """The loss of each step from the first on, of which none may be absent or told twice."""
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    trained = [record for record in records if record["kind"] == "train"]
    assert [record["step"] for record in trained] == list(range(1, len(trained) + 1))
    return [record["loss"] for record in trained]
