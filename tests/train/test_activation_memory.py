"""Memory: the tiled loss at the published size, and how many tokens a run takes at once."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from bgetrain.activation_memory import Chunking, choose_chunking
from tests.train.tiny import tiny_encoder

_PROBE = """
import resource, sys, threading
import torch
from bgetrain.loss import Names, Rows, Seen, contrastive_loss

N, M, D = (int(word) for word in sys.argv[1:4])
generator = torch.Generator().manual_seed(0)
queries = torch.nn.functional.normalize(torch.randn(N, D, generator=generator), dim=1).requires_grad_()
documents = torch.nn.functional.normalize(torch.randn(M, D, generator=generator), dim=1).requires_grad_()
rows, places = torch.arange(N), torch.arange(M)
of = places * N // M
names = Names(rows + 10**9, rows, places, of, places[::2], of[::2])
own = places[:: M // N][:N]
local = Rows(rows, rows + 10**9, torch.ones(N, dtype=torch.bool), torch.zeros(N, dtype=torch.bool),
             torch.full((N,), 1 / N), rows, own, own, rows, 0, 0, M)
seen = Seen(None, documents, names)


def resident():
    with open("/proc/self/status") as status:
        return {line.split(":")[0]: line.split() for line in status}


# a first small pass, so that libraries and their thread pools are loaded before the measure begins
few = Names(*(part[:64] for part in (names.query_keys, names.query_rows, names.document_keys, names.document_rows,
                                     names.known_keys, names.known_rows)))
small = Rows(rows[:16], rows[:16] + 10**9, local.in_batch[:16], local.both_sides[:16], local.weights[:16],
             rows[:16], own[:16], own[:16], rows[:16], 0, 0, 64)
contrastive_loss(queries[:16], small, Seen(None, documents[:64], few), temperature=0.01).loss.backward()
queries.grad = documents.grad = None
before = int(resident()["VmRSS"][1])
open("/proc/self/clear_refs", "w").write("5")
found = contrastive_loss(queries, local, seen, temperature=0.01)
found.loss.backward()
print((int(resident()["VmHWM"][1]) - before) / 1024, float(found.loss.detach()))
"""


def test_the_published_batch_fits_in_half_a_gigabyte() -> None:
    # 32,784 queries and 65,568 documents would be 8.6 GB of scores; a tenth of the width keeps the test short, and
    # the vectors and gradients, all that grows with the width, are 10 bytes a number
    words = [sys.executable, "-c", _PROBE, "32784", "65568", "64"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=600).stdout.split()
    megabytes = float(printed[0])
    gradients = (32_784 + 65_568) * 4 / 2**20
    at_full_width = megabytes + gradients * (768 - 64)
    assert at_full_width < 500, f"{megabytes:.0f} MiB at width 64, {at_full_width:.0f} at 768"


def test_given_numbers_are_taken() -> None:
    encoder = tiny_encoder()
    words = {"longest": 16, "activation_memory": None, "bf16": False, "processes_here": 1}
    assert choose_chunking(encoder, micro_batch_tokens=64, grad_cache=True, **words) == Chunking(64, 0)
    assert choose_chunking(encoder, micro_batch_tokens=64, grad_cache=False, **words) == Chunking(64, None)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_kept_tokens_go_with_the_memory_given(checkpointing: bool) -> None:
    encoder = tiny_encoder(dropout=0.1)
    if checkpointing:
        encoder.checkpoint_activations()
    before = torch.get_rng_state()
    words = {"longest": 16, "micro_batch_tokens": 64, "grad_cache": None, "bf16": False, "processes_here": 1}
    little, much = (choose_chunking(encoder, activation_memory=memory, **words).keep_tokens for memory in (0.01, 1.0))
    assert little is not None
    assert much is not None
    assert 0 < little < much
    assert much / little == pytest.approx(100, rel=0.1)
    assert torch.equal(before, torch.get_rng_state())
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_checkpointing_keeps_more_tokens() -> None:
    words = {"longest": 16, "micro_batch_tokens": 64, "grad_cache": None, "bf16": False, "processes_here": 1}
    plain, checkpointed = tiny_encoder(), tiny_encoder()
    checkpointed.checkpoint_activations()
    kept = [choose_chunking(encoder, activation_memory=0.5, **words).keep_tokens for encoder in (plain, checkpointed)]
    assert kept[1] > 2 * kept[0]


def test_chunks_are_found_and_hold_the_longest_text() -> None:
    words = {"micro_batch_tokens": None, "grad_cache": None, "bf16": False, "processes_here": 2}
    assert choose_chunking(tiny_encoder(), longest=32, activation_memory=0.001, **words).chunk_tokens >= 32
    assert choose_chunking(tiny_encoder(), longest=32, activation_memory=4.0, **words).chunk_tokens == 4_096
