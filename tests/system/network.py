"""Machines of a network of its own: Linux network namespaces, each with one card, on one switch.

What runs on a machine sees the others' addresses and no loopback of theirs; files, but for one folder of its own,
processes and time are shared. A machine can be cut off from the rest while its processes go on, which a killed process
cannot show.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

# Runs as root of a user namespace, so no right of this machine's root is needed.
SCRIPT = """
set -eu
mount -t tmpfs none /run
ip link set lo up
ip link add switch type bridge
ip addr add 10.77.0.254/24 dev switch
ip link set switch up
own=$1
shift
number=0
for machine in "$@"; do
    number=$((number + 1))
    ip netns add "$machine"
    ip link add "to-$machine" type veth peer name eth0 netns "$machine"
    ip link set "to-$machine" master switch up
    ip -n "$machine" addr add "10.77.0.$number/24" dev eth0
    ip -n "$machine" link set lo up
    ip -n "$machine" link set eth0 up
    ip -n "$machine" route add default via 10.77.0.254
    ip netns exec "$machine" sh -c 'mount -t tmpfs none "$1" && echo "$2 $3 $$" && exec sleep infinity' \
        machine "$own" "$machine" "10.77.0.$number" &
done
read -r line || true
kill 0
"""


class Network:
    """Machines on one switch, until the context ends; then whatever runs on them is gone, too.

    Args:
        own: a folder, of which each machine has one of its own, on its own disk.
        machines: their names.

    Attributes:
        addresses: of each machine.
    """

    def __init__(self, own: Path, *machines: str) -> None:
        """Names the machines."""
        self._own, self._machines = own, machines
        self.addresses: dict[str, str] = {}
        self._started: list[subprocess.Popen[bytes]] = []
        self._holders: dict[str, int] = {}

    def __enter__(self) -> Network:
        """Connects them; the test is skipped where a machine allows no namespaces."""
        allowed = ["unshare", "-rmn", "sh", "-c", "mount -t tmpfs none /run && ip link add switch type bridge"]
        tools = all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip"))
        if not tools or subprocess.run(allowed, check=False, capture_output=True).returncode:
            pytest.skip("no network namespaces here: " + " ".join(allowed))
        self._switch = subprocess.Popen(
            ["unshare", "-rmn", "bash", "-c", SCRIPT, "network", str(self._own), *self._machines],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._switch.stdout is not None
        for _ in self._machines:
            machine, address, holder = next(self._switch.stdout).split()
            self.addresses[machine], self._holders[machine] = address, int(holder)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        """Ends whatever still runs on the machines, and the machines."""
        for machine in self._machines:
            for process in self.processes(machine):
                subprocess.run(["kill", "-KILL", str(process)], check=False, stderr=subprocess.DEVNULL)
        for program in self._started:
            program.wait(timeout=30)
        self._switch.communicate(timeout=30)

    def start(self, machine: str, command: list[str], environment: dict[str, str]) -> None:
        """Starts a program that runs on a machine until the context ends."""
        quiet = subprocess.DEVNULL
        self._started.append(
            subprocess.Popen([*self.on(machine), *command], env=environment, stdin=quiet, stdout=quiet, stderr=quiet)
        )

    def on(self, machine: str) -> list[str]:
        """What stands before a command that is to run on a machine."""
        return _enter(self._holders[machine])

    def processes(self, machine: str) -> list[int]:
        """What runs on a machine, but for the process that holds it."""
        held = Path(f"/proc/{self._holders[machine]}/ns/net").readlink()
        return [pid for pid in _pids() if pid != self._holders[machine] and _net_of(pid) == held]

    def cut(self, machine: str) -> None:
        """Takes a machine off the switch."""
        subprocess.run([*_enter(self._switch.pid), "ip", "link", "set", f"to-{machine}", "down"], check=True)


def _enter(pid: int) -> list[str]:
    return ["nsenter", "-t", str(pid), "-U", "-m", "-n", "--preserve-credentials", "--"]


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _net_of(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/ns/net").readlink()
    except OSError:
        return None  # it is gone, or not ours
