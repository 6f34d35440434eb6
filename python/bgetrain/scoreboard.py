"""The scores of several systems beside each other: one table for each thing they were measured on.

A table compares all its rows to one: the first model as it will be used, with its instruction where it has one. Each
other row gets its difference on the metric that decides, with a 95 % interval (`bootstrap`), and what it does worst
(`worst_cases`): against that row, and the row itself against BM25.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bgetrain.bootstrap import Difference, mean_difference, score_difference
from bgetrain.errors import ConfigError
from bgetrain.evaluate import describe
from bgetrain.ranking import METRICS
from bgetrain.similarity import PAIR_METRICS, STS_METRICS, main_score
from bgetrain.worst_cases import add_texts, judged_ranks, worst_pairs, worst_queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from bgetrain.collection import Collection
    from bgetrain.evaluate import Scores
    from bgetrain.ranking import Run
    from bgetrain.sentence_pairs import SentencePairs
    from bgetrain.worst_cases import Ranks

__all__ = [
    "BM25",
    "PairTable",
    "RetrievalTable",
    "Row",
    "Table",
    "TaskTable",
    "as_text",
    "heading",
    "labels_of",
    "mean_table",
    "reports_of",
]

BM25 = "BM25"

_BINS = 10
"""Steps of 0.2 in which differences of a query are counted."""


@dataclass(slots=True)
class Row:
    """One system on one thing.

    Attributes:
        model: what it is called.
        instruction: what was put before queries; empty for nothing.
        scores: metric → value.
        values: what the difference is drawn from: nDCG@10 of each query, or the cosine of each pair, float64 [N].
        difference: to the row that is compared to.
        worst: what it does worst, filled where asked for.
        against: what `worst` is held against, None for what people said.
    """

    model: str
    instruction: str
    scores: dict[str, float]
    values: NDArray[np.float64]
    difference: Difference | None = None
    worst: list[dict[str, Any]] = field(default_factory=list)
    against: Row | None = None

    @property
    def name(self) -> str:
        """What it is called with what was put before its queries."""
        return f"{self.model} with instruction" if self.instruction else self.model


class Table:
    """Rows measured on the same.

    Attributes:
        kind: `retrieval`, `sts`, `pairs`, `mteb` or `mean`.
        name: of what was measured on.
        metrics: those that are shown.
        decides: the one whose differences are given.
        facts: what is said of it besides, JSON-able.
        rows: the systems, in the order in which they are shown.
        base: the row that the others are compared to; None before there is one.
    """

    def __init__(self, kind: str, name: str, metrics: Sequence[str], decides: str, facts: Mapping[str, Any]) -> None:
        """Has no rows yet."""
        self.kind = kind
        self.name = name
        self.metrics = tuple(metrics)
        self.decides = decides
        self.facts = dict(facts)
        self.rows: list[Row] = []
        self.base: Row | None = None

    def compare(self, row: Row) -> Difference | None:
        """The difference of a row to the base; None where nothing can be drawn again."""
        return None

    def settle(self) -> None:
        """Fills the differences, when all rows are there."""
        for row in self.rows:
            if self.base is not None and row is not self.base:
                row.difference = self.compare(row)

    def as_json(self) -> dict[str, Any]:
        """The table as `--json` prints it."""
        report = {"kind": self.kind, "collection": self.name, **self.facts}
        report |= {"metrics": list(self.metrics), "decides": self.decides}
        if self.base is not None:
            report["compared_to"] = {"model": self.base.model, "instruction": self.base.instruction}
        return report | {"runs": [self._row_as_json(row) for row in self.rows]}

    def _row_as_json(self, row: Row) -> dict[str, Any]:
        found: dict[str, Any] = {"model": row.model, "instruction": row.instruction, **row.scores}
        if row.difference is not None:
            each = row.difference
            found["difference"] = {"value": each.value, "low": each.low, "high": each.high}
        if row.worst:
            against = row.against
            found["against"] = against and {"model": against.model, "instruction": against.instruction}
            found["worst"] = row.worst
        return found


class RetrievalTable(Table):
    """Systems on one collection."""

    def __init__(self, collection: Collection, *, worst: int) -> None:
        """Has no rows yet; `worst` is how many queries each is to be looked at by."""
        super().__init__("retrieval", collection.name, METRICS, METRICS[0], describe(collection))
        self._collection = collection
        self._worst = worst
        self._bm25: Row | None = None
        # of the rows that others are held against
        self._ranks: dict[str, Ranks] = {}

    def add_bm25(self, scores: dict[str, float], by_query: Scores, run: Run) -> None:
        """Adds the baseline; before any model."""
        self._bm25 = Row(BM25, "", scores, self._values(by_query))
        self._ranks[self._bm25.name] = judged_ranks(run, self._collection.qrels)
        self.rows.append(self._bm25)

    def add_model(
        self, model: str, result: Mapping[str, Any], by_query: Mapping[str, Scores], runs: Mapping[str, Run]
    ) -> None:
        """Adds the forms of a model that were measured.

        Args:
            model: what it is called.
            result: from `evaluate`.
            by_query: from `evaluate`, by `without` and `with`.
            runs: the same, of all queries.
        """
        rows = {
            form: Row(model, result["instruction"] if form == "with" else "", result[form], self._values(scores))
            for form, scores in by_query.items()
        }
        self.rows += rows.values()
        if self.base is None:
            form = "with" if "with" in rows else "without"
            self.base = rows[form]
            self._ranks[self.base.name] = judged_ranks(runs[form], self._collection.qrels)
        for form, row in rows.items():
            row.against = self.base if row is not self.base else self._bm25
            if row.against is not None and self._worst:
                own, other = (dict(zip(self._collection.queries, each.values.tolist(), strict=True))
                              for each in (row, row.against))  # fmt: skip
                beside = self._ranks[row.against.name]
                row.worst = worst_queries(self._collection, runs[form], own, other, beside, self._worst)

    def compare(self, row: Row) -> Difference | None:
        """Draws queries."""
        return mean_difference([row.values - self.base.values]) if self.base else None

    def settle(self) -> None:
        """Fills the differences, and the texts of what was found wrongly."""
        super().settle()
        add_texts(self._collection, [case for row in self.rows for case in row.worst])

    def _row_as_json(self, row: Row) -> dict[str, Any]:
        found = super()._row_as_json(row)
        if row.difference is not None and self.base is not None:
            change = row.values - self.base.values
            # queries that score the same are in no bin
            counts = np.histogram(change[change != 0], bins=np.linspace(-1, 1, _BINS + 1))[0]
            found["difference"] |= {
                "better": int((change > 0).sum()),
                "worse": int((change < 0).sum()),
                "histogram": counts.tolist(),
            }
        return found

    def _values(self, by_query: Scores) -> NDArray[np.float64]:
        return np.array([by_query[query][self.decides] for query in self._collection.queries], dtype=np.float64)


class PairTable(Table):
    """Models on one file of sentence pairs."""

    def __init__(self, pairs: SentencePairs, *, worst: int) -> None:
        """Has no rows yet; `worst` is how many pairs each is to be looked at by."""
        facts: dict[str, Any] = {"pairs": len(pairs)}
        if pairs.kind == "pairs":
            facts |= {"positives": int(pairs.labels.sum()), "left_out": pairs.left_out}
        self._score = main_score(pairs.kind)[1]
        metrics = STS_METRICS if pairs.kind == "sts" else PAIR_METRICS
        super().__init__(pairs.kind, pairs.name, metrics, main_score(pairs.kind)[0], facts)
        self._pairs = pairs
        self._worst = worst

    def add_model(self, model: str, scores: dict[str, float], cosines: NDArray[np.float64]) -> None:
        """Adds a model."""
        row = Row(model, "", scores, cosines, worst=worst_pairs(self._pairs, cosines, self._worst))
        self.base = self.base or row
        self.rows.append(row)

    def compare(self, row: Row) -> Difference | None:
        """Draws pairs."""
        return score_difference(self._score, row.values, self.base.values, self._pairs.labels) if self.base else None


class TaskTable(Table):
    """Models on one task of mteb, which gives its score alone."""

    def __init__(self, name: str, metric: str, facts: Mapping[str, Any]) -> None:
        """Has no rows yet."""
        super().__init__("mteb", name, (metric,), metric, facts)

    def add_model(self, model: str, instruction: str, score: float) -> None:
        """Adds a model."""
        self.rows.append(Row(model, instruction, {self.decides: score}, np.zeros(0)))


def mean_table(tables: Sequence[Table]) -> Table | None:
    """The means over the collections of systems that were measured on all; None where there are not two collections."""
    own = [table for table in tables if isinstance(table, RetrievalTable)]
    if len(own) < 2:
        return None
    mean = Table("mean", "mean", METRICS, METRICS[0], {"over": [table.name for table in own]})
    by_name = [{row.name: row for row in table.rows} for table in own]
    bases = [table.base for table in own]
    for row in own[0].rows:
        rows = [names[row.name] for names in by_name if row.name in names]
        if len(rows) < len(own):
            continue
        scores = {metric: float(np.mean([each.scores[metric] for each in rows])) for metric in METRICS}
        entry = Row(row.model, row.instruction, scores, np.zeros(0))
        if row is bases[0]:
            mean.base = entry
        elif all(base is not None for base in bases):
            change = [each.values - base.values for each, base in zip(rows, bases, strict=True) if base is not None]
            entry.difference = mean_difference(change)
        mean.rows.append(entry)
    return mean


def reports_of(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """All tables as `--json` prints them, settled, the means last."""
    for table in tables:
        table.settle()
    mean = mean_table(tables)
    return [table.as_json() for table in (*tables, *([mean] if mean else []))]


def heading(report: Mapping[str, Any]) -> str:
    """What a table is of, in a line."""
    name = report["collection"]
    if report["kind"] == "retrieval":
        sizes = (f"{report[key]:,} {key}" for key in ("documents", "queries", "judgements"))
        return f"{name} ({report['split']}): {', '.join(sizes)}"
    if report["kind"] == "sts":
        return f"{name} (STS): {report['pairs']:,} pairs"
    if report["kind"] == "pairs":
        left = f", {report['left_out']:,} without label left out" if report["left_out"] else ""
        return f"{name} (pairs): {report['pairs']:,} pairs, {report['positives']:,} of them 1{left}"
    if report["kind"] == "mteb":
        return f"{name} (by mteb, {', '.join(report['splits'])})"
    return f"mean of {len(report['over'])} collections"


def as_text(reports: Sequence[Mapping[str, Any]]) -> str:
    """Aligned columns, one block for each table; differences where several models are compared."""
    return "\n\n".join(_block(report) for report in reports)


def _block(report: Mapping[str, Any]) -> str:
    runs = report["runs"]
    several = len({row["model"] for row in runs} - {BM25}) > 1 and any("difference" in row for row in runs)
    head = ["model", "instruction", *report["metrics"]]
    rows = [head + ([f"{report['decides']} against the first, 95 %"] if several else [])]
    for row in runs:
        instructed = "with" if row["instruction"] else "without"
        # sentence pairs never have one
        form = "-" if row["model"] == BM25 or report["kind"] in {"sts", "pairs"} else instructed
        cells = [row["model"], form, *(f"{row[metric]:.4f}" for metric in report["metrics"])]
        if several:
            each = row.get("difference")
            cells.append(f"{each['value']:+.4f} ({each['low']:+.4f} … {each['high']:+.4f})" if each else "")
        rows.append(cells)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join([heading(report), *lines])


def labels_of(models: Sequence[str]) -> list[str]:
    """The last name of each model, or as many of its last names as tell it from the others.

    Raises:
        ConfigError: a model is given twice.
    """
    parts = [Path(model).resolve().parts if Path(model).is_dir() else tuple(model.split("/")) for model in models]
    if len(set(parts)) < len(parts):
        raise ConfigError(f"--model: a model is given twice: {', '.join(models)}")
    labels = []
    for own in parts:
        # `model` and `final` say nothing of which model it is.
        depth = 2 if own[-1] in {"model", "final", "export"} and len(own) > 1 else 1
        while any(other != own and other[-depth:] == own[-depth:] for other in parts):
            depth += 1
        labels.append("/".join(own[-depth:]))
    return labels
