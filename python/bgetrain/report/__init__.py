"""A page about a training run: what it learned, how fast, what it scored on the way, and what stood it up.

```
metrics.jsonl ─┐
config.toml  ──┴─ story ─► dict ─► page ─► one HTML file that loads nothing
                                     └ sections ─ lines ─ bgeprep.report: frame, tables, markup
```

The page is a function of these two files alone: the trainer makes it while it runs, `bgetrain report` makes it again.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_report"]


def write_report(folder: str | Path, out: str | Path | None = None, *, title: str | None = None) -> Path:
    """Writes the page of a finished or running run.

    Args:
        folder: the run's output folder, which holds metrics.jsonl and config.toml.
        out: the file to write; `report.html` in the folder by default.
        title: what the page calls the run; the name of its folder by default.

    Returns:
        The file, which is there whole or as it was.

    Raises:
        ReportError: the folder holds no run, or a file of it is damaged.
        OSError: a file cannot be read or written.
    """
    from bgetrain.report.page import render
    from bgetrain.report.story import read_story

    place = Path(folder)
    target = Path(out) if out is not None else place / "report.html"
    page = render(read_story(place), title or place.resolve().name or "run")
    beside = target.with_name(f".{target.name}.part")
    try:
        # what is no UTF-8 in a folder's name is shown as a mark
        beside.write_text(page, encoding="utf-8", errors="replace", newline="\n")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return target
