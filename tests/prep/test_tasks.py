"""A run cut into tasks, done in this process in any order and more than once: the bytes of a run on threads."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import bgeprep
from bgeprep.executors import on_ray
from bgeprep.executors.on_ray import RayPool
from bgeprep.executors.tasks import Done, Limits, Shared, Task, do, job_tasks, read_tasks
from bgeprep.progress import Progress
from tests.prep.test_scores import scored, write_scores

if TYPE_CHECKING:
    from bgeprep.shard import Report

WORDS = [f"word{number}" for number in range(4000)]
TASK_BYTES = 256 << 10
CONFIG = bgeprep.PrepConfig(
    shard=bgeprep.ShardConfig(part_bytes=300_000),
    sources=(
        bgeprep.SourceConfig(name="large", path=("large.jsonl",), merge_positives=True),
        bgeprep.SourceConfig(name="small", path=("small",)),
        bgeprep.SourceConfig(name="alike", path=("alike.jsonl.gz",), task="symmetric", language="en"),
    ),
)


def written(folder: Path, rows: int = 4500, seed: int = 7) -> Path:
    """Pairs with equal and nearly equal queries and passages, negatives, origins of their own and rows that go."""
    chance = random.Random(seed)
    folder.mkdir(parents=True)
    queries = [" ".join(chance.choices(WORDS, k=chance.randint(3, 9))) for _ in range(rows // 3)]
    passages = [" ".join(chance.choices(WORDS, k=chance.randint(20, 60))) for _ in range(rows // 3)]

    def near(text: str) -> str:
        words = text.split()
        if chance.random() < 0.5:
            words[chance.randrange(len(words))] = "changed"
        return " ".join(words)

    lines = []
    for number in range(rows):
        row: dict[str, object] = {"query": chance.choice(queries), "pos": [near(chance.choice(passages))]}
        if chance.random() < 0.3:
            row["neg"] = [near(chance.choice(passages)) for _ in range(2)]
        if chance.random() < 0.2:
            row |= {"origin_file": f"raw-{number % 5}.txt", "origin_line": number + 1}
        lines.append("{broken" if number % 997 == 3 else json.dumps(row))
    third = rows // 3
    (folder / "large.jsonl").write_text("\n".join(lines[: 2 * third]) + "\n")
    (folder / "small").mkdir()
    for part in range(6):
        chosen = lines[2 * third :][part::12]
        (folder / "small" / f"part-{part}.jsonl").write_text("\n".join(chosen) + "\n" if chosen else "")
    (folder / "small" / "part-9.jsonl").write_text("")
    with gzip.open(folder / "alike.jsonl.gz", "wt") as file:
        file.write("\n".join(lines[2 * third :][6::7]))
    return folder


class Hands:
    """Does tasks in this process: in another order than they come, some twice, with files of its own."""

    done: ClassVar[Counter[str]] = Counter()
    seen: ClassVar[list[Task]] = []
    stop_at = ""
    tidied = False

    def __init__(self, shared: Shared, report: Report | None) -> None:
        self.shared = shared
        self.chance = random.Random(len(Hands.seen))

    def tidy(self) -> None:
        Hands.tidied = True

    def run(self, given: Sequence[Task], inputs: Mapping[str, Sequence[str]]) -> Iterator[tuple[Task, Done] | None]:
        scratch = Path(self.shared.scratch)
        for task in self.chance.sample(given, len(given)):
            if task.stage == Hands.stop_at and Hands.done[task.stage]:
                raise KeyboardInterrupt
            if self.chance.random() < 0.2 and task.stage != "commit":
                do(self.shared, task, inputs, scratch)
            Hands.done[task.stage] += 1
            Hands.seen.append(task)
            yield task, do(self.shared, task, inputs, scratch)


@pytest.fixture(autouse=True)
def hands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "connected", lambda address: contextlib.nullcontext())
    monkeypatch.setattr(on_ray, "RayPool", Hands)
    monkeypatch.setattr(Hands, "done", Counter())
    monkeypatch.setattr(Hands, "seen", [])
    monkeypatch.setattr(Hands, "tidied", False)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("pairs") / "pairs")


def configured(mode: str, pairs: Path) -> bgeprep.PrepConfig:
    sources = [
        bgeprep.SourceConfig(**{**vars(source), "path": tuple(str(pairs / path) for path in source.path)})
        for source in CONFIG.sources
    ]
    return bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode=mode), shard=CONFIG.shard, sources=tuple(sources))


def spread(config: bgeprep.PrepConfig, out: Path, scratch: Path, task_bytes: int = TASK_BYTES) -> bgeprep.ShardResult:
    scratch.mkdir(exist_ok=True)
    return bgeprep.shard(out=out, config=config, executor="ray", tmp=scratch, memory="64MiB", task_bytes=task_bytes)


def content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name != "run.json"}


def same(left: Path, right: Path) -> bool:
    one, other = content(left), content(right)
    assert sorted(one) == sorted(other)
    assert not [name for name in one if one[name] != other[name]]
    return True


@pytest.mark.parametrize("mode", ["none", "exact", "near"])
def test_tasks_write_the_bytes_of_threads(mode, pairs, tmp_path):
    config = configured(mode, pairs)
    local = bgeprep.shard(out=tmp_path / "local", config=config, threads=2, memory="64MiB")
    result = spread(config, tmp_path / "spread", tmp_path / "scratch")
    assert same(tmp_path / "local", tmp_path / "spread")
    assert (result.hash, result.rows_read, result.rows_kept) == (local.hash, local.rows_read, local.rows_kept)
    assert result.empty_files == local.empty_files
    assert Hands.tidied
    assert not list((tmp_path / "scratch").iterdir())
    # The file that is larger than a task was shared out, and there was more than one of nearly everything.
    assert any(turns > 1 for task in Hands.seen for _, _, turns in task.shares)
    assert min(Hands.done[stage] for stage in ("read", "decide", "transfers", "parts")) > 1
    if mode == "near":
        assert min(Hands.done[stage] for stage in ("candidates", "texts", "verify", "families")) > 1
    assert spread(config, tmp_path / "spread", tmp_path / "scratch").up_to_date


def test_the_size_of_tasks_decides_no_byte(pairs, tmp_path):
    config = configured("near", pairs)
    for turn, task_bytes in enumerate((400 << 10, 1 << 30)):
        spread(config, tmp_path / str(turn), tmp_path / "scratch", task_bytes)
    assert same(tmp_path / "0", tmp_path / "1")


@pytest.mark.parametrize("stage", ["read", "decide"])
def test_a_driver_that_was_killed_goes_on_where_it_was(stage, pairs, tmp_path, monkeypatch):
    config = configured("near", pairs)
    bgeprep.shard(out=tmp_path / "local", config=config, threads=1, memory="64MiB")
    monkeypatch.setattr(Hands, "stop_at", stage)
    with pytest.raises(KeyboardInterrupt):
        spread(config, tmp_path / "spread", tmp_path / "scratch", 500 << 10)
    assert not (tmp_path / "spread" / "manifest.json").exists()
    before = Counter(Hands.done)
    monkeypatch.setattr(Hands, "stop_at", "")
    if stage == "decide":
        # As a machine leaves it that lost its power.
        torn = min((tmp_path / "spread").glob(".work/tasks-*/candidates/*"))
        torn.write_bytes(torn.read_bytes()[:-9])
    result = spread(config, tmp_path / "spread", tmp_path / "scratch", 500 << 10)
    assert result.resumed
    assert same(tmp_path / "local", tmp_path / "spread")
    again = Hands.done - before
    of = {task.stage: task.of for task in Hands.seen}
    assert min(of["read"], of["candidates"]) > 2
    assert again["read"] == (of["read"] - 1 if stage == "read" else 0)
    assert again["candidates"] == (of["candidates"] if stage == "read" else 1)


def test_rows_that_are_mostly_unreadable_end_the_run_with_the_words_of_the_local_one(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for part in range(4):
        lines = ['{"query": "a question", "pos": ["an answer"]}', "{broken"] * 9000
        (folder / f"part-{part}.jsonl").write_text("\n".join(lines) + "\n")
    messages = []
    for executor in ("threads", "ray"):
        with pytest.raises(bgeprep.CorpusError, match=r"rows are unreadable, more than max_bad = 0\.05") as error:
            bgeprep.shard(folder, tmp_path / executor, executor=executor, tmp=tmp_path, task_bytes="128KiB", threads=1)
        messages.append(str(error.value).partition("hint")[2])
    assert messages[0] == messages[1]
    # Not every task was begun, once enough was seen.
    assert Hands.done["read"] < len(read_tasks([400_000] * 4, 128 << 10))


@pytest.fixture(scope="module")
def sets(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two sets with clusters of their own that share queries and passages, equal and near; and scores of the first."""
    folder = tmp_path_factory.mktemp("sets")
    sources = configured("near", pairs).sources
    for name, chosen in [("first", sources[:1]), ("second", sources[1:])]:
        config = bgeprep.PrepConfig(shard=CONFIG.shard, sources=chosen)
        bgeprep.shard(out=folder / name, config=config, threads=2)
    rows = scored(folder / "first", lambda query, pos: len(query + pos) % 100 / 100)
    for name, every in [("scores", rows), ("some scores", rows[::2])]:
        write_scores(folder / name, every)
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("inputs", "mode", "settings"),
    [
        (["first"], "auto", {"scores": "scores"}),
        (["first"], "near", {}),
        (["first", "second"], "near", {}),
        (["first", "second", "raw"], "exact", {"scores": "some scores", "missing": "keep"}),
        (["raw"], "near", {"against": "first"}),
        (["second", "raw"], "exact", {"against": "first"}),
    ],
)
def test_sets_and_scores_are_read_as_threads_read_them(inputs, mode, settings, pairs, sets, tmp_path):
    scores = bgeprep.ScoresConfig()
    if "scores" in settings:
        path, missing = str(sets[settings["scores"]]), settings.get("missing", "error")
        scores = bgeprep.ScoresConfig(path=path, min_score=0.3, missing=missing)
    against = (str(sets[settings["against"]]),) if "against" in settings else ()
    dedup = bgeprep.DedupConfig(mode=mode)
    config = bgeprep.PrepConfig(dedup=dedup, shard=CONFIG.shard, scores=scores, against=against)
    found = [{**sets, "raw": pairs / "small"}[name] for name in inputs]
    local = bgeprep.shard(found, tmp_path / "local", config=config, threads=2, memory="64MiB")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    shared = {"executor": "ray", "tmp": scratch, "memory": "64MiB", "task_bytes": TASK_BYTES}
    result = bgeprep.shard(found, tmp_path / "spread", config=config, **shared)
    assert same(tmp_path / "local", tmp_path / "spread")
    assert (result.hash, result.rows_read, result.rows_kept) == (local.hash, local.rows_read, local.rows_kept)
    assert local.rows_kept > 0
    assert local.rows_kept < local.rows_read or (inputs, mode) == (["first"], "near")
    assert min(Hands.done[stage] for stage in ("read", "decide", "parts")) > 1
    # Alone and without dedup a set keeps its batching keys; otherwise they are brought together.
    expected = {"scores": "scores" in settings, "unite": mode != "auto"}
    assert {stage: Hands.done[stage] > 0 for stage in expected} == expected
    assert not list(scratch.iterdir())


def test_pairs_without_a_score_end_the_run_with_the_words_of_the_local_one(sets, tmp_path):
    scores = bgeprep.ScoresConfig(path=str(sets["some scores"]), min_score=0.3)
    messages, config = [], bgeprep.PrepConfig(scores=scores)
    for executor in ("threads", "ray"):
        with pytest.raises(bgeprep.CorpusError, match=r"pairs have no score, the first at .*large.jsonl:") as error:
            bgeprep.shard(sets["first"], tmp_path / executor, config=config, executor=executor, tmp=tmp_path)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"executor": "spark"}, "executor: expected threads or ray, found spark"),
        ({"address": "auto"}, "address: expected none for the threads of this process"),
        ({"executor": "ray", "task_bytes": 100}, "task_bytes: expected at least 64 KiB, found 100"),
        ({"executor": "ray", "threads": 0}, "threads: expected at least 1, found 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message, pairs, tmp_path):
    with pytest.raises(bgeprep.ConfigError, match=message):
        bgeprep.shard(pairs / "small", tmp_path / "out", **settings)


def test_a_machine_that_does_not_see_the_folder_says_so(pairs, tmp_path, monkeypatch):
    real = do

    def elsewhere(shared: Shared, task: Task, inputs: Mapping[str, Sequence[str]], scratch: Path) -> Done:
        shutil.rmtree(shared.place, ignore_errors=True)
        return real(shared, task, inputs, scratch)

    monkeypatch.setitem(globals(), "do", elsewhere)
    with pytest.raises(bgeprep.ConfigError, match="out: expected a folder that all machines see, found no"):
        bgeprep.shard(pairs / "small", tmp_path / "out", executor="ray", tmp=tmp_path)


def test_files_become_tasks_of_about_one_size():
    sizes = [10, 10, 50, 200, 1, 1, 5000, 30]
    found = read_tasks(sizes, 100)
    assert [task.shares for task in found[:4]] == [
        ((0, 0, 1), (1, 0, 1), (2, 0, 1)),
        ((3, 0, 2),),
        ((3, 1, 2),),
        ((4, 0, 1), (5, 0, 1)),
    ]
    assert [task.shares for task in found[4:-1]] == [((6, turn, 16),) for turn in range(16)]
    assert found[-1].shares == ((7, 0, 1),)
    assert [task.number for task in found] == list(range(found[0].of))
    assert [task.jobs for task in job_tasks("decide", 7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert job_tasks("decide", 7, 3)[1].name == "bgeprep decide 2/3"


def test_machines_that_are_on_their_way_are_waited_for_and_spoken_of(monkeypatch):
    head, machine = ({"Alive": True, "Resources": {"CPU": cpus, "memory": 2 << 30}} for cpus in (0, 2))
    answers = iter([[head], [head], [head, machine]])
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: next(answers)))
    monkeypatch.setattr(on_ray.time, "sleep", lambda seconds: None)
    said: list[tuple[Any, ...]] = []
    most = RayPool._check(Limits(task_bytes=1, memory=1 << 30, threads=1), lambda *words: said.append(words))
    assert [stage for stage, *_ in said] == ["join", "join"]
    assert most == (2 << 30) - on_ray.PROCESS_BYTES
    stream = io.StringIO()
    Progress(stream, every=0)(*said[0])
    assert stream.getvalue().startswith("join   waiting for a machine")


def test_a_worker_may_open_as_many_files_as_its_machine_allows(monkeypatch, tmp_path):
    shared = SimpleNamespace(scratch=str(tmp_path), fingerprint="0" * 32)
    monkeypatch.setattr(on_ray, "do", lambda *given: resource.getrlimit(resource.RLIMIT_NOFILE))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        assert on_ray._do(shared, None, {}) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
