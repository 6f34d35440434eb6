"""The last table: a score of each kind of model in each stage, beside BM25, with its spread.

With several seeds the spread is the standard deviation over them: what another run would give. With one seed it is the
standard error over queries, by bootstrap: what other queries would give, which says nothing of other seeds.
"""

from __future__ import annotations

import fnmatch
import json
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from bgetrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from bgetrain.pipeline.config import SummaryConfig

__all__ = ["markdown", "per_query", "summarise"]

_DRAWS = 1_000


def summarise(
    config: SummaryConfig, scores: Path, queries: Callable[[str, str], NDArray[np.float64] | None]
) -> dict[str, Any]:
    """Gathers the scores of a finished pipeline.

    Where a model was searched with an instruction, that is the score that counts, since it is how the model is used.

    Args:
        config: which models go into which cell.
        scores: `scores.json` of `bgetrain evaluate --output_dir`.
        queries: (collection, label) → the metric of each query, float64 [N]; None where it is not known.

    Returns:
        `{"metric", "columns", "spread", "collections": [{"collection", "bm25", "rows": [{"name", "cells": [{"mean",
        "spread", "models"} or None]}]}], "mean": {"bm25", "rows"}}`; `spread` is `seeds`, `queries` or None. The mean
        is over collections, model by model.

    Raises:
        ConfigError: a pattern matches no model, or there is nothing with that metric.
    """
    told = json.loads(scores.read_text(encoding="utf-8"))
    # sentence pairs and means over collections stand there too
    reports = [
        one
        for one in told
        if one.get("kind") != "mean" and one["runs"] and all(config.metric in run for run in one["runs"])
    ]
    found = {report["collection"]: _by_model(report["runs"], config.metric) for report in reports}
    if not found:
        raise ConfigError(f"summary: no collection in {scores} has {config.metric}", hint="`evaluate` with --data")
    errors: dict[str, dict[str, float]] = {
        name: {
            model: error
            for model, (_, label) in values.items()
            if (error := _bootstrap(queries(name, label))) is not None
        }
        for name, values in found.items()
    }
    collections = [
        {"collection": name, **_rows(config, {model: score for model, (score, _) in values.items()}, errors[name])}
        for name, values in found.items()
    ]
    models = set.intersection(*map(set, found.values()))
    means = {model: statistics.mean(values[model][0] for values in found.values()) for model in models}
    # collections are independent of each other
    both = {
        model: float(np.sqrt(sum(errors[name][model] ** 2 for name in found)) / len(found))
        for model in models
        if all(model in errors[name] for name in found)
    }
    mean = _rows(config, means, both)
    cells = [cell for block in [*collections, mean] for row in block["rows"] for cell in row["cells"] if cell]
    seeds = any(cell["models"] > 1 for cell in cells)
    spread = "seeds" if seeds else "queries" if any(cell["spread"] is not None for cell in cells) else None
    return {
        "metric": config.metric,
        "columns": list(config.columns),
        "spread": spread,
        "collections": collections,
        "mean": mean,
    }


def per_query(
    runs: Path, qrels: Mapping[str, Mapping[str, Mapping[str, int]]], metric: str
) -> Callable[[str, str], NDArray[np.float64] | None]:
    """Reads the metric of each query from the TREC run files of `bgetrain evaluate`.

    Args:
        runs: the folder.
        qrels: collection → query → document → grade.
        metric: as `ndcg@10`.

    Returns:
        What `summarise` asks.
    """
    from bgetrain.ranking import score_run
    from bgetrain.trec_run import tag_of

    def read(collection: str, label: str) -> NDArray[np.float64] | None:
        path = runs / f"{collection}.{tag_of(label)}.run"
        if not path.is_file() or collection not in qrels:
            return None
        found: dict[str, list[tuple[str, float]]] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            query, _, document, _, score, _ = line.split()
            found.setdefault(query, []).append((document, float(score)))
        judged = {query: dict(grades) for query, grades in qrels[collection].items()}
        scored = score_run({query: found.get(query, []) for query in judged}, judged)
        return np.array([scored[query][metric] for query in judged], dtype=np.float64)

    return read


def _by_model(runs: list[dict[str, Any]], metric: str) -> dict[str, tuple[float, str]]:
    """Model → score, and the label of its run; of one with and without instruction the one with, which comes last."""
    ordered = sorted(runs, key=lambda run: bool(run["instruction"]))
    return {
        run["model"]: (float(run[metric]), run["model"] + ("+instruction" if run["instruction"] else ""))
        for run in ordered
    }


def _bootstrap(values: NDArray[np.float64] | None) -> float | None:
    """The standard deviation of the mean over draws of as many queries."""
    if values is None or len(values) < 2:
        return None
    drawn = np.random.default_rng(0).integers(0, len(values), (_DRAWS, len(values)))
    return float(values[drawn].mean(axis=1).std(ddof=1))


def _rows(config: SummaryConfig, values: dict[str, float], errors: dict[str, float]) -> dict[str, Any]:
    rows = []
    for row in config.rows:
        cells = []
        for pattern in row.models:
            names = sorted(name for name in values if fnmatch.fnmatchcase(name, pattern))
            if pattern and not names:
                raise ConfigError(f"summary.rows: {row.name}: no model is called {pattern}; found {', '.join(values)}")
            cells.append(_cell(names, values, errors) if names else None)
        rows.append({"name": row.name, "cells": cells})
    return {"bm25": values.get("BM25"), "rows": rows}


def _cell(names: list[str], values: dict[str, float], errors: dict[str, float]) -> dict[str, Any]:
    own = [values[name] for name in names]
    spread = statistics.stdev(own) if len(own) > 1 else errors.get(names[0])
    return {"mean": statistics.mean(own), "spread": spread, "models": len(own)}


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
    seeds = max(counts, default=1)
    spread = {
        "seeds": f"; ± is the standard deviation over {seeds} seeds",
        "queries": "; one seed, ± is the standard error over queries (bootstrap), and says nothing of other seeds",
    }.get(summary["spread"], "")
    return f"{table}\n\n{summary['metric']}{spread}"


def _shown(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    return f"{cell['mean']:.3f}" + (f" ± {cell['spread']:.3f}" if cell["spread"] is not None else "")
