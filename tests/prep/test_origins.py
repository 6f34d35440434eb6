"""Origins that records bring along: a recipe's raw file and line, in place of those of the record itself."""

from __future__ import annotations

import gzip
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import bgeprep
from bgeprep import PrepConfig
from bgeprep.cli import main
from bgeprep.report import report
from tests.prep.test_shard import SMALL_PARTS, bytes_of, start

EXACT = PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"), read=bgeprep.ReadConfig(max_bad=1))


def _records(rows: int, seed: int = 1) -> list[dict[str, Any]]:
    """Pairs whose id says where they are from. Many share an origin, some repeat others, a few say nothing."""
    draw, thing = random.Random(seed), ("thing", "gadget")[seed > 1]
    records: list[dict[str, Any]] = []
    for number in range(rows):
        record = {"query": f"what is {thing} {number}", "pos": [f"{thing} number {number} " + "word " * (number % 30)]}
        if number and number % 5 == 0:
            again = records[draw.randrange(number)]
            record = {"query": again["query"], "pos": again["pos"]}
        if number % 11:
            record |= {"origin_file": f"raw/文-{number * 7919 % 13}.xml", "origin_line": number // 4 + 1}
        record["id"] = f"{record.get('origin_file', 'in.jsonl')}:{record.get('origin_line', number + 1)}"
        records.append(record)
    return records


def _write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def _rejects(shards: Path) -> list[dict[str, Any]]:
    return pl.read_parquet(shards / "rejects" / "*.parquet").to_dicts()


def _said(row: dict[str, Any]) -> str:
    return f"{row['origin_file']}:{row['origin_line']}"


def test_rows_and_rejects_and_twins_say_what_the_records_say(tmp_path: Path) -> None:
    records = _records(800)
    bgeprep.shard(_write(tmp_path / "in.jsonl", records), tmp_path / "out", config=EXACT)
    rows = list(bgeprep.open(tmp_path / "out"))
    assert {_said(row) for row in rows} <= {record["id"] for record in records}
    assert all(_said(row) == row["id"] for row in rows)
    assert sum(row["origin_file"] == "in.jsonl" for row in rows) > 50
    # Who came first stays, by place in the input: a twin's origin is that of the first record with its texts.
    first: dict[str, str] = {}
    expected = []
    for record in records:
        if record["query"] in first:
            expected.append((record["id"], first[record["query"]]))
        first.setdefault(record["query"], record["id"])
    rejects = _rejects(tmp_path / "out")
    assert [(_said(one), f"{one['twin_file']}:{one['twin_line']}") for one in rejects] == expected
    assert len(expected) > 100
    assert bgeprep.inspect(tmp_path / "out")["sources"][0]["unmapped"] == {}
    assert bgeprep.verify(tmp_path / "out")["ok"]


@pytest.mark.parametrize("mode", ["exact", "near"])
def test_same_bytes_for_any_threads_memory_and_format(tmp_path: Path, mode: Any) -> None:
    """Also where all rows say the same, so that nothing but their places can order them."""
    folder = tmp_path / "in"
    folder.mkdir()
    _write(folder / "mixed.jsonl", _records(6000))
    same = [{**record, "origin_file": "one", "origin_line": 1} for record in _records(3000, seed=2)]
    with gzip.open(folder / "same.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(record) for record in same))
    config = PrepConfig(dedup=bgeprep.DedupConfig(mode=mode), shard=SMALL_PARTS.shard)
    for name, threads, memory in (("one", 1, "1GiB"), ("two", 2, "64MiB"), ("eight", 8, "64MiB")):
        bgeprep.shard(folder, tmp_path / name, config=config, threads=threads, memory=memory)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two") == bytes_of(tmp_path / "eight")
    rows = [row for row in bgeprep.open(tmp_path / "one") if row["source"] == "same"]
    assert {_said(row) for row in rows} == {"one:1"}
    # Ties go by the order of the input.
    places: dict[str, int] = {}
    for number, record in enumerate(same):
        places.setdefault(record["query"], number)
    order = [places[row["query"]] for row in rows]
    assert order == sorted(order)
    # Control: another order of the input is another set.
    with gzip.open(folder / "same.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(record) for record in reversed(same)))
    bgeprep.shard(folder, tmp_path / "turned", config=config)
    assert bytes_of(tmp_path / "turned") != bytes_of(tmp_path / "one")


def test_killed_and_started_again_comes_to_the_same_bytes(tmp_path: Path, repository: Path) -> None:
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    for number in range(2):
        _write(pairs / f"source{number}x.jsonl", _records(9000, seed=number))
    bgeprep.shard(pairs, tmp_path / "whole", config=SMALL_PARTS)
    # While it reads, and when it has read all: what records said is then in the work folder alone.
    for reached in ("read/journal", "read.json"):
        process = start(repository, pairs, tmp_path / "out", 2, "64MiB")
        while not (tmp_path / "out" / ".work" / reached).exists():
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = bgeprep.shard(pairs, tmp_path / "out", config=SMALL_PARTS)
    assert result.resumed
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_every_format_and_stream_takes_them(tmp_path: Path) -> None:
    records = [record for record in _records(300) if "origin_file" in record]
    frame = pl.DataFrame(records, schema_overrides={"origin_line": pl.UInt32})
    flat = frame.with_columns(pl.col("pos").list.first())
    folder = tmp_path / "in"
    for name in ("lines", "array", "table", "tabs", "columns", "batches"):
        (folder / name).mkdir(parents=True)
    _write(folder / "lines" / "pairs.jsonl", records)
    (folder / "array" / "pairs.json").write_text(json.dumps(records), encoding="utf-8")
    flat.write_csv(folder / "table" / "pairs.csv")
    flat.write_csv(folder / "tabs" / "pairs.tsv", separator="\t")
    frame.write_parquet(folder / "columns" / "pairs.parquet")
    frame.write_ipc(folder / "batches" / "pairs.arrow")
    sets = []
    for name in ("lines", "array", "table", "tabs", "columns", "batches"):
        # One source name, on which the order depends.
        config = PrepConfig(sources=(bgeprep.SourceConfig(name="pairs", path=(str(folder / name),)),))
        bgeprep.shard(out=tmp_path / name, config=config)
        sets.append([{**row, "id": ""} for row in bgeprep.open(tmp_path / name)])
    for number, stream in enumerate([frame, frame.lazy(), frame.to_arrow()]):
        bgeprep.shard({"pairs": stream}, tmp_path / f"stream{number}")
        sets.append([{**row, "id": ""} for row in bgeprep.open(tmp_path / f"stream{number}")])
    assert all(one == sets[0] for one in sets)
    assert {_said(row) for row in bgeprep.open(tmp_path / "lines")} <= {record["id"] for record in records}


def test_a_set_made_from_such_rows_keeps_its_order(tmp_path: Path) -> None:
    """Cut alike, its own bytes; and so does a frame of its rows."""
    bgeprep.shard(_write(tmp_path / "in.jsonl", _records(900)), tmp_path / "out", config=EXACT)
    bgeprep.shard(tmp_path / "out", tmp_path / "again")
    parts = [bytes_of(tmp_path / name)["in/part-00000.arrow"] for name in ("out", "again")]
    assert parts[0] == parts[1]
    frame = bgeprep.open(tmp_path / "out").scan().select("query", "pos", "id", "origin_file", "origin_line").collect()
    bgeprep.shard({"in": frame}, tmp_path / "frame", config=EXACT)
    rows = [[(_said(row), row["query"]) for row in bgeprep.open(tmp_path / name)] for name in ("out", "frame")]
    assert rows[0] == rows[1]


def test_documents_take_them_too(tmp_path: Path, documents: list[dict[str, str]]) -> None:
    texts = [
        {"title": f"t {n}", "text": one["text"], "origin_file": "enwiki.xml.bz2", "origin_line": n + 1}
        for n, one in enumerate(documents[:60])
    ]
    again = [{**one, "origin_line": one["origin_line"] + 1000} for one in texts[:5]]
    bgeprep.shard({"wiki": pl.DataFrame(texts + again)}, tmp_path / "out", config=EXACT)
    rows = list(bgeprep.open(tmp_path / "out"))
    assert {(row["origin_file"], row["title"]) for row in rows} == {
        ("enwiki.xml.bz2", f"t {row['origin_line'] - 1}") for row in rows
    }
    assert [(one["origin_line"], one["twin_line"]) for one in _rejects(tmp_path / "out")] == [
        (n + 1001, n + 1) for n in range(5)
    ]


def test_hostile_values_leave_the_place_of_the_record_and_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unusable: list[tuple[Any, Any]] = [
        ("", 1), ("  ", 1), (None, 1), ("a", None), ("a", 0), ("a", -1), ("a", 1.5), ("a", True), ("a", "x"),
        ("a", [1]), ({"a": 1}, 1), (["a"], 1), (7, 1), ("\u0007", 1), ("long" * 300, 1), ("a", 1 << 64), ("a", 1e300),
    ]  # fmt: skip
    usable: list[tuple[Any, Any, str]] = [
        ("\u001b[31mred\u0000\n", 3, "[31mred:3"),
        ("../../etc/passwd", 4, "../../etc/passwd:4"),
        ("/raw/a", 5, "/raw/a:5"),
        ("数据.jsonl", "6", "数据.jsonl:6"),
        ("a", (1 << 63) - 1, f"a:{(1 << 63) - 1}"),
    ]
    pairs = [(file, line) for file, line, _ in usable] + unusable
    records = [
        {"query": f"question {n}", "pos": f"answer {n}", "origin_file": file, "origin_line": line}
        for n, (file, line) in enumerate(pairs)
    ]
    # One that is no record, and one that repeats another.
    records += [{**records[0], "query": ["no text"]}, {**records[1], "origin_line": 40}]
    bgeprep.shard(_write(tmp_path / "in.jsonl", records), tmp_path / "out", config=EXACT)
    found = {int(row["query"].split()[1]): _said(row) for row in bgeprep.open(tmp_path / "out")}
    expected = [said for _, _, said in usable] + [f"in.jsonl:{n + 1}" for n in range(len(usable), len(pairs))]
    assert found == dict(enumerate(expected))
    [bad, again] = _rejects(tmp_path / "out")
    assert (_said(bad), bad["reason"]) == ("[31mred:3", "unknown_shape")
    assert (_said(again), again["twin_file"], again["twin_line"]) == ("../../etc/passwd:40", "../../etc/passwd", 4)
    unmapped = bgeprep.inspect(tmp_path / "out")["sources"][0]["unmapped"]
    assert unmapped == {"origin_file": len(unusable) - 1, "origin_line": len(unusable) - 1}
    assert bgeprep.verify(tmp_path / "out")["ok"]
    assert main(["show", str(tmp_path / "out"), "-n", "99"]) == 0
    assert "\u001b" not in capsys.readouterr().out


def test_the_report_finds_the_row_that_stays_among_those_of_one_origin(tmp_path: Path) -> None:
    records = [
        {"query": f"how is thing {n} made", "pos": f"thing {n} is made of part {n + 100}", "origin_line": n % 2 + 1}
        for n in range(40)
    ]
    records += [{**records[n], "origin_line": 9} for n in (3, 17, 38)]
    frame = pl.DataFrame(records).with_columns(origin_file=pl.lit("raw.json"))
    bgeprep.shard({"mine": frame}, tmp_path / "out", config=EXACT)
    pairs = report(tmp_path / "out", tmp_path / "page.html")["samples"]["pairs"]
    assert len(pairs) == 3
    for pair in pairs:
        assert (pair["file"], pair["line"]) == ("raw.json", 9)
        stays = pair["stays"]
        assert (stays["query"], stays["text"]) == (pair["query"], pair["text"])
        assert stays["line"] == int(pair["query"].split()[3]) % 2 + 1


def test_what_stops_a_run_names_the_origin(tmp_path: Path) -> None:
    frame = pl.DataFrame({"query": [["no text"]] * 9, "pos": ["p"] * 9, "origin_file": "raw.xml", "origin_line": 7})
    with pytest.raises(bgeprep.CorpusError, match=r"\(from raw\.xml:7\)"):
        bgeprep.shard({"mine": frame}, tmp_path / "out")


def test_one_column_alone_is_not_used(tmp_path: Path) -> None:
    for name in ("origin_file", "origin_line"):
        records = [{"query": f"question {n}", "pos": f"answer {n}", name: 3} for n in range(4)]
        bgeprep.shard(_write(tmp_path / "in.jsonl", records), tmp_path / name, config=EXACT)
        assert {_said(row) for row in bgeprep.open(tmp_path / name)} == {f"in.jsonl:{n}" for n in range(1, 5)}
        assert bgeprep.inspect(tmp_path / name)["sources"][0]["unmapped"] == {name: 4}
