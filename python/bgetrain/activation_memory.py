"""How many tokens the encoder takes at once, and of how many the graphs fit in memory.

Both are measured at the start on one small chunk of the longest texts, in training mode, with the run's precision and
checkpointing. On a GPU the allocator is asked; on a CPU the tensors that autograd saves are counted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bgetrain.gather import exchange
from bgetrain.padding import TokenRows
from bgetrain.precision import half_precision

if TYPE_CHECKING:
    from torch import Tensor

    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks

__all__ = ["Chunking", "agreed_chunking", "choose_chunking"]

_CPU_CHUNK = 4_096
"""A CPU is no faster with more tokens at once, and its caches are small."""

_GPU_CHUNK = 65_536
"""A GPU is full with this many tokens; more only takes memory."""

_PROBE_TOKENS = 2_048
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a batch goes through the encoder.

    Attributes:
        chunk_tokens: most tokens at once, padding included.
        keep_tokens: most tokens whose graphs are kept until the backward pass; None for all, 0 for none. It decides
            time and memory, and no bit of the result.
    """

    chunk_tokens: int
    keep_tokens: int | None = None


def agreed_chunking(encoder: Encoder, ranks: Ranks, **wishes: Any) -> Chunking:  # noqa: ANN401 - those of choose_chunking
    """`choose_chunking` on every rank, and the smallest chunk of all: it is stored, and decides the last bits."""
    chunking = choose_chunking(encoder, **wishes, processes_here=int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return replace(chunking, chunk_tokens=min(tokens for (tokens,) in exchange([chunking.chunk_tokens], ranks)))


def choose_chunking(
    encoder: Encoder,
    *,
    longest: int,
    micro_batch_tokens: int | None,
    grad_cache: bool | None,
    activation_memory: float | None,
    bf16: bool,
    processes_here: int,
    fp16: bool = False,
    divided_by: int = 1,
) -> Chunking:
    """Measures where needed, and leaves weights, gradients and random states as they were.

    Args:
        encoder: on its device, checkpointing switched on where it will be.
        longest: tokens of the longest text.
        micro_batch_tokens: tokens at once, or None to find them.
        grad_cache: True keeps no graph but the one in work, False keeps all, None keeps what fits.
        activation_memory: GiB for graphs, or None for what is free.
        bf16: whether the transformer runs under bfloat16 autocast.
        processes_here: processes that share this machine's memory.
        fp16: whether it runs under float16 autocast instead.
        divided_by: processes over which weights and moments will be divided after the measurement.

    Returns:
        The chunking.
    """
    if grad_cache is not None and micro_batch_tokens is not None:
        return Chunking(micro_batch_tokens, 0 if grad_cache else None)
    held, peak = _bytes_per_token(encoder, longest, bf16=bf16, fp16=fp16)
    if activation_memory is not None:
        room = activation_memory * _GIB
    elif encoder.device.type == "cuda":
        # gradients and both moments of AdamW are still to come; divided, whole gradients come where whole weights go
        weights = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
        to_come = 12 * weights if divided_by == 1 else 16 * weights // divided_by
        room = 0.85 * torch.cuda.mem_get_info(encoder.device)[0] - to_come
    else:
        room = _available_memory() / 4 / processes_here
    most = _CPU_CHUNK if encoder.device.type == "cpu" else _GPU_CHUNK
    chunk = micro_batch_tokens or max(longest, min(most, int(room / 2 / peak) // 1_024 * 1_024))
    keep = max(0, int((room - chunk * peak) / held))
    return Chunking(chunk, {True: 0, False: None, None: keep}[grad_cache])


def _bytes_per_token(encoder: Encoder, longest: int, *, bf16: bool, fp16: bool) -> tuple[float, float]:
    """What a token takes while its graph is kept, and at most while it is computed forth and back."""
    device = encoder.device
    rows = max(1, _PROBE_TOKENS // longest)
    texts = TokenRows(np.zeros(rows * longest, dtype=np.int64), np.arange(rows + 1, dtype=np.int64) * longest)
    cuda = device.type == "cuda"
    training = encoder.training
    with torch.random.fork_rng([device] if cuda else []):
        encoder.train()
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        saved = _Saved(encoder)
        with (
            half_precision(device, bf16=bf16, fp16=fp16),
            torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack),
        ):
            vectors, _ = encoder.forward_rows(texts, np.arange(rows))
        held = saved.bytes + _layer_inputs(encoder, rows * longest)
        peak = 2 * held
        if cuda:
            held = torch.cuda.memory_allocated(device) - before
            trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
            gradients = torch.autograd.grad(vectors.sum(), trained, allow_unused=True)
            weights = sum(gradient.nbytes for gradient in gradients if gradient is not None)
            peak = max(held, torch.cuda.max_memory_allocated(device) - before - weights)
            del gradients
        encoder.train(training)
    return max(1.0, held / (rows * longest)), max(1.0, peak / (rows * longest))


class _Saved:
    """Counts the bytes that autograd keeps, each storage once, weights not at all."""

    def __init__(self, encoder: Encoder) -> None:
        self.bytes = 0
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in (*encoder.parameters(), *encoder.buffers())}
        self._alive: list[Tensor] = []

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            # held, so that no other tensor takes its address
            self._alive.append(tensor)
            self.bytes += storage.nbytes()
        return tensor

    def unpack(self, tensor: Tensor) -> Tensor:
        return tensor


def _layer_inputs(encoder: Encoder, tokens: int) -> int:
    """The input of each layer, which checkpointing keeps without telling autograd."""
    if not encoder.checkpointed:
        return 0
    return int(encoder.layers * encoder.dimension * tokens * 4)


def _available_memory() -> int:
    """Bytes that this machine, or the control group of this process, could still give."""
    found = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found = int(line.split()[1]) * 1024
    limit, used = "".join(_lines("/sys/fs/cgroup/memory.max")), "".join(_lines("/sys/fs/cgroup/memory.current"))
    if limit.strip().isdigit() and used.strip().isdigit():
        found = min(found, max(0, int(limit) - int(used)))
    return found


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
