"""The job files of examples/cluster/: what they start, with stand-ins for the programs of a cluster."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.test_docs import check

STAND_INS = {
    "scontrol": 'echo "$NODES" | tr " " "\\n"',
    # flags of srun first, then the program; only the head tells its address
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "hostname": "echo 10.0.0.7 fe80::1",
    "ray": 'echo "ray $*" >> "$SAID"',
    "bgeprep": 'echo "bgeprep $*" >> "$SAID"; exit "${FAILS:-0}"',
    "sleep": "",
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    for name, body in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text("")
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SAID": str(tmp_path / "said"),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "n[1-3]",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_MEM_PER_NODE": "64000",
    }


@pytest.mark.parametrize(("nodes", "starts"), [("n1", 1), ("n1 n2 n3", 2)])
def test_the_batch_job_starts_ray_and_the_driver(nodes, starts, slurm, repository):
    script = repository / "examples/cluster/shard.sbatch"
    job = subprocess.run(
        ["bash", script, "/in", "/out", "--dedup", "near"],
        env={**slurm, "NODES": nodes},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert job.returncode == 0, job.stderr
    said = Path(slurm["SAID"]).read_text().splitlines()
    rays = [line for line in said if line.startswith("ray start")]
    assert len(rays) == starts
    # the script starts both beside itself, and without its sleeps they may report in either order
    (head,) = [line for line in rays if "--head" in line]
    assert "--head --port=23456 --node-ip-address=10.0.0.7" in head
    assert all("--address=10.0.0.7:23456" in line for line in rays if line != head)
    assert all(f"--memory={64000 * 9 // 10 << 20}" in line for line in rays)
    (driver,) = [line for line in said if line.startswith("bgeprep")]
    check(shlex.split(driver))
    assert "--executor ray --address 10.0.0.7:23456 --in /in --out /out" in driver
    assert driver.endswith("--dedup near")


def test_the_batch_job_fails_with_its_driver(slurm, repository):
    script = repository / "examples/cluster/shard.sbatch"
    failed = subprocess.run(["bash", script, "/in", "/out"], env={**slurm, "NODES": "n1", "FAILS": "3"}, timeout=60)
    assert failed.returncode == 3
    wrong = subprocess.run(["bash", script, "/in"], env=slurm, capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2
    assert "usage: sbatch" in wrong.stderr


def test_the_job_of_kubernetes_is_one(repository):
    job = yaml.safe_load((repository / "examples/cluster/shard.rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    command = shlex.split(job["spec"]["entrypoint"])
    check(command)
    scratch = command[command.index("--tmp") + 1]
    cluster = job["spec"]["rayClusterSpec"]
    templates = [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    for template in templates:
        (container,) = template["spec"]["containers"]
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == [scratch]
        assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
