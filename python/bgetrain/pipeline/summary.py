"""The last table: a score of each kind of model in each stage, beside BM25, with its spread over seeds."""

from __future__ import annotations

import fnmatch
import json
import statistics
from typing import TYPE_CHECKING, Any

from bgetrain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from bgetrain.pipeline.config import SummaryConfig

__all__ = ["markdown", "summarise"]


def summarise(config: SummaryConfig, scores: Path) -> dict[str, Any]:
    """Gathers the scores of a finished pipeline.

    Where a model was searched with an instruction, that is the score that counts, since it is how the model is used.

    Args:
        config: which models go into which cell.
        scores: `scores.json` of `bgetrain evaluate --output_dir`.

    Returns:
        `{"metric", "columns", "collections": [{"collection", "bm25", "rows": [{"name", "cells": [{"mean", "spread",
        "models"} or None]}]}], "mean": {"bm25", "rows"}}`; a spread is the standard deviation over the models of a
        cell, None of one model. The mean is over collections, model by model.

    Raises:
        ConfigError: a pattern matches no model.
    """
    reports = json.loads(scores.read_text(encoding="utf-8"))
    found = [(report["collection"], _by_model(report["runs"], config.metric)) for report in reports]
    collections = [{"collection": name, **_rows(config, values)} for name, values in found]
    models = set.intersection(*(set(values) for _, values in found))
    means = {model: statistics.mean(values[model] for _, values in found) for model in models}
    return {
        "metric": config.metric,
        "columns": list(config.columns),
        "collections": collections,
        "mean": _rows(config, means),
    }


def _by_model(runs: list[dict[str, Any]], metric: str) -> dict[str, float]:
    """Label → score; of a model with and without instruction the one with, which comes last."""
    return {run["model"]: float(run[metric]) for run in sorted(runs, key=lambda run: bool(run["instruction"]))}


def _rows(config: SummaryConfig, values: dict[str, float]) -> dict[str, Any]:
    rows = []
    for row in config.rows:
        cells = []
        for pattern in row.models:
            names = sorted(name for name in values if fnmatch.fnmatchcase(name, pattern))
            if pattern and not names:
                raise ConfigError(f"summary.rows: {row.name}: no model is called {pattern}; found {', '.join(values)}")
            cells.append(_cell([values[name] for name in names]) if names else None)
        rows.append({"name": row.name, "cells": cells})
    return {"bm25": values.get("BM25"), "rows": rows}


def _cell(values: list[float]) -> dict[str, Any]:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "spread": spread, "models": len(values)}


def markdown(summary: dict[str, Any]) -> str:
    """The table as Markdown, a block of rows for each collection and one for their mean."""
    columns = summary["columns"]
    head = ["collection", "model", *columns]
    lines = [head, ["---", "---", *["---:"] * len(columns)]]
    counts = set()
    for block in [*summary["collections"], {"collection": "mean", **summary["mean"]}]:
        name = block["collection"]
        if block["bm25"] is not None:
            lines.append([name, "BM25", f"{block['bm25']:.3f}", *[""] * (len(columns) - 1)])
        for row in block["rows"]:
            counts |= {cell["models"] for cell in row["cells"] if cell}
            lines.append([name, row["name"], *map(_shown, row["cells"])])
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    table = "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)
    seeds = " or ".join(map(str, sorted(counts)))
    spread = "; ± is the standard deviation over seeds" if max(counts, default=1) > 1 else ""
    return f"{table}\n\n{summary['metric']}, mean over {seeds} seed{'s' if seeds != '1' else ''}{spread}"


def _shown(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    return f"{cell['mean']:.3f}" + (f" ± {cell['spread']:.3f}" if cell["spread"] is not None else "")
