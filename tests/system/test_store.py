"""Pairs from an S3 server and shard sets into one, over a connection that fails: the same bytes as on a disk."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

import bgeprep
from tests.system.conftest import KEYS
from tests.system.faults import FAULTS, FaultyProxy, Request, every_request_fails_first, no_fault

#: Exact duplicates only: rows that differ in a number are to stay. The largest part is sent in pieces.
SETTINGS = ["--dedup", "exact", "--shard.part_bytes", "20000000", "--threads", "2"]

BUCKETS = itertools.count()


class Bench:
    """One bucket, one connection to it, and the commands that use them."""

    def __init__(self, s3, bucket: str, proxy: FaultyProxy, tmp: Path) -> None:
        self.s3, self.bucket, self.proxy, self.tmp = s3, bucket, proxy, tmp
        aside = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        self.environment = {
            **aside,
            **KEYS,
            "AWS_ENDPOINT_URL": proxy.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_MAX_ATTEMPTS": "4",
            "XDG_CACHE_HOME": str(tmp / "cache"),
        }

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def start(self, *argv: object, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-m", "bgeprep", *map(str, argv)]
        changed = {key: value for key, value in {**self.environment, **environment}.items() if value}
        return subprocess.Popen(command, env=changed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *argv: object, code: int = 0, **environment: str) -> tuple[str, str]:
        """Runs the command line, which must end with that code; returns what it printed and logged."""
        process = self.start(*argv, **environment)
        out, error = process.communicate(timeout=240)
        assert process.returncode == code, error
        assert "Traceback" not in error
        return out, error

    def shard(self, source: object, to: object, *more: str, code: int = 0, **environment: str) -> str:
        out, error = self.run("shard", "--in", source, "--out", to, *SETTINGS, *more, code=code, **environment)
        return out + error

    def upload(self, folder: Path, prefix: str) -> str:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.s3.upload_file(str(path), self.bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")
        return self.url(prefix)

    def keys(self, prefix: str) -> set[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{prefix}/")
        return {entry["Key"].removeprefix(f"{prefix}/") for page in pages for entry in page.get("Contents", [])}

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def set_in_store(self, prefix: str) -> dict[str, bytes]:
        return {key: self.get(f"{prefix}/{key}") for key in self.keys(prefix) - {"run.json"}}


def set_on_disk(folder: Path) -> dict[str, bytes]:
    """Every file of a set but its log, which holds times and paths."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name != "run.json"}


def same(left: dict[str, bytes], right: dict[str, bytes]) -> bool:
    """Equality without a report of megabytes."""
    assert sorted(left) == sorted(right)
    assert not [name for name in left if left[name] != right[name]]
    return True


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """Real pairs in every container and format that is told by its bytes, one file of more than ten megabytes."""
    folder = tmp_path_factory.mktemp("corpus") / "pairs"
    demo, small = repository / "examples/demo/data", repository / "rust/bgeprep-core/tests/data"
    shutil.copytree(demo / "pairs", folder)
    (folder / "zh").mkdir()
    shutil.copy(demo / "zh/pairs/csl.jsonl.gz", folder / "zh")
    shutil.copy(small / "squadshifts_query_pos.jsonl.bz2", folder)
    (folder / "README.md").write_text("about the data")
    (folder / ".hidden.jsonl").write_text("{}")
    (folder / "more").mkdir()
    with gzip.open(demo / "pairs/institutes.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    with (folder / "more" / "part-10.jsonl").open("w", encoding="utf-8") as large:
        for number in itertools.count():
            if large.tell() > 11_000_000:
                break
            row = rows[number % len(rows)]
            wide = {"query": f"{row['query']} ({number})", "pos": [f"{text} ({number})" for text in row["pos"]]}
            large.write(json.dumps(wide, ensure_ascii=False) + "\n")
    pl.DataFrame({"query": [f"arrow {n}" for n in range(50)], "pos": [f"passage {n}" for n in range(50)]}).write_ipc(
        folder / "more" / "part-9.arrow"
    )
    return folder


@pytest.fixture(scope="session")
def local(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run on this machine alone makes of the corpus."""
    out = tmp_path_factory.mktemp("local") / "out"
    command = [sys.executable, "-W", "ignore", "-m", "bgeprep", "shard", "--in", corpus, "--out", out, *SETTINGS]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    made = set_on_disk(out)
    assert sum(name.endswith(".arrow") for name in made) >= 7
    return made


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A small corpus, for what is about requests and not about formats."""
    folder = tmp_path / "few"
    folder.mkdir()
    for name, count in {"a": 300, "b": 200}.items():
        lines = [json.dumps({"query": f"{name} question {n}", "pos": [f"{name} answer {n}"]}) for n in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def bench(s3, s3_address: tuple[str, int], tmp_path: Path) -> Iterator[Bench]:
    bucket = f"test-bucket-{next(BUCKETS)}"
    s3.create_bucket(Bucket=bucket)
    with FaultyProxy(s3_address) as proxy:
        yield Bench(s3, bucket, proxy, tmp_path)


def test_same_bytes_as_local_through_a_connection_that_fails(
    bench: Bench, corpus: Path, local: dict[str, bytes]
) -> None:
    source = bench.upload(corpus, "a/pairs")
    bench.proxy.schedule = every_request_fails_first
    shown = bench.shard(source, bench.url("b/shards"))
    assert same(bench.set_in_store("b/shards"), local)
    assert "README.md" in shown, "what was left out is named, as for a folder"
    # The test is worth something only if every kind of fault was met.
    met = set(bench.proxy.faults)
    assert met >= {("GET", fault) for fault in FAULTS["GET"]} | {("PUT", fault) for fault in FAULTS["PUT"]}
    assert {method for method, _ in met} >= {"HEAD", "POST"}, "and the largest part went up in pieces"
    ranges = {request.range for request in bench.proxy.requests if request.named("part-10.jsonl")}
    assert len(ranges) > 5, "a large file is read by ranges"
    assert not (bench.tmp / "cache/bgeprep").exists() or not list((bench.tmp / "cache/bgeprep").glob("bgeprep-out-*/"))


def test_where_the_input_lies_says_nothing(bench: Bench, corpus: Path, local: dict[str, bytes]) -> None:
    """A store to a disk, a disk to a store, and from another prefix."""
    out = bench.tmp / "out"
    bench.shard(bench.upload(corpus, "else/where/deep") + "/", out)
    assert same(set_on_disk(out), local)
    bench.shard(corpus, bench.url("set"))
    assert same(bench.set_in_store("set"), local)
    inspected = json.loads(bench.run("inspect", bench.url("set"), "--json")[0])
    assert inspected == bgeprep.inspect(out)
    missing = next(key for key in bench.keys("set") if key.endswith(".arrow"))
    bench.s3.delete_object(Bucket=bench.bucket, Key=f"set/{missing}")
    assert "found no object" in bench.run("inspect", bench.url("set"), code=1)[1]
    assert "copy it to this machine" in bench.run("verify", bench.url("set"), code=1)[1]


@pytest.mark.parametrize("pattern", ["*.jsonl*", "**/*.gz", "more", "[gk]*", "more/part-9.arrow", "zh/*"])
def test_globs_and_single_objects_as_on_a_disk(bench: Bench, corpus: Path, pattern: str) -> None:
    bench.upload(corpus, "pairs")
    bench.shard(corpus / pattern, bench.tmp / "disk", "--threads", "1")
    bench.shard(bench.url(f"pairs/{pattern}"), bench.tmp / "store", "--threads", "1")
    assert same(set_on_disk(bench.tmp / "store"), set_on_disk(bench.tmp / "disk"))


def test_several_inputs_and_a_config_file(bench: Bench, few: Path) -> None:
    bench.upload(few, "x/few")
    other = bench.tmp / "other"
    other.mkdir()
    (other / "c.jsonl").write_text(json.dumps({"query": "c question", "pos": ["c answer"]}))
    bench.run("shard", "--in", few, other, "--out", bench.tmp / "disk", *SETTINGS)
    bench.run("shard", "--in", bench.url("x/few"), other, "--out", bench.tmp / "mixed", *SETTINGS)
    assert same(set_on_disk(bench.tmp / "mixed"), set_on_disk(bench.tmp / "disk"))
    for name, path in {"disk": str(few / "a.jsonl"), "store": bench.url("x/few/a.jsonl")}.items():
        config = bench.tmp / f"{name}.toml"
        config.write_text(f'[[sources]]\nname = "one"\npath = "{path}"\n')
        bench.run("shard", "--config", config, "--out", bench.tmp / f"config-{name}", *SETTINGS)
    assert same(set_on_disk(bench.tmp / "config-store"), set_on_disk(bench.tmp / "config-disk"))


def always(fault: str, when: Callable[[Request], bool]) -> Callable[[Request, int], str | None]:
    return lambda request, attempt: fault if when(request) else None


@pytest.mark.parametrize("fault", FAULTS["GET"])
def test_input_that_never_comes_is_an_error_and_no_set(bench: Bench, few: Path, fault: str) -> None:
    """The negative control: what the retries mend is not there when they are used up."""
    bench.upload(few, "few")
    bench.proxy.schedule = always(fault, lambda request: request.method == "GET" and request.named("b.jsonl"))
    error = bench.shard(bench.url("few"), bench.url("out"), code=1, AWS_MAX_ATTEMPTS="3")
    assert f"{bench.url('few/b.jsonl')}: no whole answer in 3 tries, the last: " in error
    assert "hint: " in error
    assert bench.keys("out") == set()
    assert sum(request.named("b.jsonl") for request in bench.proxy.requests) == 3


@pytest.mark.parametrize("fault", ["busy", "drop in upload"])
def test_an_upload_that_breaks_leaves_no_set_and_is_gone_on_with(bench: Bench, few: Path, fault: str) -> None:
    bench.shard(few, bench.tmp / "disk")
    parts: list[str] = []

    def after_the_first_part(request: Request) -> bool:
        if request.method == "PUT" and request.path not in parts:
            parts.append(request.path)
        return request.method == "PUT" and request.path != parts[0]

    bench.proxy.schedule = always(fault, after_the_first_part)
    error = bench.shard(few, bench.url("out"), code=1, AWS_MAX_ATTEMPTS="2")
    assert "no whole answer in 2 tries" in error
    assert bench.keys("out") == {"a/part-00000.arrow"}

    bench.proxy.schedule = no_fault
    bench.proxy.requests.clear()
    assert "went on with the work of an earlier run" in bench.shard(few, bench.url("out"))
    assert same(bench.set_in_store("out"), set_on_disk(bench.tmp / "disk"))
    sent = [request.path for request in bench.proxy.requests if request.method == "PUT"]
    assert parts[0] not in sent, "what was there is not sent again"
    assert sent[-1].endswith("/out/manifest.json")


def test_a_killed_upload_is_gone_on_with(bench: Bench, few: Path) -> None:
    bench.shard(few, bench.tmp / "disk")
    running: list[subprocess.Popen[str]] = []

    def kill_at_the_log(request: Request, attempt: int) -> str | None:
        if request.method == "PUT" and request.named("run.json"):
            running[0].send_signal(signal.SIGKILL)
            return "drop"
        return None

    bench.proxy.schedule = kill_at_the_log
    running.append(bench.start("shard", "--in", few, "--out", bench.url("out"), *SETTINGS))
    running[0].communicate(timeout=120)
    assert running[0].returncode == -signal.SIGKILL
    assert "manifest.json" not in bench.keys("out")
    bench.proxy.schedule = no_fault
    bench.shard(few, bench.url("out"))
    assert same(bench.set_in_store("out"), set_on_disk(bench.tmp / "disk"))


def test_a_set_that_is_there_is_kept_or_replaced_whole(bench: Bench, few: Path) -> None:
    source, out = bench.upload(few, "few"), bench.url("out")
    bench.shard(source, out)
    bench.proxy.requests.clear()
    assert "up to date" in bench.shard(source, out)
    assert set(bench.proxy.methods()) <= {"GET", "HEAD"}

    first = bench.set_in_store("out")
    (few / "b.jsonl").rename(few / "c.jsonl")
    bench.s3.delete_object(Bucket=bench.bucket, Key="few/b.jsonl")
    bench.upload(few, "few")
    error = bench.shard(source, out, code=1)
    assert f"{out}: already holds a shard set" in error
    assert "--overwrite" in error
    assert same(bench.set_in_store("out"), first)

    bench.s3.put_object(Bucket=bench.bucket, Key="out/notes.txt", Body=b"not ours")
    bench.proxy.requests.clear()
    bench.shard(source, out, "--overwrite")
    bench.shard(few, bench.tmp / "disk")
    assert same(bench.set_in_store("out"), {**set_on_disk(bench.tmp / "disk"), "notes.txt": b"not ours"})
    changes = [request for request in bench.proxy.requests if request.method in {"PUT", "DELETE"}]
    assert (changes[0].method, changes[0].path.rpartition("/")[2]) == ("DELETE", "manifest.json")
    assert (changes[-1].method, changes[-1].path.rpartition("/")[2]) == ("PUT", "manifest.json")


def test_an_object_that_changes_while_it_is_read(bench: Bench, corpus: Path) -> None:
    bench.upload(corpus / "more", "more")

    def replace_after_the_first_range(request: Request, attempt: int) -> str | None:
        if request.named("part-10.jsonl") and request.range.startswith("bytes=0-") and attempt == 0:
            return None
        if request.named("part-10.jsonl") and request.range:
            bench.s3.put_object(Bucket=bench.bucket, Key="more/part-10.jsonl", Body=b"x" * 11_000_000)
        return None

    bench.proxy.schedule = replace_after_the_first_range
    error = bench.shard(bench.url("more"), bench.url("out"), code=1)
    assert "part-10.jsonl: the object changed while it was read" in error
    assert bench.keys("out") == set()


def test_errors_say_what_to_do(bench: Bench, few: Path) -> None:
    source = bench.upload(few, "few")

    def fails(*argv: object, code: int = 1, **environment: str) -> str:
        return bench.run("shard", "--out", bench.tmp / "out", "--in", *argv, code=code, **environment)[1]

    assert "no such bucket; hint: " in fails("s3://no-such-bucket-here/pairs")
    assert "no such bucket; hint: " in bench.shard(few, "s3://no-such-bucket-here/out", code=1)
    assert "no such object or prefix" in fails(bench.url("nothing"))
    assert "no such object or prefix" in fails(bench.url("few/*.csv"))
    assert "hint: AWS_ALLOW_HTTP=true" in fails(source, code=2, AWS_ALLOW_HTTP="")
    assert "expected a path or s3://BUCKET/KEY" in fails("gs://bucket/pairs", code=2)
    assert "AWS_MAX_ATTEMPTS: expected a number" in fails(source, code=2, AWS_MAX_ATTEMPTS="many")
    # Port 9 answers nobody; it stands for the machine that would hand out credentials in a cloud.
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9"}
    missing = fails(source, **nobody)
    assert "no credentials in the environment (" in missing
    assert "hint: set AWS_ACCESS_KEY_ID" in missing
    refused = fails(source, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="2")
    assert "no whole answer in 2 tries" in refused
    assert "refused" in refused
    bench.proxy.schedule = always("denied", lambda request: request.method == "GET")
    denied = fails(source)
    assert "access denied (AccessDenied: Access Denied); hint: check AWS_ACCESS_KEY_ID" in denied
    assert not (bench.tmp / "out" / "manifest.json").exists()
