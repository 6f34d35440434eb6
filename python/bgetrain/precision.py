"""Products in plain fp32, whatever the rest of the program has set."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["plain_fp32"]


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
