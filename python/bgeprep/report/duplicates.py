"""The sections on copies: near duplicates with measured recall, and which source repeats which."""

from __future__ import annotations

from typing import Any

from bgeprep.report import tables
from bgeprep.report.charts import columns, curve, whisker
from bgeprep.report.markup import Markup, count, join, share, tag

__all__ = ["near", "overlap"]

OVERLAP_SHOWN = 24


def near(figures: dict[str, Any]) -> Markup | None:
    """How near dedup was done, how large the clusters are, and how much of what it should find it found."""
    stage = figures["near"]
    if not stage:
        return None
    # the titles of documents are not compared, and neither is anything else without a text
    spaces = [space for space in stage["spaces"] if space["texts"]] or stage["spaces"]
    intro = tag(
        "p",
        f"MinHash of {stage['permutations']} permutations in {stage['bands']} bands of {stage['rows_per_band']} rows "
        "proposes pairs; each is kept as near only where its true Jaccard similarity is at least ",
        tag("b", f"{stage['threshold']:g}"),
        f". A cluster alone drops nothing: it keeps its texts out of one batch. Above {count(stage['max_cluster'])} "
        "texts not all pairs of a cluster were compared.",
        class_="intro",
    )
    rules = [
        tag("li", tag("b", name), f": {rule}") for name, rule in sorted((stage.get("rules") or {}).items()) if rule
    ]
    series = [(f"s-{space['name']}", [tuple(pair) for pair in space["sizes"]]) for space in spaces]
    keys = [
        tag("li", tag("span", class_=f"key k-{space['name']}", aria_hidden="true"), _plural(space["name"]))
        for space in spaces
    ]
    drawn = curve("Clusters by their size, both axes logarithmic", series, "texts in a cluster, at least", "clusters")
    chart = tag("figure", tag("figcaption", "Cluster sizes"), drawn, tag("ul", keys, class_="legend"))
    figure = None
    if figures["similarity"]:
        bins = [(low, number, "near") for low, number in figures["similarity"]]
        figure = tag(
            "figure",
            tag("figcaption", "How alike dropped near duplicates were"),
            columns("Near duplicates by similarity", bins, "similarity to the row that stays", stage["threshold"]),
        )
    return join(
        intro,
        tag("ul", rules, class_="rules") if rules else None,
        _measured(spaces),
        tag("div", chart, figure, class_="two"),
        _spaces(spaces),
    )


def _plural(name: str) -> str:
    return {"query": "queries", "passage": "passages"}.get(name, name)


def _measured(spaces: list[dict[str, Any]]) -> Markup | None:
    """Recall and precision with their intervals, on an axis that begins below the lowest of them."""
    found = [(space, what, space[what]) for space in spaces for what in ("recall", "precision") if space.get(what)]
    if not found:
        return tag("p", "Recall was not measured for this set.", class_="faint")
    floor = min([0.9, *(int(measured["low"] * 10) / 10 for _, _, measured in found)])
    rows = []
    for space, what, measured in found:
        words = f"{what} on {_plural(space['name'])}"
        interval = f"{share(measured['low'], 1)} – {share(measured['high'], 1)}"
        rate = share(measured["rate"], 1)
        drawn = whisker(
            f"{words}: {rate}, {interval}", measured["rate"], measured["low"], measured["high"], floor, space["name"]
        )
        counts = f"{count(measured['found'])} of {count(measured['pairs'])}"
        rows.append(
            tag(
                "tr",
                tables.name(words),
                tables.cell(tag("b", rate)),
                tables.cell(interval),
                tables.cell(drawn, "wide"),
                tables.cell(counts),
                tables.cell(count(measured["sample"])),
            )
        )
    axis = tag("span", tag("span", f"{floor:.0%}"), tag("span", "100%"), class_="axis-ends")
    head = [
        tables.head("Measured"),
        tables.number("Rate"),
        tables.number("95% interval"),
        tables.head(axis),
        tables.number("Pairs"),
    ]
    return tables.table(
        "Recall and precision, measured against exact Jaccard on a sample", [*head, tables.number("Sample")], rows
    )


def _spaces(spaces: list[dict[str, Any]]) -> Markup:
    names = {
        "texts": "Texts",
        "candidates": "Candidates",
        "near_pairs": "Near pairs",
        "clusters": "Clusters",
        "clustered_texts": "Texts in them",
        "largest": "Largest",
        "over_cap": "Over the cap",
    }
    rows = [
        tag("tr", tables.name(_plural(space["name"])), [tables.cell(count(space[key])) for key in names])
        for space in spaces
    ]
    return tables.table("What was compared", [tables.head("Texts"), *map(tables.number, list(names.values()))], rows)


def overlap(figures: dict[str, Any]) -> Markup | None:
    """Which source lost how much because a copy stays in which."""
    found = figures["overlap"]
    if not found:
        return None
    names, counts = found["sources"], found["counts"]
    lost = [sum(line) for line in counts]
    held = [sum(line[place] for line in counts) for place in range(len(names))]
    rows, left_rows = _most(lost)
    places, left_places = _most(held)
    read = {source["name"]: source["rows_read"] for source in figures["sources"]}
    head = [tables.head("dropped from ↓ · a copy stays in →")]
    head += [tag("th", tag("span", names[place]), scope="col", class_="turned") for place in places]
    body = [
        tag(
            "tr",
            tables.name(tables.breakable(names[row])),
            [_heat(counts[row][place], read.get(names[row], 0), names[row], names[place]) for place in places],
        )
        for row in rows
    ]
    went = "Rows" if figures["kind"] == "text" else "Rows and positives"
    intro = (
        f"{went} that went because the same, or nearly the same, stays elsewhere, and their share of the "
        "rows read from their source. A source that meets itself repeats itself."
    )
    left_out = max(left_rows, left_places)
    return join(
        tag("p", intro, class_="intro"),
        tables.table("Overlap of sources", head, body, "heat"),
        tag("p", f"{count(left_out)} sources with less overlap are not shown.", class_="faint") if left_out else None,
    )


def _most(weights: list[int]) -> tuple[list[int], int]:
    """The places of the largest weights in their order, and how many more there are."""
    there = [place for place, weight in enumerate(weights) if weight]
    largest = sorted(there, key=lambda place: -weights[place])[:OVERLAP_SHOWN]
    return sorted(largest), len(there) - len(largest)


def _heat(number: int, read: int, name: str, other: str) -> Markup:
    if not number:
        return tag("td", "·", class_="none")
    part = min(number / read, 1.0) if read else 1.0
    # The root lets a small share still be seen beside a whole source.
    return tag(
        "td",
        count(number),
        tag("span", share(number, read), class_="note"),
        style=f"--heat:{round(100 * part**0.5)}%",
        title=f"{count(number)} of {name} stand in {other}",
    )
