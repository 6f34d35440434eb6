"""A page about a shard set: what went in, what stays, what went and why, with rows to look at.

```
manifest, rejects, first rows ─ figures ─► dict ─► page ─► one HTML file that loads nothing
                                └ samples ┘  │      └ sections, duplicates, texts ─ charts, tables ─ markup
                                             └───► report --json
```

The page is a function of the set and its title alone: no clock, no path, no random number.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bgeprep.shardset import ShardSet

__all__ = ["report"]


def report(
    path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, *, title: str | None = None
) -> dict[str, Any]:
    """Collects the figures of a shard set and writes them as a page for people.

    Args:
        path: the set's folder.
        out: the HTML file to write; None writes none.
        title: what the page calls the set; the name of its folder by default.

    Returns:
        What is on the page, as a dict that is JSON as it stands: `kind` (`pairs` or `text`; of a document `query`
        stands for its title and `pos` for its text), the counts and sources of `inspect`; `overlap`
        (`sources`, and `counts[i][j]`: what source i lost because a copy stays in source j), `similarity` (near
        duplicates by similarity), `lengths` (texts by characters), `near`, `benchmarks`, `scores` as the manifest
        has them or None, `benchmark_losses` by source, and `samples` (`pairs`, `dropped`, `kept`).

    Raises:
        ShardError: there is no complete set, or a file of it is damaged.
        OSError: the page cannot be written.
    """
    # Here, not above: `bgeprep shard` should not wait for what only the report needs.
    from bgeprep.report import figures, samples

    rows = ShardSet.open(path)
    found = figures.collect(rows)
    found["samples"] = samples.collect(rows)
    if out is not None:
        from bgeprep.report.page import render

        _write(Path(out), render(found, _name(path) if title is None else title))
    return found


def _name(path: str | os.PathLike[str]) -> str:
    """The folder's name as text; bytes that are no UTF-8 are replaced."""
    return os.fsencode(Path(path).resolve().name).decode("utf-8", "replace") or "shards"


def _write(out: Path, page: str) -> None:
    """Writes under another name first, so that a page that is there is whole."""
    beside = out.with_name(f".{out.name}.part")
    try:
        beside.write_text(page, encoding="utf-8", newline="\n")
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
