"""The demo's data: readable by the public readers, and no text of the collection among the training rows."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from bgetrain.collection import open_collection

DEMO = Path(__file__).parents[2] / "examples" / "demo"
DATA = DEMO / "data"
ORIGINALS = os.environ.get("BGE_DATA", "")


def fold(text: str) -> str:
    return " ".join(text.casefold().split())


def rows() -> dict[str, list[tuple[str, str, list[str]]]]:
    """Source → (question, answer, negatives), read without this project's readers."""
    pairs = DATA / "pairs"
    with gzip.open(pairs / "institutes.jsonl.gz", "rt", encoding="utf-8") as lines:
        institutes = [json.loads(line) for line in lines]
    with gzip.open(pairs / "genetics.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        genetics = list(csv.DictReader(lines))
    return {
        "institutes": [(row["query"], row["pos"][0], row["neg"]) for row in institutes],
        "genetics": [(row["question"], row["answer"], [row["negative"]]) for row in genetics],
        "kidney-nerves": [(a, b, list(c)) for a, b, c in pl.read_parquet(pairs / "kidney-nerves.parquet").rows()],
        "topics": [(*json.loads(line), []) for line in (pairs / "topics.jsonl").read_text("utf-8").splitlines()],
    }


def test_no_text_of_the_collection_is_trained_on() -> None:
    collection = open_collection(DATA / "medquad-heldout")
    held_out = {fold(text) for text in collection.queries.values()}
    held_out |= {fold(text) for piece in collection.documents(500) for text in piece}
    assert len(held_out) > 1500
    for source, entries in rows().items():
        assert len(entries) > 500, source
        for question, answer, negatives in entries:
            assert held_out.isdisjoint(map(fold, (question, answer, *negatives))), (source, question)


def test_negatives_are_no_positives_of_their_question() -> None:
    answers: dict[str, set[str]] = {}
    every = [entry for entries in rows().values() for entry in entries]
    for question, answer, _ in every:
        answers.setdefault(fold(question), set()).add(fold(answer))
    wrong = [question for question, _, negatives in every if answers[fold(question)] & set(map(fold, negatives))]
    assert wrong == []


@pytest.mark.parametrize("name", ["medquad-heldout", "zh/csl-titles"])
def test_the_collections_are_whole(name: str) -> None:
    collection = open_collection(DATA / name)
    assert collection.warnings() == []
    assert collection.unjudged_queries == 0


def test_the_readme_counts_what_is_there() -> None:
    readme = (DATA / "README.md").read_text("utf-8")
    for source, entries in rows().items():
        (line,) = [line for line in readme.splitlines() if f"`pairs/{source}." in line]
        assert f"| {len(entries):,} |" in line
    collection = open_collection(DATA / "medquad-heldout")
    sizes = len(collection.document_ids), len(collection.queries), collection.judgements
    assert "{:,} documents, {:,} queries, {:,} judgements".format(*sizes) in readme


@pytest.mark.skipif(not ORIGINALS, reason="BGE_DATA names no folder with the published originals")
def test_the_script_makes_the_same_bytes_again(tmp_path: Path) -> None:
    (tmp_path / "make_data.py").write_bytes((DEMO / "make_data.py").read_bytes())
    subprocess.run([sys.executable, tmp_path / "make_data.py"], check=True, env=os.environ)
    made = {path.relative_to(tmp_path / "data"): path for path in (tmp_path / "data").rglob("*") if path.is_file()}
    kept = {path.relative_to(DATA) for path in DATA.rglob("*") if path.is_file()} - {Path("README.md")}
    assert set(made) == kept
    for name, path in made.items():
        assert path.read_bytes() == (DATA / name).read_bytes(), name
