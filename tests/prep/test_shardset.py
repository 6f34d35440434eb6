"""Shard sets as others see them: rows, scans, Arrow streams, summaries, and what verification finds."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import bgeprep
from bgeprep import ShardError, ShardSet
from bgeprep._native import text_key

pa = pytest.importorskip("pyarrow")
ipc = pytest.importorskip("pyarrow.ipc")

COLUMNS = {
    "query": pa.utf8(),
    "pos": pa.list_(pa.field("item", pa.utf8(), nullable=False)),
    "neg": pa.list_(pa.field("item", pa.utf8(), nullable=False)),
    "pos_scores": pa.list_(pa.field("item", pa.float32(), nullable=False)),
    "neg_scores": pa.list_(pa.field("item", pa.float32(), nullable=False)),
    "query_key": pa.uint64(),
    "pos_keys": pa.list_(pa.field("item", pa.uint64(), nullable=False)),
    "neg_keys": pa.list_(pa.field("item", pa.uint64(), nullable=False)),
    "also_pos_keys": pa.list_(pa.field("item", pa.uint64(), nullable=False)),
    "query_exact_key": pa.uint64(),
    "pos_exact_keys": pa.list_(pa.field("item", pa.uint64(), nullable=False)),
    "neg_exact_keys": pa.list_(pa.field("item", pa.uint64(), nullable=False)),
    "id": pa.utf8(),
    "prompt": pa.utf8(),
    "source": pa.utf8(),
    "origin_file": pa.utf8(),
    "origin_line": pa.uint64(),
}


def records(name: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "query": f"{name} 问题 number {n}",
            "pos": [f"{name} answer {n} " + "wörd " * (n % 40)] + [f"{name} second answer {n}"] * (n % 2),
            "neg": [f"{name} wrong {n} {k}" for k in range(n % 4)],
            "neg_scores": [round(0.1 * k, 1) for k in range(n % 4)],
            "id": f"{name}-{n}",
        }
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def written() -> dict[str, dict[str, Any]]:
    return {record["id"]: record for name, count in (("faq", 5000), ("wiki", 900)) for record in records(name, count)}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, written: dict[str, dict[str, Any]]) -> Path:
    folder = tmp_path_factory.mktemp("shardset")
    (folder / "pairs").mkdir()
    for name in ("faq", "wiki"):
        lines = [json.dumps(record, ensure_ascii=False) for id_, record in written.items() if id_.startswith(name)]
        (folder / "pairs" / f"{name}.jsonl").write_text("\n".join([*lines, lines[0]]), encoding="utf-8")
    config = bgeprep.PrepConfig(shard=bgeprep.ShardConfig(part_bytes=500_000))
    bgeprep.shard(folder / "pairs", folder / "shards", config=config, threads=1)
    return folder / "shards"


@pytest.fixture
def rows(shards: Path) -> ShardSet:
    return bgeprep.open(shards)


def test_rows_are_the_records(rows: ShardSet, written: dict[str, dict[str, Any]]) -> None:
    assert len(rows) == len(written)
    found = {row["id"]: row for row in rows}
    assert found.keys() == written.keys()
    for id_, record in written.items():
        row = found[id_]
        assert (row["query"], row["pos"], row["neg"]) == (
            record["query"],
            [t.strip() for t in record["pos"]],
            record["neg"],
        )
        assert row["neg_scores"] == pytest.approx(record["neg_scores"])
        assert row["pos_scores"] == []
        assert row["query_key"] == text_key(row["query"])
        assert row["pos_keys"] == [text_key(text) for text in row["pos"]]
        assert row["neg_keys"] == [text_key(text) for text in row["neg"]]
        assert row["origin_file"] == f"{row['source']}.jsonl"
        assert row["origin_line"] == int(id_.split("-")[1]) + 1


def test_places_are_those_of_a_sequence(rows: ShardSet) -> None:
    everything = list(rows)
    for place in (0, 1, 4095, 4096, len(rows) - 1, -1, -len(rows), np.int64(17)):
        assert rows[place] == everything[place]
    for place in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError, match="the set has 5900"):
            rows[place]
    with pytest.raises(TypeError):
        rows["faq"]  # type: ignore[index]


def test_sources_cut_the_rows(rows: ShardSet) -> None:
    assert [(source["name"], source["first"], source["rows"]) for source in rows.sources] == [
        ("faq", 0, 5000),
        ("wiki", 5000, 900),
    ]
    assert {rows[place]["source"] for place in range(5000)} == {"faq"}
    assert rows[5000]["source"] == "wiki"


def test_parts_open_in_pyarrow(shards: Path, rows: ShardSet) -> None:
    parts = sorted(shards.glob("*/part-*.arrow"))
    assert len(parts) > 2
    place = 0
    for part in parts:
        with pa.memory_map(str(part)) as file:
            table = ipc.open_file(file).read_all()
            table.validate(full=True)
        assert table.schema == pa.schema([pa.field(name, kind, nullable=False) for name, kind in COLUMNS.items()])
        assert table.num_rows > 0
        assert table.slice(0, 1).to_pylist()[0]["query"] == rows[place]["query"]
        place += table.num_rows
    assert place == len(rows)


def test_parts_open_in_polars_and_scan_reads_them_in_order(shards: Path, rows: ShardSet) -> None:
    frame = rows.scan().collect()
    assert frame.columns == list(COLUMNS)
    assert frame.to_dicts() == list(rows)
    longest = rows.scan().filter(pl.col("source") == "wiki").select(pl.col("neg").list.len().max()).collect().item()
    assert longest == 3
    one = pl.read_ipc(next(iter(sorted(shards.glob("faq/*.arrow")))))
    assert one.equals(frame.head(one.height))


def test_a_set_is_an_arrow_stream(rows: ShardSet) -> None:
    table = pa.table(rows)
    assert table.schema.names == list(COLUMNS)
    assert table.to_pylist() == list(rows)
    assert pl.DataFrame(rows).equals(rows.scan().collect())


def test_many_threads_may_read_at_once(rows: ShardSet) -> None:
    expected = [row["query"] for row in rows]
    fresh = ShardSet.open(rows.path)
    wrong: list[int] = []

    def read(step: int) -> None:
        wrong.extend(place for place in range(step, len(fresh), 7) if fresh[place]["query"] != expected[place])

    threads = [threading.Thread(target=read, args=(step,)) for step in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_inspect_has_the_promised_keys_and_balances(shards: Path) -> None:
    found = bgeprep.inspect(shards)
    assert found.keys() >= {"rows_read", "rows_kept", "dropped", "merged", "removed", "sources", "hash"}
    assert (found["rows_read"], found["rows_kept"], found["dropped"]) == (5902, 5900, {"duplicate": 2})
    assert json.loads(json.dumps(found)) == found
    faq = found["sources"][0]
    assert faq.keys() >= {"name", "rows", "bytes", "task", "language", "weight", "instruction", "first"}
    texts = [
        text
        for row in bgeprep.open(shards)
        if row["source"] == "faq"
        for text in (row["query"], *row["pos"], *row["neg"])
    ]
    assert faq["bytes"] == sum(len(text.encode()) for text in texts)
    queries = [len(row["query"]) for row in bgeprep.open(shards) if row["source"] == "faq"]
    assert faq["lengths"]["query"]["count"] == 5000
    assert faq["lengths"]["query"]["max"] == max(queries)
    assert faq["lengths"]["query"]["mean"] == pytest.approx(np.mean(queries), abs=0.01)


def test_verify_finds_nothing_in_a_whole_set(shards: Path) -> None:
    found = bgeprep.verify(shards, threads=2)
    assert found["ok"], found["problems"]
    assert (found["rows"], found["parts"]) == (5900, len(list(shards.glob("*/part-*.arrow"))))


def copy(shards: Path, folder: Path) -> Path:
    for file in shards.rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(shards)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return folder


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_flipped_bit_is_found(shards: Path, tmp_path: Path, share: float) -> None:
    damaged = copy(shards, tmp_path / "shards")
    part = damaged / "faq" / "part-00001.arrow"
    flip(part, int(share * part.stat().st_size))
    found = bgeprep.verify(damaged)
    assert not found["ok"]
    assert len(found["problems"]) == 1
    assert "faq/part-00001.arrow" in found["problems"][0]


def test_a_damaged_batch_is_refused_when_it_is_reached(shards: Path, tmp_path: Path) -> None:
    damaged = copy(shards, tmp_path / "shards")
    last = sorted(damaged.glob("wiki/part-*.arrow"))[-1]
    flip(last, last.stat().st_size // 2)
    rows = bgeprep.open(damaged)
    assert rows[0]["source"] == "faq"
    with pytest.raises(ShardError, match="damaged") as caught:
        rows[-1]
    assert caught.value.path == str(last)


def test_a_missing_and_a_foreign_part_are_found(shards: Path, tmp_path: Path) -> None:
    damaged = copy(shards, tmp_path / "shards")
    (damaged / "faq" / "part-00099.arrow").write_bytes((damaged / "faq" / "part-00000.arrow").read_bytes())
    (damaged / "wiki" / "part-00000.arrow").unlink()
    problems = bgeprep.verify(damaged)["problems"]
    assert len(problems) == 2
    assert "part-00000.arrow: missing" in problems[0]
    assert "part-00099.arrow: not in the manifest" in problems[1]
    with pytest.raises(ShardError, match="missing"):
        bgeprep.open(damaged)


def test_an_edited_manifest_is_refused(shards: Path, tmp_path: Path) -> None:
    damaged = copy(shards, tmp_path / "shards")
    manifest = damaged / "manifest.json"
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace("faq/part-00000", "../part-00000"), encoding="utf-8"
    )
    with pytest.raises(ShardError, match="edited by hand"):
        bgeprep.open(damaged)


def test_a_folder_without_a_set_is_told(tmp_path: Path) -> None:
    for folder, told in ((tmp_path, "no complete shard set"), (tmp_path / "x", "no such folder")):
        with pytest.raises(ShardError, match=told):
            bgeprep.open(folder)
