"""A page about the scores of pairs, from which a person chooses a threshold: what each would keep, and pairs around it.

Scores are counted in bins of 0.01, part by part; the pairs that are shown are drawn by their hashes. So the page is a
function of the scores, and memory does not grow with their number.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bgeprep.report.charts import bar, columns
from bgeprep.report.frame import card, document
from bgeprep.report.markup import Markup, count, join, share, tag
from bgeprep.report.tables import breakable, cell, head, name, number, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bgeprep.shardset import ShardSet

__all__ = ["collect", "render"]

_BIN = 0.01
_BAND = 5
"""Bins of a band, from which samples are drawn: 0.05."""
_SHOWN = 4
"""Pairs shown of a band."""
_CHARACTERS = 400
_SOURCES = 40
_COLUMNS = 8
"""Most thresholds beside each other in the table of sources."""


def collect(files: Sequence[Path], rows: ShardSet, *, lowest: float, threshold: float | None = None) -> dict[str, Any]:
    """Counts what `bgetrain score` wrote.

    Args:
        files: the parts, in order.
        rows: the set that was scored.
        lowest: no score is below; -1 for a cosine, 0 for a probability.
        threshold: one to mark.

    Returns:
        `pairs`, `rows`, `mean`, `median`, `threshold`, `edges` and `histogram` (pairs by bin), `kept` (`threshold`,
        `pairs`, `rows`: a row stays with a positive that reaches it), `sources` (the same by source), and `samples`
        (`score`, `query`, `pos`, `source`).
    """
    bins = round((1 - lowest) / _BIN)
    # as the filter compares them: a score is kept that is at least the threshold, both in float32
    edges = (lowest + np.arange(bins) * _BIN).round(2).astype(np.float32)
    sources = [source for source in rows.sources if source["rows"]]
    ends = np.array([source["first"] + source["rows"] for source in sources])
    counted = np.zeros((2, len(sources), bins), dtype=np.int64)
    exact = np.zeros(2, dtype=np.int64)
    total, drawn = 0.0, pl.DataFrame()
    for file in files:
        frame = pl.read_parquet(file)
        score = frame["score"].to_numpy()
        best = frame.group_by("row", maintain_order=True).agg(pl.col("score").max())
        for kind, part in enumerate((frame, best)):
            values = part["score"].to_numpy()
            place = np.maximum(np.searchsorted(edges, values, side="right") - 1, 0)
            source = np.searchsorted(ends, part["row"].to_numpy().astype(np.int64), side="right")
            np.add.at(counted[kind], (source, place), 1)
            if threshold is not None:
                exact[kind] += int((values >= np.float32(threshold)).sum())
        total += float(score.sum(dtype=np.float64))
        drawn = _draw(drawn, frame, np.maximum(np.searchsorted(edges, score, side="right") - 1, 0) // _BAND)
    whole = counted.sum(axis=1)
    pairs, kept_rows = (int(side.sum()) for side in whole)
    kept = _kept(whole, edges)
    if threshold is not None:
        kept = [line for line in kept if line["threshold"] != threshold]
        kept.append({"threshold": threshold, "pairs": int(exact[0]), "rows": int(exact[1])})
        kept.sort(key=lambda line: line["threshold"])
    return {
        "pairs": pairs,
        "rows": kept_rows,
        "mean": total / pairs,
        "median": float(edges[np.searchsorted(np.cumsum(whole[0]), (pairs + 1) // 2)]),
        "threshold": threshold,
        "edges": [round(float(edge), 2) for edge in edges],
        "histogram": whole[0].tolist(),
        "kept": kept,
        "sources": [
            {"name": source["name"], "rows": int(own[1].sum()), "kept": _kept(own, edges)}
            for source, own in zip(sources, np.moveaxis(counted, 1, 0), strict=True)
        ],
        "samples": _samples(drawn, rows),
    }


def _draw(drawn: pl.DataFrame, frame: pl.DataFrame, band: NDArray[np.int64]) -> pl.DataFrame:
    """The pairs of each band whose hashes are smallest, among those drawn before and these."""
    ranked = frame.select("row", "pos", "score", rank=pl.col("query_hash").cast(pl.Binary)).with_columns(
        band=pl.Series(band)
    )
    both = pl.concat([drawn, ranked]) if len(drawn) else ranked
    return (
        both.sort("band", "rank", "row", "pos").group_by("band", maintain_order=True).head(_SHOWN).select(both.columns)
    )


def _samples(drawn: pl.DataFrame, rows: ShardSet) -> list[dict[str, Any]]:
    found = []
    for line in drawn.sort("score", "row", "pos").iter_rows(named=True):
        row = rows[line["row"]]
        texts = {"query": row["query"], "pos": row["pos"][line["pos"]]}
        cut = {key: text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…" for key, text in texts.items()}
        found.append({"score": line["score"], "band": line["band"], "source": row["source"], **cut})
    return found


def _kept(counts: NDArray[np.int64], edges: NDArray[np.float32]) -> list[dict[str, Any]]:
    """What thresholds 0.05 apart keep, from the last that keeps all to the first that keeps none."""
    at_least = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    lines = [
        {"threshold": round(float(edges[place]), 2), "pairs": int(at_least[0, place]), "rows": int(at_least[1, place])}
        for place in range(0, len(edges), _BAND)
    ]
    total = int(at_least[0, 0])
    first = max((place for place, line in enumerate(lines) if line["pairs"] == total), default=0)
    last = next((place for place, line in enumerate(lines) if line["pairs"] == 0), len(lines) - 1)
    return lines[first : last + 1]


def render(figures: dict[str, Any], model: str, scores: Path) -> str:
    """The page as one HTML document that loads nothing.

    Args:
        figures: from `collect`.
        model: what made the scores.
        scores: their folder, for the command that filters by them.
    """
    sections: list[tuple[str, str, Markup | None]] = [
        ("histogram", "Pairs by score", _histogram(figures)),
        ("kept", "What a threshold keeps", _table(figures, scores)),
        ("sources", "By source", _by_source(figures)),
        ("samples", "Pairs to judge by", _pairs(figures)),
    ]
    return document(
        f"{model}: bgetrain score",
        join(
            tag("p", "Scores of pairs", class_="kicker"),
            tag("h1", model),
            tag("div", _cards(figures), class_="cards"),
        ),
        [(key, name, body) for key, name, body in sections if body is not None],
        join("Made by bgetrain score"),
    )


def _cards(figures: dict[str, Any]) -> list[Markup]:
    cards = [
        card("Pairs", count(figures["pairs"]), f"in {count(figures['rows'])} rows"),
        card("Mean score", f"{figures['mean']:.3f}", f"median {figures['median']:.2f}"),
    ]
    if figures["threshold"] is not None:
        line = next(line for line in figures["kept"] if line["threshold"] == figures["threshold"])
        note = f"{share(line['pairs'], figures['pairs'])} of the pairs"
        cards.append(card(f"Kept at {figures['threshold']:g}", count(line["pairs"]), note, "kept"))
    return cards


def _histogram(figures: dict[str, Any]) -> Markup:
    counts, edges = figures["histogram"], figures["edges"]
    some = [place for place, value in enumerate(counts) if value]
    first, last = some[0] // 2 * 2, some[-1]
    threshold = figures["threshold"]
    bins = [
        (
            edges[place],
            sum(counts[place : place + 2]),
            "kept" if threshold is None or edges[place] >= threshold - 1e-9 else "score",
        )
        for place in range(first, last + 1, 2)
    ]
    return tag("figure", columns("Pairs by score", bins, "score", threshold))


def _table(figures: dict[str, Any], scores: Path) -> Markup:
    lines = []
    for line in figures["kept"]:
        part = line["pairs"] / figures["pairs"]
        lines.append(
            tag(
                "tr",
                name(f"{line['threshold']:g}", "marked" if line["threshold"] == figures["threshold"] else None),
                cell(line["pairs"]),
                cell(share(line["pairs"], figures["pairs"])),
                cell(line["rows"]),
                cell(share(line["rows"], figures["rows"])),
                tag("td", bar(f"{share(line['pairs'], figures['pairs'])} of the pairs", part, "kept")),
            )
        )
    heads = ["at least", *(number(words) for words in ("pairs", "of all", "rows", "of all")), head("")]
    return join(
        tag(
            "p",
            "A positive whose score is below the threshold is removed, and a row without a positive with it. "
            "Below are pairs of every band: go up until those you read are worth training on.",
            class_="intro",
        ),
        table("What each threshold keeps", heads, lines),
        tag("pre", tag("code", f"bgeprep shard --in SHARDS --scores {scores} --min-score X --out filtered/")),
    )


def _by_source(figures: dict[str, Any]) -> Markup | None:
    sources = figures["sources"]
    if len(sources) < 2:
        return None
    thresholds = [line["threshold"] for line in figures["kept"]]
    every = -(-len(thresholds) // _COLUMNS)
    shown = thresholds[::every]
    lines = []
    for source in sorted(sources, key=lambda one: -one["rows"])[:_SOURCES]:
        found = {line["threshold"]: line["rows"] for line in source["kept"]}
        low = source["kept"][0]["threshold"]
        shares = [share(source["rows"] if at < low else found.get(at, 0), source["rows"]) for at in shown]
        lines.append(tag("tr", name(breakable(source["name"])), cell(source["rows"]), [cell(one) for one in shares]))
    left = len(sources) - _SOURCES
    return join(
        table(
            "Rows kept, by source and threshold",
            ["source", number("rows"), *(number(f"{at:g}") for at in shown)],
            lines,
        ),
        tag("p", f"and {count(left)} smaller sources", class_="faint") if left > 0 else None,
    )


def _pairs(figures: dict[str, Any]) -> Markup:
    blocks: list[Markup] = []
    samples = figures["samples"]
    for band in sorted({sample["band"] for sample in samples}):
        own = [sample for sample in samples if sample["band"] == band]
        lines = [
            tag(
                "tr",
                cell(f"{sample['score']:.3f}"),
                tag("td", sample["query"]),
                tag("td", sample["pos"], tag("span", sample["source"], class_="note")),
            )
            for sample in own
        ]
        title = f"Scores about {own[0]['score']:.2f} to {own[-1]['score']:.2f}"
        blocks.append(table(title, [number("score"), "query", "positive"], lines))
    return join(
        tag("p", f"At most {_SHOWN} pairs of every 0.05, drawn by chance; texts are cut.", class_="intro"), blocks
    )
