"""Recipes on files of the published shape: the records they have always made, and twice the same.

`tests/prep/recipes/<recipe>.json` says what must come out. `python -m tests.prep.test_recipes_en` writes these files
anew; look at what changes before they are committed.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bgeprep import recipes
from tests.prep.recipe_fixtures import FIXTURES, OPTIONS, write_fixture

EXPECTED = Path(__file__).resolve().parent / "recipes"
DATA = Path(os.environ.get("BGE_DATA", "none"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="BGE_DATA names no folder of published data sets")


def _made(recipe: str, raw: Path) -> str:
    """What a recipe makes of its fixture, for each set of options: records, counts and purpose by source."""
    runs = []
    for options in OPTIONS.get(recipe, [{}]):
        sources = {}
        for name, stream in recipes.read(recipe, raw, options=options).items():
            records = [record for frame in stream for record in frame.to_dicts()]
            purpose = [stream.purpose.task, stream.purpose.language, stream.purpose.instruction]
            sources[name] = {"purpose": purpose, **stream.tally.as_dict(), "records": records}
        runs.append({"options": options, "sources": sources})
    return json.dumps(runs, ensure_ascii=False, indent=1) + "\n"


@pytest.mark.parametrize("recipe", sorted(FIXTURES))
def test_a_recipe_makes_the_expected_records_and_twice_the_same(recipe: str, tmp_path: Path) -> None:
    raw = write_fixture(recipe, tmp_path / "raw")
    assert _made(recipe, raw) == (EXPECTED / f"{recipe}.json").read_text(encoding="utf-8")
    for options in OPTIONS.get(recipe, [{}]):
        for stream in recipes.read(recipe, raw, options=options).values():
            first, counts = pl.concat(list(stream)), stream.tally.as_dict()
            assert pl.DataFrame(stream).equals(first), "as Arrow, and a second time"
            assert stream.tally.as_dict() == counts
            origins = first.select("origin_file", "origin_line")
            assert not origins.is_duplicated().any()
            assert set(origins["origin_file"]) <= set(FIXTURES[recipe])
            assert dict(zip(first.columns, first.dtypes, strict=True)) == stream.schema


def test_every_recipe_has_a_fixture_or_a_test_of_its_own() -> None:
    named = {path.stem for path in EXPECTED.glob("*.json")}
    assert set(FIXTURES) <= named & set(recipes.names())
    stages = {name: recipes.find(name).stages for name in FIXTURES}
    assert {name for name, stage in stages.items() if "pre-training" in stage} == {
        "msmarco-passage", "pile", "wikipedia", "wudao-text",
    }  # fmt: skip
    assert {name for name, stage in stages.items() if "stage 1" in stage} == {
        "cc-net", "reddit", "s2orc", "sentence-transformers", "stackexchange", "wikipedia-sections", "wudao",
    }  # fmt: skip
    assert {name for name, stage in stages.items() if "stage 2" in stage} == {
        "fever", "hotpotqa", "medi", "msmarco", "nli-simcse", "nq", "quora", "s2orc", "stackexchange-duplicates",
    }  # fmt: skip


def _rows(recipe: str, *paths: Path, **options: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The records of a recipe of one source, and its counts."""
    (stream,) = recipes.read(recipe, list(paths), options=options).values()
    return [row for frame in stream for row in frame.to_dicts()], stream.tally.as_dict()["passed_over"]


def _json_lines(path: Path) -> list[Any]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _word_characters(text: str) -> str:
    return re.sub(r"\W", "", text)[:60]


@needs_data
def test_published_files_in_the_shapes_of_sentence_transformers() -> None:
    folder = DATA / "st-format"
    pairs, passed_over = _rows("nq", folder / "medquad_pairs.jsonl.gz")
    assert len(pairs) == 16_407 - sum(passed_over.values())
    assert [pair["query"].split() for pair in pairs[:99]] == [
        pair[0].split() for pair in _json_lines(folder / "medquad_pairs.jsonl.gz")[:99]
    ]
    triplets, passed_over = _rows("quora", folder / "nli_triplets.jsonl.gz")
    assert (len(triplets), passed_over) == (6505, {})
    sets, passed_over = _rows("nq", folder / "sets.jsonl.gz")
    assert [[one["query"], *one["pos"]] for one in sets[:500]] == [
        value["set"] for value in _json_lines(folder / "sets.jsonl.gz")[:500]
    ]
    several, passed_over = _rows("msmarco", folder / "query_pos_neg.jsonl.gz")
    assert len(several) == 38_535 - sum(passed_over.values())
    assert sum(passed_over.values()) < 10
    assert _rows("nli-simcse", DATA / "nli-simcse-csv")[0] == [
        {**row, "origin_file": "nli_for_simcse.csv.gz", "origin_line": number + 1}
        for number, row in enumerate(triplets, 1)
    ]


@needs_data
def test_a_published_dump_of_stack_exchange() -> None:
    folder = DATA / "beer-stackexchange"
    duplicates, passed_over = _rows("stackexchange-duplicates", folder, text="title")
    derived = _json_lines(DATA / "st-format/stackexchange_duplicate_title_title.jsonl.gz")
    assert sorted([one["query"], *one["pos"]] for one in duplicates) == sorted(derived)
    assert passed_over == {"no_duplicate": 122, "question_gone": 2}
    answers, passed_over = _rows("stackexchange", folder / "Posts.xml.gz", query="title")
    assert len(answers) + sum(passed_over.values()) == 1029
    best = dict(_json_lines(DATA / "st-format/stackexchange_title_best_voted_answer.jsonl.gz"))
    same = [_word_characters(one["pos"][0]) == _word_characters(best[one["query"]]) for one in answers]
    assert sum(same) == 957, "the other 16 have several answers of most votes, and their accepted one is taken"


@needs_data
def test_published_collections_in_the_layout_of_beir() -> None:
    rows, passed_over = _rows("beir", DATA / "ir-beir/stard-25k", language="zh")
    assert (len(rows), passed_over) == (1235, {"not_judged": 308})
    corpus = {one["_id"]: f"{one['title']} {one['text']}".strip() for one in _json_lines(
        DATA / "ir-beir/cranfield/corpus.jsonl.gz")}  # fmt: skip
    queries = {one["_id"]: one["text"] for one in _json_lines(DATA / "ir-beir/cranfield/queries.jsonl.gz")}
    expected: dict[str, list[str]] = {}
    for line in (DATA / "ir-beir/cranfield/qrels/test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0 and corpus[document]:
            expected.setdefault(queries[query], []).append(corpus[document])
    rows, passed_over = _rows("beir", DATA / "ir-beir/cranfield", split="test")
    assert {row["query"]: row["pos"] for row in rows} == expected


@needs_data
def test_a_published_dump_of_wikipedia_by_sections() -> None:
    rows, passed_over = _rows("wikipedia-sections", DATA / "wikipedia-dump-sample")
    assert (len(rows), passed_over["redirect"]) == (1752, 99)
    lead = next(row for row in rows if row["query"] == "Autism")
    assert lead["pos"][0].startswith("Autism is a neurodevelopmental disorder")
    assert not any("==" in row["pos"][0] for row in rows)
    assert max(len(row["pos"][0]) for row in rows) <= 1000


if __name__ == "__main__":
    for one in sorted(FIXTURES):
        with tempfile.TemporaryDirectory() as scratch:
            made = _made(one, write_fixture(one, Path(scratch)))
            (EXPECTED / f"{one}.json").write_text(made, encoding="utf-8")
