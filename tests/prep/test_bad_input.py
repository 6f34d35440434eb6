"""Bad input gets a clear error or a counted reject, and never leaves a half-written set."""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import bgeprep
from bgeprep.cli import main

GOOD = [{"query": f"question {n}", "pos": [f"answer {n}"]} for n in range(100)]


def jsonl(path: Path, lines: list[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def rejects(shards: Path) -> list[tuple[int, str]]:
    found = pl.read_parquet(shards / "rejects" / "*.parquet")
    return [(row["origin_line"], row["reason"]) for row in found.iter_rows(named=True)]


def fails(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 1) -> str:
    """Runs the command line, which must fail with one clear message, and returns it."""
    assert main([str(word) for word in argv]) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "error: " in error
    return error


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs").mkdir()
    message = fails(capsys, "shard", "--in", tmp_path / "pairs", "--out", tmp_path / "out")
    assert "expected data files" in message
    assert not (tmp_path / "out").exists()


def test_folder_with_documentation_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("about the data")
    assert "README.md" in fails(capsys, "shard", "--in", tmp_path, "--out", tmp_path / "out")


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in fails(capsys, "shard", "--in", tmp_path / "nowhere", "--out", tmp_path / "out")


def test_empty_file_alone_is_an_error_and_beside_others_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert "found no record" in fails(capsys, "shard", "--in", tmp_path / "empty.jsonl", "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    jsonl(tmp_path / "good.jsonl", GOOD)
    result = bgeprep.shard([tmp_path / "empty.jsonl", tmp_path / "good.jsonl"], tmp_path / "both")
    assert (result.rows_kept, result.empty_files) == (100, ("empty.jsonl",))


def test_truncated_gzip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = gzip.compress("".join(json.dumps(line) + "\n" for line in GOOD * 50).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    message = fails(capsys, "shard", "--in", tmp_path / "cut.jsonl.gz", "--out", tmp_path / "out")
    assert "cut.jsonl.gz" in message
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_invalid_utf8_is_a_reject_with_its_line(tmp_path: Path) -> None:
    lines = [json.dumps(line).encode() for line in GOOD]
    lines[41] = b'{"query": "caf\xe9", "pos": ["latin"]}'
    (tmp_path / "latin.jsonl").write_bytes(b"\n".join(lines))
    assert bgeprep.shard(tmp_path / "latin.jsonl", tmp_path / "out").rows_kept == 99
    assert rejects(tmp_path / "out") == [(42, "invalid_utf8")]


def test_a_line_of_50_mb_is_a_reject_with_its_line(tmp_path: Path) -> None:
    with (tmp_path / "long.jsonl").open("w") as file:
        for number, line in enumerate(GOOD):
            if number == 7:
                file.write('{"query": "' + "x" * 50_000_000 + '", "pos": ["y"]}\n')
            file.write(json.dumps(line) + "\n")
    assert bgeprep.shard(tmp_path / "long.jsonl", tmp_path / "out").rows_kept == 100
    assert rejects(tmp_path / "out") == [(8, "long_line")]


def test_mixed_shapes_in_one_file(tmp_path: Path) -> None:
    lines = [
        {"query": "flag embedding", "pos": ["shape"], "neg": ["negative"]},
        ["a pair", "in a list"],
        ["a triplet", "in a list", "with negative"],
        {"set": ["first wording", "second wording", "third wording"]},
        {"question": "a flat", "answer": "object"},
        {"nothing": "of use"},
        "just a string",
        17,
    ]
    jsonl(tmp_path / "mixed.jsonl", lines)
    result = bgeprep.shard(
        tmp_path / "mixed.jsonl", tmp_path / "out", config=bgeprep.PrepConfig(read=bgeprep.ReadConfig(max_bad=0.5))
    )
    assert result.rows_kept == 5
    assert rejects(tmp_path / "out") == [(6, "unknown_shape"), (7, "unknown_shape"), (8, "unknown_shape")]


def test_unknown_columns_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(tmp_path / "extra.jsonl", [{**line, "url": "http://x", "votes": 3} for line in GOOD])
    assert main(["shard", "--in", str(tmp_path / "extra.jsonl"), "--out", str(tmp_path / "out")]) == 0
    assert bgeprep.inspect(tmp_path / "out")["sources"][0]["unmapped"] == {"url": 100, "votes": 100}
    assert "columns not used: url 100, votes 100" in capsys.readouterr().out


def test_a_label_without_meaning_asks_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["entailment", "neutral", "contradiction"]
    lines = [{"sentence1": "a man sleeps", "sentence2": f"he is {n}", "label": one} for n, one in enumerate(labels)]
    argv = ["shard", "--in", jsonl(tmp_path / "nli.jsonl", lines), "--out", tmp_path / "out"]
    assert "nli.jsonl:2: label `neutral`" in fails(capsys, *argv)
    assert main([str(word) for word in [*argv, "--labels", "neutral=drop"]]) == 0
    assert "no_label 1" in capsys.readouterr().out
    assert [(row["pos"], row["neg"]) for row in bgeprep.open(tmp_path / "out")] == [(["he is 0"], ["he is 2"])]


def test_what_people_see_of_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(tmp_path / "good.jsonl", [*GOOD, GOOD[0]])
    assert main(["shard", "--in", str(tmp_path / "good.jsonl"), "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows_read"] == found["rows_kept"] + sum(found["dropped"].values()) == 101
    assert main(["inspect", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "duplicate 1" in text
    assert "p95" in text
    assert main(["show", str(tmp_path / "out"), "-n", "2", "--source", "good"]) == 0
    assert capsys.readouterr().out.count("  query  question") == 2
    assert "nowhere" in fails(capsys, "show", tmp_path / "out", "--source", "nowhere", code=2)


def test_missing_and_empty_neg_are_fine(tmp_path: Path) -> None:
    lines = [{"query": "a query", "pos": ["one"]}, {"query": "b query", "pos": ["two"], "neg": []},
             {"query": "c query", "pos": ["six"], "neg": None}]  # fmt: skip
    jsonl(tmp_path / "pairs.jsonl", lines)
    bgeprep.shard(tmp_path / "pairs.jsonl", tmp_path / "out")
    assert [row["neg"] for row in bgeprep.open(tmp_path / "out")] == [[], [], []]


def test_a_file_that_is_mostly_bad_stops_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(line) + "\n{broken\n" for line in GOOD))
    message = fails(capsys, "shard", "--in", tmp_path / "bad.jsonl", "--out", tmp_path / "out")
    assert "bad.jsonl:2: 100 of 200 rows are unreadable" in message
    assert main(["shard", "--in", str(tmp_path / "bad.jsonl"), "--out", str(tmp_path / "out"), "--max-bad", "0.6"]) == 0


def test_no_text_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.jsonl").write_bytes(bytes(range(256)) * 64)
    assert "data.jsonl" in fails(capsys, "shard", "--in", tmp_path / "data.jsonl", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("squad.json", '{"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": []}]}]}', "squad"),
    ],
)
def test_what_comes_later_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, word: str
) -> None:
    (tmp_path / name).write_text(content)
    assert word in fails(capsys, "shard", "--in", tmp_path / name, "--out", tmp_path / "out").lower()


def test_a_part_of_a_shard_set_as_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bgeprep.shard(jsonl(tmp_path / "good.jsonl", GOOD), tmp_path / "first")
    part = tmp_path / "first" / "good" / "part-00000.arrow"
    assert "give the folder of the set" in fails(capsys, "shard", "--in", part, "--out", tmp_path / "second")


def test_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(tmp_path / "good.jsonl", GOOD)
    # Permissions do not stop root; a folder of the kernel's does.
    assert "/proc" in fails(capsys, "shard", "--in", tmp_path / "good.jsonl", "--out", "/proc/shards")
    (tmp_path / "file").touch()
    message = fails(capsys, "shard", "--in", tmp_path / "good.jsonl", "--out", tmp_path / "file")
    assert "expected a folder, found a file" in message


def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on file size stands in for the full disk: both refuse the write in the middle."""
    jsonl(tmp_path / "good.jsonl", [{"query": f"q {n}", "pos": ["word " * 100 + str(n)]} for n in range(2000)])
    done = subprocess.run(
        [sys.executable, "-m", "bgeprep", "shard", "--in", tmp_path / "good.jsonl", "--out", tmp_path / "out"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert bgeprep.shard(tmp_path / "good.jsonl", tmp_path / "out").rows_kept == 2000


def test_output_that_holds_another_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(tmp_path / "a.jsonl", GOOD)
    jsonl(tmp_path / "b.jsonl", GOOD[:50])
    assert main(["shard", "--in", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "out")]) == 0
    message = fails(capsys, "shard", "--in", tmp_path / "b.jsonl", "--out", tmp_path / "out")
    assert "already holds a shard set" in message
    assert "--overwrite" in message


def test_wrong_usage_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--thread_count" in fails(capsys, "shard", "--in", "x", "--out", "y", "--thread_count", 3, code=2)
    assert "no input" in fails(capsys, "shard", "--out", tmp_path / "out", code=2)
    jsonl(tmp_path / "good.jsonl", GOOD)
    for flags, word in [
        (["--memory", "lots"], "memory"),
        (["--memory", "1MiB"], "at least 64 MiB"),
        (["--threads", "0"], "threads"),
        (["--dedup", "fuzzy"], "dedup.mode"),
        (["--max-bad", "2"], "read.max_bad"),
        (["--task", "guess"], "task"),
        (["--columns", "query"], "--columns"),
    ]:
        assert word in fails(
            capsys, "shard", "--in", tmp_path / "good.jsonl", "--out", tmp_path / "out", *flags, code=2
        )


def test_unknown_config_keys_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "mix.toml"
    for text, word in [
        ("[clean]\nmin_query_char = 3", "did you mean clean.min_query_chars"),
        ("[cleaning]\nnfc = true", "cleaning: unknown key"),
        ("[clean]\nnfc = 3", "expected bool"),
        ("[clean\n", "expected TOML"),
        ("[[sources]]\npath = 'x'", "name: missing key"),
    ]:
        config.write_text(text)
        assert word in fails(capsys, "shard", "--config", config, "--out", tmp_path / "out", code=2)


def test_source_names_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(tmp_path / "rejects.jsonl", GOOD)
    assert "cannot name a source" in fails(
        capsys, "shard", "--in", tmp_path / "rejects.jsonl", "--out", tmp_path / "out", code=2
    )


def test_a_damaged_shard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bgeprep.shard(jsonl(tmp_path / "good.jsonl", GOOD), tmp_path / "out")
    part = next((tmp_path / "out" / "good").glob("part-*.arrow"))
    whole = part.read_bytes()
    assert main(["verify", str(tmp_path / "out")]) == 0
    part.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert part.name in fails(capsys, "verify", tmp_path / "out")
    part.write_bytes(whole[:-100])
    assert part.name in fails(capsys, "verify", tmp_path / "out")
    part.unlink()
    assert part.name in fails(capsys, "verify", tmp_path / "out")
    assert part.name in fails(capsys, "show", tmp_path / "out")
    assert "manifest.json" in fails(capsys, "inspect", tmp_path)
