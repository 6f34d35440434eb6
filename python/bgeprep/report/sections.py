"""The sections of the page that show figures; each takes all figures and gives None where it has nothing to say."""

from __future__ import annotations

import json
from typing import Any

from bgeprep.report import tables
from bgeprep.report.charts import bar, columns, stack
from bgeprep.report.charts import lengths as lengths_chart
from bgeprep.report.markup import Child, Markup, count, join, megabytes, share, tag
from bgeprep.report.reasons import FAMILIES, by_family, look_up, order
from bgeprep.report.texts import benchmark_hits

__all__ = ["benchmarks", "drops", "lengths", "scores", "settings", "sources"]

#: Sources listed one by one; of more, the smallest are summed up.
SOURCES_SHOWN = 100
SOURCES_WITH_LENGTHS = 40
_ROLES = {"query": "queries", "pos": "positives", "neg": "negatives"}


def sources(figures: dict[str, Any]) -> Markup:
    """A line a source: what it is, how much of it stays, what went."""
    listed = sorted(figures["sources"], key=lambda source: -source["rows_read"])
    most = max([source["rows"] for source in listed] + [1])
    weighted = any(source["weight"] is not None for source in listed)
    shown = [_source(source, most, weighted) for source in listed[:SOURCES_SHOWN]]
    rest = listed[SOURCES_SHOWN:]
    note = None
    if rest:
        kept = sum(source["rows"] for source in rest)
        note = tag("p", f"{count(len(rest))} smaller sources with {count(kept)} rows are not listed.", class_="faint")
    head = [
        tables.head("Source"),
        tables.number("Read"),
        tables.number("Kept"),
        tables.head("Rows kept"),
        tables.head("What became of them"),
    ]
    head += [tables.number("Text"), tables.number("Weight")][: 1 + weighted]
    return join(tables.table("Sources, the largest first", head, shown), note)


def _source(source: dict[str, Any], most: int, weighted: bool) -> Markup:
    read, kept, name = source["rows_read"], source["rows"], source["name"]
    segments = [("kept", FAMILIES["kept"], kept)] if kept else []
    segments += [(family, FAMILIES[family], number) for family, number in by_family(source["dropped"]).items()]
    about = ", ".join(part for part in (source["task"], source["language"]) if part)
    notes: list[Child] = [about]
    if source["instruction"]:
        notes.append(tag("span", f"instruction: {source['instruction']}", class_="note"))
    if source["unmapped"]:
        named = ", ".join(sorted(source["unmapped"]))
        notes.append(tag("span", f"columns not used: {named}", class_="note"))
    return tag(
        "tr",
        tables.name(tables.breakable(name), notes),
        tables.cell(count(read)),
        tables.cell([count(kept), tag("span", share(kept, read), class_="note")]),
        tables.cell(bar(f"{name}: {count(kept)} rows kept", kept / most, "kept"), "wide"),
        tables.cell(stack(f"{name}: {share(kept, read)} kept", segments, "stack slim"), "wide"),
        tables.cell(megabytes(source["bytes"])),
        tables.cell("–" if source["weight"] is None else f"{source['weight']:g}") if weighted else None,
    )


def drops(figures: dict[str, Any]) -> Markup:
    """Rows by reason, and the single positives and negatives that went from rows that stay."""
    dropped, read = figures["dropped"], figures["rows_read"]
    removed = figures["removed"]
    names = sorted({*dropped, *removed["positives"], *removed["negatives"]}, key=order)
    if not names:
        return tag("p", "Nothing was dropped.", class_="intro")
    most = max([*dropped.values(), 1])
    # of a document there is nothing but the row itself
    parts = () if figures["kind"] == "text" else ("positives", "negatives")
    rows = []
    for name in names:
        reason, number = look_up(name, figures["kind"]), dropped.get(name, 0)
        rows.append(
            tag(
                "tr",
                tables.name(tag("code", name), reason.meaning),
                tables.cell(count(number) if number else "–"),
                tables.cell(share(number, read) if number else "–"),
                tables.cell(bar(f"{name}: {count(number)} rows", number / most, reason.family), "wide"),
                *[tables.cell(count(removed[part][name]) if name in removed[part] else "–") for part in parts],
            )
        )
    total = read - figures["rows_kept"]
    rows.append(
        tag(
            "tr",
            tables.name("all reasons"),
            tables.cell(count(total)),
            tables.cell(share(total, read)),
            tables.cell(None, "wide"),
            *[tables.cell(count(sum(removed[part].values()))) for part in parts],
            class_="sum",
        )
    )
    head = [
        tables.head("Reason"),
        tables.number("Rows"),
        tables.number("Of those read"),
        tables.head(""),
        *(tables.number(part.capitalize()) for part in parts),
    ]
    apart = "Single positives and negatives were removed from rows that stay, and count apart." if parts else ""
    missing = figures["rejects"]["missing"]
    return join(
        tag(
            "p",
            f"Rows read are rows kept and rows dropped, to the last one. {apart}".rstrip(),
            class_="intro",
        ),
        tables.table("Drops by reason", head, rows),
        tag("p", f"Not in the folder: {', '.join(missing)}. What follows leaves them out.", class_="warning")
        if missing
        else None,
    )


def lengths(figures: dict[str, Any]) -> Markup | None:
    """Small histograms of characters, by source and kind of text."""
    found = figures["lengths"]
    filled = [entry for entry in found["sources"] if entry["rows"]]
    if not filled:
        return None
    listed = {source["name"]: source for source in figures["sources"]}
    filled.sort(key=lambda entry: -listed[entry["name"]]["rows"])
    shown = filled[:SOURCES_WITH_LENGTHS]
    roles = {"query": "titles", "pos": "texts"} if figures["kind"] == "text" else _ROLES
    used = [
        place for place in range(len(found["edges"])) if any(entry[role][place] for entry in shown for role in roles)
    ]
    first, end = min(used), max(used) + 1
    edges = found["edges"][first:end]
    rows = []
    for entry in shown:
        stats = listed[entry["name"]]["lengths"]
        cells = [
            tables.name(
                tables.breakable(entry["name"]), "all rows" if entry["whole"] else f"first {count(entry['rows'])} rows"
            )
        ]
        for role, words in roles.items():
            if not (stats[role]["count"] and stats[role]["max"]):
                cells.append(tables.cell("–", "none"))
                continue
            figures_of = stats[role]
            drawn = lengths_chart(
                f"Lengths of {words} of {entry['name']}: median {count(figures_of['p50'])} characters",
                entry[role][first:end],
                edges,
                figures_of["p50"],
            )
            note = f"median {count(figures_of['p50'])} · 95% ≤ {count(figures_of['p95'])} · "
            cells.append(
                tables.cell([drawn, tag("span", f"{note}max {count(figures_of['max'])}", class_="note")], "wide")
            )
        rows.append(tag("tr", cells))
    whole = all(entry["whole"] for entry in shown)
    told = (
        "All rows are counted." if whole else "Rows are shuffled, so the first of a source are a random sample of it."
    )
    left_out = len(filled) - len(shown)
    return join(
        tag(
            "p",
            "Characters of each text on a logarithmic axis; the line is the median. Median, 95th percentile and "
            f"longest are of all texts. {told}",
            class_="intro",
        ),
        tables.table(
            "Lengths in characters",
            ["Source", *(words.capitalize() for words in roles.values())],
            rows,
            "lengths-table",
        ),
        tag("p", f"{count(left_out)} smaller sources are not shown.", class_="faint") if left_out else None,
    )


def benchmarks(figures: dict[str, Any]) -> Markup | None:
    """What stands in benchmarks, by benchmark and by source."""
    listed = figures["benchmarks"]
    if not listed:
        return None
    kinds = ("query", "pair", "passage", "containment")
    rows = [
        tag(
            "tr",
            tables.name(entry["name"], entry["kind"]),
            tables.cell(count(entry["queries"])),
            tables.cell(count(entry["passages"])),
            [tables.cell(count(entry["hits"].get(kind, 0))) for kind in kinds],
        )
        for entry in listed
    ]
    head = [
        tables.head("Benchmark"),
        *map(tables.number, ("Queries", "Passages", "By query", "By pair", "By passage", "Contained")),
    ]
    losses = None
    # Of documents nothing goes but whole rows.
    parts = {} if figures["kind"] == "text" else {"positive": "Positives", "negative": "Negatives"}
    if figures["benchmark_losses"]:
        read = {source["name"]: source["rows_read"] for source in figures["sources"]}
        losses = tables.table(
            "Loss by source",
            [
                tables.head("Source"),
                tables.head("Benchmark"),
                *map(tables.number, ("Rows", "Of those read", *parts.values())),
            ],
            [
                tag(
                    "tr",
                    tables.name(tables.breakable(line["source"])),
                    tables.cell(line["benchmark"] or "–", ""),
                    tables.cell(count(line["row"])),
                    tables.cell(share(line["row"], read.get(line["source"], 0))),
                    *[tables.cell(count(line[part])) for part in parts],
                )
                for line in figures["benchmark_losses"]
            ],
        )
    return join(tables.table("Texts of the benchmarks, and hits", head, rows), losses, benchmark_hits(figures))


def scores(figures: dict[str, Any]) -> Markup | None:
    """The histogram of the scores a filter used."""
    found = figures["scores"]
    if not found:
        return None
    threshold = found["threshold"]
    bins = [(low, number, "score" if low < threshold - 1e-9 else "kept") for low, number in found["histogram"]]
    intro = (
        f"{count(found['pairs'])} pairs with a score, {count(found['below'])} below {threshold:g} "
        f"({share(found['below'], found['pairs'])}), {count(found['missing'])} without a score."
    )
    return join(
        tag("p", intro, class_="intro"),
        tag("figure", columns("Pairs by score", bins, "score", threshold)) if bins else None,
    )


def settings(figures: dict[str, Any]) -> Markup:
    """The part of the configuration that decides bytes."""
    text = json.dumps(figures["config"], ensure_ascii=False, indent=2, sort_keys=True)
    summary = tag("summary", f"seed {figures['seed']}, format version {figures['format_version']}; show all settings")
    return tag("details", summary, tag("pre", tag("code", text)))
