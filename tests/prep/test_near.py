"""Near dedup against all comparisons in Python (`tests/reference/near.py`), on real texts with planted changes."""

from __future__ import annotations

import gzip
import json
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import bgeprep
from bgeprep._native import text_key
from bgeprep.cli import main
from tests.reference.near import jaccard, near_pairs, passage_shingles, query_shingles

Row = dict[str, Any]
SMALL_PARTS = bgeprep.PrepConfig(shard=bgeprep.ShardConfig(part_bytes=50_000))


def real_pairs(repository: Path, english: int, chinese: int) -> list[Row]:
    """Pairs of the demo: questions with answers of health institutes, titles with abstracts of Chinese papers."""
    rows: list[Row] = []
    for name, count in (("pairs/institutes.jsonl.gz", english), ("zh/pairs/csl.jsonl.gz", chinese)):
        with gzip.open(repository / "examples/demo/data" / name, "rt", encoding="utf-8") as lines:
            found = [json.loads(line) for line in lines]
        # From all over the file: neighbours speak of one thing.
        rows += found[:: max(1, len(found) // count)][:count] if count else []
    pairs = [(row["query"], row["pos"][0]) if "pos" in row else (row["title"], row["abstract"]) for row in rows]
    return [{"query": query, "pos": [passage[:600]]} for query, passage in pairs]


def changed(text: str, chance: random.Random, share: float) -> str:
    """The text with about this share of its words, or characters where it has no spaces, replaced."""
    chinese = " " not in text
    units = list(text) if chinese else text.split(" ")
    for _ in range(max(1, round(len(units) * share))):
        units[chance.randrange(len(units))] = "换" if chinese else "changed"
    return ("" if chinese else " ").join(units)


def planted(repository: Path, seed: int, english: int = 120, chinese: int = 60) -> list[Row]:
    """Real rows, and copies of them whose query or passage or both are changed a little or a lot."""
    chance = random.Random(seed)
    rows = real_pairs(repository, english, chinese)
    for row in list(rows):
        for _ in range(chance.randrange(4)):
            query, passage = row["query"], row["pos"][0]
            kind = chance.randrange(4)
            if kind in (0, 1):
                query = changed(query, chance, chance.choice([0.0, 0.02, 0.1, 0.3]))
            if kind in (1, 2):
                passage = changed(passage, chance, chance.choice([0.005, 0.01, 0.03, 0.1]))
            if kind == 3:
                query, passage = query.upper(), passage + " 。"
            rows.append({"query": query, "pos": [passage]})
    chance.shuffle(rows)
    return rows


def write(rows: Iterable[Row], file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def keys_of(shards: Path) -> tuple[dict[int, int], dict[int, int]]:
    """exact key → batching key, of queries and of passages."""
    queries, passages = {}, {}
    for row in bgeprep.open(shards):
        queries[row["query_exact_key"]] = row["query_key"]
        passages |= dict(zip(row["pos_exact_keys"], row["pos_keys"], strict=True))
    return queries, passages


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_clusters_equal_all_comparisons(repository: Path, tmp_path: Path, seed: int) -> None:
    rows = planted(repository, seed)
    write(rows, tmp_path / "pairs" / "rows.jsonl")
    # Each passage under a query of its own and the other way round: nothing is dropped, so all keys can be looked at.
    apart = [{"query": f"{n} {n * 7919} only", "pos": row["pos"]} for n, row in enumerate(rows)]
    apart += [{"query": row["query"], "pos": [f"{n} {n * 104729} {n} single {n}"]} for n, row in enumerate(rows)]
    write(apart, tmp_path / "apart.jsonl")
    bgeprep.shard(tmp_path / "apart.jsonl", tmp_path / "shards")
    queries, passages = keys_of(tmp_path / "shards")
    for found, rule, texts in (
        (queries, "query", sorted({row["query"] for row in rows})),
        (passages, "passage", sorted({row["pos"][0] for row in rows})),
    ):
        near = [(a, b) for a, b, _ in near_pairs(texts, rule, 0.8)]  # type: ignore[arg-type]
        assert len(near) > 20
        key = [text_key(text) for text in texts]
        together = sum(found[key[a]] == found[key[b]] for a, b in near)
        assert together >= 0.98 * len(near), f"{rule}: {together} of {len(near)}"
        # And nothing else is together: every cluster is connected by pairs that are near.
        parent = list(range(len(texts)))
        for a, b in near:
            root_a, root_b = root(parent, a), root(parent, b)
            parent[root_a] = root_b
        by_key = defaultdict(set)
        for place in range(len(texts)):
            by_key[found[key[place]]].add(root(parent, place))
        assert all(len(roots) == 1 or equal_texts(texts, rule, roots) for roots in by_key.values())
        # A cluster is named by its smallest exact key.
        members = defaultdict(list)
        for exact, cluster in found.items():
            members[cluster].append(exact)
        assert all(min(exact) >= cluster for cluster, exact in members.items())


def root(parent: list[int], at: int) -> int:
    while parent[at] != at:
        at = parent[at]
    return at


def equal_texts(texts: list[str], rule: str, roots: set[int]) -> bool:
    """Texts without a token have no similarity; they share a key only as equals."""
    shingles = query_shingles if rule == "query" else passage_shingles
    return all(not shingles(texts[root]) for root in roots)


@pytest.mark.parametrize("seed", [4, 5])
def test_a_row_goes_only_for_its_own_similarity(repository: Path, tmp_path: Path, seed: int) -> None:
    rows = planted(repository, seed)
    file = write(rows, tmp_path / "rows.jsonl")
    bgeprep.shard(file, tmp_path / "shards", config=SMALL_PARTS)
    kept = {row["origin_line"] for row in bgeprep.open(tmp_path / "shards")}
    rejects = pl.read_parquet(tmp_path / "shards" / "rejects" / "*.parquet")
    assert len(kept) + rejects.filter(part="row").height == len(rows)
    near = rejects.filter(reason="near_duplicate")
    assert near.height > 10
    for reject in near.iter_rows(named=True):
        row, twin = rows[reject["origin_line"] - 1], rows[reject["twin_line"] - 1]
        sides = (
            jaccard(query_shingles(row["query"]), query_shingles(twin["query"])),
            jaccard(passage_shingles(row["pos"][0]), passage_shingles(twin["pos"][0])),
        )
        assert min(sides) >= 0.8
        assert reject["similarity"] == pytest.approx(min(sides), abs=1e-6)
        # The copy that stands for it is there, and came earlier: this source has no scores.
        assert reject["twin_line"] in kept
        assert reject["twin_line"] < reject["origin_line"]

    # Of the pairs of rows that stay, next to none is near on both sides.
    staying = sorted(kept)
    both = 0
    passage_near = near_pairs([rows[line - 1]["pos"][0] for line in staying], "passage", 0.8)
    for a, b, _ in passage_near:
        one, other = rows[staying[a] - 1]["query"], rows[staying[b] - 1]["query"]
        both += jaccard(query_shingles(one), query_shingles(other)) >= 0.8
    assert both <= 0.02 * near.height

    # Negative control: exact dedup leaves them all.
    exact = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"))
    bgeprep.shard(file, tmp_path / "exact", config=exact)
    assert "near_duplicate" not in bgeprep.inspect(tmp_path / "exact")["dropped"]


def test_a_second_pass_drops_nothing(repository: Path, tmp_path: Path) -> None:
    bgeprep.shard(write(planted(repository, 6), tmp_path / "rows.jsonl"), tmp_path / "once")
    again = ({"query": row["query"], "pos": row["pos"]} for row in bgeprep.open(tmp_path / "once"))
    result = bgeprep.shard(write(again, tmp_path / "again.jsonl"), tmp_path / "twice")
    assert result.rows_kept == result.rows_read == bgeprep.open(tmp_path / "once").manifest["rows_kept"]


def test_clusters_do_not_depend_on_order_threads_or_memory(repository: Path, tmp_path: Path) -> None:
    rows = planted(repository, 7)
    bgeprep.shard(write(rows, tmp_path / "rows.jsonl"), tmp_path / "first", config=SMALL_PARTS, threads=1)
    for turn, memory in enumerate(["64MiB", "1GiB"]):
        random.Random(turn).shuffle(rows)
        shuffled = write(rows, tmp_path / f"{turn}" / "rows.jsonl")
        bgeprep.shard(shuffled, tmp_path / f"out-{turn}", config=SMALL_PARTS, threads=3, memory=memory)
        for found, expected in zip(keys_of(tmp_path / f"out-{turn}"), keys_of(tmp_path / "first"), strict=True):
            # Which copy stays is a matter of order; what a text belongs to is not.
            common = found.keys() & expected.keys()
            assert len(common) > 150
            assert {key: found[key] for key in common} == {key: expected[key] for key in common}


def test_a_negative_that_is_nearly_a_positive_goes(repository: Path, tmp_path: Path) -> None:
    (row,) = real_pairs(repository, 1, 0)
    positive, other = row["pos"][0], "something else altogether, which answers nothing at all about the question"
    near = positive + " indeed"
    assert jaccard(passage_shingles(near), passage_shingles(positive)) >= 0.8
    rows = [
        {**row, "neg": [near, other, positive.upper()]},
        {"query": "another question", "pos": [other], "neg": [near]},
    ]
    bgeprep.shard(write(rows, tmp_path / "rows.jsonl"), tmp_path / "shards")
    by_line = {row["origin_line"]: row for row in bgeprep.open(tmp_path / "shards")}
    assert by_line[1]["neg"] == [other]
    assert by_line[2]["neg"] == [near]
    # There it stays, and shares the key of the first row's positive.
    assert by_line[2]["neg_keys"] == by_line[1]["pos_keys"]
    removed = bgeprep.inspect(tmp_path / "shards")["removed"]["negatives"]
    assert removed == {"negative_near_positive": 1, "negative_is_positive": 1}


def test_symmetric_rows_stay_and_share_a_key(repository: Path, tmp_path: Path) -> None:
    (row,) = real_pairs(repository, 1, 0)
    text = " ".join(row["pos"][0].split()[:30])
    rows = [{"query": text, "pos": ["first answer"]}, {"query": "a question", "pos": [text + " indeed"]}]
    bgeprep.shard(write(rows, tmp_path / "rows.jsonl"), tmp_path / "shards", source_overrides={"task": "symmetric"})
    one, other = sorted(bgeprep.open(tmp_path / "shards"), key=lambda row: row["origin_line"])
    assert other["pos_keys"] == [one["query_key"]]
    assert other["pos_exact_keys"] != [one["query_exact_key"]]


def test_one_text_a_hundred_thousand_times_changed_stays_linear(tmp_path: Path) -> None:
    boilerplate = (
        "we use cookies to make this page better for you please accept all of them before you go on reading it"
    )
    rows = ({"query": f"page {n} of {n * 7919}", "pos": [f"{boilerplate} now {n}"]} for n in range(100_000))
    bgeprep.shard(write(rows, tmp_path / "rows.jsonl"), tmp_path / "shards", memory="64MiB")
    (_, passage) = bgeprep.open(tmp_path / "shards").manifest["near"]["spaces"]
    assert passage["texts"] == passage["largest"] == passage["clustered_texts"] == 100_000
    assert (passage["clusters"], passage["over_cap"]) == (1, 1)
    # All comparisons would be five thousand million.
    assert passage["candidates"] < 20 * passage["texts"]
    assert len({row["pos_keys"][0] for row in bgeprep.open(tmp_path / "shards")}) == 1


@pytest.mark.filterwarnings("ignore::bgeprep.SlowTokenizerWarning")
def test_near_texts_share_no_batch(repository: Path, tmp_path: Path) -> None:
    rows = planted(repository, 8, english=150, chinese=80)
    bgeprep.shard(write(rows, tmp_path / "rows.jsonl"), tmp_path / "shards")
    stored = bgeprep.open(tmp_path / "shards")
    near = {(a, b) for a, b, _ in near_pairs([row["pos"][0] for row in stored], "passage", 0.8)}
    queries, _ = keys_of(tmp_path / "shards")
    together = {(a, b) for a, b in near if stored[a]["pos_keys"] == stored[b]["pos_keys"]}
    assert len(together) >= 0.98 * len(near) > 0
    assert len(set(queries.values())) < len(queries)
    batches = list(bgeprep.BatchLoader(
        tmp_path / "shards", batch_size=64, query_max_len=32, passage_max_len=64, tokenizer=tokenizer(tmp_path), seed=3
    ).plan())  # fmt: skip
    assert sum(len(batch) for batch in batches) > 0.9 * len(stored)
    for batch in batches:
        members = sorted(batch.rows.tolist())
        assert not [(a, b) for a in members for b in members if (a, b) in together]
        keys = np.array([stored[row]["query_key"] for row in members])
        assert len(np.unique(keys)) == len(keys)


def tokenizer(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_the_manifest_says_how_it_went(repository: Path, tmp_path: Path) -> None:
    rows = planted(repository, 9)
    bgeprep.shard(write(rows, tmp_path / "rows.jsonl"), tmp_path / "shards")
    near = bgeprep.open(tmp_path / "shards").manifest["near"]
    assert (near["threshold"], near["bands"], near["rows_per_band"]) == (0.8, 18, 7)
    for space in near["spaces"]:
        assert space["texts"] == len(rows)
        assert sum(clusters for _, clusters in space["sizes"]) == space["clusters"] > 0
        # The sample is the whole of so small a corpus: what it says is what all comparisons say.
        texts = {row["query"] if space["name"] == "query" else row["pos"][0] for row in rows}
        normal = {bgeprep_normal(text) for text in texts}
        pairs = near_pairs(sorted(normal), space["name"], 0.8)
        assert space["recall"]["pairs"] == len(pairs)
        assert space["recall"]["sample"] <= len(normal)
        assert space["recall"]["low"] <= space["recall"]["rate"] <= space["recall"]["high"]
        assert space["recall"]["found"] >= 0.9 * len(pairs)


def test_inspect_says_what_was_found(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bgeprep.shard(write(planted(repository, 10), tmp_path / "rows.jsonl"), tmp_path / "shards")
    (query, passage) = bgeprep.inspect(tmp_path / "shards")["near"]
    assert (query["name"], passage["name"]) == ("query", "passage")
    assert main(["inspect", str(tmp_path / "shards")]) == 0
    said = capsys.readouterr().out
    assert f"near duplicates, passage: {passage['clusters']:,} clusters" in said
    assert "recall" in said


def bgeprep_normal(text: str) -> str:
    from tests.reference.dedup import normalise

    return normalise(text)
