"""The leading rows of raw files, for a trial of a pipeline on a laptop.

What cannot be cut is taken whole (`bgeprep.leading`).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from bgeprep.leading import copy_leading_rows
from bgetrain.pipeline.identity import hash_of, listing

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["leading_rows"]


def leading_rows(path: Path, share: float, folder: Path) -> Path:
    """A copy of a file or folder of which each file holds its first rows.

    Args:
        path: what is cut.
        share: of the rows, about, and at least `bgeprep.leading.FEWEST_ROWS`.
        folder: where copies are kept; the same cut of the same files is made once.

    Returns:
        The copy, of the same name and shape.

    Raises:
        OSError: something cannot be read or written.
    """
    there = listing(path)
    target = folder / hash_of([str(path.absolute()), there, share])[:12] / path.name
    if target.exists():
        return target
    beside = target.parent.with_name(f".{target.parent.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    for name, _, _ in there:
        source = path if path.is_file() else path / name
        copy = beside / path.name if path.is_file() else beside / path.name / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy_leading_rows(source, copy, share)
    shutil.rmtree(target.parent, ignore_errors=True)
    beside.replace(target.parent)
    return target
