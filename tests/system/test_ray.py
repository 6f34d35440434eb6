"""Shard sets made on a real Ray cluster, whose workers, machines and driver are killed: the bytes of a local run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.prep.test_scores import scored, write_scores
from tests.prep.test_tasks import CONFIG, content, same, written
from tests.system.conftest import KEYS
from tests.system.faults import FaultyProxy, every_request_fails_first, no_fault
from tests.system.network import Network

pytest.importorskip("ray")
SOON = {"RAY_grpc_client_keepalive_time_ms": "2000", "RAY_grpc_client_keepalive_timeout_ms": "3000"}
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "only those who know this word may join"}
FLAGS = ["--memory", "64MiB", "--task-bytes", "400000", "--dedup", "near", "--quiet"]


@pytest.fixture(scope="module")
def proxy(s3_address: tuple[str, int]) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_address) as before_the_store:
        yield before_the_store


@pytest.fixture(scope="module")
def environment(repository: Path, proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    aside = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "RAY_"))}
    # Workers would stand back behind everything else on the machine.
    quiet = {"RAY_worker_niceness": "0", "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    # Ray asks for a token where the home folder holds one, and tests are not to leave one there.
    quiet["RAY_AUTH_MODE"] = "disabled"
    store = {**KEYS, "AWS_ENDPOINT_URL": proxy.url, "AWS_ALLOW_HTTP": "true", "AWS_MAX_ATTEMPTS": "4"}
    own = {"PYTHONPATH": str(repository / "python"), "OMP_NUM_THREADS": "1"}
    return {**aside, **quiet, **store, **own, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@dataclass
class Cluster:
    """Where a cluster is, and the processes that its machines are."""

    address: str
    raylets: list[int]


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str], repository: Path) -> Iterator[Cluster]:
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.system.machines"],
        cwd=repository,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with program:
        assert program.stdout is not None
        lines = iter(program.stdout)
        yield Cluster(**json.loads(next(line for line in lines if line.startswith("{"))))
        program.communicate(timeout=60)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("pairs") / "pairs", rows=10_000)


@pytest.fixture(scope="module")
def config(pairs: Path) -> Path:
    lines = ["[shard]", f"part_bytes = {CONFIG.shard.part_bytes}"]
    for source in CONFIG.sources:
        lines += ["[[sources]]", f'name = "{source.name}"', f'path = "{pairs / source.path[0]}"']
        lines += [f'task = "{source.task}"', f"merge_positives = {str(source.merge_positives).lower()}"]
    file = pairs.parent / "run.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def start(config: Path, environment: dict[str, str]) -> Start:
    def begin(
        out: Path | str, *more: str, on: list[str] | None = None, variables: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        argv = [*(on or []), sys.executable, "-W", "ignore", "-m", "bgeprep", "shard", "--out", str(out)]
        argv += [] if "--in" in more else ["--config", str(config)]
        return subprocess.Popen(
            [*argv, *FLAGS, *more],
            env=environment | (variables or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


@pytest.fixture(scope="module")
def local(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local") / "set"
    finish(start(out, "--threads", "1"))
    return out


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    out, error = process.communicate(timeout=200)
    assert process.returncode == code, error
    assert "Traceback" not in error
    return out + error


def wait_for(out: Path, stage: str, process: subprocess.Popen[str]) -> None:
    """Until the first task of a stage has left its bundle."""
    deadline = time.monotonic() + 120
    while not any(out.glob(f".work/tasks-*/{stage}/*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"no task of {stage} was done"
        time.sleep(0.02)


def workers_at_work(cluster: Cluster) -> list[psutil.Process]:
    """Processes that do a task just now; Ray names them after it."""
    children = [child for raylet in cluster.raylets for child in psutil.Process(raylet).children(recursive=True)]
    return [child for child in children if "ray::bgeprep" in title(child)]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # it is gone


def test_a_cluster_writes_the_bytes_of_threads(cluster, start, local, tmp_path):
    out, scratch = tmp_path / "set", tmp_path / "scratch"
    process = start(out, "--executor", "ray", "--address", cluster.address, "--tmp", str(scratch))
    wait_for(out, "read", process)
    assert list(scratch.iterdir())
    error = finish(start(out, "--executor", "ray", "--address", cluster.address), code=1)
    assert "another run is writing here" in error, "two drivers"
    finish(process)
    assert same(local, out)
    log = json.loads((out / "run.json").read_text())
    assert log["executor"] == "ray"
    assert not (out / ".work").exists()
    assert not list(scratch.iterdir())


def test_a_worker_that_is_killed_again_and_again_costs_no_byte(cluster, start, local, tmp_path):
    out = tmp_path / "set"
    process = start(out, "--executor", "ray", "--address", cluster.address)
    killed = 0
    for stage in ("read", "candidates", "decide"):
        wait_for(out, stage, process)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and process.poll() is None:
            busy = workers_at_work(cluster)
            if busy:
                busy[0].kill()
                killed += 1
                break
    finish(process)
    assert killed >= 2
    assert same(local, out)


def test_a_driver_that_is_killed_goes_on(cluster, start, local, tmp_path):
    out = tmp_path / "set"
    process = start(out, "--executor", "ray", "--address", cluster.address)
    wait_for(out, "verify", process)
    process.kill()
    process.communicate()
    read = sorted(file.name for file in out.glob(".work/tasks-*/read/*"))
    assert read
    assert not (out / "manifest.json").exists()
    said = start(out, "--executor", "ray", "--address", cluster.address)
    wait_for(out, "families", said)
    assert sorted(file.name for file in out.glob(".work/tasks-*/read/*")) == read, "what was read is not read again"
    finish(said)
    assert same(local, out)


def test_what_a_cluster_cannot_do_is_said(cluster, start, environment, monkeypatch, tmp_path):
    address = ["--executor", "ray", "--address"]
    error = finish(start(tmp_path / "set", *address, cluster.address, "--memory", "16GiB"), code=2)
    assert "memory: a task declares" in error
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{broken\n" * 100)
    error = finish(start(tmp_path / "set", *address, cluster.address, "--in", str(bad)), code=1)
    assert "bad.jsonl:1: 100 of 100 rows are unreadable" in error, "an error of a task keeps its words"
    error = finish(start(tmp_path / "set", *address, "ray://127.0.0.1:1"), code=2)
    assert "is that of Ray Client" in error
    error = finish(start(tmp_path / "set", *address, "127.0.0.1:1"), code=2)
    assert "address: expected a Ray cluster at 127.0.0.1:1" in error
    # as after a cluster that was killed: Ray's note of it stays, and nobody listens there
    note = tmp_path / "noted" / "ray" / "ray_current_cluster"
    note.parent.mkdir(parents=True)
    note.write_text("127.0.0.1:1")
    monkeypatch.setitem(environment, "RAY_TMPDIR", str(tmp_path / "noted"))
    error = finish(start(tmp_path / "set", *address, "auto"), code=2)
    assert "address: expected a Ray cluster at auto" in error


def test_from_a_store_to_a_store_over_connections_that_break(cluster, start, s3, proxy, pairs, tmp_path):
    small = ["--shard.part_bytes", "1000000", "--max-bad", "0.1", "--dedup", "exact"]
    s3.create_bucket(Bucket="spread")
    for file in sorted((pairs / "small").iterdir()):
        s3.upload_file(str(file), "spread", f"in/small/{file.name}")
    finish(start(tmp_path / "local", "--in", str(pairs / "small"), "--threads", "1", *small))
    proxy.schedule = every_request_fails_first
    try:
        address = ["--executor", "ray", "--address", cluster.address, "--task-bytes", "2000000"]
        finish(start("s3://spread/out", "--in", "s3://spread/in/small", *address, *small))
    finally:
        proxy.schedule = no_fault
    assert {method for method, _ in proxy.faults} >= {"GET", "HEAD", "PUT"}
    assert same_there(s3, "out/", tmp_path / "local")


def same_there(s3, prefix, folder) -> bool:
    listed = s3.list_objects_v2(Bucket="spread", Prefix=prefix)["Contents"]
    found = {entry["Key"].removeprefix(prefix): entry["Key"] for entry in listed}
    expected = content(folder)
    assert set(found) == {*expected, "run.json"}, "nothing is left of the tasks"
    for name, bytes_there in expected.items():
        assert s3.get_object(Bucket="spread", Key=found[name])["Body"].read() == bytes_there, name
    return True


def test_a_set_that_is_filtered_by_scores_goes_to_a_store(cluster, start, s3, local, tmp_path):
    """What tasks look up, the table of scores and the batching keys of the set, comes out of the store once."""
    scores = write_scores(tmp_path / "scores", scored(local, lambda query, pos: len(query + pos) % 100 / 100))
    s3.create_bucket(Bucket="spread")
    flags = ["--in", str(local), "--scores", str(scores), "--min-score", "0.3", "--shard.part_bytes", "1000000"]
    finish(start(tmp_path / "local", *flags, "--threads", "1"))
    address = ["--executor", "ray", "--address", cluster.address, "--task-bytes", "2000000"]
    finish(start("s3://spread/scored", *flags, *address))
    assert same_there(s3, "scored/", tmp_path / "local")


JOINED = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < 3:
    time.sleep(0.2)
"""


@pytest.fixture
def network(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A head that does no task and two machines, each with an address of its own, which Ray misses soon."""
    soon = {"period_ms": 1000, "timeout_ms": 2000, "failure_threshold": 6, "initial_delay_ms": 10_000}
    flags = ["--block", "--disable-usage-stats", "--object-store-memory=80000000"]
    # short: the names of Ray's sockets lie below it
    folder = tmp_path_factory.mktemp("ray")
    with Network(folder, "head", "one", "two") as machines:
        meeting = f"{machines.addresses['head']}:6379"
        for machine, address in machines.addresses.items():
            own = [f"--node-ip-address={address}", f"--num-cpus={int(machine != 'head')}", f"--memory={2 << 30}"]
            role = [f"--address={meeting}"]
            if machine == "head":
                role = ["--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={folder}"]
            ray = str(Path(sys.executable).parent / "ray")
            checks = {f"RAY_health_check_{name}": str(value) for name, value in soon.items()}
            machines.start(machine, [ray, "start", *role, *own, *flags], environment | checks | TOKEN | SOON)
            listens = [*machines.on(machine), "bash", "-c", f": < /dev/tcp/{meeting.replace(':', '/')}"]
            deadline = time.monotonic() + 60
            while subprocess.run(listens, check=False, stderr=subprocess.DEVNULL).returncode:
                assert time.monotonic() < deadline, f"{machine} does not reach {meeting}"
                time.sleep(0.2)
        joined = [*machines.on("head"), sys.executable, "-W", "ignore", "-c", JOINED, meeting]
        subprocess.run(joined, env=environment | TOKEN, check=True, timeout=120, capture_output=True)
        yield machines


def test_a_machine_that_is_cut_off_costs_no_byte(network, start, local, tmp_path):
    """Its task is done by another one while it still works on it itself, on the same folder."""
    out = tmp_path / "set"
    address = f"{network.addresses['head']}:6379"
    process = start(out, "--executor", "ray", "--address", address, on=network.on("head"), variables=TOKEN | SOON)
    wait_for(out, "read", process)
    while not any("ray::bgeprep" in title(psutil.Process(pid)) for pid in network.processes("two")):
        assert process.poll() is None, process.communicate()
    network.cut("two")
    finish(process)
    assert same(local, out)
    assert not (out / ".work").exists()


def test_a_machine_that_is_lost_costs_no_byte(cluster, start, local, tmp_path):
    """The last test: the machine does not come back."""
    out = tmp_path / "set"
    process = start(out, "--executor", "ray", "--address", cluster.address)
    wait_for(out, "candidates", process)
    raylet = psutil.Process(cluster.raylets[-1])
    workers = raylet.children(recursive=True)
    raylet.kill()
    for worker in workers:
        worker.kill()
    finish(process)
    assert same(local, out)
