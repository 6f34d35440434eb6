"""Benchmarks to exclude: planted rows, the slow reference of `tests/reference/exclude.py`, the demo's collections."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

import bgeprep
from tests.reference.exclude import Collection, fate

HELD_OUT = "examples/demo/data/medquad-heldout"
CSL = "examples/demo/data/zh/csl-titles"


def write_collection(folder: Path, collection: Collection) -> Path:
    (folder / "qrels").mkdir(parents=True)
    queries = [{"_id": id, "text": text} for id, text in collection.queries.items()]
    corpus = [{"_id": id, "title": title, "text": text} for id, (title, text) in collection.passages.items()]
    write_lines(folder / "queries.jsonl", queries)
    with gzip.open(folder / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in corpus)
    judged = "".join(f"{query}\t{passage}\t1\n" for query, passage in sorted(collection.judged))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged, encoding="utf-8")
    return folder


def write_lines(path: Path, records: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def prepare(pairs: Path, out: Path, *paths: Path, task: str = "retrieval", **exclude: bool) -> bgeprep.ShardSet:
    """Rows without dedup and cleaning rules: what goes, goes because of a benchmark."""
    config = bgeprep.PrepConfig(
        clean=bgeprep.CleanConfig(
            query_equals_positive=False,
            min_query_chars=1,
            min_passage_chars=1,
            max_repeated_share=2,
            max_symbol_share=2,
        ),
        dedup=bgeprep.DedupConfig(mode="none"),
        exclude=bgeprep.ExcludeConfig(paths=tuple(map(str, paths)), **exclude),
    )
    bgeprep.shard(pairs, out, config=config, source_overrides={"task": task}, threads=2)
    shards = bgeprep.open(out)
    found = bgeprep.inspect(out)
    assert found["rows_read"] == found["rows_kept"] + sum(found["dropped"].values())
    counted = sum(sum(one["hits"].values()) for one in shards.manifest.get("benchmarks", []))
    assert counted == rejects(out).height
    return shards


def rejects(out: Path) -> pl.DataFrame:
    files = list((out / "rejects").glob("*.parquet"))
    if not files:
        return pl.DataFrame(schema={"origin_line": pl.UInt64, "part": pl.String, "reason": pl.String})
    return pl.read_parquet(files).filter(reason="in_benchmark")


def kept(shards: bgeprep.ShardSet) -> list[int]:
    return sorted(row["origin_line"] for row in shards)


QUERY = "Why do magnets attract iron nails and not copper coins at all"
PASSAGE = "Magnets draw iron because the small currents in their atoms all point the same way and add up."
OTHER = "Copper coins stay where they are since nothing in copper keeps its atoms pointing one way for long."
REFORM = "一九七八年以后中国经济体制改革的主要内容和历史意义分别是什么呢请回答"
HANDFUL = Collection(
    queries={
        "q1": QUERY,
        "q2": "what is rust",
        "q3": REFORM,
    },
    passages={"d1": ("Magnets", PASSAGE), "d2": ("", OTHER)},
    judged={("q1", "d1")},
)
PLANTED = [
    ({"query": QUERY.upper().replace(" ", "  "), "pos": ["so it is"]}, "query", "q1", 1.0),
    ({"query": f"{QUERY}, please", "pos": ["so it is"]}, "query", "q1", 23 / 25),
    ({"query": QUERY, "pos": ["not this", PASSAGE.rstrip(".")]}, "pair", "q1", 1.0),
    ({"query": "another question", "pos": [f"It is said: {PASSAGE} Is it?"]}, "containment", "d1", None),
    ({"query": f"各位老师同学们好，请问，{REFORM[:7]}，{REFORM[7:]}。谢谢，再见", "pos": ["见下文"]},
     "containment", "q3", None),
    ({"query": f"{REFORM}！", "pos": ["见下文"]}, "query", "q3", 1.0),
]  # fmt: skip
INNOCENT = [
    {"query": "tell me what is rust and how it comes", "pos": ["what is rust: iron with oxygen"]},
    {"query": "why do magnets attract iron nails", "pos": ["because"]},
    {"query": "why do coins not stick", "pos": [OTHER]},
    {"query": "改革的主要内容是什么", "pos": ["见下文"], "neg": [PASSAGE, OTHER]},
]


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, Path]:
    """Planted rows on lines 1 …, innocent ones behind them, and the collection."""
    write_collection(tmp_path / "bench" / "magnets", HANDFUL)
    return write_lines(tmp_path / "pairs.jsonl", [row for row, *_ in PLANTED] + INNOCENT), tmp_path / "bench"


def test_planted_rows_go_with_their_twin_and_others_stay(planted: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, bench = planted
    shards = prepare(pairs, tmp_path / "shards", bench)
    assert kept(shards) == [len(PLANTED) + n for n in range(1, len(INNOCENT) + 1)]
    found = rejects(tmp_path / "shards").sort("origin_line").to_dicts()
    for row, (_, kind, id, similarity) in zip(found, PLANTED, strict=True):
        assert (row["part"], row["twin_source"], row["twin_id"]) == ("row", "magnets", id), row
        assert row["twin_file"] == ("corpus.jsonl.gz" if id == "d1" else "queries.jsonl")
        assert row["twin_line"] == int(id[1])
        assert ("contained" in row["detail"]) == (kind == "containment")
        missing = row["similarity"] is None or math.isnan(row["similarity"])
        assert missing if similarity is None else row["similarity"] == pytest.approx(similarity)
    kinds = Counter(kind for _, kind, *_ in PLANTED)
    entry = {"name": "magnets", "kind": "beir", "queries": 3, "passages": 1}
    hits = {kind: kinds[kind] for kind in ("query", "pair", "passage", "containment")}
    assert shards.manifest["benchmarks"] == [{**entry, "hits": hits}]


def test_without_benchmarks_every_row_stays(planted: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, _ = planted
    shards = prepare(pairs, tmp_path / "shards")
    assert len(shards) == len(PLANTED) + len(INNOCENT)
    assert "benchmarks" not in shards.manifest


def test_a_corpus_passage_goes_with_the_flag_alone(planted: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, bench = planted
    rows = [{"query": "why do coins not stick", "pos": ["they are not iron", OTHER], "neg": [PASSAGE]}, INNOCENT[2]]
    pairs = write_lines(tmp_path / "more.jsonl", rows)
    assert kept(prepare(pairs, tmp_path / "without", bench)) == [1, 2]
    shards = prepare(pairs, tmp_path / "with", bench, corpus=True)
    (row,) = list(shards)
    assert (row["pos"], row["neg"]) == (["they are not iron"], [PASSAGE])
    found = rejects(tmp_path / "with").sort("origin_line").select("part", "item", "twin_id", "text").rows()
    assert found == [("positive", 1, "d2", OTHER), ("row", 0, "d2", OTHER)]
    assert bgeprep.inspect(tmp_path / "with")["removed"]["positives"] == {"in_benchmark": 1}


WORDS = [
    "magnet",
    "iron",
    "nail",
    "copper",
    "coin",
    "rust",
    "water",
    "why",
    "how",
    "what",
    "is",
    "the",
    "of",
    "a",
    "in",
]
WORDS += ["do", "does", "attract", *"天空为什么蓝色磁铁"]


def edited(chooser: random.Random, text: str) -> str:
    """A text as people repeat it: as it is, in capitals, with a word more or less, inside of another."""
    words = text.split()
    at = chooser.randrange(len(words))
    way = chooser.choice(["same", "capitals", "less", "more", "other", "inside"])
    if way in {"less", "other"}:
        words[at : at + 1] = [chooser.choice(WORDS)] if way == "other" else []
    if way == "more":
        words.insert(at, chooser.choice(WORDS))
    if way == "inside":
        words = ["so", *words, "then"]
    joined = "  ".join(words) or "empty"
    return joined.upper() if way == "capitals" else joined


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_slow_reference(seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(chooser.choices(WORDS, k=chooser.randint(1, most)))

    collections = []
    for name in "ab":
        queries = {f"q{n}": text(16) for n in range(20)}
        passages = {f"d{n}": (chooser.choice(["", "title", "二"]), text(30)) for n in range(30)}
        judged = {(f"q{chooser.randrange(20)}", f"d{chooser.randrange(33)}") for _ in range(25)}
        collections.append(Collection(queries, passages, judged))
        write_collection(tmp_path / "bench" / name, collections[-1])
    queries = [text for one in collections for text in one.queries.values()]
    passages = [variant for one in collections for id in one.passages for variant in one.variants(id)]
    rows = []
    for _ in range(250):
        query = chooser.choice([text(16), edited(chooser, chooser.choice(queries + passages))])
        choices = [text(30), edited(chooser, chooser.choice(passages + queries))]
        if chooser.random() < 0.2:
            one = chooser.choice(collections)
            query_id, passage = chooser.choice(sorted(pair for pair in one.judged if pair[1] in one.passages))
            query, choices = edited(chooser, one.queries[query_id]), one.variants(passage)
        rows.append({"query": query, "pos": [chooser.choice(choices) for _ in range(chooser.choice([1, 1, 2, 3]))]})
    pairs = write_lines(tmp_path / "pairs.jsonl", rows)

    symmetric, corpus, containment = seed % 2 == 1, seed % 3 == 1, seed % 5 != 2
    shards = prepare(
        pairs,
        tmp_path / "shards",
        tmp_path / "bench",
        task="symmetric" if symmetric else "retrieval",
        corpus=corpus,
        containment=containment,
    )
    fates = [
        fate(row["query"], row["pos"], collections, symmetric=symmetric, corpus=corpus, containment=containment)
        for row in rows
    ]
    assert kept(shards) == [line for line, one in enumerate(fates, 1) if one.row is None]
    found = rejects(tmp_path / "shards")
    by_line = {row["origin_line"]: row for row in found.filter(part="row").to_dicts()}
    for line, one in enumerate(fates, 1):
        if one.row in {"query", "pair"}:
            assert by_line[line]["similarity"] == pytest.approx(one.similarity), (rows[line - 1], by_line[line])
    gone = sorted(found.filter(part="positive").select("origin_line", "item").rows())
    assert gone == sorted((line, item) for line, one in enumerate(fates, 1) for item in one.positives)
    expected = Counter(one.row for one in fates if one.row) + Counter(passage=len(gone))
    hits = Counter()
    for entry in shards.manifest["benchmarks"]:
        hits.update(entry["hits"])
    assert +hits == expected
    assert expected["query"] > 5
    assert expected["pair"] > 0


def test_bytes_are_the_same_for_any_threads_and_memory(repository: Path, tmp_path: Path) -> None:
    config = bgeprep.PrepConfig(
        dedup=bgeprep.DedupConfig(mode="exact"),
        exclude=bgeprep.ExcludeConfig(paths=(str(repository / HELD_OUT),), corpus=True),
    )
    pairs = repository / "examples/demo/data/pairs"
    hashes = {
        bgeprep.shard(pairs, tmp_path / f"{threads}", config=config, threads=threads, memory=memory).hash
        for threads, memory in ((1, "1GiB"), (2, "128MiB"), (5, "300MiB"))
    }
    assert len(hashes) == 1


def test_the_demo_trains_on_no_held_out_text(repository: Path, tmp_path: Path) -> None:
    """And rows made of the collection itself all go: English questions with answers, Chinese titles with abstracts."""
    pairs = repository / "examples/demo/data/pairs"
    shards = prepare(pairs, tmp_path / "demo", repository / HELD_OUT, corpus=True)
    nearly = rejects(tmp_path / "demo")["detail"].str.contains("nearly equals|contained:")
    assert nearly.all()
    assert len(shards) > 8000
    for name in (HELD_OUT, CSL):
        folder = repository / name
        texts = {one["_id"]: one["text"] for one in read_lines(folder / "corpus.jsonl.gz")}
        queries = {one["_id"]: one["text"] for one in read_lines(folder / "queries.jsonl.gz")}
        judged = pl.read_csv(
            folder / "qrels/test.tsv", separator="\t", schema_overrides=[pl.String, pl.String, pl.Float64]
        )
        rows = [{"query": queries[query].upper(), "pos": [texts[passage]]} for query, passage, _ in judged.rows()]
        innocent = {"query": "is this row in a benchmark", "pos": ["it is not, and so it stays"]}
        own = write_lines(tmp_path / folder.name / "own.jsonl", [*rows, innocent])
        shards = prepare(own, tmp_path / folder.name / "shards", folder)
        assert kept(shards) == [len(rows) + 1]
        assert shards.manifest["benchmarks"][0]["hits"]["pair"] == len(rows)


def test_lists_of_texts_and_nested_folders(planted: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, _ = planted
    (tmp_path / "lists" / "deep").mkdir(parents=True)
    with gzip.open(tmp_path / "lists" / "held.txt.gz", "wt", encoding="utf-8") as file:
        file.write(f"\ufeffnobody asked\n\n{QUERY}\n")
    write_lines(tmp_path / "lists" / "deep" / "more.jsonl", [{"id": 7, "text": "why do magnets attract iron nails"}])
    (tmp_path / "lists" / "README.txt").write_text("why do coins not stick\n")
    shards = prepare(pairs, tmp_path / "shards", tmp_path / "lists")
    assert [(one["name"], one["queries"], one["hits"]["query"]) for one in shards.manifest["benchmarks"]] == [
        ("deep/more", 1, 1),
        ("held", 2, 3),
    ]
    twins = set(rejects(tmp_path / "shards").select("twin_source", "twin_file", "twin_line", "twin_id").rows())
    assert twins == {("held", "held.txt.gz", 3, ""), ("deep/more", "more.jsonl", 1, "7")}


def test_training_queries_of_a_collection_are_no_benchmark(planted: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, bench = planted
    (bench / "magnets" / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td2\t1\n")
    (bench / "magnets" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td7\t1\nq9\td1\t1\n")
    exclude = bgeprep.ExcludeConfig(paths=(str(bench),))
    result = bgeprep.shard(pairs, tmp_path / "shards", config=bgeprep.PrepConfig(exclude=exclude))
    notes = "\n".join(result.warnings)
    assert "1 queries of the training split" in notes
    assert "1 queries that are not there, as q9" in notes
    assert "1 passages that are not there, as d7" in notes
    assert {5, 6} <= {row["origin_line"] for row in bgeprep.open(tmp_path / "shards")}


def test_a_changed_benchmark_is_another_run(planted: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, bench = planted
    config = bgeprep.PrepConfig(exclude=bgeprep.ExcludeConfig(paths=(str(bench),)))
    assert not bgeprep.shard(pairs, tmp_path / "shards", config=config).up_to_date
    assert bgeprep.shard(pairs, tmp_path / "shards", config=config).up_to_date
    (bench / "magnets" / "queries.jsonl").write_text('{"_id": "q1", "text": "nothing of this"}\n')
    with pytest.raises(bgeprep.ShardError, match="other input or another config"):
        bgeprep.shard(pairs, tmp_path / "shards", config=config)
    moved = (tmp_path / "elsewhere").resolve()
    bench.rename(moved)
    config = bgeprep.PrepConfig(exclude=bgeprep.ExcludeConfig(paths=(str(moved),)))
    bgeprep.shard(pairs, tmp_path / "again", config=config)
    assert str(tmp_path) not in (tmp_path / "again" / "manifest.json").read_text(encoding="utf-8")


def test_command_line_and_config_file(planted: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, _ = planted
    (tmp_path / "mix.toml").write_text('[exclude]\npaths = ["bench/magnets"]\ncontainment = false\n')
    command = [sys.executable, "-m", "bgeprep", "shard", "--json", "--in", str(pairs), "--config", "mix.toml"]

    def hits(out: str, *flags: str) -> dict[str, int]:
        run = subprocess.run([*command, "--out", out, *flags], check=True, cwd=tmp_path, capture_output=True)
        assert json.loads(run.stdout)["rows_read"] == len(PLANTED) + len(INNOCENT)
        return bgeprep.open(tmp_path / out).manifest["benchmarks"][0]["hits"]

    assert hits("file") == {"query": 3, "pair": 1, "passage": 0, "containment": 0}
    assert hits("flags", "--exclude-corpus", "--exclude.containment", "true")["passage"] == 1
    assert hits("other", "--exclude", "bench/magnets/queries.jsonl", "--exclude-corpus")["query"] == 4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda folder: None, "no such file or folder"),
        (lambda folder: folder.mkdir(), "expected a BEIR collection"),
        (
            lambda folder: write_lines(folder / "queries.jsonl", [{"_id": "q1"}]),
            'queries.jsonl:1: expected "_id" and "text"',
        ),
        (
            lambda folder: write_lines(folder / "list.jsonl", [{"words": "x"}]),
            'list.jsonl:1: expected "query"',
        ),
        (lambda folder: write_lines(folder / "corpus.jsonl", [{"_id": "d1", "text": "x y"}]), "--exclude-corpus"),
    ],
)
def test_errors_say_where_and_what(build: object, message: str, tmp_path: Path) -> None:
    pairs = write_lines(tmp_path / "pairs.jsonl", INNOCENT)
    build(tmp_path / "bench")  # type: ignore[operator]
    config = bgeprep.PrepConfig(exclude=bgeprep.ExcludeConfig(paths=(str(tmp_path / "bench"),)))
    with pytest.raises(bgeprep.CorpusError, match=message):
        bgeprep.shard(pairs, tmp_path / "shards", config=config)


def test_two_benchmarks_of_one_name_and_too_little_memory(repository: Path, tmp_path: Path) -> None:
    pairs = write_lines(tmp_path / "pairs.jsonl", INNOCENT)
    for folder in "ab":
        write_collection(tmp_path / folder / "test", HANDFUL)
    both = bgeprep.PrepConfig(exclude=bgeprep.ExcludeConfig(paths=(str(tmp_path / "a/test"), str(tmp_path / "b/test"))))
    with pytest.raises(bgeprep.ConfigError, match=r"two benchmarks are called test; hint"):
        bgeprep.shard(pairs, tmp_path / "shards", config=both)
    big = [{"_id": f"d{n}", "text": f"{n} " * 1000} for n in range(5000)]
    write_lines(tmp_path / "big" / "corpus.jsonl", big)
    exclude = bgeprep.ExcludeConfig(paths=(str(tmp_path / "big"),), corpus=True)
    with pytest.raises(bgeprep.ConfigError, match=r"memory: the benchmarks to exclude need more than 16 MiB"):
        bgeprep.shard(pairs, tmp_path / "shards", config=dataclasses.replace(both, exclude=exclude), memory="64MiB")
