"""A shard set as FlagEmbedding's JSON lines, so that its rows can go to other trainers.

One object a row: `query`, `pos`, `neg`, and where there are such `pos_scores`, `neg_scores`, `id`, `prompt` (the row's
own, else its source's instruction on retrieval queries) and `type` (`normal`, `symmetric_sts`, `symmetric_class`, after
the task of the source). `bgeprep shard` reads the same fields.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from bgeprep.errors import ShardError
from bgeprep.shardset import ShardSet

__all__ = ["lines", "record", "write_jsonl"]

_TYPES = {"retrieval": "normal", "symmetric": "symmetric_sts", "classification": "symmetric_class"}


def record(row: dict[str, Any], *, instruction: str = "", task: str | None = None) -> dict[str, Any]:
    """The object of a row.

    Args:
        row: as a `ShardSet` gives it.
        instruction: that of its source; used where the row has no `prompt` and the task is retrieval.
        task: that of its source; None leaves `type` and the instruction out.
    """
    made: dict[str, Any] = {name: row[name] for name in ("query", "pos", "neg")}
    # a score that one of them lacks cannot be said there: then none is
    made |= {name: row[name] for name in ("pos_scores", "neg_scores") if row[name] and None not in row[name]}
    prompt = row["prompt"] or (instruction if task == "retrieval" else "")
    made |= {name: value for name, value in (("id", row["id"]), ("prompt", prompt)) if value}
    return made | ({"type": _TYPES[task]} if task else {})


def lines(
    rows: ShardSet,
    only: Iterable[str] = (),
    *,
    change: Callable[[int, dict[str, Any]], dict[str, Any]] = lambda place, row: row,
) -> Iterator[str]:
    """The lines of a set, in set order, each with its line break.

    Args:
        rows: a set of pairs, or of texts: those become `{"text", "title"}`.
        only: names of the sources to write; none writes all.
        change: gets place and row, and returns the row that is written.

    Raises:
        ShardError: the set has no such source, or is damaged.
    """
    wanted, sources = set(only), rows.sources
    missing = sorted(wanted - {source["name"] for source in sources})
    if missing:
        names = ", ".join(source["name"] for source in sources)
        raise ShardError(f"{rows.path}: has no source {missing[0]}; it has {names}", rows.path)
    texts = rows.kind == "text"
    for source in sources:
        if wanted and source["name"] not in wanted:
            continue
        for place in range(source["first"], source["first"] + source["rows"]):
            row = change(place, rows[place])
            if texts:
                made = {"text": row["text"]} | ({"title": row["title"]} if row["title"] else {})
            else:
                made = record(row, instruction=source["instruction"] or "", task=source["task"])
            yield json.dumps(made, ensure_ascii=False) + "\n"


def write_jsonl(
    shards: str | os.PathLike[str], out: str | os.PathLike[str] | IO[str], *, only: Iterable[str] = ()
) -> tuple[int, int]:
    """Writes a set to a file, which is there whole or not at all, or to an open text stream.

    Args:
        shards: the set's folder.
        out: the file, or the stream.
        only: names of the sources to write; none writes all.

    Returns:
        Rows written, and how many of them have no negative: FlagEmbedding's trainer refuses those.

    Raises:
        ShardError: there is no such set or source, or the set is damaged.
        OSError: the file cannot be written.
    """
    rows = ShardSet.open(shards)
    if not isinstance(out, (str, os.PathLike)):
        return _write(rows, out, only)
    target = Path(out)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            counts = _write(rows, file, only)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return counts


def _write(rows: ShardSet, file: IO[str], only: Iterable[str]) -> tuple[int, int]:
    written = bare = 0
    for line in lines(rows, only):
        file.write(line)
        written += 1
        bare += '"neg": []' in line
    return written, bare
