"""The commands as typed: real shards, `torchrun python/train.py`, two processes, another number of them on resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.tiny import write_tiny_bert

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of 60 pairs, some with hard negatives and some sharing a positive."""
    import bgeprep

    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def text(words: int) -> str:
        return " ".join(f"w{word}" for word in rng.integers(0, 55, words))

    passages = [text(int(rng.integers(4, 12))) for _ in range(50)]
    rows = [
        {"query": text(5), "pos": [passages[i % 50]], "neg": [passages[(i + 7) % 50]] if i % 3 == 0 else []}
        for i in range(60)
    ]
    pairs = folder / "pairs"
    pairs.mkdir()
    (pairs / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    bgeprep.shard(pairs, folder / "shards", threads=1)
    return folder / "shards"


def _launch(processes: int, *flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "python")}
    return subprocess.run(
        [sys.executable, *(torchrun if processes else []), str(ROOT / "python" / "train.py"), *flags],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def _losses(output: Path) -> list[float]:
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if record["kind"] == "train"]


def _flags(shards: Path, model: Path, output: Path, *more: Any) -> list[str]:
    words = [
        "--data",
        shards,
        "--model_name_or_path",
        model,
        "--output_dir",
        output,
        "--use_cpu",
        "--report_to",
        "none",
    ]
    words += ["--query_max_len", 12, "--passage_max_len", 20, "--logging_steps", 1, "--learning_rate", 1e-3]
    return [str(word) for word in [*words, "--temperature", 0.1, *more]]


def test_two_processes_one_process_and_back(shards: Path, tmp_path: Path) -> None:
    """Without dropout the same batches give the same run on one process, and on two that become one."""
    model = write_tiny_bert(tmp_path / "model")
    run_for = ("--max_steps", 8, "--save_steps", 4)
    # 9 rows a batch do not divide by two ranks
    alone = _launch(
        0, *_flags(shards, model, tmp_path / "one", "--per_device_train_batch_size", 9, *run_for), cwd=tmp_path
    )
    assert alone.returncode == 0, alone.stderr
    two = _flags(shards, model, tmp_path / "two", "--per_device_train_batch_size", 5, *run_for)
    pair = _launch(2, *two, cwd=tmp_path)
    assert pair.returncode == 0, pair.stderr
    same = _launch(
        0, *_flags(shards, model, tmp_path / "same", "--per_device_train_batch_size", 10, *run_for), cwd=tmp_path
    )
    assert same.returncode == 0, same.stderr
    assert _losses(tmp_path / "two") == pytest.approx(_losses(tmp_path / "same"), rel=1e-5)
    assert _losses(tmp_path / "two") != pytest.approx(_losses(tmp_path / "one"), rel=1e-3)
    resumed = _launch(0, "--resume_from_checkpoint", str(tmp_path / "two" / "checkpoint-4"), cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "the batch stays 10 rows x 1" in resumed.stderr
    assert _losses(tmp_path / "two") == pytest.approx(_losses(tmp_path / "same"), rel=1e-5)


def test_folder_that_is_no_shard_set_is_one_line(tmp_path: Path) -> None:
    model = write_tiny_bert(tmp_path / "model")
    (tmp_path / "nothing").mkdir()
    done = _launch(0, *_flags(tmp_path / "nothing", model, tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
