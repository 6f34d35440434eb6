"""Which rows share a batch: topics, mixes, topping up on real pairs; `verify --batch-size` and `bgeprep batches`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import bgeprep
from bgeprep import BatchPlan, ConfigError, ShardSet, audit, read_clusters, write_clusters
from tests.reference import plan as reference


@pytest.fixture(scope="module")
def shards(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's pairs: four sources of questions on diseases, many on one answer."""
    folder = tmp_path_factory.mktemp("plan") / "shards"
    bgeprep.shard(repository / "examples" / "demo" / "data" / "pairs", folder)
    return folder


@pytest.fixture(scope="module")
def rows(shards: Path) -> list[dict[str, Any]]:
    """All rows by row id."""
    return list(ShardSet.open(shards))


def topics(rows: list[dict[str, Any]], count: int) -> np.ndarray:
    """Topic clusters by TF-IDF and a few rounds of spherical k-means, uint32 [rows]."""
    words = [row["query"].lower().replace("?", " ").split() for row in rows]
    frequency = Counter(word for text in words for word in set(text))
    vocabulary = {word: place for place, (word, times) in enumerate(frequency.most_common(2_000)) if times > 1}
    matrix = np.zeros((len(rows), len(vocabulary)), dtype=np.float32)
    for place, text in enumerate(words):
        for word in text:
            if word in vocabulary:
                matrix[place, vocabulary[word]] += np.log(len(rows) / frequency[word])
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
    centres = matrix[np.random.default_rng(1).choice(len(rows), count, replace=False)]
    for _ in range(4):
        nearest = (matrix @ centres.T).argmax(axis=1)
        for cluster in range(count):
            if (members := nearest == cluster).any():
                centre = matrix[members].sum(axis=0)
                centres[cluster] = centre / max(float(np.linalg.norm(centre)), 1e-9)
    return nearest.astype(np.uint32)


def test_batches_by_topic_hold_few_topics_and_no_false_negative(
    shards: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    clusters = topics(rows, 24)
    write_clusters(tmp_path / "topics.parquet", shards, clusters)
    options: Any = {"batch_size": 64, "batch_by": "cluster", "clusters": tmp_path / "topics.parquet"}
    known = reference.known_positives(rows, tasks := {row["source"]: "retrieval" for row in rows})

    def largest(share: float) -> list[float]:
        """For each batch, the share of its most frequent topic."""
        plan = [batch.as_dict() for batch in BatchPlan(shards, cluster_share=share, **options)]
        for batch in plan[::15]:
            assert reference.violations(rows, known, batch, tasks) == []
        counts = [Counter(clusters[batch["rows"]].tolist()) for batch in plan]
        return [count.most_common(1)[0][1] / count.total() for count in counts if count.total() == 64]

    ordinary = np.median(largest(0.0))
    hard = np.array(largest(1.0))
    half = np.array(largest(0.5))
    assert ordinary < 0.4 < 0.6 < np.median(hard)
    assert 0.3 < (half > (ordinary + np.median(hard)) / 2).mean() < 0.6
    found = audit(shards, cluster_share=0.5, num_epochs=2, **options)
    assert found["plan"]["exact"] == {"queries": 0, "documents": 0, "own": 0}


def test_clusters_are_bound_to_their_set(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "clusters.parquet"
    count = len(ShardSet.open(shards))
    clusters = np.arange(count) % 7
    write_clusters(path, shards, clusters)
    assert read_clusters(path, shards).tolist() == clusters.tolist()
    bound = pl.read_parquet_metadata(path)["bgeprep.set"]
    frame = pl.read_parquet(path)
    # Rows may come in any order, but each once.
    frame.reverse().write_parquet(path, metadata={"bgeprep.set": bound})
    assert read_clusters(path, shards).tolist() == clusters.tolist()
    for broken, metadata, message in [
        (frame.head(count - 1), {"bgeprep.set": bound}, "each of the rows 0 to"),
        (frame.vstack(frame.head(1)).slice(1), {"bgeprep.set": bound}, None),
        (frame.with_columns(row=pl.lit(0, pl.UInt64)), {"bgeprep.set": bound}, "each of the rows 0 to"),
        (frame, {"bgeprep.set": "0" * 16}, "found those of 0000000000000000"),
        (frame, {}, "found those of no set"),
        (frame.rename({"cluster": "topic"}), {"bgeprep.set": bound}, "expected a Parquet file with columns"),
    ]:
        broken.write_parquet(path, metadata=metadata)
        if message is None:
            assert read_clusters(path, shards).tolist() == clusters.tolist()
            continue
        with pytest.raises(ConfigError, match=message):
            BatchPlan(shards, batch_size=8, batch_by="cluster", clusters=path)
    path.write_text("no parquet")
    with pytest.raises(ConfigError, match="expected a Parquet file"):
        read_clusters(path, shards)
    for wrong in (clusters[:-1], clusters - 1, clusters.astype(float)):
        with pytest.raises(ConfigError, match="clusters: expected"):
            write_clusters(path, shards, wrong)
    for options in ({"batch_by": "cluster"}, {"clusters": path}, {"batch_by": "topic"}):
        with pytest.raises(ConfigError, match=r"batch\."):
            BatchPlan(shards, batch_size=8, **options)


@pytest.mark.parametrize("batch_by", ["source", "mixed"])
def test_whatever_shares_a_batch_every_row_comes_once(shards: Path, rows: list[dict[str, Any]], batch_by: Any) -> None:
    plan = BatchPlan(shards, batch_size=128, batch_by=batch_by, num_epochs=2)
    batches = [batch.as_dict() for batch in plan]
    known = reference.known_positives(rows, tasks := {row["source"]: "retrieval" for row in rows})
    for batch in batches[::12]:
        assert reference.violations(rows, known, batch, tasks) == []
    sources = [Counter(rows[row]["source"] for row in batch["rows"]) for batch in batches]
    assert [len(count) == 1 for count in sources] == [batch["source"] is not None for batch in batches]
    if batch_by == "mixed":
        assert sum(len(count) == 4 for count in sources) > 0.8 * len(batches)
    report = plan.report()
    placed = sum(source["rows"] for source in report)
    given_up = sum(source["unplaced_conflict"] + source["unplaced_last_batch"] for source in report)
    assert placed + given_up == 2 * len(rows)
    assert given_up < 0.02 * len(rows)
    assert len([count for count in sources if count.total() < 128]) <= 0.2 * len(batches)


def test_a_planned_batch_is_arrays(shards: Path, rows: list[dict[str, Any]]) -> None:
    kinds = {"rows": np.uint64, "positives": np.int32, "negatives": np.int32, "negative_offsets": np.int64}
    for batch in BatchPlan(shards, batch_size=300, train_group_size=4, max_steps=5):
        assert {name: getattr(batch, name).dtype.type for name in kinds} == kinds
        assert len(batch) == len(batch.rows) == len(batch.positives) == len(batch.negative_offsets) - 1
        assert batch.negative_offsets[0] == 0
        assert batch.negative_offsets[-1] == len(batch.negatives)
        lists = batch.as_dict()
        assert json.loads(json.dumps(lists)) == lists
        for place, row in enumerate(lists["rows"]):
            chosen = lists["negatives"][place]
            assert chosen == batch.negatives_of(place).tolist()
            assert len(set(chosen)) == len(chosen) == min(3, len(chosen))
            assert all(item < len(rows[row]["neg"]) for item in chosen)
            assert lists["positives"][place] < len(rows[row]["pos"])


def test_a_plan_resumes_from_a_state_of_its_own_or_a_loaders(shards: Path) -> None:
    whole = [batch.as_dict() for batch in BatchPlan(shards, batch_size=200, max_steps=30)]
    first = BatchPlan(shards, batch_size=200, max_steps=30)
    for _ in range(11):
        next(first)
    state = json.loads(json.dumps(first.state_dict()))
    assert state["step"] == 11
    resumed = BatchPlan(shards, batch_size=200, max_steps=30, state=state)
    assert [batch.as_dict() for batch in resumed] == whole[11:]
    with pytest.raises(ConfigError, match="batch_size was 200, is 100"):
        BatchPlan(shards, batch_size=100, max_steps=30, state=state)


def test_verify_proves_the_plan(shards: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bgeprep", "verify", str(shards), "--batch-size", "256", "--epochs", "2"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "every byte as written" in text
    assert "violations by exact keys: queries 0, documents 0, own 0" in text
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert found["ok"]
    plan = found["batches"]
    assert plan["plan"]["rows"] + len(plan["unplaced"]) == 2 * found["rows"]
    near = plan["plan"]["near"]
    assert near["batches"] > 3
    assert near["documents"]["high"] < 0.01
    # A damaged set is not planned over.
    copy = tmp_path / "damaged"
    shutil.copytree(shards, copy)
    part = next(copy.rglob("*.arrow"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    damaged = subprocess.run([*command[:3], "verify", str(copy), *command[5:]], capture_output=True, text=True)
    assert damaged.returncode == 1
    assert "error:" in damaged.stderr


def test_verify_counts_near_texts_of_a_set_without_near_dedup(repository: Path, tmp_path: Path) -> None:
    texts = [" ".join(f"word{base * 100 + place}" for place in range(40)) for base in range(60)]
    lines = []
    for number, text in enumerate(texts):
        lines.append({"query": f"what about {number} {text[:30]}", "pos": [text]})
        lines.append({"query": f"tell me of {text[40:70]} {number}", "pos": [f"{text} and more"]})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    rates = {}
    for mode in ("exact", "near"):
        settings = tmp_path / f"{mode}.toml"
        settings.write_text(f'[dedup]\nmode = "{mode}"\n', encoding="utf-8")
        bgeprep.shard(tmp_path / "pairs.jsonl", tmp_path / mode, config=settings)
        found = audit(tmp_path / mode, batch_size=120)
        assert found["plan"]["exact"] == {"queries": 0, "documents": 0, "own": 0}
        rates[mode] = found["plan"]["near"]["documents"]["rate"]
    assert rates["exact"] > 0.9
    assert rates["near"] == 0.0


def test_a_person_can_look_at_batches(shards: Path, rows: list[dict[str, Any]]) -> None:
    command = [sys.executable, "-m", "bgeprep", "batches", str(shards), "--batch-size", "50"]
    text = subprocess.run([*command, "--show", "2", "--steps", "4"], capture_output=True, text=True, check=True).stdout
    assert text.count("batch ") == 4
    first = next(BatchPlan(shards, batch_size=50))
    assert rows[first.rows.tolist()[0]]["query"][:60] in text
    lines = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [batch.as_dict() for batch in BatchPlan(shards, batch_size=50)]
    empty = [*command[:-1], "100000", "--drop-last"]
    assert "no batch of 100000 rows" in subprocess.run(empty, capture_output=True, text=True, check=True).stdout
    for wrong in (
        ["--epochs", "0"],
        ["--steps", "-1"],
        ["--show", "-1"],
        ["--batch-by", "topic"],
        ["--batch-by", "cluster"],
    ):
        refused = subprocess.run([*command, *wrong], capture_output=True, text=True)
        assert refused.returncode == 2
        assert "expected" in refused.stderr or "invalid choice" in refused.stderr
