"""Language and quality rules, on the demo's real English (MedQuAD) and Chinese (CSL) pairs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import bgeprep
from bgeprep.cli import main

ROWS = 60


@pytest.fixture(scope="module")
def english(repository: Path) -> list[dict[str, str]]:
    lines = (repository / "examples/demo/data/pairs/topics.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines[: 4 * ROWS]]
    return [{"query": query, "pos": passage} for query, passage in pairs if len(query) > 40][:ROWS]


@pytest.fixture(scope="module")
def chinese(repository: Path) -> list[dict[str, str]]:
    with gzip.open(repository / "examples/demo/data/zh/pairs/csl.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [{"query": row["title"], "pos": row["abstract"]} for row in rows if len(row["title"]) > 15][:ROWS]


def run(folder: Path, sources: dict[str, list[Any]], config: str = "") -> tuple[dict[str, Any], pl.DataFrame]:
    """Shards the sources by a TOML config; the summary and the rejects."""
    for name, rows in sources.items():
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "mix.toml").write_text(config, encoding="utf-8")
    out = folder / "shards"
    bgeprep.shard((), out, config=folder / "mix.toml", threads=2)
    found = bgeprep.inspect(out)
    for counts in (found, *found["sources"]):
        kept = counts.get("rows_kept", counts.get("rows"))
        assert counts["rows_read"] == kept + sum(counts["dropped"].values())
    frames = [pl.read_parquet(file) for file in sorted((out / "rejects").glob("*.parquet"))]
    return found, pl.concat(frames) if frames else pl.DataFrame()


MIX = """
[dedup]
mode = "none"
[clean]
{rules}
[[sources]]
name = "en"
path = "en.jsonl"
language = "en"
{en}
[[sources]]
name = "zh"
path = "zh.jsonl"
language = "zh"
{zh}
"""


def mix(rules: str = "", en: str = "", zh: str = "") -> str:
    return MIX.format(rules=rules, en=en, zh=zh)


def dropped(found: dict[str, Any], source: str) -> dict[str, int]:
    return next(one["dropped"] for one in found["sources"] if one["name"] == source)


def test_rows_in_the_wrong_language_go_and_all_others_stay(
    tmp_path: Path, english: list[dict[str, str]], chinese: list[dict[str, str]]
) -> None:
    sources = {"en": english + chinese[:7], "zh": chinese[7:] + english[:5]}
    found, rejects = run(tmp_path, sources, mix('expected_language = "source"'))
    assert dropped(found, "en") == {"wrong_language": 7}
    assert dropped(found, "zh") == {"wrong_language": 5}
    details = set(rejects["detail"].to_list())
    assert "query: expected English, found Mandarin (confidence 1.00)" in details
    assert any(detail.startswith("query: expected Mandarin, found English") for detail in details)


def test_without_the_rule_every_row_stays(
    tmp_path: Path, english: list[dict[str, str]], chinese: list[dict[str, str]]
) -> None:
    found, _ = run(tmp_path, {"en": english + chinese[:7], "zh": chinese[7:] + english[:5]}, mix())
    assert found["dropped"] == {}
    assert found["rows_kept"] == len(english) + len(chinese) + 5


def test_a_rule_of_one_source_leaves_the_others_alone(
    tmp_path: Path, english: list[dict[str, str]], chinese: list[dict[str, str]]
) -> None:
    own = 'clean = { expected_language = "", min_passage_chars = 5000, max_passage_chars = 0 }'
    sources = {"en": english + chinese[:7], "zh": chinese[7:] + english[:5]}
    found, _ = run(tmp_path, sources, mix('expected_language = "source"', zh=own))
    assert dropped(found, "en") == {"wrong_language": 7}
    assert dropped(found, "zh") == {"too_short": len(chinese) - 7 + 5}
    manifest = json.loads((tmp_path / "shards/manifest.json").read_text(encoding="utf-8"))
    assert manifest["config"]["sources"][1]["clean"]["min_passage_chars"] == 5000


def test_a_positive_in_another_language_goes_alone(
    tmp_path: Path, english: list[dict[str, str]], chinese: list[dict[str, str]]
) -> None:
    row = {"query": english[0]["query"], "pos": [english[0]["pos"], chinese[0]["pos"]], "neg": [chinese[1]["pos"]]}
    found, rejects = run(tmp_path, {"en": [row], "zh": chinese}, mix(en='clean = { expected_language = "en" }'))
    assert found["rows_kept"] == 1 + len(chinese)
    assert found["removed"] == {"positives": {"wrong_language": 1}, "negatives": {"wrong_language": 1}}
    assert sorted(rejects["part"].to_list()) == ["negative", "positive"]


def test_repetition_and_boilerplate(
    tmp_path: Path, english: list[dict[str, str]], chinese: list[dict[str, str]]
) -> None:
    english_junk = [
        {"query": "how to buy watches", "pos": "buy cheap watches online now " * 8},
        {"query": "what is on this page", "pos": "We use Cookies to improve your experience. Accept?"},
        {"query": "what is a magnet", "pos": "A rock. Subscribe to OUR\tnewsletter!"},
    ]
    chinese_junk = [
        {"query": "手表多少钱一块", "pos": "点击这里查看更多精彩的内容" * 5},
        {"query": "页面内容是什么", "pos": "请启用ＪａｖａＳｃｒｉｐｔ后继续访问本页面"},
    ]
    sources = {"en": english + english_junk, "zh": chinese + chinese_junk}
    rules = 'max_repeated_phrase_share = 0.5\nboilerplate = ["built-in", "subscribe to our newsletter"]'
    found, rejects = run(tmp_path, sources, mix(rules))
    assert dropped(found, "en") == {"repeated_phrases": 1, "boilerplate": 2}
    assert dropped(found, "zh") == {"repeated_phrases": 1, "boilerplate": 1}
    assert set(rejects["query"].to_list()) == {row["query"] for row in english_junk + chinese_junk}
    assert any("share of repeated phrases 0.8" in detail for detail in rejects["detail"].to_list())
    again = tmp_path / "off"
    again.mkdir()
    assert run(again, sources, mix())[0]["dropped"] == {}


def test_rules_are_flags_too(tmp_path: Path, english: list[dict[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*english, {"query": "what is on this page", "pos": "lorem ipsum dolor sit amet, consectetur"}]
    (tmp_path / "en.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    flags = ["--clean.boilerplate", "built-in,subscribe to our newsletter", "--clean.expected_language", "en"]
    assert main(["shard", "--in", str(tmp_path / "en.jsonl"), "--out", str(tmp_path / "s"), "--json", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["dropped"] == {"boilerplate": 1}


@pytest.mark.parametrize(
    ("rules", "own", "message"),
    [
        ("", "clean = { min_query_char = 3 }", "sources.en.clean.min_query_char: unknown key; hint: did you mean"),
        ("", 'clean = { min_query_chars = "3" }', "sources.en.clean.min_query_chars: expected int"),
        ("", "clean = { max_symbol_share = -1.0 }", "sources.en.clean.max_symbol_share: expected 0.0 to 100.0"),
        ("", 'clean = { expected_language = "klingon" }', "sources.en.clean.expected_language: expected the tag"),
        ("language_min_confidence = 2.0", "", "clean.language_min_confidence: expected 0.0 to 1.0, found 2.0"),
        ("", 'clean = { boilerplate = ["a"] }', "sources.en.clean.boilerplate: expected phrases of 4 characters"),
    ],
)
def test_a_rule_that_cannot_work_is_named(
    tmp_path: Path, english: list[dict[str, str]], rules: str, own: str, message: str
) -> None:
    with pytest.raises(bgeprep.ConfigError) as caught:
        run(tmp_path, {"en": english, "zh": english}, mix(rules, en=own))
    assert message in str(caught.value)


def test_the_language_of_a_source_has_to_be_known(tmp_path: Path, english: list[dict[str, str]]) -> None:
    (tmp_path / "plain.jsonl").write_text(json.dumps(english[0]), encoding="utf-8")
    config = bgeprep.PrepConfig(clean=bgeprep.CleanConfig(expected_language="source"))
    with pytest.raises(bgeprep.ConfigError, match=r"sources\.plain\.language: expected a language tag"):
        bgeprep.shard(tmp_path / "plain.jsonl", tmp_path / "s", config=config)
    bgeprep.shard(tmp_path / "plain.jsonl", tmp_path / "s", config=config, source_overrides={"language": "en"})
