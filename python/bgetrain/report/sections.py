"""The sections of the page; each takes the story and gives None where it has nothing to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bgeprep.report import tables
from bgeprep.report.charts import bar
from bgeprep.report.markup import Markup, count, join, share, tag
from bgetrain.report.lines import COLOURS, Line, figure, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgetrain.report.story import Points, Story

__all__ = ["environment", "evaluation", "learning", "negatives", "settings", "sources", "speed", "warnings"]

#: Sources and collections with a curve of their own; tables have all, up to the second number.
_CURVES = len(COLOURS)
_LISTED = 100
_WARNINGS = 20


def warnings(story: Story) -> Markup | None:
    """What the detectors said, and why the run ended before its time."""
    notes = []
    if story.end is not None and story.end["state"] == "failed":
        told = story.end.get("message") or "failed"
        notes.append(tag("p", tag("b", "The run failed. "), told, class_="alert failed"))
    shown = story.warnings[-_WARNINGS:]
    if hidden := len(story.warnings) - len(shown):
        notes.append(tag("p", f"{count(hidden)} earlier warnings are in metrics.jsonl.", class_="intro"))
    for record in shown:
        hint = tag("span", f"hint: {record['hint']}", class_="note") if record.get("hint") else None
        notes.append(tag("p", str(record.get("message", "")), hint, class_="alert"))
    return join(notes) if notes else None


def evaluation(story: Story) -> Markup | None:
    """Scores over steps, and beside each other: before training, at the best step, at the last."""
    if not story.evaluations:
        return None
    last = story.evaluations[-1]
    metric, best = last["metric"], last.get("best_step")
    names = list(last["collections"])
    lines = [
        Line(name, COLOURS[place], story.scores(name, metric), marked=best if len(names) == 1 else None)
        for place, name in enumerate(names[: _CURVES - 1])
    ]
    if len(names) > 1:
        lines.append(Line("mean", COLOURS[-1], story.scores(None, metric), marked=best))
    of_all = ", mean of the collections" if len(names) > 1 else ""
    others = [
        figure(f"{other}{of_all}", [Line(other, COLOURS[0], story.scores(None, other))], write=_score)
        for other in last["mean"]
        if other != metric
    ]
    picked = _picked(story, best)
    heads = [tables.head("Collection"), tables.head("At"), *[tables.number(name) for name in last["mean"]]]
    rows = []
    for name in [*names, *(["mean"] if len(names) > 1 else [])][:_LISTED]:
        for label, record in picked:
            values = record["mean"] if name == "mean" else record["collections"].get(name, {})
            cells = [tables.cell(f"{values[key]:.4f}" if key in values else "–") for key in last["mean"]]
            rows.append(tag("tr", tables.name(tables.breakable(name)), tables.cell(label, "label"), *cells))
    intro = f"{metric} decides which checkpoint is best" + (f": step {count(best)}." if best is not None else ".")
    return join(
        tag("p", intro, class_="intro"),
        _figures(figure(metric, lines, write=_score), *others),
        tables.table("Scores of the collections", heads, rows),
    )


def _picked(story: Story, best: int | None) -> list[tuple[str, dict[str, Any]]]:
    """The evaluations that the table shows, each once."""
    picked: dict[int, tuple[str, dict[str, Any]]] = {}
    for record in story.evaluations:
        step = record["step"]
        words = [
            *(["before training"] if step == 0 else []),
            *([f"best, step {count(step)}"] if step == best else []),
            *([f"last, step {count(step)}"] if record is story.evaluations[-1] and step not in (0, best) else []),
        ]
        if words:
            picked[step] = (words[0], record)
    return list(picked.values())


def learning(story: Story) -> Markup | None:
    """Loss, gradient and rate."""
    return _figures(
        figure("Loss", [Line("loss", "kept", story.points("loss"))], smooth=True),
        figure("Gradient length before clipping", [Line("gradient", "merged", story.points("grad_norm"))], smooth=True),
        figure("Learning rate", [Line("rate", "quality", story.points("learning_rate"))], zero=True),
    )


def rebuilding(story: Story) -> Markup | None:
    """Pre-training: how well masked tokens and whole texts are found."""
    parts = (("encoder", "kept"), ("decoder", "merged"))
    losses = [Line(name, colour, story.points(f"{name}_loss")) for name, colour in parts]
    found = [Line(name, colour, story.points(f"{name}_accuracy")) for name, colour in parts]
    return _figures(
        figure("Loss of a token", losses, smooth=True),
        figure("Share of the tokens that are found", found, zero=True, write=_percent, smooth=True),
        figure("Loss of a bag of words", [Line("words", "quality", story.points("bow_loss"))], smooth=True),
    )


def sources(story: Story) -> Markup | None:
    """Loss by source, and how many queries each gave."""
    if not story.sources:
        return None
    shown = list(story.sources.items())
    lines = [Line(name, COLOURS[place], source.losses) for place, (name, source) in enumerate(shown[:_CURVES])]
    rows_of_all = sum(source.rows for _, source in shown)
    most = max(source.rows for _, source in shown)
    heads = [tables.head("Source"), tables.number("Queries"), tables.head(""), tables.number("Loss, first tenth")]
    heads.append(tables.number("Loss, last tenth"))
    rows = [
        tag(
            "tr",
            tables.name(tables.breakable(name)),
            tables.cell([count(source.rows), tag("span", share(source.rows, rows_of_all), class_="note")]),
            tables.cell(bar(f"{name}: {count(source.rows)} queries", source.rows / max(most, 1), "kept"), "wide"),
            tables.cell(_mean(source.losses[: max(1, len(source.losses) // 10)])),
            tables.cell(_mean(source.losses[-max(1, len(source.losses) // 10) :])),
        )
        for name, source in shown[:_LISTED]
    ]
    rest = len(shown) - _LISTED
    return join(
        _figures(figure("Loss by source" + (", the largest" if len(shown) > _CURVES else ""), lines, smooth=True)),
        tables.table("Sources, those with most queries first", heads, rows),
        tag("p", f"{count(rest)} smaller sources are not listed.", class_="faint") if rest > 0 else None,
    )


def negatives(story: Story) -> Markup | None:
    """What queries were scored against, and what was left out."""
    left_out = [
        Line("known positives", "kept", _each(story, "masked")),
        Line("repeated", "exact", _each(story, "repeated")),
    ]
    likely = story.points("likely_share")
    flat = [point for point in story.points("flat_share") if point[1]]
    return _figures(
        figure("Negatives of a query", [Line("negatives", "kept", story.points("effective_negatives"))], zero=True),
        figure("Left out of a query's negatives", left_out, zero=True),
        figure("Share left out as likely positives", [Line("likely", "merged", likely)], zero=True, write=_percent)
        if any(value for _, value in likely)
        else None,
        figure(
            "Share of queries whose scores are all one", [Line("flat", "benchmark", flat)], zero=True, write=_percent
        )
        if flat
        else None,
    )


def speed(story: Story) -> Markup | None:
    """Throughput, what of it is lost, use of the device, memory."""
    lost = [
        Line("padding", "near", story.points("padding_share")),
        Line("waiting for data", "benchmark", story.points("data_wait_share")),
    ]
    used = [Line("model FLOPs", "kept", story.points("mfu")), Line("all FLOPs", "exact", story.points("hfu"))]
    tokens = story.points("tokens_per_second")
    body = _figures(
        figure("Pairs a second", [Line("pairs", "kept", story.points("pairs_per_second"))], zero=True, smooth=True),
        figure("Texts a second", [Line("texts", "kept", story.points("texts_per_second"))], zero=True, smooth=True),
        figure("Tokens a second", [Line("tokens", "quality", tokens)], zero=True, smooth=True),
        figure("Lost to padding and waiting", lost, zero=True, write=_percent),
        figure("Share of what the devices can do in bf16", used, zero=True, write=_percent),
        figure("Model TFLOP/s of a process", [Line("TFLOP/s", "merged", story.points("tflops"))], zero=True),
        figure(
            "Peak memory of a process",
            [Line("memory", "score", story.points("peak_memory"))],
            zero=True,
            write=lambda value: f"{value / 1e9:.3g} GB",
        ),
    )
    if body is None or story.points("mfu"):
        return body
    why = "MFU is not shown: what the device can do is not known. --peak_tflops says it for devices not in the table."
    return join(tag("p", why, class_="intro"), body)


def environment(story: Story) -> Markup | None:
    """What the run stood on, at each start."""
    if not story.runs:
        return None
    facts = story.runs[-1].get("environment", {})
    rows = [
        tag("tr", tables.name(str(name).replace("_", " ")), tables.cell(str(value), "label"))
        for name, value in facts.items()
    ]
    starts = [
        tag(
            "tr",
            tables.name(f"step {count(record['step'])}"),
            tables.cell(str(record.get("started", "")), "label"),
            tables.cell(str(record.get("environment", {}).get("device", "")), "label"),
            tables.cell(str(record.get("environment", {}).get("world_size", ""))),
        )
        for record in story.runs[-_LISTED:]
    ]
    heads = [tables.head("From"), tables.head("Started"), tables.head("Device"), tables.number("Processes")]
    return join(
        tables.table("Versions and devices", [tables.head("What"), tables.head("Found")], rows),
        tables.table("Starts of this run", heads, starts),
    )


def settings(story: Story) -> Markup | None:
    """config.toml as it stands."""
    if not story.config:
        return None
    pre = tag("pre", tag("code", story.config), tabindex="0", role="region", aria_label="config.toml")
    return tag("details", tag("summary", "show all settings as resolved"), pre)


def _figures(*figures: Markup | None) -> Markup | None:
    shown = [one for one in figures if one is not None]
    return tag("div", shown, class_="figures") if shown else None


def _each(story: Story, name: str) -> Points:
    """A count of a window as a mean over its queries."""
    return [
        (record["step"], record[name] / record["rows"])
        for record in story.windows
        if record.get(name) is not None and record.get("rows")
    ]


def _mean(points: Points) -> str:
    return f"{sum(value for _, value in points) / len(points):.4f}" if points else "–"


_score: Callable[[float], str] = "{:.4g}".format


def _percent(value: float) -> str:
    return f"{short(100 * value)}%"
