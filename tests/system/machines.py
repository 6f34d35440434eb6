"""A Ray cluster as a program: a head that does no task and two machines beside it, each a set of processes of its own.

It says in one line of JSON where it is and which processes its machines are, and ends with its standard input.
"""

from __future__ import annotations

import json
import sys

from ray.cluster_utils import Cluster

GIB = 1 << 30


def main() -> None:
    head = {"num_cpus": 0, "object_store_memory": 80 << 20, "memory": GIB, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    machines = [cluster.add_node(num_cpus=1, memory=2 * GIB, object_store_memory=80 << 20) for _ in range(2)]
    raylets = [machine.all_processes["raylet"][0].process.pid for machine in machines]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
