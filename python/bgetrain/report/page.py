"""The page around the sections: what the run is, where it stands, its headline figures."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bgeprep.report.frame import card, document
from bgeprep.report.markup import Markup, count, join, megabytes, tag
from bgetrain.report import sections
from bgetrain.report.lines import short

if TYPE_CHECKING:
    from bgetrain.report.story import Story

__all__ = ["render"]


def render(story: Story, title: str) -> str:
    """The whole report as one HTML document that loads nothing.

    Args:
        story: what the run's files tell.
        title: what the page calls the run.
    """
    found = [
        ("warnings", "Warnings", sections.warnings(story)),
        ("evaluation", "Scores on the way", sections.evaluation(story)),
        ("learning", "Learning", sections.learning(story)),
        ("rebuilding", "Encoder and decoder", sections.rebuilding(story)),
        ("sources", "Sources", sections.sources(story)),
        ("negatives", "Negatives", sections.negatives(story)),
        ("speed", "Speed and memory", sections.speed(story)),
        ("environment", "Environment", sections.environment(story)),
        ("settings", "Settings", sections.settings(story)),
    ]
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return document(
        f"{title}: bgetrain report",
        _headline(story, title),
        [(key, name, body) for key, name, body in found if body is not None],
        join("Made by bgetrain report from metrics.jsonl and config.toml"),
        style,
    )


def _headline(story: Story, title: str) -> Markup:
    total = story.total_steps
    started = story.runs[0].get("started", "") if story.runs else ""
    cards = [card("Steps", count(story.step), f"of {count(total)}" if total else "so far")]
    losses = story.points("loss")
    if losses:
        cards.append(card("Loss", f"{losses[-1][1]:.4f}", f"{losses[0][1]:.4f} at step {count(int(losses[0][0]))}"))
    decided = [record for record in story.evaluations if record.get("best_step") is not None]
    if decided:
        last = decided[-1]
        note = f"step {count(last['best_step'])}, mean of {count(len(last['collections']))}"
        note = note if len(last["collections"]) > 1 else f"step {count(last['best_step'])}"
        cards.append(card(f"Best {last['metric']}", f"{last['best_value']:.4f}", note, "kept"))
    for name, words in (("pairs_per_second", "Pairs a second"), ("texts_per_second", "Texts a second")):
        if not (speeds := story.points(name)):
            continue
        tokens = story.points("tokens_per_second")
        note = f"median; {short(median(value for _, value in tokens))} tokens/s" if tokens else "median"
        cards.append(card(words, short(median(value for _, value in speeds)), note))
    if shares := story.points("mfu"):
        cards.append(card("MFU", f"{100 * median(value for _, value in shares):.1f}%", "median"))
    if held := story.points("peak_memory"):
        cards.append(card("Peak memory", megabytes(int(max(value for _, value in held))), "of one process"))
    if spent := story.points("seconds"):
        cards.append(card("Time in steps", _clock(sum(value for _, value in spent)), "evaluations not counted"))
    return join(
        tag("p", "Training run", class_="kicker"),
        tag("h1", title),
        tag(
            "p",
            tag("span", _state(story), class_="chip state"),
            f"  started {started}" if started else None,
            class_="intro",
        ),
        tag("div", cards, class_="cards"),
    )


def _state(story: Story) -> str:
    if story.end is None:
        return "no end written: running, or killed"
    state = {
        "done": "done",
        "stopped early": "stopped early: no improvement",
        "interrupted": "interrupted",
        "failed": "failed",
    }
    return f"{state.get(story.end['state'], story.end['state'])}, step {count(story.end['step'])}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
