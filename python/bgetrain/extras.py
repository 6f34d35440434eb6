"""Packages that only an option needs: looked for at the start of a run, before anything is written."""

from __future__ import annotations

import importlib.util
import sys

from bgetrain.errors import LaunchError

__all__ = ["need"]


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
