"""Run files as trec_eval reads them: a line for each document found, `query Q0 document rank score tag`.

trec_eval takes white space between columns, so an id that holds some cannot stand in such a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bgetrain.errors import BgetrainError
from bgetrain.ranking import trec_order
from bgetrain.resumable import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bgetrain.ranking import Run

__all__ = ["RunFileError", "id_with_white_space", "read_run", "tag_of", "write_run"]


class RunFileError(BgetrainError, ValueError):
    """A run file that cannot be read; the message names file and line."""


def tag_of(label: str) -> str:
    """What a system is called in a run file and in file names: letters, digits and `+-_.` alone."""
    return "".join(letter if letter.isalnum() or letter in "+-_." else "_" for letter in label)


def id_with_white_space(ids: Iterable[str]) -> str | None:
    """The first id that a run file cannot hold, None where there is none."""
    return next((name for name in ids if len(name.split()) != 1 or name != name.strip()), None)


def write_run(path: Path, run: Run, tag: str) -> None:
    """Writes a run, whole or not at all.

    Args:
        path: the file.
        run: what was found; the ids without white space.
        tag: the last column, without white space.

    Raises:
        OSError: it cannot be written.
    """
    lines = []
    for query, documents in run.items():
        scores = dict(documents)
        for rank, document in enumerate(trec_order(documents), start=1):
            # Nine digits: as many as tell two 32-bit floats apart.
            lines.append(f"{query} Q0 {document} {rank} {scores[document]:.9g} {tag}\n")
    write_whole(path, lambda file: file.write("".join(lines).encode()))


def read_run(path: str | Path) -> dict[str, list[tuple[str, float]]]:
    """Reads a run file.

    Returns:
        query id → (document id, score), in the order of the file.

    Raises:
        RunFileError: a line is not of six columns, or its score is no number.
        OSError: it cannot be read.
    """
    run: dict[str, list[tuple[str, float]]] = {}
    number, line = 0, ""
    try:
        with Path(path).open(encoding="utf-8") as lines:
            for line in lines:
                number += 1
                query, _, document, _, score, _ = line.split()
                run.setdefault(query, []).append((document, float(score)))
    except ValueError:
        message = f"{path}:{number}: expected `query Q0 document rank score tag`, found {line.strip()[:80]!r}"
        raise RunFileError(message, path=str(path)) from None
    return run
