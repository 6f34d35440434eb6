"""A page about measured models: scores, differences with their intervals, and what each does worst.

```
scoreboard.reports_of ─► list of dicts (also scores.json) ─► one HTML file that loads nothing
```
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgeprep.report.charts import columns, difference
from bgeprep.report.frame import card, document
from bgeprep.report.markup import Child, Markup, count, join, tag
from bgeprep.report.tables import breakable, cell, head, name, number, table
from bgetrain.scoreboard import BM25, heading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["render"]

_FIGURES = 12
"""Most charts of better and worse queries."""

Report = dict[str, Any]


def render(reports: Sequence[Report], models: Mapping[str, str], settings: Mapping[str, str]) -> str:
    """The page as one HTML document that loads nothing.

    Args:
        reports: tables, from `scoreboard.reports_of`.
        models: what each model is called → where it lies.
        settings: flags that decide scores → value.
    """
    found = [
        ("overview", "All collections", _overview(reports)),
        ("retrieval", "Retrieval", _tables(reports, "retrieval")),
        ("sts", "Semantic similarity", _tables(reports, "sts")),
        ("pairs", "Pair classification", _tables(reports, "pairs")),
        ("mteb", "Measured by mteb", _tables(reports, "mteb")),
        ("queries", "Better and worse, by query", _queries(reports)),
        ("worst", "Queries that lost most", _worst_queries(reports)),
        ("worst-pairs", "Pairs farthest from what people said", _worst_pairs(reports)),
        ("settings", "Models and settings", _settings(models, settings)),
    ]
    title = ", ".join(models)
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return document(
        f"{title}: bgetrain evaluate",
        _headline(reports, models, title),
        [(key, words, body) for key, words, body in found if body is not None],
        join("Made by bgetrain evaluate"),
        style,
    )


def _headline(reports: Sequence[Report], models: Mapping[str, str], title: str) -> Markup:
    cards = [card("Models", count(len(models)), "compared to the first" if len(models) > 1 else "measured")]
    retrieval = [report for report in reports if report["kind"] == "retrieval"]
    if retrieval:
        queries = sum(report["queries"] for report in retrieval)
        word = "collections" if len(retrieval) > 1 else "collection"
        cards.append(card("Queries", count(queries), f"of {count(len(retrieval))} {word}"))
    for kind, words in (("sts", "Pairs with a score"), ("pairs", "Pairs with a label")):
        own = [report for report in reports if report["kind"] == kind]
        if own:
            files = f"in {count(len(own))} file{'s' if len(own) > 1 else ''}"
            cards.append(card(words, count(sum(report["pairs"] for report in own)), files))
    whole = next((report for report in reports if report["kind"] == "mean"), retrieval[0] if retrieval else None)
    if whole is not None:
        best = max((row for row in whole["runs"] if row["model"] != BM25), key=lambda row: row[whole["decides"]])
        of = "mean, " if whole["kind"] == "mean" else ""
        cards.append(card(f"Best {whole['decides']}", f"{best[whole['decides']]:.4f}", f"{of}{_said(best)}", "kept"))
    return join(
        tag("p", "Models measured", class_="kicker"),
        tag("h1", title),
        tag("div", cards, class_="cards"),
    )


def _overview(reports: Sequence[Report]) -> Markup | None:
    """Systems by collections, where there are several collections."""
    mean = next((report for report in reports if report["kind"] == "mean"), None)
    if mean is None:
        return None
    own = [report for report in reports if report["kind"] == "retrieval"]
    metric = mean["decides"]
    reach = _reach([mean])
    lines = []
    for row in mean["runs"]:
        key = (row["model"], row["instruction"])
        beside = (each for report in own for each in report["runs"] if (each["model"], each["instruction"]) == key)
        cells = [cell(f"{each[metric]:.4f}") for each in beside]
        lines.append(tag("tr", _system(row), cells, cell(tag("b", f"{row[metric]:.4f}")), _change(row, reach)))
    heads = [number(breakable(report["collection"])) for report in own]
    return table(
        f"{metric} on each collection, and the mean; its difference to {_base(mean)}, 95 % interval over queries",
        ["system", *heads, number("mean"), number("difference"), head("")],
        lines,
    )


def _tables(reports: Sequence[Report], kind: str) -> Markup | None:
    own = [report for report in reports if report["kind"] == kind]
    return join(_explained(kind), [_table(report) for report in own]) if own else None


def _explained(kind: str) -> Markup:
    words = {
        "retrieval": "As trec_eval computes it. A query's instruction stands before queries alone.",
        "sts": "Correlation of cosine and score, by rank (Spearman) and by value (Pearson). No instruction.",
        "pairs": "Average precision of the pairs ranked by cosine; accuracy and F1 at the best threshold of each. "
        "No instruction.",
        "mteb": "Searched and scored by mteb's own code.",
    }
    return tag("p", words[kind], class_="intro")


def _table(report: Report) -> Markup:
    metrics = report["metrics"]
    compared = any("difference" in row for row in report["runs"])
    reach = _reach([report])
    lines = [
        tag(
            "tr",
            _system(row),
            [cell(f"{row[metric]:.4f}") for metric in metrics],
            _change(row, reach) if compared else None,
        )
        for row in report["runs"]
    ]
    more = [number(f"{report['decides']} − {_base(report)}"), head("")] if compared else []
    return table(heading(report), ["system", *map(number, metrics), *more], lines)


def _change(row: Mapping[str, Any], reach: float) -> list[Markup]:
    """Two cells: a difference with its interval, in figures and drawn."""
    each = row.get("difference")
    if each is None:
        return [cell(""), tag("td")]
    words = f"{each['value']:+.4f} ({each['low']:+.4f} … {each['high']:+.4f})"
    family = "kept" if each["low"] > 0 else "benchmark" if each["high"] < 0 else "other"
    return [cell(words), tag("td", difference(words, each["value"], each["low"], each["high"], reach, family))]


def _reach(reports: Sequence[Report]) -> float:
    """How far the axis of differences goes."""
    found = [row["difference"] for report in reports for row in report["runs"] if "difference" in row]
    return float(max([abs(each[side]) for each in found for side in ("low", "high")] + [1e-6]))


def _queries(reports: Sequence[Report]) -> Markup | None:
    """How many queries each system does better and worse, by how much."""
    figures = []
    for report in reports:
        for row in report["runs"] if report["kind"] == "retrieval" else []:
            each = row.get("difference")
            if each is None or not any(each["histogram"]):
                continue
            same = report["queries"] - each["better"] - each["worse"]
            told = f"{count(each['better'])} better, {count(each['worse'])} worse, {count(same)} the same"
            step = 2 / len(each["histogram"])
            bins = [
                (round(-1 + step * place, 2), value, "benchmark" if place < len(each["histogram"]) / 2 else "kept")
                for place, value in enumerate(each["histogram"])
            ]
            drawn = columns(f"Queries by difference: {told}", bins, f"difference in {report['decides']}, from")
            words = f"{report['collection']}: {_said(row)} against {_base(report)}: {told}"
            figures.append(tag("figure", tag("figcaption", words), drawn))
    if not figures:
        return None
    left = len(figures) - _FIGURES
    return join(
        tag("div", figures[:_FIGURES], class_="figures"),
        tag("p", f"and {count(left)} more, which stand in scores.json", class_="faint") if left > 0 else None,
    )


def _worst_queries(reports: Sequence[Report]) -> Markup | None:
    blocks: list[Markup] = []
    for report in reports:
        for row in report["runs"] if report["kind"] == "retrieval" else []:
            if row.get("worst"):
                words = f"{report['collection']}: {_said(row)} against {_said(row['against'])}"
                cases = [_query(case, report["decides"]) for case in row["worst"]]
                blocks.append(tag("details", tag("summary", words), cases, open=not blocks))
    if not blocks:
        return None
    intro = tag(
        "p",
        "Where a system falls farthest behind the one it is compared to: on the left what people judged right, on the "
        "right what was found above it. A wrong judgement, or one that is missing, shows here as well.",
        class_="intro",
    )
    return join(intro, blocks)


def _query(case: Mapping[str, Any], metric: str) -> Markup:
    judged, found = case["judged"], case["found"]
    fell = f"{metric} {case[metric]:.3f}, not {case[f'{metric}_against']:.3f}"
    ranks = f"{_rank(judged['rank'])}, with the other {_rank(judged['rank_against'])}"
    right = _side("kept", "judged", f"{judged['id']} · grade {judged['grade']} · {ranks}", judged["text"])
    wrong: Child = tag("p", "Nothing was found instead.", class_="faint")
    if found is not None:
        said = "not relevant" if found["grade"] < 1 else f"grade {found['grade']}"
        wrong = _side("dropped", "found instead", f"{found['id']} · {said}", found["text"])
    return tag(
        "article",
        tag("div", tag("b", case["query"], dir="auto"), tag("span", fell, class_="faint"), class_="pair-head"),
        tag("div", right, wrong, class_="sides"),
        class_="pair",
    )


def _rank(rank: int | None) -> str:
    return "not found" if rank is None else f"rank {count(rank)}"


def _side(class_: str, words: str, note: str, text: str | None) -> Markup:
    shown: Child = tag("i", "not in the corpus", class_="faint") if text is None else text
    return tag(
        "div",
        tag("p", tag("b", words), " ", tag("span", note, class_="origin"), class_="side-name"),
        tag("dl", tag("dd", shown, dir="auto")),
        class_=f"side {class_}",
    )


def _worst_pairs(reports: Sequence[Report]) -> Markup | None:
    blocks: list[Markup] = []
    for report in reports:
        for row in report["runs"] if report["kind"] in {"sts", "pairs"} else []:
            if not row.get("worst"):
                continue
            lines = [
                tag(
                    "tr",
                    tag("td", case["first"], dir="auto"),
                    tag("td", case["second"], dir="auto"),
                    cell(f"{case['label']:g}"),
                    cell(f"{case['cosine']:.3f}"),
                    cell(f"{100 * case['by_label']:.0f}%"),
                    cell(f"{100 * case['by_cosine']:.0f}%"),
                )
                for case in row["worst"]
            ]
            said = "score" if report["kind"] == "sts" else "label"
            heads = [
                "first",
                "second",
                number(said),
                number("cosine"),
                number(f"below it by {said}"),
                number("by cosine"),
            ]
            words = f"{report['collection']}: {row['model']}"
            blocks.append(tag("details", tag("summary", words), table(words, heads, lines), open=not blocks))
    return join(blocks) if blocks else None


def _settings(models: Mapping[str, str], settings: Mapping[str, str]) -> Markup:
    lines = [tag("tr", name(breakable(label)), tag("td", tag("code", place))) for label, place in models.items()]
    lines += [tag("tr", name(key), tag("td", value or "none")) for key, value in settings.items()]
    return table("What was measured, and how", ["", "value"], lines)


def _system(row: Mapping[str, Any]) -> Markup:
    return name(breakable(row["model"]), f"instruction: {row['instruction']}" if row["instruction"] else None)


def _said(row: Mapping[str, Any]) -> str:
    return f"{row['model']} with instruction" if row["instruction"] else str(row["model"])


def _base(report: Mapping[str, Any]) -> str:
    return _said(report["compared_to"]) if "compared_to" in report else "the first"
