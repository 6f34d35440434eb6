"""The figures of a report, from the manifest, the rejects and a bounded look at the rows.

Everything here is a function of the set's bytes: the manifest is taken as it stands, rejects are counted by
streaming queries that hold no more than their groups, and lengths come from the first rows of each source, which
are a random sample because rows are shuffled.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgeprep.errors import ShardError
from bgeprep.report.reasons import DUPLICATES

if TYPE_CHECKING:
    import polars as pl

    from bgeprep.shardset import ShardSet

__all__ = [
    "LENGTH_EDGES",
    "as_pair",
    "collect",
    "length_histograms",
    "reject_figures",
    "reject_files",
    "scan_rejects",
    "streamed",
]

#: Rows that are looked at for lengths: over all sources, and at least and at most of one.
ROWS_IN_ALL = 40_000
ROWS_OF_A_SOURCE = (200, 5_000)
#: Lower edges of the length bins in characters, half an octave each; the last bin is open.
LENGTH_EDGES = tuple(sorted({round(2 ** (step / 2)) for step in range(2, 35)}))
#: Places behind the point at which similarities are binned.
_HUNDREDTH = 100
_OF_A_SOURCE = (
    "name",
    "task",
    "language",
    "weight",
    "instruction",
    "rows_read",
    "rows",
    "bytes",
    "dropped",
    "removed",
    "unmapped",
    "lengths",
)


def collect(rows: ShardSet) -> dict[str, Any]:
    """All figures but the sample rows, as a dict that is JSON as it stands.

    Raises:
        ShardError: a part or a rejects file is damaged.
    """
    manifest = rows.manifest
    found: dict[str, Any] = {
        name: manifest[name]
        for name in ("hash", "format_version", "seed", "rows_read", "rows_kept", "dropped", "merged", "removed")
    }
    found["kind"] = rows.kind
    found["bytes"] = sum(source["bytes"] for source in manifest["sources"])
    found["parts"] = sum(len(source["files"]) for source in manifest["sources"])
    found["config"] = {name: value for name, value in manifest["config"].items() if name != "sources"}
    found["sources"] = [{name: source[name] for name in _OF_A_SOURCE} for source in manifest["sources"]]
    if found["kind"] == "text":
        found["sources"] = [{**source, "task": "text"} for source in found["sources"]]
    # A stage that did not run leaves null, or in older sets nothing at all.
    for stage in ("near", "benchmarks", "scores"):
        found[stage] = manifest.get(stage)
    files, missing = reject_files(rows)
    found["rejects"] = {"files": len(files), "missing": [path.name for path in missing]}
    found |= reject_figures(files, found["sources"])
    found["lengths"] = length_histograms(rows)
    return found


def as_pair(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a pair; a document, as it travels through preparation: its title the query, its text the positive."""
    if "text" not in row:
        return row
    return {**row, "query": row["title"], "pos": [row["text"]], "neg": []}


def reject_files(rows: ShardSet) -> tuple[list[Path], list[Path]]:
    """The rejects files that the manifest names: those that are there, and those that someone took away."""
    named = [Path(rows.path) / entry["path"] for entry in rows.manifest["rejects"]]
    there = [path for path in named if path.is_file()]
    return there, [path for path in named if path not in there]


def scan_rejects(files: list[Path]) -> pl.LazyFrame:
    """The lines of all rejects files with their running number in the column `place`."""
    import polars as pl

    return pl.scan_parquet(files, row_index_name="place", glob=False)


def streamed(query: pl.LazyFrame, place: Path | str) -> list[dict[str, Any]]:
    """The rows of a query that is run in bounded memory.

    Raises:
        ShardError: a file the query reads cannot be read.
    """
    import polars as pl

    try:
        return query.collect(engine="streaming").rows(named=True)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ShardError(f"{place}: cannot be read: {told}; hint: bgeprep verify", str(place)) from error


def reject_figures(files: list[Path], sources: list[dict[str, Any]]) -> dict[str, Any]:
    """What only the rejects say: `overlap`, `similarity` of near duplicates, `benchmark_losses` by source."""
    import polars as pl

    if not files:
        return {"overlap": None, "similarity": None, "benchmark_losses": []}
    lines, folder = scan_rejects(files), files[0].parent
    keys = ["source", "twin_source", "part", "reason"]
    counted = streamed(lines.group_by(keys).agg(pl.len().alias("lines")).sort(keys), folder)
    bins = streamed(
        lines.filter(pl.col("reason") == "near_duplicate", pl.col("similarity").is_not_nan())
        # A hair on top: 0.85 is stored as a float32 just below it.
        .group_by((pl.col("similarity").cast(pl.Float64) * _HUNDREDTH + 1e-4).floor().cast(pl.Int64).alias("bin"))
        .agg(pl.len().alias("lines"))
        .sort("bin"),
        folder,
    )
    return {
        "overlap": _overlap(counted, sources),
        "similarity": _filled([(line["bin"], line["lines"]) for line in bins]),
        "benchmark_losses": _benchmark_losses(counted),
    }


def _overlap(counted: list[dict[str, Any]], sources: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Rows and positives that went from one source because a copy stays in another or in the same.

    Returns:
        `sources` (the names that take part, in set order) and `counts[i][j]`: what source i lost to source j.
    """
    lost: dict[tuple[str, str], int] = {}
    for line in counted:
        if line["reason"] in DUPLICATES and line["part"] != "negative" and line["twin_source"]:
            pair = (line["source"], line["twin_source"])
            lost[pair] = lost.get(pair, 0) + line["lines"]
    if not lost:
        return None
    part_taking = {name for pair in lost for name in pair}
    names = [source["name"] for source in sources if source["name"] in part_taking]
    # Twins may stand in another set, which this manifest does not list.
    names += sorted(part_taking - set(names))
    return {"sources": names, "counts": [[lost.get((name, other), 0) for other in names] for name in names]}


def _benchmark_losses(counted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lost: dict[tuple[str, str], dict[str, int]] = {}
    for line in counted:
        if line["reason"] == "in_benchmark":
            parts = lost.setdefault((line["source"], line["twin_source"]), {"row": 0, "positive": 0, "negative": 0})
            parts[line["part"]] += line["lines"]
    return [{"source": source, "benchmark": name, **parts} for (source, name), parts in lost.items()]


def _filled(bins: list[tuple[int, int]]) -> list[list[float]] | None:
    """`[[low, lines], …]` without a gap between the first bin and similarity 1."""
    if not bins:
        return None
    counts = dict(bins)
    return [[step / _HUNDREDTH, counts.get(step, 0)] for step in range(min(counts), max(*counts, _HUNDREDTH) + 1)]


def length_histograms(rows: ShardSet) -> dict[str, Any]:
    """Counts of texts by length for each source, from its first rows; `whole` says that these were all rows.

    Raises:
        ShardError: a record batch that is looked at is damaged.
    """
    import numpy as np

    sources = rows.sources
    filled = sum(1 for source in sources if source["rows"])
    least, most = ROWS_OF_A_SOURCE
    quota = min(max(ROWS_IN_ALL // max(filled, 1), least), most)
    edges = np.array(LENGTH_EDGES)
    found = []
    for source in sources:
        looked_at = min(source["rows"], quota)
        lengths: dict[str, list[int]] = {"query": [], "pos": [], "neg": []}
        for place in range(source["first"], source["first"] + looked_at):
            row = as_pair(rows[place])
            lengths["query"].append(len(row["query"]))
            lengths["pos"].extend(map(len, row["pos"]))
            lengths["neg"].extend(map(len, row["neg"]))
        entry: dict[str, Any] = {"name": source["name"], "rows": looked_at, "whole": looked_at == source["rows"]}
        for role, values in lengths.items():
            bins = np.clip(np.searchsorted(edges, np.array(values, dtype=np.int64), side="right") - 1, 0, None)
            entry[role] = np.bincount(bins, minlength=len(edges)).tolist()
        found.append(entry)
    return {"edges": list(LENGTH_EDGES), "sources": found}
