"""The page of a training run in a real browser without a network: every section and curve shows, on a phone too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bgetrain.report import write_report
from tests.system.browsing import Visit

HOSTILE = "</style><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3
SECTIONS = ["warnings", "evaluation", "learning", "sources", "negatives", "speed", "environment", "settings"]
STEPS = 600


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long run of many sources, whose names try to get out of their place."""
    folder = tmp_path_factory.mktemp("browser") / "a-run"
    folder.mkdir()
    names = [HOSTILE, LONG, *(f"source_{letter}" for letter in "abcdefghij")]
    records: list[dict[str, Any]] = [
        {
            "kind": "run",
            "step": 0,
            "total_steps": STEPS,
            "started": "2026-01-02 03:04:05 UTC",
            "environment": {"torch": "2.10", "device": LONG, "world_size": 8},
        }
    ]
    for step in range(1, STEPS + 1):
        sources = {name: {"loss": 3 / step + place, "rows": 100 - place} for place, name in enumerate(names)}
        records.append(
            {
                **{"kind": "train", "step": step, "loss": 3 / step + step % 5 / 10, "learning_rate": 1e-5},
                **{"grad_norm": 2.0 + step % 3, "pairs_per_second": 3e3, "tokens_per_second": 4e5},
                **{"padding_share": 0.1, "data_wait_share": 0.02, "effective_negatives": 65_567.0, "masked": step},
                **{"repeated": 5, "likely_share": 0.01, "flat_share": 0.2, "rows": 100, "sources": sources},
                **{"tflops": 400.0, "mfu": 0.4, "hfu": 0.45, "peak_memory": 70 * 10**9, "seconds": 0.5, "steps": 1},
            }
        )
        if step % 100 == 0:
            scores = dict.fromkeys(("ndcg@10", "mrr@10", "recall@100", "map@1000"), 0.4 + step / 2000)
            collections = {"toy": scores, LONG: scores, HOSTILE: scores}
            found = {"metric": "ndcg@10", "best_step": 600, "best_value": 0.7, "collections": collections}
            records.append({"kind": "eval", "step": step, "value": 0.5, "mean": scores, **found})
    records.append({"kind": "warning", "step": 5, "message": f"{LONG} {HOSTILE}", "hint": "look"})
    records.append({"kind": "end", "step": STEPS, "state": "failed", "message": HOSTILE})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "config.toml").write_text(f'[data]\ntrain_data = "{LONG}{HOSTILE}"\n' * 40)
    return write_report(folder, title=f"run of {HOSTILE}")


def test_it_loads_nothing_and_runs_nothing(visit: Visit, page_file: Path) -> None:
    visit.assert_it_loads_and_runs_nothing(page_file)


def test_every_section_and_curve_is_visible(visit: Visit) -> None:
    assert visit.page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)") == SECTIONS
    for section in SECTIONS:
        assert visit.page.locator(f"#{section} h2").is_visible()
    charts = visit.page.evaluate(
        """[...document.querySelectorAll('svg.chart')].map(s => { const box = s.getBoundingClientRect();
           const drawn = [...s.querySelectorAll('.line')].map(l => l.getBoundingClientRect());
           const stroke = [...s.querySelectorAll('.line')].every(l => getComputedStyle(l).stroke != 'none');
           return [box.width, box.height, stroke,
                   drawn.every(d => d.width > 30 && d.left >= box.left && d.right <= box.right + 1
                                    && d.top >= box.top - 1 && d.bottom <= box.bottom)]; })"""
    )
    assert len(charts) == 4 + 3 + 1 + 4 + 6
    assert all(width > 250 and height > 120 and stroke and inside for width, height, stroke, inside in charts), charts


def test_nothing_is_wider_than_the_screen(visit: Visit) -> None:
    visit.assert_nothing_is_wider_than_the_screen()


def test_words_of_an_axis_do_not_lie_on_each_other(visit: Visit) -> None:
    """The numbers of each chart, as boxes: no two of them cover one place."""
    covered = visit.page.evaluate(
        """[...document.querySelectorAll('svg.chart')].flatMap(s => {
           const boxes = [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
           return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) =>
             p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3)
             .map(([b]) => [s.querySelector('title').textContent.slice(0, 30), a, b])); })"""
    )
    assert covered == []
