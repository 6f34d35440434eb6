"""Flags that several verbs have, and how they are read."""

from __future__ import annotations

import argparse

__all__ = ["add_computing", "natural", "positive"]


def positive(text: str) -> int:
    """A whole number of at least 1, as an argparse type."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def natural(text: str) -> int:
    """A whole number of at least 0, as an argparse type."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, found {text!r}")
    return int(text)


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say how a model computes, the same for all verbs that only read it."""
    add = parser.add_argument
    add(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="of the transformer's products; bf16 is several times faster on a GPU (default: fp32)",
    )
    add("--batch_tokens", type=positive, metavar="N", help="tokens computed at once (default: 16384; 4096 on a CPU)")
    add("--use_cpu", action="store_true", help="stay on the CPU where a GPU is present")
