"""The report in a real browser without a network: it shows itself, keeps its width on a phone, and runs nothing."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bgeprep
from bgeprep import DedupConfig, PrepConfig
from bgeprep.report import report
from bgeprep.report.page import render
from tests.system.browsing import Visit

HOSTILE = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 4
RATE = {"sample": 5000, "pairs": 832, "found": 812, "rate": 0.976, "low": 0.963, "high": 0.984}
STAGES = {
    "near": {
        "threshold": 0.8,
        "permutations": 128,
        "bands": 16,
        "rows_per_band": 8,
        "max_cluster": 32,
        "rules": {"query": "character 4-grams v1", "passage": "5-grams of tokens v1"},
        "spaces": [
            {
                "name": name,
                "texts": 140211,
                "candidates": 90123,
                "near_pairs": 40021,
                "clusters": 9120,
                "clustered_texts": 27011,
                "largest": 1900,
                "over_cap": 3,
                "sizes": [[2, 6600], [4, 1900], [8, 500], [16, 90], [64, 7], [1024, 1]],
                "recall": RATE,
                "precision": RATE,
            }
            for name in ("query", "passage")
        ],
    },
    "similarity": [[step / 100, 300 - 10 * (step - 80)] for step in range(80, 101)],
    "benchmarks": [
        {
            "name": "cranfield",
            "kind": "beir",
            "queries": 225,
            "passages": 1400,
            "hits": {"query": 5, "pair": 2, "passage": 0, "containment": 1},
        }
    ],
    "benchmark_losses": [{"source": "faq", "benchmark": "cranfield", "row": 8, "positive": 0, "negative": 0}],
    "scores": {
        "pairs": 900,
        "missing": 3,
        "below": 100,
        "threshold": 0.43,
        "histogram": [[-0.1, 3], [0.1, 40], [0.3, 60], [0.5, 803]],
    },
}
SECTIONS = ["sources", "drops", "near", "overlap", "lengths", "benchmarks", "scores", "pairs", "samples", "settings"]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every section: a real set, and the figures of stages that it did not need."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "pairs").mkdir()
    rows = [
        {"query": f"问题 {n} of {LONG[: n % 90]}", "pos": [f"answer {n} " + "wörd " * (n % 90)]} for n in range(400)
    ]
    rows += [{"query": f"{HOSTILE} {n}", "pos": [f"{LONG} {HOSTILE}"], "neg": [HOSTILE]} for n in range(5)]
    rows += [{"query": row["query"].upper(), "pos": row["pos"]} for row in rows[:50]] + [
        {"query": HOSTILE, "pos": ["."]}
    ]
    for number, letter in enumerate("abcdefghijkl"):
        shown = rows if number == 0 else [*rows[: 20 * number], {"query": f"only in {letter}", "pos": ["a passage"]}]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shown)
        (folder / "pairs" / f"source-with-quite_a_long_name_{letter}.jsonl").write_text(text, encoding="utf-8")
    bgeprep.shard(folder / "pairs", folder / "shards", config=PrepConfig(dedup=DedupConfig(mode="exact")))
    out = folder / "report.html"
    out.write_text(render({**report(folder / "shards"), **STAGES}, f"set of {HOSTILE}"), encoding="utf-8")
    return out


@pytest.fixture(params=[("light", 1200), ("dark", 1200), ("light", 400), ("dark", 400)], ids=str)
def visit(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Visit]:
    scheme, width = request.param
    visit = Visit(browser, page_file, scheme, width)
    yield visit
    visit.page.context.close()


def test_it_loads_nothing_and_runs_nothing(visit: Visit, page_file: Path) -> None:
    visit.assert_it_loads_and_runs_nothing(page_file)
    assert visit.page.evaluate("performance.getEntriesByType('resource').length") == 0


def test_every_section_and_chart_is_visible(visit: Visit) -> None:
    assert visit.page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)") == SECTIONS
    for section in SECTIONS:
        assert visit.page.locator(f"#{section} h2").is_visible()
        assert visit.page.locator(f"#{section}").bounding_box()["height"] > 60
    sizes = visit.page.evaluate(
        "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect()).map(b => [b.width, b.height])"
    )
    assert len(sizes) > 50
    assert all(width > 40 and height > 8 for width, height in sizes)


def test_nothing_is_wider_than_the_screen(visit: Visit) -> None:
    """But for tables and settings, which scroll in a frame of their own."""
    width = visit.page.evaluate("innerWidth")
    assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    wide = visit.page.evaluate(
        """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll *, pre *'))
           .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 90))"""
    )
    assert wide == []


def test_words_can_be_read(visit: Visit) -> None:
    """WCAG AA: at least 4.5 between words and what they stand on, in both schemes."""
    contrast = """
    () => {
      const channels = c => { const d = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        d.fillStyle = c; d.fillRect(0, 0, 1, 1); return [...d.getImageData(0, 0, 1, 1).data].slice(0, 3); };
      const light = c => channels(c).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const style = getComputedStyle(document.documentElement), found = {};
      const pairs = [];
      for (const on of ['--paper', '--card'])
        for (const ink of ['--ink', '--faint', '--link', '--kept', '--benchmark']) pairs.push([ink, on]);
      pairs.push(['--mark-ink', '--mark']);
      for (const [ink, on] of pairs) {
        const a = light(style.getPropertyValue(ink)), b = light(style.getPropertyValue(on));
        found[`${ink} on ${on}`] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      }
      return found;
    }"""
    weak = {pair: round(ratio, 2) for pair, ratio in visit.page.evaluate(contrast).items() if ratio < 4.5}
    assert weak == {}


def test_the_schemes_differ(browser: Any, page_file: Path) -> None:
    papers = []
    for scheme in ("light", "dark"):
        visit = Visit(browser, page_file, scheme, 800)
        papers.append(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        visit.page.context.close()
    assert papers == ["rgb(247, 247, 244)", "rgb(20, 23, 26)"]


def test_there_is_something_to_see(visit: Visit) -> None:
    lines = picture_lines(visit.page.screenshot(full_page=True))
    # Filtered lines of a PNG repeat where the picture does: an empty page has hardly two kinds of them.
    assert len(lines) > 3000
    assert len(set(lines)) > len(lines) / 4


def picture_lines(png: bytes) -> list[bytes]:
    """The lines of a PNG as they were filtered for compression."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    place, packed, size = 8, b"", (0, 0)
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        body = png[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        elif kind == b"IDAT":
            packed += body
        place += 12 + length
    data = zlib.decompress(packed)
    step = len(data) // size[1]
    return [data[line * step : (line + 1) * step] for line in range(size[1])]
