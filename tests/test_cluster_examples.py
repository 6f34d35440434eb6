"""The job scripts of examples/cluster, with stand-ins for SLURM: what they start is what the commands take."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from bgeprep.cli import main as prepare
from bgetrain.pipeline.verbs import check_words

ROOT = Path(__file__).resolve().parent.parent
JOBS = ROOT / "examples" / "cluster"

SLURM = {
    "SLURM_JOB_NODELIST": "node[7-8]",
    "SLURM_NNODES": "2",
    "SLURM_JOB_ID": "123456",
    "SLURM_RESTART_COUNT": "1",
    "SLURM_CPUS_PER_TASK": "16",
    "SLURM_GPUS_ON_NODE": "4",
    "USER": "somebody",
}


class Cluster:
    """Runs a job script and returns the words that `srun` was given."""

    def __init__(self, folder: Path) -> None:
        self.said = folder / "said"
        tools = folder / "bin"
        tools.mkdir()
        for name, body in {
            "scontrol": "echo node7; echo node8",
            "srun": 'printf "%s " "$NCCL_SOCKET_IFNAME" "$GLOO_SOCKET_IFNAME" "$OMP_NUM_THREADS" >"$SAID.env"\n'
            'printf "%q " "$@" >"$SAID"',
        }.items():
            (tools / name).write_text(f"#!/usr/bin/env bash\n{body}\n", encoding="utf-8")
            (tools / name).chmod(0o755)
        self.environment = {"PATH": f"{tools}:/usr/bin:/bin", "SAID": os.fspath(self.said), **SLURM}

    def run(self, job: str, *words: str, code: int = 0, **environment: str) -> list[str]:
        command = ["bash", os.fspath(JOBS / job), *words]
        done = subprocess.run(
            command, env={**self.environment, **environment}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr
        return shlex.split(self.said.read_text()) if code == 0 else [done.stderr]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


TORCHRUN = [
    *("--kill-on-bad-exit=1", "torchrun", "--nnodes", "2", "--nproc_per_node", "4", "--rdzv_backend", "c10d"),
    *("--rdzv_id", "123456-1", "--rdzv_endpoint", "node7:23456", "-m", "bgetrain"),
]


def split(words: list[str]) -> tuple[str, list[str]]:
    """The verb and its flags, behind a launch that is the same for all."""
    assert words[: len(TORCHRUN)] == TORCHRUN
    return words[len(TORCHRUN)], words[len(TORCHRUN) + 1 :]


def test_every_job_is_tried() -> None:
    # the last one is tried by tests/prep/test_cluster_files.py
    tried = {"train.sbatch", "between.sbatch", "prepare.sbatch", "shard.sbatch"}
    assert {path.name for path in JOBS.glob("*.sbatch")} == tried


def test_training_begins_goes_on_and_takes_more_flags(cluster: Cluster, tmp_path: Path) -> None:
    output = tmp_path / "output"
    where = {"DATA": "/shared/shards", "OUTPUT": os.fspath(output), "CONFIG": os.fspath(ROOT / "configs/stage1.toml")}
    verb, flags = split(cluster.run("train.sbatch", "--learning_rate", "1e-5", **where))
    assert verb == "train"
    assert flags[2:] == ["--data", "/shared/shards", "--output_dir", os.fspath(output), "--learning_rate", "1e-5"]
    check_words("bgetrain train", flags)
    assert cluster.said.with_name("said.env").read_text().split() == ["4"]

    output.mkdir()
    (output / "metrics.jsonl").touch()
    assert split(cluster.run("train.sbatch", **where))[1][-1] == "--overwrite_output_dir"
    (output / "checkpoint-10").mkdir()
    flags = split(cluster.run("train.sbatch", **{**where, "DATA": "s3://bucket/shards", "IFNAME": "ib0"}))[1]
    assert flags[-4:] == ["--cache_dir", "/scratch/somebody/bgeprep", "--resume_from_checkpoint", "last"]
    check_words("bgetrain train", flags)
    assert cluster.said.with_name("said.env").read_text().split() == ["ib0", "ib0", "4"]


@pytest.mark.parametrize("verb", ["encode", "score", "mine"])
def test_work_between_the_stages(cluster: Cluster, verb: str) -> None:
    words = [verb, "--data", "/shared/a b", "--model", "m", "--out", "/shared/out"]
    found, flags = split(cluster.run("between.sbatch", *words))
    assert [found, *flags] == words
    check_words(f"bgetrain {verb}", flags)


def test_preparation(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text('{"query": "a question", "pos": ["an answer"]}\n')
    where = {"IN": os.fspath(tmp_path / "a.jsonl"), "OUT": os.fspath(tmp_path / "set"), "WORK": os.fspath(tmp_path)}
    words = cluster.run("prepare.sbatch", "--quiet", "--dedup", "exact", **where)
    assert words[:4] == ["bgeprep", "shard", "--in", where["IN"]]
    assert words[words.index("--memory") + 1] == "48GiB"
    assert prepare(words[1:]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("job", "said"), [("train.sbatch", "DATA"), ("between.sbatch", "1"), ("prepare.sbatch", "IN")])
def test_what_is_missing_is_named(cluster: Cluster, job: str, said: str) -> None:
    (error,) = cluster.run(job, code=1)
    assert f"{said}: " in error
