"""The page of a run: a function of metrics.jsonl and config.toml alone, whatever stands in them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from bgetrain.__main__ import main
from bgetrain.report import write_report
from bgetrain.report.lines import short
from bgetrain.report.story import read_story, thin

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "</style><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"


def window(step: int, **words: Any) -> dict[str, Any]:
    record = {"kind": "train", "step": step, "epoch": 0, "loss": 2.0 / step, "learning_rate": 1e-5 * step}
    record |= {"grad_norm": 1.0, "pairs_per_second": 100.0, "tokens_per_second": 5e3, "padding_share": 0.1}
    record |= {"data_wait_share": 0.0, "effective_negatives": 31.0, "masked": 2, "repeated": 1, "likely_share": 0.0}
    record |= {"flat_share": 0.0, "rows": 16, "tflops": 0.1, "mfu": 0.41, "hfu": 0.47, "peak_memory": 2 * 10**9}
    sources = {"faq": {"loss": 1.0, "rows": 10}, HOSTILE: {"loss": 3.0, "rows": 6}}
    return {**record, "sources": sources, "seconds": 2.0, "steps": 1, **words}


def story(folder: Path, *records: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    start = {"kind": "run", "step": 0, "total_steps": 40, "started": "2026-01-02 03:04:05 UTC"}
    start["environment"] = {"torch": "9.9", "device": HOSTILE, "world_size": 2}
    lines = [json.dumps(record) + "\n" for record in [start, *records]]
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "config.toml").write_text(f'[data]\ntrain_data = "{HOSTILE}"\n', encoding="utf-8")
    return folder


def evaluation(step: int, value: float, best: int | None) -> dict[str, Any]:
    scores = {"ndcg@10": value, "mrr@10": value / 2}
    record = {"kind": "eval", "step": step, "metric": "ndcg@10", "value": value, "best_step": best, "best_value": 0.75}
    return {**record, "collections": {"toy": scores, HOSTILE: scores}, "mean": scores, "seconds": 1.0}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        assert not [name for name, _ in attrs if name.startswith("on") or name in {"src", "srcset"}]
        assert not [value for name, value in attrs if name == "href" and not (value or "").startswith("#")]


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("</style>", 1)[1]))


def test_every_part_of_a_run_is_on_the_page(tmp_path: Path) -> None:
    warning = {"kind": "warning", "step": 2, "message": f"step 2: {HOSTILE}", "hint": "a higher --temperature"}
    end = {"kind": "end", "step": 4, "state": "stopped early", "message": ""}
    found = [evaluation(0, 0.5, None), window(1), window(2), warning, evaluation(2, 0.75, 2), window(4)]
    run = story(tmp_path / "run", *found, evaluation(4, 0.7, 2), end)
    page = write_report(run).read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(page)
    assert not {"script", "img", "iframe", "link"} & set(tags.names)
    for section in ("warnings", "evaluation", "learning", "sources", "negatives", "speed", "environment", "settings"):
        assert section in tags.ids
    words = text_of(page)
    for told in ("stopped early: no improvement, step 4", "4 of 40", "0.7500", "before training", "best, step 2"):
        assert told in words
    for told in ("last, step 4", "41.0%", "2.0 GB", "a higher --temperature", "9.9", "faq", "train_data"):
        assert told in words
    assert words.count("window.pwned") >= 5
    assert tags.names.count("svg") > 12


def test_the_page_is_made_of_the_two_files_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = story(tmp_path / "run", window(1), window(2))
    (tmp_path / "run" / "secret.txt").write_text("do not tell")
    first = write_report(run).read_bytes()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert (run / "report.html").read_bytes() == first
    (run / "metrics.jsonl").write_text(json.dumps(window(3)) + "\n")
    assert main(["report", str(run), "--out", str(tmp_path / "other.html"), "--title", "named"]) == 0
    assert (run / "report.html").read_bytes() == first
    assert "<h1>named</h1>" in (tmp_path / "other.html").read_text()


def test_a_run_that_goes_on_has_no_end(tmp_path: Path) -> None:
    end = {"kind": "end", "step": 1, "state": "interrupted", "message": ""}
    again = {"kind": "run", "step": 1, "total_steps": 40}
    run = story(tmp_path / "run", window(1), end)
    assert "interrupted, step 1" in text_of(write_report(run).read_text())
    run = story(tmp_path / "run", window(1), end, again, window(2))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    assert "running, or killed" in text_of(write_report(run).read_text())


def test_records_of_other_times_and_broken_numbers(tmp_path: Path) -> None:
    """Windows from before kinds came, a loss that is no number, an error at the end."""
    old = {"step": 1, "loss": 1.5, "rows": 4, "masked": 0}
    end = {"kind": "end", "step": 2, "state": "failed", "message": "step 2: not a number"}
    run = story(tmp_path / "run", old, window(2, loss=float("nan"), mfu=None, sources={"x": {"loss": None, "rows": 1}}))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(end) + "\n")
    words = text_of(write_report(run).read_text())
    assert "The run failed. step 2: not a number" in words
    assert "MFU is not shown" in words
    assert read_story(run).points("loss") == [(1, 1.5)]


def test_what_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert "no run: it has no metrics.jsonl" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text("[1]\n")
    assert main(["report", str(tmp_path)]) == 1
    assert "metrics.jsonl:1: no record of a run" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text("{\n")
    assert main(["report", str(tmp_path)]) == 1
    assert not (tmp_path / "report.html").exists()


def test_long_runs_are_thinned_without_losing_their_mean() -> None:
    points = [(float(step), float(step % 7)) for step in range(1, 10_001)]
    few = thin(points, 250)
    assert len(few) == 250
    assert few[-1][0] == 10_000
    assert sum(value for _, value in few) / 250 == pytest.approx(sum(value for _, value in points) / 10_000, rel=1e-6)
    assert thin(points[:5], 250) == points[:5]


@pytest.mark.parametrize(("value", "words"), [(0, "0"), (3e-5, "3e-5"), (0.25, "0.25"), (1234, "1.23k"), (2e6, "2M")])
def test_numbers_for_people(value: float, words: str) -> None:
    assert short(value) == words
