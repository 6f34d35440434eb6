"""Recipes on the files as they are published, where the environment variable BGE_DATA names a folder that has them."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest

from bgeprep import recipes

DATA = os.environ.get("BGE_DATA", "")


def _folder(name: str) -> Path:
    folder = Path(DATA) / name
    if not DATA or not folder.is_dir():
        pytest.skip(f"BGE_DATA names no folder with {name}: published files are not in the repository")
    return folder


def _read(name: str, folder: Path, options: dict[str, str]) -> dict[str, tuple[pl.DataFrame, dict[str, int]]]:
    found = {}
    for source, stream in recipes.read(name, folder, options=options).items():
        frame = pl.concat(list(stream))
        assert frame.select(pl.struct("origin_file", "origin_line").is_unique().all()).item(), "an origin for each"
        assert pl.concat(list(stream)).equals(frame), "the same each time"
        found[source] = frame, dict(stream.tally.passed_over)
    return found


def test_cmrc2018_in_both_forms() -> None:
    folder = _folder("cmrc2018")
    made = {}
    for form in ("data", "squad-style-data"):
        # two questions of the trial are empty
        for split, number, rest in (("dev", 3219, {}), ("trial", 1000, {"empty_text": 2})):
            ((frame, passed_over),) = _read("cmrc2018", folder / form, {"splits": split}).values()
            assert (frame.height, passed_over) == (number, rest)
            made[form, split] = frame.select("query", "pos")
    for split in ("dev", "trial"):
        assert made["data", split].equals(made["squad-style-data", split])
    both = _read("cmrc2018", folder, {"splits": "all", "pairs": "all"})
    assert both["cmrc2018"][0].height == both["cmrc2018-answers"][0].height == 3219 + 1000
    assert set(both["cmrc2018"][0]["origin_file"].str.split("/").list.first()) == {"squad-style-data"}


@pytest.mark.parametrize(
    ("folder", "number"), [("xquad", 2 * 1190), ("squadshifts", 7938 + 9885), ("cmrc2018/squad-style-data", 4221)]
)
def test_what_has_the_shape_of_squad(folder: str, number: int) -> None:
    ((frame, passed_over),) = _read("squad", _folder(folder), {}).values()
    assert frame.height + passed_over.get("empty_text", 0) == number
    assert frame["neg"].list.len().sum() == 0


def test_dureader() -> None:
    found = _read("dureader", _folder("dureader-demo"), {"splits": "train,dev", "pairs": "all"})
    frame, passed_over = found["dureader"]
    assert frame.height + sum(passed_over.values()) == 200
    assert frame.height > 150
    rows = {}
    for path in sorted((Path(DATA) / "dureader-demo").glob("*.json.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows |= {(path.name, number): json.loads(line) for number, line in enumerate(lines, 1)}
    for query, pos, neg, *origin in frame.iter_rows():
        row = rows[tuple(origin)]
        assert row["question"].strip() == query
        selected = {document["is_selected"] for document in row["documents"]}
        best = {d["paragraphs"][d["most_related_para"]].strip() for d in row["documents"] if d["is_selected"]}
        assert set(pos) == best - {""}
        assert not set(pos) & set(neg)
        assert bool(neg) <= (False in selected)


def test_csl() -> None:
    found = _read("csl", _folder("csl"), {"pairs": "all"})
    frame, passed_over = found["csl"]
    assert (frame.height, passed_over) == (2000, {"other_task": 2000})
    keywords, passed_over = found["csl-keywords"]
    assert keywords.height + passed_over.get("no_title", 0) == 2000
    assert passed_over == {"other_task": 2000}
    assert set(keywords["query"]) == set(frame["query"])


def test_ocnli() -> None:
    folder = _folder("ocnli")
    for name, no_majority in (("train.3k", 6), ("train.10k", 15), ("dev", 50)):
        ((frame, passed_over),) = _read("ocnli", folder / f"{name}.json.gz", {}).values()
        with gzip.open(folder / f"{name}.json.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        entailed = {
            (row["sentence1"].strip(), row["sentence2"].strip()) for row in rows if row["label"] == "entailment"
        }
        assert {
            (query, text) for query, pos in zip(frame["query"], frame["pos"], strict=True) for text in pos
        } == entailed
        assert passed_over["no_majority"] == no_majority
    ((_, passed_over),) = ((0, s.tally.passed_over) for s in _emptied("ocnli", folder / "test.json.gz"))
    assert passed_over == {"no_label": 3000}


def _emptied(name: str, path: Path) -> list[recipes.Stream]:
    streams = [*recipes.read(name, path).values()]
    assert not [frame for stream in streams for frame in stream]
    return streams


@pytest.mark.parametrize(("folder", "name", "number"), [("bge-format-zh-sts", "bge_finetune_data", 2701)])
def test_rows_in_the_form_of_bge_pass_as_pairs(folder: str, name: str, number: int) -> None:
    found = _read("mtp", _folder(folder), {})
    frame, passed_over = found[f"mtp-{name}"]
    assert (frame.height, passed_over) == (number, {})


def test_fields_whose_types_change_between_files() -> None:
    """RGB: positives are a list of texts in one file and a list of lists in another."""
    found = _read("mtp", _folder("rgb-zh"), {"positive": "positive"})
    assert {name: frame.height for name, (frame, _) in found.items()} == {
        "mtp-en_fact": 100,
        "mtp-zh_fact": 100,
        "mtp-zh_int": 100,
        "mtp-zh_refine": 300,
    }
