"""Amounts as people read and write them: bytes, hours, large counts."""

from __future__ import annotations

import re

from bgeprep.errors import ConfigError

__all__ = ["byte_text", "parse_amount", "time_text"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}


def byte_text(number: float) -> str:
    """Bytes in the largest unit of a thousand that leaves a digit before the point."""
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1000
    return ""


def time_text(seconds: float) -> str:
    """Seconds in seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:,.2g} s" if seconds < 1 else f"{seconds:,.1f} s"
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def parse_amount(text: str, name: str) -> float:
    """`"1e9"`, `"400GB"`, `"1.5T"` or `"3GiB"` → a number.

    Args:
        text: what was given.
        name: of the setting, for the error.

    Raises:
        ConfigError: no such amount, or one that is not above 0.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\+?\d+)?)\s*([kmgtp]?)(i?)b?", text.strip().replace("_", "").lower())
    if not found or (found[3] and not found[2]):
        raise ConfigError(f"{name}: expected a number such as 1e9, 400GB or 3GiB, found {text!r}")
    amount = float(found[1]) * (_BINARY[found[2]] if found[3] else _UNITS[found[2]])
    if not 0 < amount < float("inf"):
        raise ConfigError(f"{name}: expected more than 0, found {text!r}")
    return amount
