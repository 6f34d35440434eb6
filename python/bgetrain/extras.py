"""Packages and programs that only an option needs: looked for at the start of a run, before anything is written."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from typing import TYPE_CHECKING

from bgetrain.errors import LaunchError

if TYPE_CHECKING:
    from bgetrain.config import TrainConfig

__all__ = ["need", "need_compiler", "need_extras"]


def need_extras(config: TrainConfig) -> None:
    """Makes sure that what the options of a run need is there.

    Raises:
        LaunchError: a package or a program is not; the message names the flag.
    """
    if config.model.lora_rank:
        need("peft", wanted_by="--lora_rank", extra="lora")
    if config.run.report_to == "wandb":
        need("wandb", wanted_by="--report_to wandb", extra="wandb")
    if config.run.torch_compile:
        need_compiler()


def need(package: str, *, wanted_by: str, extra: str) -> None:
    """Makes sure that an optional package is installed, without importing it.

    Args:
        package: its import name.
        wanted_by: the flag that needs it.
        extra: the extra of bgeprep that installs it.

    Raises:
        LaunchError: it is not.
    """
    # a module that is loaded already need not come from a file
    if sys.modules.get(package) is None and importlib.util.find_spec(package) is None:
        raise LaunchError(
            f"{wanted_by} needs the package {package}, which is not installed", hint=f"pip install 'bgeprep[{extra}]'"
        )


def need_compiler() -> None:
    """Makes sure that torch finds a C++ compiler, which its own compiler calls.

    Raises:
        LaunchError: there is none.
    """
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    if not any(name and shutil.which(name) for name in names):
        raise LaunchError(
            "--torch_compile needs a C++ compiler, and there is none",
            hint="install g++, or name another in the environment variable CXX, or leave out --torch_compile",
        )
