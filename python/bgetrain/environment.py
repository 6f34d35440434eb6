"""What a run stood on, for its record and its report: versions and devices, no names of people, machines or folders."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import torch

from bgetrain.flops import device_name

if TYPE_CHECKING:
    from bgetrain.gather import Ranks

__all__ = ["environment"]

_PACKAGES = ("bgeprep", "torch", "transformers", "tokenizers", "numpy")


def environment(ranks: Ranks) -> dict[str, str | int]:
    """Name → version or value, in the order in which it is shown."""
    facts: dict[str, str | int] = {package: _version(package) for package in _PACKAGES}
    facts["python"] = platform.python_version()
    if ranks.device.type == "cuda":
        facts["cuda"] = str(torch.version.cuda or torch.version.hip)
    facts["device"] = device_name(ranks.device)
    facts["world_size"] = ranks.world_size
    facts["threads"] = torch.get_num_threads()
    facts["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"
