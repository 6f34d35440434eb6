"""The page about measured models in a real browser without a network: all of it shows, on a phone too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bgetrain.report.evaluation import render
from tests.system.browsing import Visit

HOSTILE = "</style><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3
METRICS = ["ndcg@10", "mrr@10", "recall@100", "map@1000"]
SECTIONS = ["overview", "retrieval", "sts", "pairs", "mteb", "queries", "worst", "worst-pairs", "settings"]


def row(model: str, place: int, **more: Any) -> dict[str, Any]:
    """A system, from the second on with a difference: worse, unsure, better."""
    found = {"model": model, "instruction": HOSTILE if place == 1 else "", **dict.fromkeys(METRICS, 0.4 + place / 10)}
    if place != 1:
        ends = {0: (-0.12, -0.02), 2: (-0.03, 0.05), 3: (0.01, 0.3)}[place]
        found["difference"] = {"value": sum(ends) / 2, "low": ends[0], "high": ends[1], "better": 40, "worse": 12}
        found["difference"]["histogram"] = [0, 1, 2, 3, 6, 20, 11, 6, 2, 1]
    return found | more


def reports() -> list[dict[str, Any]]:
    """Two collections, both kinds of pairs and a task, in names and texts that try to get out of their place."""
    systems = ["BM25", "base", LONG, HOSTILE]
    case = {"id": LONG, "query": f"{HOSTILE} {LONG}", "ndcg@10": 0.0, "ndcg@10_against": 1.0}
    case["judged"] = {"id": LONG, "grade": 2, "rank": None, "rank_against": 1, "text": f"{LONG} {HOSTILE} 民法典" * 3}
    case["found"] = {"id": "d2", "grade": 0, "text": HOSTILE}
    against = {"model": "base", "instruction": HOSTILE}
    worst = {"worst": [case, case | {"found": None}], "against": against}
    base = {"compared_to": against, "metrics": METRICS, "decides": "ndcg@10"}
    sizes = {"split": "test", "documents": 12_345, "queries": 678, "judgements": 9_012}
    found: list[dict[str, Any]] = [
        {"kind": "retrieval", "collection": name, **sizes, **base,
         "runs": [row(model, place, **(worst if place > 1 else {})) for place, model in enumerate(systems)]}
        for name in ("cranfield", LONG, HOSTILE)
    ]  # fmt: skip
    pair = {"first": LONG, "second": HOSTILE, "label": 1.0, "cosine": -0.2, "by_label": 0.9, "by_cosine": 0.05}
    for kind, metrics, facts in (
        ("sts", ["spearman", "pearson"], {"pairs": 1_379}),
        ("pairs", ["ap", "accuracy", "f1"], {"pairs": 1_847, "positives": 947, "left_out": 1_153}),
    ):
        rows = [row(model, place) | dict.fromkeys(metrics, 0.7) for place, model in enumerate(systems) if place]
        for each in rows:
            each |= {"worst": [pair, pair], "against": None, "instruction": ""}
        compared = {"model": "base", "instruction": ""}
        found.append({"kind": kind, "collection": kind, "metrics": metrics, "decides": metrics[0], **facts,
                      "compared_to": compared, "runs": rows})  # fmt: skip
    task = {"kind": "mteb", "collection": "SciFact", "metrics": ["ndcg_at_10"], "decides": "ndcg_at_10"}
    found.append(task | {"splits": ["test"], "runs": [{"model": "base", "instruction": "", "ndcg_at_10": 0.6}]})
    mean = [row(model, place) for place, model in enumerate(systems)]
    found.append({"kind": "mean", "collection": "mean", "over": ["cranfield", LONG, HOSTILE], **base, "runs": mean})
    return found


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("browser") / "report.html"
    models = {"base": f"models/{LONG}", LONG: LONG, HOSTILE: HOSTILE}
    file.write_text(render(reports(), models, {"split": "test", "query_instruction_for_retrieval": HOSTILE}))
    return file


def test_it_loads_nothing_and_runs_nothing(visit: Visit, page_file: Path) -> None:
    visit.assert_it_loads_and_runs_nothing(page_file)


def test_every_section_and_interval_is_visible(visit: Visit) -> None:
    assert visit.page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)") == SECTIONS
    for section in SECTIONS:
        assert visit.page.locator(f"#{section} h2").is_visible()
    drawn = visit.page.evaluate(
        """[...document.querySelectorAll('svg.whisker')].map(s => { const box = s.getBoundingClientRect();
           const parts = [...s.querySelectorAll('.interval, .dot')];
           const inside = parts.map(p => p.getBoundingClientRect()).every(p => p.left >= box.left - 3
                                                                          && p.right <= box.right + 3);
           return [box.width, inside, parts.every(p => getComputedStyle(p).getPropertyValue('--c') != '')]; })"""
    )
    # three systems of each collection and of the means, two of each kind of pairs
    assert len(drawn) == 3 * 3 + 3 + 2 + 2
    assert all(width > 100 and inside and coloured for width, inside, coloured in drawn), drawn
    assert visit.page.locator("#queries figure").count() == 9


def test_nothing_is_wider_than_the_screen(visit: Visit) -> None:
    visit.assert_nothing_is_wider_than_the_screen()
