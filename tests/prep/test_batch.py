"""`BatchLoader`: the plan against an independent checker, token ids against `tokenizers`, state, ranks, life cycle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import bgeprep
from bgeprep import Batch, BatchLoader, ConfigError, ShardError, SlowTokenizerWarning, TokenizerError
from bgeprep._native import text_key
from tests.reference import plan as reference

LATIN = ["river", "stone", "cloud", "lamp", "winter", "copper", "garden", "signal", "paper", "ocean"]
WORDS = [*LATIN, "检索", "模型", "城市", "天气", "naïve", "Straße"]


def _text(number: int, length: int) -> str:
    words = [WORDS[(number * 7 + place * (number % 5 + 1)) % len(WORDS)] for place in range(length)]
    return f"{' '.join(words)} {number}"


def _question(number: int) -> str:
    return f"which {_text(number, 1 + number % 6)}?"


def _retrieval_rows() -> Iterator[dict[str, Any]]:
    """Many questions on few passages, one query in several rows, negatives that are positives of other rows."""
    for number in range(400):
        yield {
            "query": _question(number // 2 if number % 10 == 0 else number),
            "pos": [_text(10_000 + number % 90, 4 + number % 30)]
            + ([_text(20_000 + number, 9)] if number % 4 == 0 else []),
            "neg": [
                _text(10_000 + (number * 13 + step) % 90, 4 + (number * 13 + step) % 30) for step in range(number % 12)
            ]
            + [_text(30_000 + number % 50, 12)],
        }
    for number in range(40):
        yield {"query": _question(7_000 + number), "pos": ["the one passage that everybody asks about"]}


def _symmetric_rows() -> Iterator[dict[str, Any]]:
    """Texts that are queries in one row and positives in another."""
    for number in range(150):
        yield {"query": _question(1_000 + number), "pos": [_question(1_000 + (number * 2 + 1) % 150)]}


def _label_rows() -> Iterator[dict[str, Any]]:
    """Many texts of a few labels."""
    for number in range(120):
        yield {
            "query": _question(5_000 + number),
            "pos": [f"label number {number % 3}"],
            "neg": [f"label number {number % 3 + 3}"],
        }


TASKS = {"labels": "classification", "pairs": "symmetric", "questions": "retrieval"}


@pytest.fixture(scope="session")
def shard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of three sources, one a task."""
    folder = tmp_path_factory.mktemp("batch")
    makers = {"labels": _label_rows, "pairs": _symmetric_rows, "questions": _retrieval_rows}
    config = []
    for name, rows in makers.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
        config += ["[[sources]]", f'name = "{name}"', f'path = "{path.name}"', f'task = "{TASKS[name]}"']
        config += ['instruction = "Find the passage: "'] if name == "questions" else []
    # The rules are held against texts by equality; near texts have tests of their own.
    config += ["[dedup]", 'mode = "exact"']
    (folder / "mix.toml").write_text("\n".join(config), encoding="utf-8")
    bgeprep.shard(out=folder / "shards", config=folder / "mix.toml")
    return folder / "shards"


@pytest.fixture(scope="session")
def rows(shard_folder: Path) -> list[dict[str, Any]]:
    """All rows of the set, by row id."""
    return list(bgeprep.open(shard_folder))


@pytest.fixture(scope="session")
def known(rows: list[dict[str, Any]]) -> list[set[str]]:
    """The known positives of every row."""
    return reference.known_positives(rows, TASKS)


def _corpus() -> Iterator[str]:
    for row in [*_retrieval_rows(), *_symmetric_rows(), *_label_rows()]:
        yield row["query"]
        yield from row["pos"]


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(_corpus(), trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    marks = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", marks)
    return tokenizer


def _byte_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(_corpus(), trainers.BpeTrainer(vocab_size=500))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", "<s> $A </s> $B </s>", [("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordPiece tokenizer whose file carries a truncation and a padding of its own."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = _word_piece()
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=32)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def options(shard_folder: Path, tokenizer_folder: Path) -> dict[str, Any]:
    """What most tests open."""
    return {
        "shards": shard_folder,
        "tokenizer": tokenizer_folder,
        "batch_size": 24,
        "train_group_size": 4,
        "threads": 2,
    }


def _equal(one: Batch, other: Batch) -> bool:
    names = [name for name in Batch.__dataclass_fields__ if isinstance(getattr(one, name), np.ndarray)]
    same = all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "doc_scores") for name in names
    )
    return same and (one.step, one.epoch, one.source, one.task) == (other.step, other.epoch, other.source, other.task)


def _slice(values: np.ndarray, offsets: np.ndarray, place: int) -> list[int]:
    return values[offsets[place] : offsets[place + 1]].tolist()


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
@pytest.mark.parametrize("seed", [0, 42])
def test_no_batch_breaks_a_rule_and_every_row_comes_once_an_epoch(
    options: dict[str, Any], rows: list[dict[str, Any]], known: list[set[str]], batch_size: int, seed: int
) -> None:
    loader = BatchLoader(**options | {"batch_size": batch_size, "seed": seed, "num_epochs": 2})
    batches = [batch.as_dict() for batch in loader.plan()]
    assert [batch["step"] for batch in batches] == list(range(len(batches)))
    for batch in batches:
        assert reference.violations(rows, known, batch, TASKS) == []
        sources = {rows[row]["source"] for row in batch["rows"]}
        assert sources == {batch["source"]}, "no two sources here have one task"
        assert len(batch["rows"]) <= batch_size
        assert all(len(negatives) <= 3 for negatives in batch["negatives"])
    with loader:
        yielded = [batch.row_ids.tolist() for batch in loader]
    assert [sorted(batch) for batch in yielded] == [sorted(batch["rows"]) for batch in batches]
    unplaced = loader.report()["unplaced"]
    for epoch in (0, 1):
        given_up = [entry["row"] for entry in unplaced if entry["pass"] == epoch]
        used = [batch for batch in batches if batch["epoch"] == epoch]
        assert reference.times_used(len(rows), used, given_up) == [1] * len(rows)


def test_the_checker_finds_planted_violations(rows: list[dict[str, Any]], known: list[set[str]]) -> None:
    ids = [number for number, row in enumerate(rows) if row["source"] == "questions"]
    by_positive: dict[str, list[int]] = {}
    for number in ids:
        by_positive.setdefault(rows[number]["pos"][0], []).append(number)
    colliding = next(numbers for numbers in by_positive.values() if len(numbers) > 1)[:2]
    batch = {"rows": colliding, "positives": [0, 0], "negatives": [[], []]}
    assert len(reference.violations(rows, known, batch, TASKS)) == 2
    twice = {"rows": [ids[0], ids[0]], "positives": [0, 0], "negatives": [[], []]}
    labels = dict.fromkeys(TASKS, "classification")
    assert any("have one query" in line for line in reference.violations(rows, known, twice, labels))


@pytest.mark.parametrize("make", [_word_piece, _byte_bpe, _unigram])
def test_token_ids_equal_those_of_tokenizers(
    options: dict[str, Any], rows: list[dict[str, Any]], tmp_path: Path, make: Any
) -> None:
    tokenizer: Tokenizer = make()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    documents = {length: {} for length in (9, 22)}

    def ids(text: str, length: int) -> list[int]:
        if text not in documents[length]:
            tokenizer.enable_truncation(length)
            documents[length][text] = tokenizer.encode(text).ids
        return list(documents[length][text])

    lengths = {"query_max_len": 22, "passage_max_len": 9}
    seen = 0
    slow = make is not _word_piece
    with pytest.warns(SlowTokenizerWarning, match=r"model\.type is") if slow else nullcontext():
        loader = BatchLoader(**options | lengths | {"tokenizer": tmp_path / "tokenizer.json"})
    assert loader.tokenizer_engine == ("tokenizers" if slow else "wordpiece")
    for batch in loader:
        instruction = "Find the passage: " if batch.source == "questions" else ""
        texts = {}
        for place, number in enumerate(batch.row_ids.tolist()):
            row = rows[number]
            texts |= {text_key(text): text for text in [*row["pos"], *row["neg"]]}
            assert _slice(batch.query_ids, batch.query_offsets, place) == ids(instruction + row["query"], 22)
            assert batch.query_keys[place] == text_key(row["query"])
        for document, key in enumerate(batch.doc_keys.tolist()):
            assert _slice(batch.doc_ids, batch.doc_offsets, document) == ids(texts[key], 9)
        seen += len(batch.row_ids)
    assert seen > 600


def test_on_real_pairs_the_rules_hold_and_the_ids_are_those_of_tokenizers(
    repository: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    bgeprep.shard(repository / "examples" / "demo" / "data" / "pairs", tmp_path / "shards")
    rows = list(bgeprep.open(tmp_path / "shards"))
    tasks = {row["source"]: "retrieval" for row in rows}
    known = reference.known_positives(rows, tasks)
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(48)
    loader = BatchLoader(tmp_path / "shards", tokenizer_folder, batch_size=96, passage_max_len=48, threads=2)
    plan = [batch.as_dict() for batch in loader.plan()]
    for batch in plan[::10]:
        assert reference.violations(rows, known, batch, tasks) == []
    compared = 0
    for batch in loader:
        if batch.step % 10 == 0:
            place_of = dict(zip(plan[batch.step]["rows"], plan[batch.step]["positives"], strict=True))
            texts = [rows[number]["pos"][place_of[number]] for number in batch.row_ids.tolist()]
            positives = np.flatnonzero(batch.doc_is_positive)
            for document, encoding in zip(positives, tokenizer.encode_batch(texts), strict=True):
                assert _slice(batch.doc_ids, batch.doc_offsets, document) == encoding.ids
                compared += 1
    assert compared > 500
    given_up = [entry["row"] for entry in loader.report()["unplaced"]]
    assert reference.times_used(len(rows), plan, given_up) == [1] * len(rows)


def test_arrays_have_the_stated_types_and_belong_together(options: dict[str, Any], known: list[set[str]]) -> None:
    types = {
        "row_ids": np.uint64, "source_ids": np.uint32, "query_ids": np.int32, "query_offsets": np.int64,
        "doc_ids": np.int32, "doc_offsets": np.int64, "doc_rows": np.int64, "doc_is_positive": np.bool_,
        "doc_scores": np.float32, "query_keys": np.uint64, "doc_keys": np.uint64, "known_keys": np.uint64,
        "known_offsets": np.int64,
    }  # fmt: skip
    for batch in BatchLoader(**options):
        assert {name: getattr(batch, name).dtype.type for name in types} == types
        count, documents = len(batch.row_ids), len(batch.doc_keys)
        assert batch.global_rows == count == batch.doc_is_positive.sum()
        assert batch.task == TASKS[str(batch.source)]
        assert batch.query_offsets.tolist()[0] == 0
        assert batch.query_offsets[-1] == len(batch.query_ids)
        assert len(batch.doc_offsets) == documents + 1
        assert batch.doc_offsets[-1] == len(batch.doc_ids)
        assert (np.diff(batch.doc_rows) >= 0).all()
        assert set(batch.doc_rows.tolist()) == set(range(count))
        assert np.isnan(batch.doc_scores).all()
        for place, number in enumerate(batch.row_ids.tolist()):
            expected = {text_key(text) for text in known[number]}
            assert set(_slice(batch.known_keys, batch.known_offsets, place)) == expected
            first = np.flatnonzero(batch.doc_rows == place)[0]
            assert batch.doc_is_positive[first]
            assert batch.doc_keys[first] in batch.known_keys


@pytest.mark.parametrize("world_size", [2, 3, 8, 30])
def test_ranks_part_the_batches_of_one_rank(options: dict[str, Any], world_size: int) -> None:
    whole = list(BatchLoader(**options))
    ranks = [
        list(BatchLoader(**options | {"threads": 1}, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    assert {len(batches) for batches in ranks} == {len(whole)}
    for batch, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        sizes = [len(part.row_ids) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert sorted(np.concatenate([part.row_ids for part in parts]).tolist()) == sorted(batch.row_ids.tolist())
        assert sorted(np.concatenate([part.doc_keys for part in parts]).tolist()) == sorted(batch.doc_keys.tolist())
        assert {(part.step, part.epoch, part.source, part.global_rows) for part in parts} == {
            (batch.step, batch.epoch, batch.source, len(batch.row_ids))
        }


def test_resumed_at_any_step_the_run_goes_on_as_if_uninterrupted(options: dict[str, Any]) -> None:
    options |= {"num_epochs": 2, "batch_size": 40}
    whole = list(BatchLoader(**options))
    for step, batch in enumerate(whole):
        state = json.loads(json.dumps(batch.state))
        assert state["step"] == step + 1
        rest = list(BatchLoader(**options | {"threads": 1, "prefetch": 1}, state=state))
        assert len(rest) == len(whole) - step - 1
        assert all(_equal(one, other) for one, other in zip(rest, whole[step + 1 :], strict=True))


def test_the_state_is_that_of_the_batch_just_yielded_and_moves_between_world_sizes(options: dict[str, Any]) -> None:
    with BatchLoader(**options, prefetch=8) as loader:
        for batch in loader:
            assert loader.state_dict() == batch.state
            if batch.step == 3:
                break
        time.sleep(0.05)
        assert loader.state_dict() == batch.state
        rest = list(loader)
        loader.load_state_dict(batch.state)
        assert all(_equal(one, other) for one, other in zip(loader, rest, strict=True))
    assert batch.state["world_size"] == 1
    ranks = [list(BatchLoader(**options, rank=rank, world_size=2, state=batch.state)) for rank in range(2)]
    for one, parts in zip(rest, zip(*ranks, strict=True), strict=True):
        assert sorted(np.concatenate([part.row_ids for part in parts]).tolist()) == sorted(one.row_ids.tolist())
    assert ranks[0][0].state["world_size"] == 2


def test_weights_share_the_batches(options: dict[str, Any]) -> None:
    loader = BatchLoader(**options, weights={"questions": 3.0, "pairs": 1.0}, max_steps=80)
    names = [batch.source for batch in loader.plan()]
    assert len(loader) == len(names) == 80
    assert 58 <= names.count("questions") <= 62
    assert "labels" not in names
    by_size = BatchLoader(**options, alpha=0.5, max_steps=100)
    names = [batch.source for batch in by_size.plan()]
    assert 23 <= names.count("labels") <= 27
    assert 45 <= names.count("questions") <= 50


def test_len_is_the_number_of_batches(options: dict[str, Any]) -> None:
    for more in ({}, {"num_epochs": 3}, {"drop_last": True}, {"weights": {"labels": 1.0, "pairs": 2.0}}):
        loader = BatchLoader(**options | more)
        assert len(loader) == sum(1 for _ in loader) == sum(1 for _ in loader.plan())


def test_the_report_accounts_for_every_row(options: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    loader = BatchLoader(**options | {"min_fill": 0.5})
    batches = list(loader)
    report = loader.report()
    assert report["steps"] == len(batches)
    for source in report["sources"]:
        total = sum(row["source"] == source["name"] for row in rows)
        assert source["rows"] + source["unplaced_conflict"] + source["unplaced_last_batch"] == total
        assert source["waiting"] == 0
        assert source["passes"] == 1
    questions = next(source for source in report["sources"] if source["name"] == "questions")
    assert questions["unplaced_conflict"] > 0
    assert questions["waited"] > 0
    assert questions["negatives_swapped"] > 0
    assert {entry["reason"] for entry in report["unplaced"]} == {"conflict"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch.batch_size: expected at least 1"),
        ({"batch_size": -1}, "batch.batch_size: expected a number from 0 to 2147483647, found -1"),
        ({"rank": 2, "world_size": 2}, "batch.rank: expected a rank below world_size 2, found 2"),
        ({"num_epochs": None}, "found neither"),
        ({"train_group_size": 0}, "batch.train_group_size"),
        ({"negative_choice": "worst"}, "batch.negative_choice"),
        ({"weights": {"nowhere": 1.0}}, 'found "nowhere"'),
        ({"weights": "some"}, "batch.weights"),
        ({"weights": {"labels": -1.0}}, 'at least 0 for "labels"'),
        ({"query_max_len": 2}, "batch.query_max_len: expected at least 3"),
        ({"query_max_len": 5}, 'the instruction of source "questions"'),
        ({"query_instruction": {"nowhere": "x"}}, "batch.query_instruction"),
        ({"threads": 0}, "batch.threads"),
        ({"state": {"version": 1}}, "batch.state"),
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, Any], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        BatchLoader(**options | wrong)


def test_a_state_of_another_run_is_refused(options: dict[str, Any]) -> None:
    state = BatchLoader(**options).state_dict()
    with pytest.raises(ConfigError, match="batch_size was 24, is 25"):
        BatchLoader(**options | {"batch_size": 25}, state=state)
    with pytest.raises(ConfigError, match="it belongs to the shard set"):
        BatchLoader(**options, state=state | {"manifest": "other"})


def test_places_that_hold_nothing_are_named(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="manifest"):
        BatchLoader(**options | {"shards": tmp_path})
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        BatchLoader(**options | {"tokenizer": tmp_path})


def _own_threads() -> int:
    names = [(path / "comm").read_text(encoding="utf-8") for path in Path("/proc/self/task").iterdir()]
    return sum(name.startswith("bgeprep-") for name in names)


def _two_threads() -> bool:
    """Whether there are two: one that has just been started takes a moment to get its name."""
    deadline = time.monotonic() + 10
    while _own_threads() != 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return _own_threads() == 2


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="thread names are read from /proc")
def test_no_thread_is_left_behind(options: dict[str, Any]) -> None:
    assert _own_threads() == 0
    loader = BatchLoader(**options)
    assert _own_threads() == 0, "threads start with the first batch"
    next(loader)
    assert _two_threads()
    loader.close()
    assert _own_threads() == 0
    for batch in loader:
        assert batch.step == 1
        break
    assert _two_threads()
    del loader
    assert _own_threads() == 0
    assert len(list(BatchLoader(**options))) > 1
    assert _own_threads() == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_parent_and_child_go_on_alike(options: dict[str, Any]) -> None:
    loader = BatchLoader(**options)
    next(loader)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            rest = [batch.row_ids.tolist() for batch in loader]
            os.write(writer, json.dumps(rest[:4]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    limit = threading.Timer(60, os.kill, (child, signal.SIGKILL))
    limit.start()
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    limit.cancel()
    assert json.loads(answer) == [batch.row_ids.tolist() for batch in loader][:4]


_INTERRUPTED = """
import sys
from bgeprep import BatchLoader

loader = BatchLoader(sys.argv[1], sys.argv[2], batch_size=8, max_steps=10**12, num_epochs=None, threads=1)
print("ready", flush=True)
try:
    for batch in loader:
        pass
except KeyboardInterrupt:
    loader.close()
    print("stopped", flush=True)
"""


def test_ctrl_c_interrupts_the_loop(shard_folder: Path, tokenizer_folder: Path) -> None:
    command = [sys.executable, "-c", _INTERRUPTED, str(shard_folder), str(tokenizer_folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, output) == (0, "stopped\n")
