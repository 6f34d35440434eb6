"""What numbers are computed in: half precision for the transformer, plain fp32 whatever the program has set."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgetrain.config import RunConfig

__all__ = ["half_precision", "plain_fp32", "precision_in_words"]


def half_precision(device: torch.device, *, bf16: bool, fp16: bool = False) -> torch.autocast:
    """The autocast that the transformer runs under; off where neither is wished."""
    return torch.autocast(device.type, dtype=torch.float16 if fp16 else torch.bfloat16, enabled=bf16 or fp16)


def precision_in_words(run: RunConfig) -> str:
    """What the user is told."""
    return "fp16 on" if run.fp16 else f"bf16 {'on' if run.bf16 else 'off'}"


@contextlib.contextmanager
def plain_fp32() -> Iterator[None]:
    """Matrix products in IEEE fp32 inside the block: TF32 keeps 10 bits, which temperature 0.01 shows.

    The setting is that of the process; it comes back at the end of the block.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
