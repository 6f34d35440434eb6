"""The page around the sections: head, headline figures, table of contents, foot."""

from __future__ import annotations

from typing import Any

from bgeprep.report import duplicates, sections, texts
from bgeprep.report.charts import stack
from bgeprep.report.frame import card, document
from bgeprep.report.markup import Markup, count, join, megabytes, share, tag
from bgeprep.report.reasons import FAMILIES, by_family

__all__ = ["render"]


def render(figures: dict[str, Any], title: str) -> str:
    """The whole report as one HTML document that loads nothing.

    Args:
        figures: what `bgeprep.report` collects.
        title: what the page calls the set.
    """
    found = [
        ("sources", "Sources", sections.sources(figures)),
        ("drops", "What was dropped, and why", sections.drops(figures)),
        ("near", "Near duplicates", duplicates.near(figures)),
        ("overlap", "Overlap between sources", duplicates.overlap(figures)),
        ("lengths", "Lengths", sections.lengths(figures)),
        ("benchmarks", "Decontamination", sections.benchmarks(figures)),
        ("scores", "Scores", sections.scores(figures)),
        ("pairs", "Dropped, beside the row that stays", texts.pairs(figures)),
        ("samples", "More rows: dropped and kept", texts.samples(figures)),
        ("settings", "Settings", sections.settings(figures)),
    ]
    shown = [(key, name, body) for key, name, body in found if body is not None]
    footer = join("Made by bgeprep report from the shard set ", tag("code", figures["hash"]))
    return document(f"{title}: bgeprep report", _headline(figures, title), shown, footer)


def _headline(figures: dict[str, Any], title: str) -> Markup:
    read, kept = figures["rows_read"], figures["rows_kept"]
    dropped = read - kept
    filled = sum(1 for source in figures["sources"] if source["rows"])
    cards: list[Markup] = [
        card("Rows read", count(read), f"from {count(len(figures['sources']))} sources"),
        card("Rows kept", count(kept), f"{share(kept, read)} of those read", "kept"),
        card("Rows dropped", count(dropped), f"{share(dropped, read)} of those read"),
        card("Text kept", megabytes(figures["bytes"]), f"{count(figures['parts'])} parts, {count(filled)} sources"),
    ]
    measured = [space for space in (figures["near"] or {}).get("spaces", []) if space.get("recall")]
    if measured:
        lowest = min(measured, key=lambda space: space["recall"]["rate"])
        recall = lowest["recall"]
        note = f"{lowest['name']}: between {share(recall['low'], 1)} and {share(recall['high'], 1)}"
        cards.append(card("Near-duplicate recall", share(recall["rate"], 1), note))
    if figures["benchmarks"]:
        hits = sum(sum(entry["hits"].values()) for entry in figures["benchmarks"])
        number = len(figures["benchmarks"])
        cards.append(card("Benchmark hits", count(hits), f"{count(number)} benchmark{'s' if number > 1 else ''}"))
    fates = {"kept": kept, **by_family(figures["dropped"])}
    segments = [(family, FAMILIES[family], number) for family, number in fates.items() if number]
    legend = [
        tag(
            "li",
            tag("span", class_=f"key k-{family}", aria_hidden="true"),
            f"{words} ",
            tag("b", number),
            tag("span", f" {share(number, read)}", class_="faint"),
        )
        for family, words, number in segments
    ]
    return join(
        tag("p", "Shard set", class_="kicker"),
        tag("h1", title),
        tag("div", cards, class_="cards"),
        tag("h2", "What became of the rows", class_="small-title"),
        stack(f"{count(kept)} of {count(read)} rows kept", segments),
        tag("ul", legend, class_="legend"),
    )
