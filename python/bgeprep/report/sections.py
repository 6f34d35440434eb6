"""The sections of the page that show figures; each takes all figures and gives None where it has nothing to say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from bgeprep.report.charts import bar, columns, curve, stack, whisker
from bgeprep.report.charts import lengths as lengths_chart
from bgeprep.report.markup import Child, Markup, count, join, megabytes, share, tag
from bgeprep.report.reasons import FAMILIES, by_family, look_up, order
from bgeprep.report.texts import benchmark_hits

__all__ = ["benchmarks", "drops", "lengths", "near", "overlap", "scores", "settings", "sources"]

#: Sources listed one by one; of more, the smallest are summed up.
SOURCES_SHOWN = 100
SOURCES_WITH_LENGTHS = 40
OVERLAP_SHOWN = 24


def _table(caption: str, head: Iterable[Child], rows: Iterable[Markup], class_: str = "") -> Markup:
    """A table that scrolls in its own frame where the screen is narrower."""
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", [cell if isinstance(cell, Markup) else _head(cell) for cell in head])),
            tag("tbody", rows),
            class_=class_ or None,
        ),
        class_="scroll",
        role="region",
        aria_label=caption,
        tabindex="0",
    )


def _head(words: Child, class_: str | None = None) -> Markup:
    return tag("th", words, scope="col", class_=class_)


def _number(words: Child) -> Markup:
    return _head(words, "number")


def _name(words: Child, note: Child = None) -> Markup:
    return tag("th", words, tag("span", note, class_="note") if note else None, scope="row")


def _cell(value: Child, class_: str = "number") -> Markup:
    return tag("td", value, class_=class_)


def sources(figures: dict[str, Any]) -> Markup:
    """A line a source: what it is, how much of it stays, what went."""
    listed = sorted(figures["sources"], key=lambda source: -source["rows_read"])
    most = max([source["rows"] for source in listed] + [1])
    shown = [_source(source, most) for source in listed[:SOURCES_SHOWN]]
    rest = listed[SOURCES_SHOWN:]
    note = None
    if rest:
        kept = sum(source["rows"] for source in rest)
        note = tag("p", f"{count(len(rest))} smaller sources with {count(kept)} rows are not listed.", class_="faint")
    head = [_head("Source"), _number("Read"), _number("Kept"), _head("Rows kept"), _head("What became of them")]
    return join(_table("Sources, the largest first", [*head, _number("Text"), _number("Weight")], shown), note)


def _source(source: dict[str, Any], most: int) -> Markup:
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
        _name(name, notes),
        _cell(count(read)),
        _cell([count(kept), tag("span", share(kept, read), class_="note")]),
        _cell(bar(f"{name}: {count(kept)} rows kept", kept / most, "kept"), "wide"),
        _cell(stack(f"{name}: {share(kept, read)} kept", segments, "stack slim"), "wide"),
        _cell(megabytes(source["bytes"])),
        _cell("–" if source["weight"] is None else f"{source['weight']:g}"),
    )


def drops(figures: dict[str, Any]) -> Markup:
    """Rows by reason, and the single positives and negatives that went from rows that stay."""
    dropped, read = figures["dropped"], figures["rows_read"]
    removed = figures["removed"]
    names = sorted({*dropped, *removed["positives"], *removed["negatives"]}, key=order)
    if not names:
        return tag("p", "Nothing was dropped.", class_="intro")
    most = max([*dropped.values(), 1])
    rows = []
    for name in names:
        reason, number = look_up(name), dropped.get(name, 0)
        rows.append(
            tag(
                "tr",
                _name(tag("code", name), reason.meaning),
                _cell(count(number) if number else "–"),
                _cell(share(number, read) if number else "–"),
                _cell(bar(f"{name}: {count(number)} rows", number / most, reason.family), "wide"),
                *[
                    _cell(count(removed[part][name]) if name in removed[part] else "–")
                    for part in ("positives", "negatives")
                ],
            )
        )
    total = read - figures["rows_kept"]
    rows.append(
        tag(
            "tr",
            _name("all reasons"),
            _cell(count(total)),
            _cell(share(total, read)),
            _cell(None, "wide"),
            *[_cell(count(sum(removed[part].values()))) for part in ("positives", "negatives")],
            class_="sum",
        )
    )
    head = [_head("Reason"), _number("Rows"), _number("Of those read"), _head(""), _number("Positives")]
    head.append(_number("Negatives"))
    missing = figures["rejects"]["missing"]
    return join(
        tag(
            "p",
            "Rows read are rows kept and rows dropped, to the last one. Single positives and negatives were removed "
            "from rows that stay, and count apart.",
            class_="intro",
        ),
        _table("Drops by reason", head, rows),
        tag("p", f"Not in the folder: {', '.join(missing)}. What follows leaves them out.", class_="warning")
        if missing
        else None,
    )


def near(figures: dict[str, Any]) -> Markup | None:
    """How near dedup was done, how large the clusters are, and how much of what it should find it found."""
    stage = figures["near"]
    if not stage:
        return None
    intro = tag(
        "p",
        f"MinHash of {stage['permutations']} permutations in {stage['bands']} bands of {stage['rows_per_band']} rows "
        "proposes pairs; each is kept as near only where its true Jaccard similarity is at least ",
        tag("b", f"{stage['threshold']:g}"),
        f". Clusters of more than {count(stage['max_cluster'])} texts share one key and lose nothing by the cluster alone.",
        class_="intro",
    )
    rules = [
        tag("li", tag("b", name), f": {rule}") for name, rule in sorted((stage.get("rules") or {}).items()) if rule
    ]
    series = [(f"s-{space['name']}", [tuple(pair) for pair in space["sizes"]]) for space in stage["spaces"]]
    keys = [
        tag("li", tag("span", class_=f"key k-{space['name']}", aria_hidden="true"), _plural(space["name"]))
        for space in stage["spaces"]
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
        _measured(stage["spaces"]),
        tag("div", chart, figure, class_="two"),
        _spaces(stage["spaces"]),
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
                _name(words),
                _cell(tag("b", rate)),
                _cell(interval),
                _cell(drawn, "wide"),
                _cell(counts),
                _cell(count(measured["sample"])),
            )
        )
    axis = tag("span", tag("span", f"{floor:.0%}"), tag("span", "100%"), class_="axis-ends")
    head = [_head("Measured"), _number("Rate"), _number("95% interval"), _head(axis), _number("Pairs")]
    return _table("Recall and precision, measured against exact Jaccard on a sample", [*head, _number("Sample")], rows)


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
    rows = [tag("tr", _name(_plural(space["name"])), [_cell(count(space[key])) for key in names]) for space in spaces]
    return _table("What was compared", [_head("Texts"), *map(_number, list(names.values()))], rows)


def overlap(figures: dict[str, Any]) -> Markup | None:
    """Which source lost how much because a copy stays in which."""
    found = figures["overlap"]
    if not found:
        return None
    names, counts = found["sources"], found["counts"]
    weight = [sum(counts[place]) + sum(line[place] for line in counts) for place in range(len(names))]
    shown = sorted(sorted(range(len(names)), key=lambda place: -weight[place])[:OVERLAP_SHOWN])
    read = {source["name"]: source["rows_read"] for source in figures["sources"]}
    head = [_head("dropped from ↓ · a copy stays in →")]
    head += [tag("th", tag("span", names[place]), scope="col", class_="turned") for place in shown]
    rows = []
    for place in shown:
        cells = [_name(names[place])]
        for other in shown:
            cells.append(_heat(counts[place][other], read.get(names[place], 0), names[place], names[other]))
        rows.append(tag("tr", cells))
    left_out = len(names) - len(shown)
    return join(
        tag(
            "p",
            "Rows and positives that went because the same, or nearly the same, stays elsewhere, and their share of the "
            "rows read from their source. On the diagonal a source repeats itself.",
            class_="intro",
        ),
        _table("Overlap of sources", head, rows, "heat"),
        tag("p", f"{count(left_out)} sources with the least overlap are not shown.", class_="faint")
        if left_out
        else None,
    )


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


def lengths(figures: dict[str, Any]) -> Markup | None:
    """Small histograms of characters, by source and kind of text."""
    found = figures["lengths"]
    filled = [entry for entry in found["sources"] if entry["rows"]]
    if not filled:
        return None
    listed = {source["name"]: source for source in figures["sources"]}
    filled.sort(key=lambda entry: -listed[entry["name"]]["rows"])
    shown = filled[:SOURCES_WITH_LENGTHS]
    used = [
        place
        for place in range(len(found["edges"]))
        if any(entry[role][place] for entry in shown for role in ("query", "pos", "neg"))
    ]
    first, end = min(used), max(used) + 1
    edges = found["edges"][first:end]
    rows = []
    for entry in shown:
        stats = listed[entry["name"]]["lengths"]
        cells = [_name(entry["name"], "all rows" if entry["whole"] else f"first {count(entry['rows'])} rows")]
        for role, words in (("query", "queries"), ("pos", "positives"), ("neg", "negatives")):
            if not stats[role]["count"]:
                cells.append(_cell("–", "none"))
                continue
            figures_of = stats[role]
            drawn = lengths_chart(
                f"Lengths of {words} of {entry['name']}: median {count(figures_of['p50'])} characters",
                entry[role][first:end],
                edges,
                figures_of["p50"],
            )
            note = f"median {count(figures_of['p50'])} · 95% below {count(figures_of['p95'])} · "
            cells.append(
                _cell([drawn, tag("span", f"{note}longest {count(figures_of['max'])}", class_="note")], "wide")
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
            f"Characters of each text on a logarithmic axis; the line is the median of all texts. {told}",
            class_="intro",
        ),
        _table("Lengths in characters", ["Source", "Queries", "Positives", "Negatives"], rows, "lengths-table"),
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
            _name(entry["name"], entry["kind"]),
            _cell(count(entry["queries"])),
            _cell(count(entry["passages"])),
            [_cell(count(entry["hits"].get(kind, 0))) for kind in kinds],
        )
        for entry in listed
    ]
    head = [
        _head("Benchmark"),
        *map(_number, ("Queries", "Passages", "By query", "By pair", "By passage", "Contained")),
    ]
    losses = None
    if figures["benchmark_losses"]:
        read = {source["name"]: source["rows_read"] for source in figures["sources"]}
        losses = _table(
            "Loss by source",
            [_head("Source"), _head("Benchmark"), *map(_number, ("Rows", "Of those read", "Positives", "Negatives"))],
            [
                tag(
                    "tr",
                    _name(line["source"]),
                    _cell(line["benchmark"] or "–", ""),
                    _cell(count(line["row"])),
                    _cell(share(line["row"], read.get(line["source"], 0))),
                    _cell(count(line["positive"])),
                    _cell(count(line["negative"])),
                )
                for line in figures["benchmark_losses"]
            ],
        )
    return join(_table("Texts of the benchmarks, and hits", head, rows), losses, benchmark_hits(figures))


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
