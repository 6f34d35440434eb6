"""Documents under other column names, and what is said of documents that go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import bgeprep
from bgeprep import PrepConfig, SourceConfig
from bgeprep.cli import main
from bgeprep.report import report
from bgeprep.report.reasons import look_up

MAPPED = {"text": ("content",), "title": ("headline",)}


@pytest.fixture(scope="module")
def articles(documents: list[dict[str, str]]) -> pl.DataFrame:
    """Documents with columns that the usual names would take for others: the body's is `content`, `query` is noise."""
    texts = [" ".join(one["text"].split()) for one in documents[:50]]
    return pl.DataFrame(
        {
            "query": [f"noise {n}" for n in range(50)],
            "pos": ["more noise"] * 50,
            "headline": ["" if n % 9 == 0 else f"Headline {n}" for n in range(50)],
            "content": texts,
        }
    )


def _config(path: Path, columns: dict[str, tuple[str, ...]], **settings: Any) -> PrepConfig:
    source = SourceConfig(name="news", path=(str(path),), columns=columns, **settings)
    return PrepConfig(sources=(source,), dedup=bgeprep.DedupConfig(mode="none"))


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet", "arrow"])
def test_every_format_is_mapped(tmp_path: Path, articles: pl.DataFrame, suffix: str) -> None:
    path = tmp_path / f"articles.{suffix}"
    write = {
        "jsonl": articles.write_ndjson,
        "json": lambda path: path.write_text(json.dumps(articles.to_dicts()), encoding="utf-8"),
        "csv": articles.write_csv,
        "tsv": lambda path: articles.write_csv(path, separator="\t"),
        "parquet": articles.write_parquet,
        "arrow": articles.write_ipc,
    }
    write[suffix](path)
    bgeprep.shard(out=tmp_path / "out", config=_config(path, MAPPED))
    rows = sorted(bgeprep.open(tmp_path / "out"), key=lambda row: row["origin_line"])
    assert [row["text"] for row in rows] == articles["content"].to_list()
    assert [row["title"] for row in rows] == articles["headline"].to_list()
    found = bgeprep.inspect(tmp_path / "out")
    assert (found["kind"], found["sources"][0]["unmapped"]) == ("text", {"pos": 50, "query": 50})


def test_streams_and_the_command_line_are_mapped(tmp_path: Path, articles: pl.DataFrame) -> None:
    bgeprep.shard({"news": articles.lazy()}, tmp_path / "stream", source_overrides={"columns": MAPPED})
    articles.write_csv(tmp_path / "news.csv")
    flags = ["--columns", "text=content", "title=headline", "--quiet"]
    assert main(["shard", "--in", str(tmp_path / "news.csv"), "--out", str(tmp_path / "flags"), *flags]) == 0
    mix = tmp_path / "mix.toml"
    mix.write_text(
        '[[sources]]\nname = "news"\npath = "news.csv"\ncolumns = { text = "content", title = "headline" }\n',
        encoding="utf-8",
    )
    bgeprep.shard(out=tmp_path / "file", config=mix)
    sets = [
        {(row["title"], row["text"]) for row in bgeprep.open(tmp_path / name)} for name in ("stream", "flags", "file")
    ]
    assert sets[0] == sets[1] == sets[2]
    assert len(sets[0]) > 40


def test_either_may_keep_its_usual_name(tmp_path: Path) -> None:
    records = [{"title": "One title", "headline": "Another", "text": "Usual text.", "body": "Other text."}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, records)))
    for number, (columns, title, text) in enumerate(
        [
            ({"text": ("body",)}, "One title", "Other text."),
            ({"title": ("headline",)}, "Another", "Usual text."),
            ({"text": ("missing", "body"), "title": ("none",)}, "", "Other text."),
        ]
    ):
        bgeprep.shard(out=tmp_path / str(number), config=_config(tmp_path / "in.jsonl", columns))
        [row] = bgeprep.open(tmp_path / str(number))
        assert (row["title"], row["text"]) == (title, text)


def test_files_without_a_header_are_mapped_by_place(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("7\tA first text.\tx\n8\tA second text.\ty\n")
    bgeprep.shard(out=tmp_path / "out", config=_config(tmp_path / "in.tsv", {"text": ("2",)}))
    assert {row["text"] for row in bgeprep.open(tmp_path / "out")} == {"A first text.", "A second text."}


def test_what_cannot_be_mapped_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.csv").write_text("content,title\nA text.,A title\n")
    with pytest.raises(bgeprep.ConfigError, match=r"columns\.text: no column `body` in .*; columns: content, title"):
        bgeprep.shard(out=tmp_path / "out", config=_config(tmp_path / "in.csv", {"text": ("body",)}))
    with pytest.raises(bgeprep.ConfigError, match=r"of texts, columns\.query of pairs; hint: map one kind"):
        bgeprep.shard(out=tmp_path / "out", config=_config(tmp_path / "in.csv", {**MAPPED, "query": ("q",)}))
    with pytest.raises(bgeprep.ConfigError, match=r"unknown role txt; expected one of .*, text, title"):
        bgeprep.shard(out=tmp_path / "out", config=_config(tmp_path / "in.csv", {"txt": ("content",)}))
    assert main(["shard", "--in", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out"), "--quiet"]) == 1
    assert 'columns.text = ["…"] for texts' in capsys.readouterr().err


def test_rejects_of_documents_speak_of_texts(tmp_path: Path) -> None:
    (tmp_path / "bench" / "qrels").mkdir(parents=True)
    (tmp_path / "bench" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t2\t1\n")
    held = "the pressure of a gas rises with its temperature when it is kept in one volume all the time"
    query = {"_id": "1", "text": held}
    (tmp_path / "bench" / "queries.jsonl").write_text(json.dumps(query))
    (tmp_path / "bench" / "corpus.jsonl").write_text(json.dumps({"_id": "2", "text": "Another passage."}))
    records: list[dict[str, Any]] = [
        {"content": "A text that stays in the set."},
        {"content": "A TEXT that stays  in the set."},
        {"content": "x"},
        {"content": ""},
        {"content": None},
        {"headline": "Only a headline"},
        {"content": 3},
        {"content": f"It is known that {held}, which was found long ago."},
        "no object",
    ]  # type: ignore[list-item]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, records)))
    source = SourceConfig(name="news", path=(str(tmp_path / "in.jsonl"),), columns=MAPPED)
    config = PrepConfig(
        sources=(source,),
        dedup=bgeprep.DedupConfig(mode="exact"),
        exclude=bgeprep.ExcludeConfig(paths=(str(tmp_path / "bench"),)),
        read=bgeprep.ReadConfig(max_bad=1),
    )
    bgeprep.shard(out=tmp_path / "out", config=config)
    rejects = {row["origin_line"]: row for row in pl.read_parquet(tmp_path / "out/rejects/*.parquet").to_dicts()}
    assert {line: (row["reason"], row["part"]) for line, row in rejects.items()} == {
        2: ("duplicate", "row"),
        3: ("too_short", "row"),
        4: ("empty_field", "row"),
        5: ("empty_field", "row"),
        6: ("unknown_shape", "row"),
        7: ("unknown_shape", "row"),
        8: ("in_benchmark", "row"),
        9: ("unknown_shape", "row"),
    }
    assert rejects[5]["detail"] == "`content` is null"
    assert rejects[6]["detail"] == "no column for the text; columns: headline"
    assert rejects[8]["detail"] == "contained: the text holds a benchmark's query"
    page = tmp_path / "page.html"
    report(tmp_path / "out", page)
    shown = "".join(row["detail"] for row in rejects.values()) + page.read_text(encoding="utf-8").partition("<body")[2]
    for word in ("ositive", "egative"):
        assert word not in shown.replace("query_equals_positive", "")
    assert "the same text stands in another document" in shown


def test_reasons_have_words_for_both_kinds() -> None:
    assert look_up("duplicate").meaning == "the same query and positive stand in another row"
    for name in ("duplicate", "near_duplicate", "unknown_shape", "in_benchmark"):
        assert look_up(name, "text").meaning != look_up(name).meaning
        assert look_up(name, "text").family == look_up(name).family
    assert look_up("too_short", "text") == look_up("too_short")
    assert look_up("of a later version", "text").meaning == ""
