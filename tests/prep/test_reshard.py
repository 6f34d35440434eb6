"""Shard sets as input: the same rows in the same order, whatever is mixed, dropped or read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import bgeprep
from bgeprep.cli import main
from tests.prep.test_shard import SMALL_PARTS, bytes_of, corpus


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = corpus(tmp_path_factory.mktemp("corpus") / "pairs", rows=1500)
    scored = [
        {"query": f"scored {n}", "pos": [f"first {n}", f"second {n}"], "pos_scores": [0.5, n / 7], "neg": [f"no {n}"],
         "neg_scores": [0.1], "id": f"id-{n}", "prompt": "find: "}
        for n in range(300)
    ]  # fmt: skip
    # Two rows of one query: each knows the other's positive.
    scored += [{"query": "twice", "pos": [f"answer {n}"]} for n in range(2)]
    (folder / "scored.jsonl").write_text("\n".join(map(json.dumps, scored)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def shards(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set") / "shards"
    bgeprep.shard(pairs, out)
    return out


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    return path


def rows_of(shards: Path) -> list[dict[str, Any]]:
    return list(bgeprep.open(shards))


def parts_of(shards: Path) -> dict[str, bytes]:
    return {name: content for name, content in bytes_of(shards).items() if name.endswith(".arrow")}


def rejects_of(shards: Path) -> pl.DataFrame:
    return pl.read_parquet(shards / "rejects" / "*.parquet")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dedup", ["auto", "none", "exact"])
def test_sharding_a_set_again_gives_its_parts(shards: Path, tmp_path: Path, dedup: str, threads: int) -> None:
    """No part is cut elsewhere here; that a row is dropped or moved would show in any byte."""
    config = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode=dedup))
    again = bgeprep.shard(shards, tmp_path / "again", config=config, threads=threads)
    assert again.rows_read == again.rows_kept == bgeprep.inspect(shards)["rows_kept"]
    assert parts_of(tmp_path / "again") == parts_of(shards)
    assert len(parts_of(shards)) == 4
    found = {source["name"]: source for source in bgeprep.inspect(tmp_path / "again")["sources"]}
    for source in bgeprep.inspect(shards)["sources"]:
        assert {key: source[key] for key in ("task", "bytes", "lengths")} == {
            key: found[source["name"]][key] for key in ("task", "bytes", "lengths")
        }
    assert bgeprep.verify(tmp_path / "again")["ok"]


def test_into_other_parts_the_order_is_the_same(shards: Path, tmp_path: Path) -> None:
    bgeprep.shard(shards, tmp_path / "small", config=SMALL_PARTS)
    assert len(parts_of(tmp_path / "small")) > 3 * len(parts_of(shards))
    assert rows_of(tmp_path / "small") == rows_of(shards)
    other = bgeprep.PrepConfig(shard=bgeprep.ShardConfig(seed=7))
    bgeprep.shard(tmp_path / "small", tmp_path / "seed", config=other)
    assert rows_of(tmp_path / "seed") != rows_of(shards)


def test_the_order_is_that_of_the_raw_files_without_the_rest(pairs: Path, shards: Path, tmp_path: Path) -> None:
    bgeprep.shard(pairs, tmp_path / "small", config=SMALL_PARTS)
    bgeprep.shard(tmp_path / "small", tmp_path / "again")
    assert parts_of(tmp_path / "again") == parts_of(shards)


def test_auto_is_none_for_one_set_alone(shards: Path, pairs: Path, tmp_path: Path) -> None:
    def mode(*inputs: Path) -> str:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        bgeprep.shard(inputs, out)
        return str(bgeprep.open(out).manifest["config"]["dedup"]["mode"])

    other = tmp_path / "other"
    bgeprep.shard(pairs / "plain.jsonl", other)
    assert mode(shards) == "none"
    assert mode(shards, other) == mode(shards, pairs / "plain.jsonl") == mode(pairs) == "near"


def test_sources_are_kept_and_dropped_by_name(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--sources", "plain,scored"], ["--drop-sources", "packed,parts"]):
        out = tmp_path / flags[0]
        assert main(["shard", "--in", str(shards), "--out", str(out), *flags]) == 0
        whole = parts_of(shards)
        assert parts_of(out) == {f"{name}/part-00000.arrow": whole[f"{name}/part-00000.arrow"]
                                 for name in ("plain", "scored")}  # fmt: skip
    capsys.readouterr()
    assert main(["shard", "--in", str(shards), "--out", str(tmp_path / "x"), "--sources", "plain,nq"]) == 2
    assert "no source is called nq; found packed, parts, plain, scored" in capsys.readouterr().err
    same = ["--sources", "plain", "--drop-sources", "plain"]
    assert main(["shard", "--in", str(shards), "--out", str(tmp_path / "x"), *same]) == 2
    assert "none is left" in capsys.readouterr().err


def test_sets_and_raw_files_mix(tmp_path: Path) -> None:
    """A folder of two sets and a raw file: equal pairs go once, the set's stays, and says where it comes from."""
    (tmp_path / "raw").mkdir()
    for name, numbers in (("a", range(20)), ("b", range(10, 30))):
        write(tmp_path / "raw" / f"{name}.jsonl", [{"query": f"q {n}", "pos": [f"p {n}"]} for n in numbers])
        bgeprep.shard(tmp_path / "raw" / f"{name}.jsonl", tmp_path / "sets" / name)
    new = write(tmp_path / "c.jsonl", [{"query": f"q {n}", "pos": [f"p {n}"]} for n in range(25, 40)])
    result = bgeprep.shard([tmp_path / "sets", new], tmp_path / "out", threads=2)
    assert (result.sources, result.rows_read, result.rows_kept) == (("a", "b", "c"), 55, 40)
    kept = {row["query"]: row for row in rows_of(tmp_path / "out")}
    assert {query: row["source"] for query, row in kept.items()} == {
        f"q {n}": "a" if n < 20 else "b" if n < 30 else "c" for n in range(40)
    }
    for row in kept.values():
        line = (tmp_path / ("raw" if row["source"] != "c" else "") / row["origin_file"]).read_text().splitlines()
        assert json.loads(line[row["origin_line"] - 1])["query"] == row["query"]
    for lost in rejects_of(tmp_path / "out").iter_rows(named=True):
        number = int(lost["query"].split()[1])
        assert lost["reason"] == "duplicate"
        assert (lost["origin_file"], lost["twin_file"]) == (
            ("b.jsonl", "a.jsonl") if number < 20 else ("c.jsonl", "b.jsonl")
        )
        # Lines count from 1: a starts at q 0, b at q 10, c at q 25.
        assert lost["origin_line"] == number - (9 if number < 20 else 24)
        assert lost["twin_line"] == number + 1 - (0 if number < 20 else 10)
    bgeprep.shard([str(tmp_path / "sets" / "*"), new], tmp_path / "glob", threads=1)
    assert bytes_of(tmp_path / "glob") == bytes_of(tmp_path / "out")


def test_sources_of_one_name_unite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, task in ((1, "retrieval"), (2, "retrieval"), (3, "symmetric")):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / "nq.jsonl", [{"query": f"q {number} {n}", "pos": ["an answer"]} for n in range(5)])
        overrides = {"task": task, "language": "en", "weight": float(number)}
        bgeprep.shard(folder / "nq.jsonl", tmp_path / f"set{number}", source_overrides=overrides)
    result = bgeprep.shard([tmp_path / "set1", tmp_path / "set2", tmp_path / "3" / "nq.jsonl"], tmp_path / "out")
    assert (result.sources, result.rows_kept) == (("nq",), 15)
    (source,) = bgeprep.inspect(tmp_path / "out")["sources"]
    assert (source["task"], source["language"], source["weight"]) == ("retrieval", "en", 1.0)

    both = ["shard", "--in", str(tmp_path / "set1"), str(tmp_path / "set3"), "--out", str(tmp_path / "both")]
    assert main(both) == 2
    error = capsys.readouterr().err
    assert "sources.nq.task" in error
    assert "retrieval and one for symmetric" in error
    assert main([*both, "--task", "retrieval"]) == 0
    assert bgeprep.inspect(tmp_path / "both")["rows_kept"] == 10


def test_a_config_names_sources_of_a_set(shards: Path, tmp_path: Path) -> None:
    config = tmp_path / "mix.toml"
    text = f"""
        [[sources]]
        name = "plain"
        path = "{shards}"
        weight = 2.5
        instruction = "find: "
        """
    config.write_text(text)
    bgeprep.shard([], tmp_path / "out", config=config)
    (source,) = bgeprep.inspect(tmp_path / "out")["sources"]
    assert (source["name"], source["weight"], source["instruction"]) == ("plain", 2.5, "find: ")
    assert parts_of(tmp_path / "out")["plain/part-00000.arrow"] == parts_of(shards)["plain/part-00000.arrow"]
    config.write_text(text.replace('"plain"', '"nq"'))
    with pytest.raises(bgeprep.ConfigError, match="has no source nq; it has packed, parts, plain, scored"):
        bgeprep.shard([], tmp_path / "none", config=config)


def test_a_copy_of_a_set_is_the_same_input(shards: Path, tmp_path: Path) -> None:
    first = bgeprep.shard(shards, tmp_path / "out")
    for file in shards.rglob("*"):
        if file.is_file():
            copy = tmp_path / "moved" / file.relative_to(shards)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    again = bgeprep.shard(tmp_path / "moved", tmp_path / "out")
    assert (first.up_to_date, again.up_to_date, again.hash) == (False, True, first.hash)


def test_cleaning_rules_apply_to_the_rows_of_a_set(shards: Path, tmp_path: Path) -> None:
    config = bgeprep.PrepConfig(clean=bgeprep.CleanConfig(min_query_chars=9))
    bgeprep.shard(shards, tmp_path / "out", config=config)
    expected = [row for row in rows_of(shards) if len(row["query"]) >= 9]
    assert 0 < len(expected) < len(rows_of(shards))
    assert rows_of(tmp_path / "out") == expected
    short = {(row["origin_file"], row["origin_line"]) for row in rows_of(shards) if len(row["query"]) < 9}
    rejects = rejects_of(tmp_path / "out")
    assert set(rejects.select("origin_file", "origin_line").iter_rows()) == short
    assert set(rejects["reason"]) == {"too_short"}


def damaged(shards: Path, to: Path, part: str, at: float, cut: bool = False) -> Path:
    for name, content in bytes_of(shards).items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(content)
    content = bytearray((to / part).read_bytes())
    place = int(len(content) * at)
    content[place] ^= 1
    (to / part).write_bytes(bytes(content[:place] if cut else content))
    return to


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_damaged_set_is_an_error_that_names_the_part(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], at: float
) -> None:
    broken = damaged(shards, tmp_path / "broken", "plain/part-00000.arrow", at)
    assert main(["shard", "--in", str(broken), "--out", str(tmp_path / "out"), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "plain/part-00000.arrow: row" in error
    assert ": batch" in error
    assert "damaged" in error
    assert not (tmp_path / "out" / "manifest.json").exists()
    # The damage is where it is: without that source the set can still be used.
    assert main(["shard", "--in", str(broken), "--out", str(tmp_path / "rest"), "--drop-sources", "plain"]) == 0


def test_incomplete_sets_and_sets_of_another_kind_are_errors(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(folder: Path) -> str:
        assert main(["shard", "--in", str(folder), "--out", str(tmp_path / "out")]) == 1
        return capsys.readouterr().err

    assert "truncated" in fails(damaged(shards, tmp_path / "cut", "plain/part-00000.arrow", 0.5, cut=True))
    assert "damaged or edited by hand" in fails(damaged(shards, tmp_path / "edited", "manifest.json", 0.5))
    other = damaged(shards, tmp_path / "other", "plain/part-00000.arrow", 0.5)
    manifest = (shards / "manifest.json").read_text(encoding="utf-8")
    head = manifest.replace('"kind": "pairs"', '"kind": "images"').rsplit(',\n  "hash"', 1)[0]
    whole = f'{head},\n  "hash": "{bgeprep.text_hash(head).hex()}"\n}}\n'
    (other / "manifest.json").write_text(whole, encoding="utf-8")
    assert 'a set of kind "images", expected a set of kind "pairs" or "text"' in fails(other)
    mixed = tmp_path / "mixed"
    damaged(shards, mixed / "set", "plain/part-00000.arrow", 0.5)
    write(mixed / "more.jsonl", [{"query": "a query", "pos": ["an answer"]}])
    assert "is a shard set among other files; hint: give it as an input of its own" in fails(mixed)


def test_a_set_is_no_input_of_itself_and_none_is_given_twice(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(bgeprep.ConfigError, match="is one of the sets that are read"):
        bgeprep.shard(shards, shards, overwrite=True)
    with pytest.raises(bgeprep.ConfigError, match="is given twice"):
        bgeprep.shard([shards, f"{shards}/"], tmp_path / "out")


def near_pairs(folder: Path) -> Path:
    """Queries that nearly equal each other, each with an answer of its own: none goes, all share a key."""
    query = "which metals does a strong magnet pull towards itself when it is held right above the wooden table"
    records = [
        {"query": f"{query} {name}", "pos": [f"answer {n} {name} " + "more " * n]}
        for n, name in enumerate(["today", "now", "here", "there", "often", "once"])
    ]
    records += [{"query": f"something else entirely {n}", "pos": [f"its answer {n}"]} for n in range(40)]
    return write(folder / "near.jsonl", records)


def test_one_set_keeps_the_keys_of_its_near_clusters(tmp_path: Path) -> None:
    bgeprep.shard(near_pairs(tmp_path), tmp_path / "first")
    rows = rows_of(tmp_path / "first")
    clustered = [row for row in rows if row["query_key"] != row["query_exact_key"]]
    assert len(clustered) == 5
    assert all(len(row["also_pos_keys"]) == 5 for row in clustered)
    for number, mode in enumerate(["auto", "none"]):
        config = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode=mode))
        bgeprep.shard(tmp_path / "first", tmp_path / f"kept{number}", config=config)
        assert parts_of(tmp_path / f"kept{number}") == parts_of(tmp_path / "first")
    # Found anew, the clusters are the same ones; near dedup of a set that has been through it drops nothing.
    config = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="near"))
    bgeprep.shard(tmp_path / "first", tmp_path / "again", config=config)
    assert parts_of(tmp_path / "again") == parts_of(tmp_path / "first")


@pytest.mark.parametrize("mode", ["exact", "none"])
def test_old_clusters_live_on_in_a_mix(tmp_path: Path, mode: str) -> None:
    """Exact dedup finds no cluster; the mix knows them from the set."""
    bgeprep.shard(near_pairs(tmp_path), tmp_path / "first")
    new = write(tmp_path / "new.jsonl", [{"query": "of another kind", "pos": ["an answer"]}])
    config = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode=mode))
    bgeprep.shard([tmp_path / "first", new], tmp_path / "mix", config=config)
    assert [row for row in rows_of(tmp_path / "mix") if row["source"] == "near"] == rows_of(tmp_path / "first")
    bgeprep.shard([tmp_path / "near.jsonl", new], tmp_path / "raw", config=config)
    assert all(row["query_key"] == row["query_exact_key"] for row in rows_of(tmp_path / "raw"))
