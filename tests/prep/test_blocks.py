"""Blocks of a text set, and `TextLoader`: nothing lost, nothing too long, the same for any ranks, resumed exactly."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import bgeprep
from bgeprep import ConfigError, TextBatch, TextLoader, TextMasker

LENGTH = 48


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory, documents: list[dict[str, str]]) -> Path:
    """Real documents, and one as long as thirty with a title."""
    folder = tmp_path_factory.mktemp("blocks")
    together = {"title": "A handbook", "text": " ".join(one["text"] for one in documents[:30])}
    lines = [json.dumps(one, ensure_ascii=False) for one in [*documents, together]]
    (folder / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"))
    bgeprep.shard(folder / "texts.jsonl", folder / "shards", config=config)
    return folder / "shards"


@pytest.fixture(params=["word_piece", "sentence_piece"])
def tokenizer(request: pytest.FixtureRequest) -> Path:
    """Both tokenizers, one after the other."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture
def options(shards: Path, word_piece: Path) -> dict[str, Any]:
    """What most tests open."""
    return {"shards": shards, "tokenizer": word_piece, "batch_size": 20, "max_seq_length": LENGTH, "threads": 2}


def _documents(shards: Path) -> list[bytes]:
    rows = list(bgeprep.open(shards))
    return [(f"{row['title']}\n{row['text']}" if row["title"] else row["text"]).encode() for row in rows]


def _equal(one: TextBatch, other: TextBatch) -> bool:
    names = [name for name in TextBatch.__dataclass_fields__ if isinstance(getattr(one, name), np.ndarray)]
    assert len(names) == 12
    same = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
    return same and (one.step, one.epoch, one.global_blocks) == (other.step, other.epoch, other.global_blocks)


@pytest.mark.parametrize("length", [LENGTH, 200])
def test_blocks_tile_the_documents_and_fit(shards: Path, tokenizer: Path, length: int) -> None:
    loader = TextLoader(shards, tokenizer, batch_size=64, max_seq_length=length)
    theirs = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    documents = _documents(shards)
    blocks = [loader.block(number) for number in range(loader.blocks["blocks"])]
    assert [block.row for block in blocks] == sorted(block.row for block in blocks)
    tiled = [b""] * len(documents)
    for block in blocks:
        assert block.start == len(tiled[block.row])
        piece = documents[block.row][block.start : block.end]
        tiled[block.row] += piece
        tokens = theirs.encode(piece.decode(), add_special_tokens=False)
        assert len(tokens.ids) == block.tokens <= length - 2
    assert tiled == documents
    assert loader.blocks["documents"] == len(documents)
    assert loader.blocks["tokens"] == sum(block.tokens for block in blocks)


def test_blocks_end_with_sentences_and_are_full(shards: Path, word_piece: Path) -> None:
    """A next sentence would not have fitted; only sentences longer than a block are cut elsewhere."""
    loader = TextLoader(shards, word_piece, batch_size=64, max_seq_length=128)
    documents = _documents(shards)
    blocks = [loader.block(number) for number in range(loader.blocks["blocks"])]
    inner = [one for one, other in itertools.pairwise(blocks) if one.row == other.row]
    ends = [documents[block.row][block.start : block.end].decode().rstrip()[-1] for block in inner]
    assert len(inner) > 30
    whole = sum(mark in ".!?。！？;)" for mark in ends)
    assert whole >= len(inner) - loader.blocks["split_sentences"] > len(inner) // 2
    assert np.mean([block.tokens for block in inner]) > 80


def test_tokens_and_masks_are_those_of_the_texts(shards: Path, tokenizer: Path) -> None:
    documents = _documents(shards)
    settings: dict[str, Any] = {"max_seq_length": LENGTH, "seed": 9, "base_masks": 7, "sep_visible": False}
    masker = TextMasker(tokenizer, **settings)
    with TextLoader(shards, tokenizer, batch_size=50, threads=3, num_epochs=2, **settings) as loader:
        for batch in [batch for batch in loader if batch.step in (0, 3, len(loader) - 1)]:
            where = [loader.block(int(number)) for number in batch.block_ids]
            texts = [documents[one.row][one.start : one.end].decode() for one in where]
            expected = masker.mask(texts, block_ids=batch.block_ids.tolist(), epoch=batch.epoch)
            assert batch.row_ids.tolist() == [one.row for one in where]
            lengths = np.diff(batch.offsets)
            assert lengths.tolist() == [one.tokens + 2 for one in where] == sorted(lengths, reverse=True)
            for name in ("input_ids", "corrupted_ids", "mask_positions", "labels", "base_bits", "choices", "flags"):
                assert np.array_equal(getattr(batch, name), getattr(expected, name)), name


@pytest.mark.parametrize("batch_size", [1, 20, 10_000])
def test_every_block_once_an_epoch_in_another_order(options: dict[str, Any], batch_size: int) -> None:
    loader = TextLoader(**options | {"batch_size": batch_size, "num_epochs": 2})
    count = loader.blocks["blocks"]
    plan = list(loader.plan())
    assert len(plan) == len(loader) == 2 * -(-count // batch_size)
    assert [batch["step"] for batch in plan] == list(range(len(plan)))
    orders = [[block for batch in plan if batch["epoch"] == epoch for block in batch["blocks"]] for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(count))
    assert orders[0] != orders[1]
    assert all(len(batch["blocks"]) <= batch_size for batch in plan)


@pytest.mark.parametrize("world_size", [2, 3, 25])
def test_ranks_share_what_one_rank_has(options: dict[str, Any], world_size: int) -> None:
    whole = list(TextLoader(**options, max_steps=4))
    ranks = [
        list(TextLoader(**options | {"threads": 1 + rank % 3}, max_steps=4, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for step, batch in enumerate(whole):
        parts = [rank[step] for rank in ranks]
        assert sorted(np.concatenate([part.block_ids for part in parts])) == sorted(batch.block_ids)
        sizes = [len(part.block_ids) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        tokens = [len(part.input_ids) for part in parts if len(part.block_ids) == max(sizes)]
        assert max(tokens) - min(tokens) <= LENGTH
        place = {int(number): at for at, number in enumerate(batch.block_ids)}
        for part in parts:
            assert part.global_blocks == batch.global_blocks == 20
            for own, number in enumerate(part.block_ids):
                other = place[int(number)]
                assert np.array_equal(part.visible(own), batch.visible(other))
                mine, theirs = part.offsets[own : own + 2], batch.offsets[other : other + 2]
                assert np.array_equal(part.corrupted_ids[slice(*mine)], batch.corrupted_ids[slice(*theirs)])


def test_resumed_at_any_step(options: dict[str, Any]) -> None:
    settings = options | {"batch_size": 90, "num_epochs": 2}
    whole = list(TextLoader(**settings))
    assert whole[-1].epoch == 1
    for step in range(0, len(whole), 3):
        state = json.loads(json.dumps(whole[step].state))
        assert state["step"] == step + 1
        with TextLoader(**settings | {"threads": 1, "prefetch": 1}, state=state) as loader:
            rest = list(loader)
        assert len(rest) == len(whole) - step - 1
        assert all(_equal(one, other) for one, other in zip(rest, whole[step + 1 :], strict=True))
    loader = TextLoader(**settings)
    next(loader)
    before = loader.state_dict()
    assert before == {**whole[0].state}
    next(loader)
    loader.load_state_dict(before)
    assert _equal(next(loader), whole[1])
    # Another world size goes on with the same global batches.
    halves = [next(TextLoader(**settings, rank=rank, world_size=2, state=before)) for rank in (0, 1)]
    assert sorted(np.concatenate([half.block_ids for half in halves])) == sorted(whole[1].block_ids)


def test_a_state_of_another_run_is_refused(options: dict[str, Any], sentence_piece: Path) -> None:
    state = TextLoader(**options).state_dict()
    for wrong, message in [
        ({"batch_size": 21}, "they were .*20.*, are .*21"),
        ({"seed": 1}, "other options"),
        ({"max_seq_length": LENGTH + 1}, "another tokenizer or max_seq_length"),
        ({"tokenizer": sentence_piece}, "another tokenizer or max_seq_length"),
    ]:
        with pytest.raises(ConfigError, match=f"text.state: .*{message}"):
            TextLoader(**options | wrong, state=state)
    with pytest.raises(ConfigError, match="it belongs to the shard set"):
        TextLoader(**options, state=state | {"manifest": "other"})
    with pytest.raises(ConfigError, match="expected a state written by TextLoader"):
        TextLoader(**options, state={"step": 3})
    # Other masks are another training, but the same batches.
    TextLoader(**options, encoder_mlm_probability=0.15, state=state)


def test_the_index_is_made_once_and_anew_when_damaged(shards: Path, word_piece: Path, tmp_path: Path) -> None:
    def opened() -> dict[str, Any]:
        return TextLoader(shards, word_piece, batch_size=4, max_seq_length=LENGTH, blocks=tmp_path / "b").blocks

    first = opened()
    path, hidden = Path(first["path"]), shards / ".blocks"
    assert path.parent == tmp_path / "b"
    assert Path(TextLoader(shards, word_piece, batch_size=4).blocks["path"]).parent == hidden
    assert bgeprep.verify(shards)["ok"], "the index is no part of the set"
    content, made = path.read_bytes(), path.stat().st_mtime_ns
    assert opened() == first
    assert path.stat().st_mtime_ns == made
    for damage in (content[:-9], content[: len(content) // 2] + b"\xff" + content[len(content) // 2 + 1 :], b"", b"x"):
        path.write_bytes(damage)
        assert opened() == first
        assert path.read_bytes() == content
    # Same bytes for any number of threads; what is left of another set is removed.
    path.unlink()
    stranger = path.with_name("0123456789abcdef-0123456789abcdef.blocks")
    stranger.write_bytes(content)
    TextLoader(shards, word_piece, batch_size=4, max_seq_length=LENGTH, blocks=tmp_path / "b", threads=5)
    assert path.read_bytes() == content
    assert not stranger.exists()


def test_many_processes_make_one_index(shards: Path, word_piece: Path, tmp_path: Path) -> None:
    call = "TextLoader(*sys.argv[1:3], batch_size=4, blocks=sys.argv[3])"
    code = f"import sys; from bgeprep import TextLoader; print({call}.blocks)"
    command = [sys.executable, "-W", "ignore", "-c", code, str(shards), str(word_piece), str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=120)[0] for process in running}
    assert len(answers) == 1
    assert "'blocks':" in answers.pop()
    assert len(list(tmp_path.glob("*.blocks"))) == 1
    assert not list(tmp_path.glob("*.tmp"))


def test_progress_is_told(shards: Path, word_piece: Path, tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []
    TextLoader(shards, word_piece, batch_size=4, blocks=tmp_path, report=lambda *counters: told.append(counters))
    assert all(stage in ("", "blocks") for stage, *_ in told)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "text.batch_size: expected from 1"),
        ({"num_epochs": None}, "text.num_epochs: expected num_epochs or max_steps"),
        ({"rank": 2, "world_size": 2}, "text.rank: expected a rank below world_size 2"),
        ({"prefetch": 0}, "text.prefetch: expected at least 1"),
        ({"threads": -1}, "text.threads: expected"),
        ({"max_seq_length": 2}, "text.max_seq_length: expected from 3"),
        ({"base_masks": 0}, "text.base_masks: expected at least 1"),
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, Any], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextLoader(**options | wrong)
    with pytest.raises(IndexError):
        TextLoader(**options).block(10**6)


def _own_threads() -> int:
    names = [(path / "comm").read_text(encoding="utf-8") for path in Path("/proc/self/task").iterdir()]
    return sum(name.startswith("bgeprep-") for name in names)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="thread names are read from /proc")
def test_no_thread_is_left_behind(options: dict[str, Any]) -> None:
    loader = TextLoader(**options)
    assert _own_threads() == 0, "threads start with the first batch"
    next(loader)
    deadline = time.monotonic() + 10
    while _own_threads() != 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _own_threads() == 2
    loader.close()
    assert _own_threads() == 0
    assert next(loader).step == 1
    list(loader)
    assert _own_threads() == 0, "the run is over"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_parent_and_child_go_on_alike(options: dict[str, Any]) -> None:
    loader = TextLoader(**options)
    next(loader)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            rest = [batch.block_ids.tolist() for batch in loader]
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
    assert json.loads(answer) == [batch.block_ids.tolist() for batch in loader][:4]


_INTERRUPTED = """
import sys
from bgeprep import TextLoader

loader = TextLoader(sys.argv[1], sys.argv[2], batch_size=8, max_steps=10**12, num_epochs=None, threads=1)
print("ready", flush=True)
try:
    for batch in loader:
        pass
except KeyboardInterrupt:
    loader.close()
    print("stopped", flush=True)
"""


def test_ctrl_c_interrupts_the_loop(shards: Path, word_piece: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", _INTERRUPTED, str(shards), str(word_piece)]
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
