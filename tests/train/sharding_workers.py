"""What the ranks of a divided encoder run. A module of its own, since spawned processes import it by name."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist

from bgetrain.gather import Ranks
from bgetrain.main import main
from bgetrain.sharding import Sharding, local, shard
from tests.train.conftest import install_fake_data
from tests.train.retromae_workers import step_gradient
from tests.train.tiny import tiny_encoder
from tests.train.workers import Scenario, gradient


def run_gradients(rank: int, world_size: int, folder: str, scenarios: dict[str, Scenario | dict[str, Any]]) -> None:
    """Saves the gradient of every scenario, and how often this rank reduced in each; see `workers.run_rank`.

    A scenario of pre-training is the words of `step_gradient`.
    """
    torch.set_num_threads(1)
    meet, patience = f"file://{folder}/meet", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=world_size, timeout=patience)
    ranks = Ranks(rank=rank, world_size=world_size, local_rank=rank)
    # by its later name where torch has it
    called = "reduce_scatter_single" if hasattr(dist, "reduce_scatter_single") else "reduce_scatter_tensor"
    reduce, counts, found = getattr(dist, called), Counter[str](), {}

    def counted(*arguments: object, **words: object) -> object:
        counts[name] += 1
        return reduce(*arguments, **words)

    def never(sharding: Sharding, wish: bool) -> None:
        """A control: gradients stay where they are."""
        sharding._root.set_requires_gradient_sync(False)

    for name, scenario in scenarios.items():
        with mock.patch.object(dist, called, counted):
            if isinstance(scenario, dict):
                found[name] = step_gradient(ranks=ranks, fsdp=True, **scenario)
            elif name == "never reduced":
                with mock.patch.object(Sharding, "reduce_next", never):
                    found[name] = gradient(scenario, ranks)
            else:
                found[name] = gradient(scenario, ranks)
    encoder = tiny_encoder()
    total = encoder.num_parameters
    encoder.sharding = shard(encoder, encoder.backbone, layers=encoder.layers, ranks=ranks, bf16=False)
    counts["held"] = sum(local(weight).numel() for weight in encoder.parameters())
    counts["total"] = total
    torch.save(found, Path(folder) / f"rank-{rank}.pt")
    (Path(folder) / f"reduced-{rank}.json").write_text(json.dumps(counts))
    dist.destroy_process_group()


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def run_main(rank: int, world_size: int, ports: list[int], runs: list[list[str]]) -> None:
    """Trains for each list of flags, as torchrun would start this rank; on rows in memory where no data is named."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "LOCAL_WORLD_SIZE": str(world_size)}
    for port, flags in zip(ports, runs, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        with pytest.MonkeyPatch.context() as patch:
            if "--data" not in flags:
                install_fake_data(patch)()
            # what breaks the weights has to end the run on all ranks
            assert main(flags) == (1 if "1e20" in flags else 0), flags
