"""A setting with what it may be: the fields of `config`, and the check that each section makes of its own."""

from __future__ import annotations

import math
from dataclasses import field, fields
from typing import Any

from bgetrain.errors import ConfigError

__all__ = ["check", "setting"]


def setting(
    default: Any,  # noqa: ANN401 - the type is that of the field
    text: str,
    *,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    flags: tuple[str, ...] = (),
    words: dict[str, bool] | None = None,
    hint: str = "",
) -> Any:  # noqa: ANN401 - as `dataclasses.field`
    """A field of a settings dataclass.

    Args:
        default: where nothing is given.
        text: what it is, for `--help`.
        choices: all values that it may have.
        low: the least value.
        above: what every value exceeds.
        high: the largest value.
        flags: other names of it.
        words: texts that stand for a value.
        hint: what to do where a value has another type.

    Returns:
        What `dataclasses.field` makes, the rest as its metadata.
    """
    limits = {"choices": choices, "low": low, "above": above, "high": high}
    return field(default=default, metadata={"help": text, "flags": flags, "words": words or {}, "hint": hint, **limits})


def check(section: object) -> None:
    """Holds each value of a section against its limits.

    Raises:
        ConfigError: one lies outside; the message names its flag.
    """
    for item in fields(section):  # type: ignore[arg-type]
        value, limits = getattr(section, item.name), item.metadata
        if value is None:
            continue
        expected = ""
        if limits["choices"] is not None and value not in limits["choices"]:
            expected = f"one of {', '.join(limits['choices'])}"
        elif limits["low"] is not None and not value >= limits["low"]:
            expected = f"at least {limits['low']}"
        elif limits["above"] is not None and not value > limits["above"]:
            expected = f"above {limits['above']}"
        elif limits["high"] is not None and not value <= limits["high"]:
            expected = f"at most {limits['high']}"
        elif isinstance(value, float) and not math.isfinite(value):
            expected = "a finite number"
        if expected:
            raise ConfigError(f"--{item.name} {value}: expected {expected}")
