"""Machines of a job as torchrun agents of this one, which meet by a rendezvous on the loopback interface."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.train.killing import ROOT


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start_nodes(
    words: list[str], said: list[Path], *, processes: int = 2, environment: dict[str, str] | None = None
) -> list[subprocess.Popen[str]]:
    """Starts a job on as many machines as there are files for what they say; the first one is where they meet.

    Args:
        words: what torchrun runs, as `python/train.py …` or `-m bgetrain …`.
        said: what each machine says goes there.
        processes: of a machine.
        environment: variables beside those of this process.
    """
    port = free_port()
    command = [
        *(
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nnodes",
            str(len(said)),
            "--nproc_per_node",
            str(processes),
        ),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "job", *words),
    ]
    plain = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "python")}
    nodes: list[subprocess.Popen[str]] = []
    for file in said:
        with file.open("w") as out:
            nodes.append(
                subprocess.Popen(
                    command, cwd=file.parent, env={**plain, **(environment or {})}, stdout=out, stderr=out, text=True
                )
            )
        if len(nodes) == 1:
            _wait_for_port(nodes[0], port)
    return nodes


def _wait_for_port(node: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 90
    while True:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert node.poll() is None, "the first machine did not start"
        assert time.monotonic() < deadline, "the first machine does not listen"
        time.sleep(0.05)


def kill_node(node: subprocess.Popen[str]) -> None:
    """A machine that loses its power: the agent and all its processes at once."""
    for process in [node.pid, *_below(node.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    node.wait()


def _below(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_below(int(child))]
    return found


def end(nodes: list[subprocess.Popen[str]], said: list[Path]) -> None:
    """Waits for a job that is to end well."""
    for node, file in zip(nodes, said, strict=True):
        assert node.wait(timeout=240) == 0, file.read_text()


def give_up(nodes: list[subprocess.Popen[str]]) -> None:
    """Leaves nothing behind, however a test ended."""
    for node in nodes:
        if node.poll() is None:
            kill_node(node)
