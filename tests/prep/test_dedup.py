"""Exact dedup against the slow reference of `tests/reference/dedup.py`, on built and real rows."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import bgeprep
from bgeprep import _native
from tests.reference.dedup import Row, deduplicate, normalise

TEXTS = ["magnets", "Magnets ", "why is the sky blue", "天空", "天　空", "straße", "STRASSE", "iron", "x ray", "ＸRay",
         "a shoe", "a  Shoe", "rust", "water"]  # fmt: skip


def random_rows(seed: int, count: int, symmetric: bool, merge: bool, source: int) -> list[Row]:
    chooser = random.Random(seed)
    rows = []
    for line in range(1, count + 1):
        pos = chooser.sample(TEXTS, chooser.choice([1, 1, 1, 2, 3]))
        scores = [round(chooser.random(), 2) for _ in pos] if chooser.random() < 0.3 else []
        rows.append(
            Row(
                place=(source, line),
                query=chooser.choice(TEXTS[:9]),
                pos=pos,
                neg=chooser.sample(TEXTS, chooser.choice([0, 0, 1, 3])),
                pos_scores=scores,
                source=f"s{source}",
                priority=source,
                symmetric=symmetric,
                merge=merge,
            )
        )
    return rows


def write(rows: list[Row], folder: Path) -> None:
    folder.mkdir()
    for row in rows:
        record = {"query": row.query, "pos": row.pos, "neg": row.neg}
        if row.pos_scores:
            record["pos_scores"] = row.pos_scores
        with (folder / f"{row.source}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_slow_reference(seed: int, tmp_path: Path) -> None:
    symmetric, merge = seed % 2 == 1, seed % 4 >= 2
    sources = [random_rows(seed * 10 + s, 60, symmetric and s == 0, merge and s == 1, s) for s in range(3)]
    rows = [row for source in sources for row in source]
    write(rows, tmp_path / "pairs")
    config = {
        "clean": bgeprep.CleanConfig(query_equals_positive=False),
        "dedup": bgeprep.DedupConfig(mode="exact"),
        "sources": tuple(
            bgeprep.SourceConfig(
                name=f"s{s}",
                path=(str(tmp_path / "pairs" / f"s{s}.jsonl"),),
                task="symmetric" if source[0].symmetric else "retrieval",
                merge_positives=source[0].merge,
            )
            for s, source in enumerate(sources)
        ),
    }
    bgeprep.shard([], tmp_path / "shards", config=bgeprep.PrepConfig(**config))
    found = {(row["source"], row["origin_line"]): row for row in bgeprep.open(tmp_path / "shards")}

    expected = {(row.source, row.place[1]): row for row in deduplicate(rows) if row.fate == "kept"}
    assert found.keys() == expected.keys()
    for place, row in expected.items():
        assert [normalise(text) for text in found[place]["pos"]] == [normalise(text) for text in row.pos], place
        assert [normalise(text) for text in found[place]["neg"]] == [normalise(text) for text in row.neg], place
        assert set(found[place]["also_pos_keys"]) == {_native.text_key(text) for text in row.also}, place
    dropped = bgeprep.inspect(tmp_path / "shards")["dropped"]
    fates = [row.fate for row in rows]
    assert dropped.get("duplicate", 0) == fates.count("duplicate")
    assert dropped.get("merged", 0) == fates.count("merged")


def test_without_dedup_every_row_stays(tmp_path: Path) -> None:
    rows = random_rows(3, 80, False, False, 0)
    write(rows, tmp_path / "pairs")
    none = bgeprep.PrepConfig(
        dedup=bgeprep.DedupConfig(mode="none"), clean=bgeprep.CleanConfig(query_equals_positive=False)
    )
    result = bgeprep.shard(tmp_path / "pairs", tmp_path / "shards", config=none)
    assert result.rows_kept == result.rows_read == 80


def test_also_positives_are_capped_and_the_excess_is_counted(tmp_path: Path) -> None:
    rows = [Row(place=(0, line), query="one query", pos=[f"answer {line}"], source="s") for line in range(1, 71)]
    write(rows, tmp_path / "pairs")
    bgeprep.shard(tmp_path / "pairs", tmp_path / "shards")
    shards = bgeprep.open(tmp_path / "shards")
    assert {len(row["also_pos_keys"]) for row in shards} == {64}
    assert shards.manifest["sources"][0]["also_pos_excess"] == 70 * 5


def test_labelled_negatives_find_their_row(tmp_path: Path) -> None:
    lines = [
        {"sentence1": "a man sleeps", "sentence2": "somebody rests", "label": 1},
        {"sentence1": "A man  sleeps", "sentence2": "a man runs", "label": 0},
        {"sentence1": "nobody asked", "sentence2": "for this", "label": 0},
        {"sentence1": "half a row", "sentence2": "without a verdict", "label": "-"},
    ]
    (tmp_path / "nli.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    bgeprep.shard(tmp_path / "nli.jsonl", tmp_path / "shards")
    (row,) = list(bgeprep.open(tmp_path / "shards"))
    assert (row["pos"], row["neg"]) == (["somebody rests"], ["a man runs"])
    assert bgeprep.inspect(tmp_path / "shards")["dropped"] == {"merged": 1, "no_label": 1, "no_row_for_negative": 1}


def test_a_dropped_copy_leaves_its_score(tmp_path: Path) -> None:
    lines = [
        {"query": "what is it", "pos": ["a thing"]},
        {"query": "What is it", "pos": ["A thing"], "pos_scores": [0.75]},
    ]
    for name, line in zip("ab", lines, strict=True):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    bgeprep.shard([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "shards")
    (row,) = list(bgeprep.open(tmp_path / "shards"))
    assert (row["source"], row["pos"], row["pos_scores"]) == ("a", ["a thing"], [0.75])
