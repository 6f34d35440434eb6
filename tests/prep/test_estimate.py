"""Estimates against sums done by hand, and against what a larger run really takes up."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

import bgeprep
from bgeprep.amounts import byte_text, parse_amount, time_text
from bgeprep.cli import main
from bgeprep.config import DedupConfig, PrepConfig, SourceConfig
from bgeprep.errors import ConfigError, CorpusError
from bgeprep.estimate import Cluster, Line, Measurement, Speed, Target, lines, measure, read_speed, training_lines
from bgeprep.estimate.measure import Measured, StepCost

MIB = 1 << 20
STEPS = ("read", "candidates", "components", "near texts", "verify", "near tables", "dedup", "shard", "commit")


def run_of(rows: int, *, fixed: float = 0.0) -> Measured:
    """A run in which each step takes `fixed` s and 1 s for 1,000 rows of 400 bytes, and writes 100 + 50 bytes a row."""
    cost = StepCost(seconds=fixed + rows / 1000, text_bytes=100 * rows, record_bytes=50 * rows)
    return Measured(
        rows=rows,
        kept=rows * 9 // 10,
        bytes=400 * rows,
        set_bytes=500 * rows,
        nodes=rows // 5,
        most_text_bytes=150 * rows,
        most_record_bytes=60 * rows,
        memory=100 * MIB,
        steps=dict.fromkeys(STEPS, cost),
    )


MEASUREMENT = Measurement(whole=run_of(4000, fixed=0.5), part=run_of(1000, fixed=0.5), threads=2, limit=256 * MIB)
TARGET = Target(rows=4e6, bytes=1.6e9)


def one(found: list[Line], stage: str, quantity: str) -> Line:
    (line,) = [line for line in found if (line.stage, line.quantity) == (stage, quantity)]
    return line


def test_time_is_what_a_row_takes_and_once_what_a_run_takes_anyway() -> None:
    found = lines(MEASUREMENT, TARGET, Cluster(threads=2))
    for step in STEPS:
        line = one(found, step, "time")
        assert line.value == pytest.approx(4000 + 0.5)
        assert line.value == pytest.approx(line.measured * line.factor + line.fixed)
        assert (line.measured, line.factor, line.fixed) == pytest.approx((4.0, 1000, 0.5))
    assert one(found, "read", "time").sum == "4.0 s x 1,000 (1.6 GB / 1.6 MB) + 0.5 s = 66.7 min"
    assert one(found, "dedup", "time").sum == "4.0 s x 1,000 (4,000,000 / 4,000 rows) + 0.5 s = 66.7 min"


def test_without_a_second_size_all_of_it_grows() -> None:
    found = lines(replace(MEASUREMENT, part=None), TARGET, Cluster(threads=2))
    assert one(found, "read", "time").value == pytest.approx(4500)
    # a smaller sample that took longer says nothing either
    odd = replace(MEASUREMENT, part=run_of(1000, fixed=100))
    assert one(lines(odd, TARGET, Cluster(threads=2)), "read", "time").value == pytest.approx(4500)


def test_machines_and_threads_divide_what_is_not_done_in_one_place() -> None:
    found = lines(MEASUREMENT, TARGET, Cluster(nodes=10, threads=8))
    assert one(found, "read", "time").value == pytest.approx(4000 * 2 / 8 / 10 + 0.5)
    assert "x 2 / 8 threads / 10 machines" in one(found, "read", "time").sum
    assert one(found, "near tables", "time").value == pytest.approx(4000.5)
    assert one(found, "components", "time").value == pytest.approx(4000.5)
    assert one(found, "components", "time").sum.startswith("4.0 s x 1,000 (4,000,000 / 4,000 rows), on one machine")


def test_disk_network_and_memory() -> None:
    alone = lines(MEASUREMENT, TARGET, Cluster(threads=2))
    assert one(alone, "set", "disk").value == pytest.approx(500 * 4e6)
    assert one(alone, "in all", "disk").value == pytest.approx((500 + 150 + 60) * 4e6)
    assert not [line for line in alone if line.quantity in {"network", "transfer"}]
    stored = lines(MEASUREMENT, TARGET, Cluster(threads=2, store=True))
    assert one(stored, "in all", "network").value == pytest.approx((400 + 500) * 4e6)
    many = lines(MEASUREMENT, TARGET, Cluster(nodes=4, threads=2, network_gbit=8))
    # in and out, rows once written and twice read, records written and read
    moved = (400 + 500 + len(STEPS) * (100 * 3 + 50 * 2)) * 4e6
    assert one(many, "in all", "network").value == pytest.approx(moved)
    assert one(many, "network", "transfer").value == pytest.approx(moved / 4e9)
    assert one(alone, "each machine", "memory").value == 100 * MIB
    # 800 of 4,000 texts have a candidate: 12.8 MB of memory for the whole is less than was allowed anyway
    assert one(alone, "components", "memory").value == 256 * MIB
    much = lines(MEASUREMENT, Target(rows=4e9, bytes=1.6e12), Cluster(threads=2))
    assert one(much, "components", "memory").value == pytest.approx(4e9 / 5 * 12 * 4 / 3)


def test_exact_dedup_reads_rows_once() -> None:
    few = {name: cost for name, cost in run_of(4000).steps.items() if name in {"read", "dedup", "shard", "commit"}}
    whole = replace(run_of(4000), steps=few, nodes=0)
    found = lines(replace(MEASUREMENT, whole=whole, part=None), TARGET, Cluster(nodes=4, threads=2))
    assert one(found, "in all", "network").value == pytest.approx((400 + 500 + 4 * (100 * 2 + 50 * 2)) * 4e6)
    assert not [line for line in found if line.stage == "components"]


def write_rows(path: Path, rows: int) -> Path:
    """Rows that differ, of one distribution."""
    stream = random.Random(7)
    words = [f"{stream.getrandbits(32):x}" for _ in range(5000)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            texts = [" ".join(stream.choices(words, k=count)) for count in (8, 40)]
            file.write(json.dumps({"query": f"{texts[0]} {number}", "pos": [texts[1]]}) + "\n")
    return path


EXACT = PrepConfig(dedup=DedupConfig(mode="exact"))


def test_a_sample_says_how_large_the_whole_becomes(tmp_path: Path) -> None:
    sample, whole = write_rows(tmp_path / "few" / "a.jsonl", 5000), write_rows(tmp_path / "many" / "a.jsonl", 20000)
    found = measure(sample.parent, config=EXACT, threads=1)
    assert found.part is not None
    assert (found.whole.rows, found.whole.kept) == (5000, 5000)
    assert 1000 <= found.part.rows < 2000
    assert list(found.whole.steps) == ["read", "dedup", "shard", "commit"]
    assert sum(step.seconds for step in found.whole.steps.values()) > 0
    bgeprep.shard(whole, tmp_path / "set", config=EXACT, threads=1)
    taken = sum(file.stat().st_size for file in (tmp_path / "set").rglob("*") if file.is_file())
    said = lines(found, Target(rows=20000, bytes=whole.stat().st_size), Cluster(threads=1))
    assert one(said, "set", "disk").value == pytest.approx(taken, rel=0.03)
    assert Measurement.of(json.loads(json.dumps(found.plain()))) == found
    assert not list(tmp_path.glob("bgeprep-estimate-*"))


def test_a_sample_that_cannot_be_cut_is_measured_at_one_size(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in write_rows(tmp_path / "a.jsonl", 50).read_text().splitlines()]
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "a.json").write_text(json.dumps(rows))
    assert measure(tmp_path / "sample", config=EXACT, threads=1).part is None
    # neither is a set, which is no raw data
    bgeprep.shard(tmp_path / "sample", tmp_path / "set", config=EXACT, threads=1)
    assert measure(tmp_path / "set", config=EXACT, threads=1).part is None


def test_what_cannot_be_measured_says_so(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such file or folder; hint: --sample"):
        measure(tmp_path / "nowhere", config=EXACT)
    with pytest.raises(ConfigError, match="lies in a store; hint: copy"):
        measure("s3://bucket/pairs", config=EXACT)
    with pytest.raises(ConfigError, match="it names sources"):
        measure(tmp_path, config=replace(EXACT, sources=(SourceConfig(name="a", path=("b",)),)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError):
        measure(tmp_path / "empty", config=EXACT)


RUN = {"kind": "run", "step": 0, "environment": {"world_size": 2}}


def window(speed: float, *, seconds: float = 2.0, rows: int = 100) -> dict[str, object]:
    return {"kind": "train", "step": 1, "tokens_per_second": speed, "seconds": seconds, "rows": rows}


def write_metrics(folder: Path, *records: object) -> Path:
    folder.mkdir(exist_ok=True)
    text = "".join(f"{json.dumps(record) if isinstance(record, dict) else record}\n" for record in records)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def test_the_speed_of_a_run_is_that_of_its_last_start_without_its_first_window(tmp_path: Path) -> None:
    slow, other = {**RUN, "environment": {"world_size": 8}}, {"kind": "evaluation", "step": 3}
    run = write_metrics(tmp_path / "run", slow, window(9), RUN, window(10), window(3000), other, window(5000))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')
    found = read_speed(run)
    assert (found.tokens_per_second, found.ranks, found.tokens_per_row) == (4000, 2, 80)
    assert read_speed(run / "metrics.jsonl") == found
    gone_on = training_lines(found, rows=1e6, epochs=2, gpus=8, nodes=2, set_bytes=1e9)
    assert one(gone_on, "training", "tokens").value == 1e6 * 2 * 80
    assert one(gone_on, "training", "GPU time").value == pytest.approx(1.6e8 / 2000)
    assert one(gone_on, "training", "time").value == pytest.approx(1.6e8 / 2000 / 16)
    assert one(gone_on, "training", "network").value == 2e9
    alone = training_lines(found, rows=1e6, epochs=2, gpus=8, nodes=1, set_bytes=1e9)
    assert not [line for line in alone if line.quantity == "network"]


def test_metrics_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"metrics\.jsonl: no such file"):
        read_speed(tmp_path)
    with pytest.raises(CorpusError, match="no window of training steps"):
        read_speed(write_metrics(tmp_path / "a", RUN))
    for line in ("[1]", "half a {", '{"kind": "train", "step": 1}', "\x00"):
        with pytest.raises(CorpusError, match=r"metrics\.jsonl:2: expected a record") as caught:
            read_speed(write_metrics(tmp_path / "b", RUN, line))
        assert caught.value.line == 2
    with pytest.raises(ConfigError, match="tokens-per-row: expected a number"):
        training_lines(
            Speed(tokens_per_second=1, ranks=1, tokens_per_row=None, said=""), rows=1, epochs=1, gpus=1, nodes=1
        )


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "pairs" / "a.jsonl", 3000)
    flags = ["estimate", "--rows", "1e9", "--bytes", "400GB", "--quiet"]
    sample = ["--sample", str(tmp_path / "pairs"), "--dedup", "exact", "--threads", "1"]
    assert main([*flags, *sample, "--json"]) == 0
    said = capsys.readouterr().out
    plain = json.loads(said)
    assert (plain["rows"], plain["bytes"]) == (1e9, 4e11)
    for line in plain["figures"]:
        if line["quantity"] in {"time", "disk"} and line["stage"] != "in all":
            assert line["value"] == pytest.approx(line["measured"] * line["factor"] + line["fixed"])
    (tmp_path / "measured.json").write_text(said)
    run = write_metrics(tmp_path / "run", RUN, window(1), window(4000))
    again = [*flags, "--measured", str(tmp_path / "measured.json")]
    assert main([*again, "--nodes", "16", "--train-metrics", str(run), "--gpus-per-node", "4"]) == 0
    table = capsys.readouterr().out
    assert "1,000,000,000 rows, 400.0 GB, on 16 machines of 1 threads" in table
    assert "training, GPU time: 11,111.1 h" in table
    assert "network, in all: " in table
    assert main(["estimate", "--rows", "1e9", "--tokens-per-second", "1e5", "--tokens-per-row", "150"]) == 0
    assert "1.5e+11 tokens / (100,000 a second) = 416.7 GPU-hours (as given)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--rows", "many", "--bytes", "1"], 2, "rows: expected a number such as 1e9"),
        (["--rows", "0", "--bytes", "1"], 2, "rows: expected more than 0"),
        (["--rows", "1e9"], 2, "bytes: expected the size of the whole, found none; hint: --bytes"),
        (["--rows", "1e9", "--bytes", "1e3", "--nodes", "0"], 2, "nodes: expected at least 1, found 0"),
        (["--rows", "1e9", "--bytes", "1e3", "--network-gbit", "nan"], 2, "network-gbit: expected more than 0"),
        (["--rows", "1e9", "--bytes", "1e3", "--sample", "/no/such"], 1, "/no/such: no such file or folder"),
        (["--rows", "1e9", "--bytes", "1e3", "--measured", "/dev/null"], 1, "expected what `bgeprep estimate --json`"),
        (["--rows", "1e9", "--tokens-per-second", "5"], 2, "tokens-per-row: expected a number"),
        (["--rows", "1", "--tokens-per-second", "5", "--train-metrics", "a"], 2, "hint: give one of the two"),
        (["--rows", "1", "--no-such-flag"], 2, "unrecognized"),
    ],
)
def test_wrong_use(flags: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", *flags]) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_amounts() -> None:
    assert [parse_amount(text, "x") for text in ("1e9", "4E11", "400GB", "1.5T", "3GiB", "1_000", "7 kb")] == [
        1e9, 4e11, 4e11, 1.5e12, 3 << 30, 1000, 7000,
    ]  # fmt: skip
    for text in ("", "-1", "1e999", "i", "3 pairs", "0"):
        with pytest.raises(ConfigError, match=r"^x: expected"):
            parse_amount(text, "x")
    assert byte_text(1.5e9) == "1.5 GB"
    assert [time_text(seconds) for seconds in (0.25, 60, 600, 36000)] == ["0.25 s", "60.0 s", "10.0 min", "10.0 h"]
