"""The page about a shard set: its figures are those of the set, and nothing in a text can get out of its place."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bgeprep
from bgeprep import DedupConfig, PrepConfig, ShardError
from bgeprep.cli import main
from bgeprep.report import report
from bgeprep.report.markup import count, share, tag, text
from bgeprep.report.page import render
from bgeprep.report.reasons import by_family, look_up
from bgeprep.report.texts import differences

HOSTILE = [
    "<script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 1">',
    "</style></title><iframe src='//evil.example'></iframe>",
    "<!-- & &lt;b&gt; --> ]]> <svg onload=alert(1)>",
]
VOID = {"meta", "wbr"}
NEAR = {
    "threshold": 0.8,
    "permutations": 128,
    "bands": 16,
    "rows_per_band": 8,
    "max_cluster": 32,
    "rules": {"query": "query rule v1", "passage": "passage rule v1"},
    "spaces": [
        {
            "name": name,
            "texts": 1000 + place,
            "candidates": 400,
            "near_pairs": 300,
            "clusters": 77,
            "clustered_texts": 200,
            "largest": 40,
            "over_cap": 1,
            "sizes": [[2, 60], [4, 10], [8, 5], [32, 2]],
            "recall": {"sample": 500, "pairs": 200, "found": 197, "rate": 0.985, "low": 0.957, "high": 0.995},
            "precision": None,
        }
        for place, name in enumerate(("query", "passage"))
    ],
}
BENCHMARKS = [
    {
        "name": "cranfield",
        "kind": "beir",
        "queries": 225,
        "passages": 1400,
        "hits": {"query": 5, "pair": 2, "passage": 0, "containment": 1},
    }
]
SCORES = {"pairs": 900, "missing": 3, "below": 100, "threshold": 0.43, "histogram": [[0.0, 40], [0.2, 60], [0.4, 803]]}


class Page(HTMLParser):
    """What a page holds: elements, text by section, tables by caption; unbalanced tags are an error."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, str] = {"": ""}
        self.section = ""
        self.tables: dict[str, list[list[str]]] = {}
        self.caption = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name in VOID:
            return
        self.open.append(name)
        if name == "section":
            self.section = dict(attributes)["id"] or ""
            self.texts[self.section] = ""
        elif name == "caption":
            self.caption = ""
        elif name == "tr":
            self.tables.setdefault(self.caption, []).append([])
        elif name in {"td", "th"}:
            self.tables[self.caption][-1].append("")

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name
        if name == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        # Only what is seen: a chart's title is for its own reader.
        if "svg" in self.open and "text" not in self.open:
            return
        self.texts[self.section] += f"{data} "
        if self.open and self.open[-1] == "caption":
            self.caption += data
        elif "table" in self.open and "svg" not in self.open and {"td", "th"} & set(self.open):
            self.tables[self.caption][-1][-1] += data

    def count(self, name: str) -> int:
        return sum(1 for found, _ in self.elements if found == name)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def make(pairs: Path, out: Path) -> Path:
    bgeprep.shard(
        pairs, out, config=PrepConfig(dedup=DedupConfig(mode="exact")), source_overrides={"instruction": HOSTILE[1]}
    )
    return out


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources: one with duplicates of its own, one that a copy leaves nothing of, hostile texts everywhere."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "pairs").mkdir()
    faq = [
        {"query": f"问题 number {n}", "pos": [f"answer {n} " + "wörd " * (n % 40)], "neg": ["no"]} for n in range(300)
    ]
    faq += [{"query": f"QUESTION {text} {n}", "pos": [f"{text} answers {n}"]} for n, text in enumerate(HOSTILE)]
    faq += [{"query": f"question {text} {n}", "pos": [f"{text} ANSWERS {n}"]} for n, text in enumerate(HOSTILE)]
    faq += [{"query": text, "pos": ["."], "neg": [text]} for text in HOSTILE]
    write(folder / "pairs" / "faq.jsonl", faq)
    write(folder / "pairs" / "mirror.jsonl", faq[:40])
    wiki = [{"query": f"title {n}", "pos": [f"body {n}", "body"]} for n in range(150)]
    write(folder / "pairs" / "wiki.jsonl", wiki + wiki[90:95])
    return make(folder / "pairs", folder / "shards")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of which nothing was dropped: it has no rejects."""
    folder = tmp_path_factory.mktemp("clean")
    (folder / "pairs").mkdir()
    write(folder / "pairs" / "only.jsonl", [{"query": f"query {n}", "pos": [f"passage {n}"]} for n in range(20)])
    return make(folder / "pairs", folder / "shards")


def page_of(shards: Path, out: Path) -> tuple[dict[str, Any], Page]:
    figures = report(shards, out, title="the set")
    return figures, Page(out.read_text(encoding="utf-8"))


def manifest_of(shards: Path) -> dict[str, Any]:
    return json.loads((shards / "manifest.json").read_text(encoding="utf-8"))


def copy(shards: Path, to: Path) -> Path:
    shutil.copytree(shards, to)
    return to


def test_the_figures_are_those_of_the_manifest(shards: Path, tmp_path: Path) -> None:
    manifest = manifest_of(shards)
    figures, page = page_of(shards, tmp_path / "report.html")
    assert figures["dropped"] == manifest["dropped"]
    assert manifest["dropped"]["duplicate"] == 40 + len(HOSTILE) + 5
    for number in (manifest["rows_read"], manifest["rows_kept"], manifest["rows_read"] - manifest["rows_kept"]):
        assert f" {number:,} " in page.texts[""]

    lines = {line[0]: line for line in page.tables["Sources, the largest first"][1:]}
    assert len(lines) == len(manifest["sources"]) == 3
    for source in manifest["sources"]:
        (line,) = (line for name, line in lines.items() if name.startswith(source["name"]))
        assert line[1] == count(source["rows_read"])
        assert line[2] == count(source["rows"]) + share(source["rows"], source["rows_read"])

    drops = page.tables["Drops by reason"]
    total = manifest["rows_read"] - manifest["rows_kept"]
    assert drops[-1][:3] == ["all reasons", count(total), share(total, manifest["rows_read"])]
    for reason, number in manifest["dropped"].items():
        (line,) = (line for line in drops if line[0] == reason + look_up(reason).meaning)
        assert line[1] == count(number)
    for column, part in ((4, "positives"), (5, "negatives")):
        assert drops[-1][column] == count(sum(manifest["removed"][part].values()))


def test_a_source_that_kept_nothing_is_shown(shards: Path, tmp_path: Path) -> None:
    figures, page = page_of(shards, tmp_path / "report.html")
    (mirror,) = (source for source in figures["sources"] if source["name"] == "mirror")
    assert mirror["rows"] == 0
    assert "mirror" in page.texts["sources"]
    assert "mirror" not in page.texts["lengths"]


def test_overlap_counts_what_the_rejects_say(shards: Path, tmp_path: Path) -> None:
    figures, page = page_of(shards, tmp_path / "report.html")
    lines = pl.read_parquet(shards / "rejects" / "*.parquet").rows(named=True)
    lost = Counter(
        (line["source"], line["twin_source"])
        for line in lines
        if line["reason"] == "duplicate" and line["part"] != "negative"
    )
    names = figures["overlap"]["sources"]
    found = {
        (names[row], names[column]): number
        for row, numbers in enumerate(figures["overlap"]["counts"])
        for column, number in enumerate(numbers)
        if number
    }
    assert found == dict(lost)
    assert found[("mirror", "faq")] == 40
    (line,) = (line for line in page.tables["Overlap of sources"] if line[0] == "mirror")
    assert "40100.0%" in line


def test_lengths_are_counted_in_characters(shards: Path) -> None:
    figures = report(shards)
    edges = figures["lengths"]["edges"]
    rows = bgeprep.open(shards)
    for entry, source in zip(figures["lengths"]["sources"], rows.sources, strict=True):
        assert entry["whole"]
        assert sum(entry["query"]) == entry["rows"] == source["rows"]
        expected = Counter(
            max(place for place, edge in enumerate(edges) if edge <= max(len(body), edges[0]))
            for number in range(source["first"], source["first"] + source["rows"])
            for body in rows[number]["pos"]
        )
        assert {place: number for place, number in enumerate(entry["pos"]) if number} == dict(expected)


def test_no_text_gets_out_of_its_place(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    report(shards, out, title=HOSTILE[2])
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "img", "iframe", "link", "object", "embed", "base", "form"} & {n for n, _ in page.elements}
    assert page.count("style") == page.count("head") == page.count("body") == 1
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], (name, attributes)
    everything = " ".join(page.texts.values())
    for hostile in HOSTILE[:2]:
        assert hostile in everything
    assert HOSTILE[2] in page.texts[""]


def test_nothing_is_loaded_from_anywhere(shards: Path, tmp_path: Path) -> None:
    _, page = page_of(shards, tmp_path / "report.html")
    assert page.count("section") >= 5
    for name, attributes in page.elements:
        assert not {"src", "srcset", "data", "action", "background"} & attributes.keys(), (name, attributes)
        for key, value in attributes.items():
            assert not key.endswith("href") or (value or "").startswith("#"), (name, attributes)
    style = re.search(r"<style>(.*?)</style>", (tmp_path / "report.html").read_text(encoding="utf-8"), re.DOTALL)
    assert style
    assert not re.search(r"url\(|@import|https?:|//[a-z]", style[1])
    policies = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert (policies[0] or "").startswith("default-src 'none'")


def test_links_of_the_contents_lead_somewhere(shards: Path, tmp_path: Path) -> None:
    _, page = page_of(shards, tmp_path / "report.html")
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    links = [attributes["href"] or "" for name, attributes in page.elements if name == "a"]
    assert len(links) == page.count("section")
    assert {link[1:] for link in links} <= set(names)


def test_every_chart_has_words_for_those_who_do_not_see_it(shards: Path, tmp_path: Path) -> None:
    report(shards, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    charts = re.findall(r"<svg [^>]*>(.{0,80})", html)
    assert len(charts) > 10
    assert all(re.match(r"<title>[^<]+", inside) for inside in charts)
    for table in re.findall(r"<table.*?</table>", html, re.DOTALL):
        assert "<caption>" in table
        assert 'scope="col"' in table
        assert 'scope="row"' in table


def test_a_dropped_row_stands_beside_the_row_that_stays(shards: Path) -> None:
    pairs = report(shards)["samples"]["pairs"]
    rows = {(row["source"], row["origin_line"]): row for row in bgeprep.open(shards)}
    rejects = pl.read_parquet(shards / "rejects" / "*.parquet").filter(reason="duplicate").rows(named=True)
    twins = {(line["source"], line["origin_line"]): (line["twin_source"], line["twin_line"]) for line in rejects}
    duplicates = [pair for pair in pairs if pair["reason"] == "duplicate"]
    assert {pair["source"] for pair in duplicates} == {"faq", "mirror", "wiki"}
    for pair in duplicates:
        stays = pair["stays"]
        assert (stays["source"], stays["line"]) == twins[(pair["source"], pair["line"])]
        row = rows[(stays["source"], stays["line"])]
        assert stays["query"] == row["query"][:500]
        assert stays["text"] in [body[:500] for body in row["pos"]]


def with_near_duplicates(shards: Path, folder: Path) -> Path:
    """A copy of the set in whose rejects two lines of a later stage stand."""
    near = copy(shards, folder)
    path = near / "rejects" / "faq.parquet"
    lines = pl.read_parquet(path)
    stays = bgeprep.open(near)[0]
    changed = {
        "part": "row",
        "twin_source": stays["source"],
        "twin_file": stays["origin_file"],
        "twin_line": stays["origin_line"],
        "similarity": 0.85,
        "query": f"surely {stays['query']}",
        "text": stays["pos"][0],
    }
    more = [
        {**lines.row(0, named=True), **changed, "reason": "near_duplicate"},
        {**lines.row(0, named=True), **changed, "reason": "near_duplicate", "twin_line": 10**9, "similarity": 1.0},
        {
            **lines.row(0, named=True),
            **changed,
            "reason": "in_benchmark",
            "twin_source": "cranfield",
            "twin_id": "q<7>",
        },
    ]
    pl.concat([lines, pl.DataFrame(more, schema=lines.schema)]).write_parquet(path)
    return near


def test_later_stages_are_shown_where_they_ran(shards: Path, tmp_path: Path) -> None:
    figures = report(with_near_duplicates(shards, tmp_path / "shards"))
    before = Page(render(figures, "without"))
    assert not {"near", "benchmarks", "scores"} & before.texts.keys()

    page = Page(render({**figures, "near": NEAR, "benchmarks": BENCHMARKS, "scores": SCORES}, "with"))
    assert "98.5%" in page.texts[""]
    assert "between 95.7% and 99.5%" in page.texts[""]
    measured = page.tables["Recall and precision, measured against exact Jaccard on a sample"]
    assert [line[0] for line in measured[1:]] == ["recall on queries", "recall on passages"]
    assert measured[1][1:3] == ["98.5%", "95.7% – 99.5%"]
    assert measured[1][4:] == ["197 of 200", "500"]
    compared = page.tables["What was compared"]
    assert compared[2] == ["passages", "1,001", "400", "300", "77", "200", "40", "1"]
    assert "query rule v1" in page.texts["near"]
    assert page.tables["Texts of the benchmarks, and hits"][1] == ["cranfieldbeir", "225", "1,400", "5", "2", "0", "1"]
    assert page.tables["Loss by source"][1][:3] == ["faq", "cranfield", "1"]
    assert "cranfield q<7>" in page.texts["benchmarks"]
    assert "900 pairs with a score, 100 below 0.43 (11.1%), 3 without a score" in page.texts["scores"]
    assert figures["similarity"] == [[0.85, 1], *[[step / 100, 0] for step in range(86, 100)], [1.0, 1]]


def test_what_differs_is_marked(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    figures = report(with_near_duplicates(shards, tmp_path / "shards"), out)
    first, second = (pair for pair in figures["samples"]["pairs"] if pair["reason"] == "near_duplicate")
    assert first["similarity"] == 0.85
    assert first["stays"]["query"] == first["query"].removeprefix("surely ")
    assert second["stays"] is None
    html = out.read_text(encoding="utf-8")
    assert f"<mark>surely</mark> {text(first['stays']['query'])}" in html
    assert "The row in its place is not in this set" in html


def test_a_later_stage_that_found_nothing(shards: Path) -> None:
    spaces = [{**space, "sizes": [], "recall": None} for space in NEAR["spaces"]]
    figures = {**report(shards), "near": {**NEAR, "spaces": spaces}, "benchmarks": []}
    page = Page(render({**figures, "scores": {**SCORES, "pairs": 0, "below": 0, "histogram": []}}, "nothing"))
    assert "Recall was not measured" in page.texts["near"]
    assert "benchmarks" not in page.texts


def test_a_set_without_rejects(clean: Path, tmp_path: Path) -> None:
    assert not manifest_of(clean)["rejects"]
    figures, page = page_of(clean, tmp_path / "report.html")
    assert figures["overlap"] is None
    assert not {"overlap", "pairs"} & page.texts.keys()
    assert "Nothing was dropped" in page.texts["drops"]
    assert "query" in page.texts["samples"]


def test_rejects_that_were_taken_away_are_missed_aloud(shards: Path, tmp_path: Path) -> None:
    poor = copy(shards, tmp_path / "shards")
    shutil.rmtree(poor / "rejects")
    figures, page = page_of(poor, tmp_path / "report.html")
    assert figures["rejects"]["missing"] == ["faq.parquet", "mirror.parquet", "wiki.parquet"]
    assert "Not in the folder: faq.parquet, mirror.parquet, wiki.parquet" in page.texts["drops"]
    assert figures["dropped"] == manifest_of(shards)["dropped"]


def test_the_same_set_gives_the_same_bytes(shards: Path, tmp_path: Path) -> None:
    elsewhere = copy(shards, tmp_path / "elsewhere" / "shards")
    for folder, name in ((shards, "one.html"), (shards, "two.html"), (elsewhere, "three.html")):
        report(folder, tmp_path / name)
    pages = {(tmp_path / f"{name}.html").read_bytes() for name in ("one", "two", "three")}
    assert len(pages) == 1
    assert str(tmp_path).encode() not in pages.pop()


def test_command_line(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["report", str(shards), "--out", str(out), "--title", "<my> set"]) == 0
    assert f"{out}: " in capsys.readouterr().out
    assert "<h1>&lt;my&gt; set</h1>" in out.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert main(["report", str(shards), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report(shards)


def test_command_line_says_what_is_wrong(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for argv, code, told in (
        (["report", "empty"], 1, "no complete shard set"),
        (["report", "nowhere"], 1, "no such folder"),
        (["report"], 2, "required"),
        (["report", str(shards), "--out", "no/such/folder.html"], 1, "folder.html"),
    ):
        assert main(argv) == code
        assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))


def test_damaged_rejects_are_an_error(shards: Path, tmp_path: Path) -> None:
    damaged = copy(shards, tmp_path / "shards")
    (damaged / "rejects" / "faq.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(ShardError, match="bgeprep verify") as caught:
        report(damaged)
    assert caught.value.path == str(damaged / "rejects")


def test_control_characters_are_shown_by_their_picture() -> None:
    assert tag("p", "a\x00b\x1b\x7f\x85\tc\n") == "<p>a␀b␛␡\ufffd\tc\n</p>"


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 10, "0.0%"),
        (1, 3, "33.3%"),
        (1, 100_000, "<0.1%"),
        (99_999, 100_000, ">99.9%"),
        (5, 5, "100.0%"),
        (0, 0, "–"),
    ],
)
def test_shares_are_never_rounded_to_nothing_or_all(part: int, whole: int, shown: str) -> None:
    assert share(part, whole) == shown


def test_every_reason_has_a_meaning(repository: Path) -> None:
    source = (repository / "rust/bgeprep-core/src/report.rs").read_text(encoding="utf-8")
    names = re.findall(r'=> "(\w+)"', source.split("enum RejectPart")[0])
    assert len(names) > 20
    assert not [name for name in names if not look_up(name).meaning]


def test_a_reason_of_a_later_version_is_shown_by_its_name() -> None:
    assert by_family({"eaten_by_a_dog": 3, "duplicate": 2}) == {"exact": 2, "other": 3}
    assert look_up("eaten_by_a_dog").name == "eaten_by_a_dog"


WORDS = st.text(alphabet="ab <&>\"'中文\n", max_size=40)


@given(WORDS, WORDS)
def test_marks_change_no_text(left: str, right: str) -> None:
    for marked, plain in zip(differences(left, right), (left, right), strict=True):
        page = Page(f"<p>{marked}</p>")
        assert page.texts[""].replace(" ", "") == plain.replace(" ", "")
        assert {name for name, _ in page.elements} <= {"p", "mark"}


@given(WORDS)
def test_equal_texts_have_no_marks(body: str) -> None:
    assert differences(body, body.replace(" ", "  ").swapcase()) == (
        text(body),
        text(body.replace(" ", "  ").swapcase()),
    )


def test_the_end_of_a_cut_text_is_no_difference() -> None:
    left, right = differences("word " * 100 + "x", ("other " + "word " * 100)[:500])
    assert "<mark>other</mark>" in right
    assert left.count("<mark>") == 0
    assert left.endswith("…")
