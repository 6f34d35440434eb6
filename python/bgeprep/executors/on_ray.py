"""Tasks on a Ray cluster: one Ray task each, with the CPUs and the memory that it declares.

Ray says where a task runs and starts it again when its worker or its machine dies. All that tasks hand on lies in
files; through Ray go their descriptions, and a few numbers of what came of them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgeprep.errors import ConfigError, ExecutorError
from bgeprep.executors.tasks import Done, Limits, Shared, Task, do

if TYPE_CHECKING:
    import ray

    from bgeprep.shard import Report

__all__ = ["RayPool", "connected"]

PROCESS_BYTES = 256 << 20
"""What a worker holds beside the memory of its task: the interpreter, Ray, this library."""

JOIN_SECONDS = 60
"""How long a run waits for a machine that can do tasks at all."""

TIDY_SECONDS = 30

RETRIES = 5
"""How often a task is begun again whose worker died, or whose machine's disk or network failed it."""


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Within it this process drives a cluster: the one that it drives already, the one at `address`, or one of its own.

    Args:
        address: as `ray.init` takes it; `auto` for the cluster that this machine belongs to. None is a cluster of this
            machine alone, unless `RAY_ADDRESS` names one.

    Raises:
        ConfigError: Ray is not installed, there is no cluster at the address, or it is that of Ray Client.
    """
    try:
        import ray
    except ModuleNotFoundError:
        message = "executor: expected Ray, found that it is not installed; hint: pip install 'bgeprep[ray]'"
        raise ConfigError(message) from None
    if address and address.startswith("ray://"):
        raise ConfigError(
            f"address: {address} is that of Ray Client, the driver has to run on a machine of the cluster; "
            "hint: `ray job submit`, or --address auto there"
        )
    if ray.is_initialized():
        yield
        return
    # Ray itself would take none for the last cluster that was started here, which may be gone.
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="error", configure_logging=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"address: expected a Ray cluster at {address}, found none ({error}); "
            "hint: `ray start --head` starts one, no --address makes one for this run; a cluster that asks for a token "
            "is sent it by RAY_AUTH_MODE=token"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """An error where nobody listens: Ray itself would try for minutes."""
    if address == "auto":
        noted = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
        address = os.environ.get("RAY_ADDRESS") or (noted.read_text(encoding="utf-8") if noted.is_file() else "")
    host, _, port = address.strip().rpartition(":")
    if host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


class RayPool:
    """Does tasks on the cluster that this process drives.

    Args:
        shared: what all tasks have in common.
        report: told that the cluster is waited for.
    """

    def __init__(self, shared: Shared, report: Report | None) -> None:
        """Sends what all tasks have in common."""
        import ray

        limits = shared.limits
        self._shared = ray.put(shared)
        self._most = self._check(limits, report)
        self._do: Any = ray.remote(
            num_cpus=limits.threads,
            memory=limits.memory + PROCESS_BYTES,
            max_retries=RETRIES,
            retry_exceptions=[OSError],
        )(_do)

    @staticmethod
    def _check(limits: Limits, report: Report | None) -> int:
        """The most memory that a task can have; an error if a usual one fits nowhere, and would wait for ever."""
        import ray

        wanted = limits.memory + PROCESS_BYTES
        deadline = time.monotonic() + JOIN_SECONDS
        while True:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            able = [node for node in nodes if node.get("CPU", 0) >= limits.threads]
            if able or time.monotonic() > deadline:
                break
            # A head that does no task, whose machines are still on their way.
            if report:
                report("join", 0, 0, 0, 0, 0, 0, 0)
            time.sleep(0.5)
        fitting = [node for node in able if node.get("memory", 0) >= wanted]
        if not fitting:
            largest = max((node.get("memory", 0) for node in nodes), default=0)
            cores = max((node.get("CPU", 0) for node in nodes), default=0)
            raise ConfigError(
                f"memory: a task declares {wanted >> 20} MiB and {limits.threads} CPUs, the largest machines of the "
                f"cluster have {int(largest) >> 20} MiB and {cores:g} CPUs; hint: less --memory or --threads"
            )
        return int(max(node["memory"] for node in fitting)) - PROCESS_BYTES

    def run(self, tasks: Sequence[Task], inputs: Mapping[str, Sequence[str]]) -> Iterator[tuple[Task, Done] | None]:
        """Does all tasks of a stage, see `Pool`.

        Raises:
            ExecutorError: a task's worker died each time it was begun.
            BgeprepError, OSError: what a task raised.
        """
        import ray

        sent = ray.put(dict(inputs))
        waiting = {self._begin(task, sent): task for task in tasks}
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), num_returns=1, timeout=0.2)
                if not ready:
                    yield None
                for reference in ready:
                    task = waiting.pop(reference)
                    yield task, self._result(reference, task)
        finally:
            for reference in waiting:
                # A task that is given up leaves nothing that has a name.
                ray.cancel(reference, force=True)

    def tidy(self) -> None:
        """Removes what workers that were killed, and copies that tasks share, left on the disks of all machines."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        clear: Any = ray.remote(num_cpus=0, max_retries=0)(_clear)
        places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
        cleared = [
            clear.options(name="bgeprep tidy", scheduling_strategy=place).remote(self._shared) for place in places
        ]
        # The set is there: a machine that goes away now takes its files with it.
        ray.wait(cleared, num_returns=len(cleared), timeout=TIDY_SECONDS)

    def _begin(self, task: Task, inputs: object) -> ray.ObjectRef[Any]:
        options: dict[str, Any] = {"name": task.name}
        if task.memory:
            # Where it is too little, the task says so and how much it takes.
            task = replace(task, memory=min(task.memory, self._most))
            options["memory"] = (task.memory or 0) + PROCESS_BYTES
        reference: ray.ObjectRef[Any] = self._do.options(**options).remote(self._shared, task, inputs)
        return reference

    @staticmethod
    def _result(reference: ray.ObjectRef[Any], task: Task) -> Done:
        import ray

        try:
            done = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, BaseException) else error
            raise cause from None
        except ray.exceptions.RayError as error:
            reason = str(error).strip().partition("\n")[0]
            raise ExecutorError(
                f"{task.name}: its worker died {RETRIES + 1} times ({reason}); hint: more --memory, or see the "
                "task in Ray's dashboard; the same command goes on from here",
                task.name,
            ) from None
        assert isinstance(done, Done)
        return done


def _folder(shared: Shared) -> Path:
    return Path(shared.scratch or tempfile.gettempdir()) / f"bgeprep-{shared.fingerprint[:16]}"


def _clear(shared: Shared) -> None:
    """Runs in a worker of each machine."""
    shutil.rmtree(_folder(shared), ignore_errors=True)


def _do(shared: Shared, task: Task, inputs: Mapping[str, Sequence[str]]) -> Done:
    """Runs in a worker."""
    # A task has a file of each earlier task open: some thousands, where a shell's limit is often 1,024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = _folder(shared)
    folder.mkdir(parents=True, exist_ok=True)
    return do(shared, task, inputs, folder)
