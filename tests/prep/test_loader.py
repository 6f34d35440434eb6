"""`BatchLoader` beside a trainer: padded rectangles, what padding costs, processes, Ctrl-C, threads, damage."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import bgeprep
from bgeprep import Batch, BatchLoader, Chunk, ConfigError, ShardError

PAD = 3
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="thread names are read from /proc")


@pytest.fixture(scope="module")
def shards(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's pairs."""
    folder = tmp_path_factory.mktemp("loader") / "shards"
    exact = bgeprep.PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"))
    bgeprep.shard(repository / "examples" / "demo" / "data" / "pairs", folder, config=exact)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word is a token; its padding token is none of the first ids."""
    vocabulary = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "[PAD]": PAD, "the": 4, "of": 5, "is": 6, "what": 7}
    words = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 0), ("[SEP]", 1)])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    words.save(str(path))
    return path


@pytest.fixture
def options(shards: Path, tokenizer: Path) -> dict[str, Any]:
    """What most tests open."""
    return {"shards": shards, "tokenizer": tokenizer, "batch_size": 200, "threads": 2, "max_steps": 6}


def _check(chunks: list[Chunk] | None, ids: np.ndarray, offsets: np.ndarray, max_tokens: int, multiple: int) -> int:
    """Rectangles against the flat texts; the tokens they take."""
    assert chunks is not None
    seen: list[int] = []
    for chunk in chunks:
        b, length = chunk.input_ids.shape
        assert (chunk.rows.dtype, chunk.input_ids.dtype, chunk.lengths.dtype) == (np.int64, np.int32, np.int32)
        assert chunk.rows.shape == chunk.lengths.shape == (b,)
        assert chunk.input_ids.flags.c_contiguous
        assert chunk.input_ids.flags.writeable
        assert b * length <= max_tokens or b == 1
        assert length % multiple == 0
        assert chunk.lengths[0] <= length < chunk.lengths[0] + multiple
        for place, row in enumerate(chunk.rows.tolist()):
            text = ids[offsets[row] : offsets[row + 1]]
            assert len(text) == chunk.lengths[place]
            assert np.array_equal(chunk.input_ids[place, : len(text)], text)
            assert (chunk.input_ids[place, len(text) :] == PAD).all()
        seen += chunk.rows.tolist()
    assert sorted(seen) == list(range(len(offsets) - 1))
    lengths = [length for chunk in chunks for length in chunk.lengths.tolist()]
    assert lengths == sorted(lengths, reverse=True)
    return sum(chunk.input_ids.size for chunk in chunks)


@pytest.mark.parametrize(("max_tokens", "multiple"), [(16_384, 1), (1_000, 8), (1, 1)])
def test_rectangles_hold_every_text_once(options: dict[str, Any], max_tokens: int, multiple: int) -> None:
    padded = {"layout": "padded", "max_tokens": max_tokens, "pad_multiple_of": multiple}
    loader = BatchLoader(**options, **padded)
    tokens, computed, unsorted = 0, 0, 0
    for batch, packed in zip(loader, BatchLoader(**options), strict=True):
        assert packed.query_chunks is None
        assert packed.doc_chunks is None
        assert np.array_equal(batch.doc_ids, packed.doc_ids)
        for chunks, ids, offsets in [
            (batch.query_chunks, batch.query_ids, batch.query_offsets),
            (batch.doc_chunks, batch.doc_ids, batch.doc_offsets),
        ]:
            computed += _check(chunks, ids, offsets, max_tokens, multiple)
            tokens += len(ids)
            unsorted += int(np.diff(offsets).max()) * (len(offsets) - 1)
    report = loader.report()
    assert (report["tokens"], report["padded_tokens"]) == (tokens, computed)
    assert report["unsorted_padded_tokens"] == unsorted


def test_sorting_by_length_saves_padding(options: dict[str, Any]) -> None:
    loader = BatchLoader(**options, layout="padded", max_tokens=4_096)
    assert sum(1 for _ in loader) == 6
    report = loader.report()
    assert report["tokens"] / report["padded_tokens"] > 0.92
    assert report["unsorted_padded_tokens"] > 1.5 * report["padded_tokens"]
    packed = BatchLoader(**options)
    assert sum(1 for _ in packed) == 6
    assert packed.report()["padded_tokens"] == packed.report()["tokens"] == report["tokens"]


def test_a_rank_without_rows_has_no_rectangles(options: dict[str, Any]) -> None:
    last = BatchLoader(**options | {"batch_size": 3}, rank=4, world_size=5, layout="padded")
    for batch in last:
        assert (batch.query_chunks, batch.doc_chunks) == ([], [])
        assert batch.global_rows == 3
    assert last.report()["padded_tokens"] == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layout": "square"}, r'batch\.layout: expected "packed" or "padded", found "square"'),
        ({"max_tokens": 0}, r"batch\.max_tokens: expected at least 1, found 0"),
        ({"pad_multiple_of": 0}, r"batch\.pad_multiple_of: expected at least 1, found 0"),
        ({"max_tokens": -1}, r"batch\.max_tokens: expected a number from 0"),
    ],
)
def test_layouts_that_cannot_work_are_named(options: dict[str, Any], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BatchLoader(**options | {"layout": "padded"} | wrong)


def _own_threads() -> int:
    names = [(path / "comm").read_text(encoding="utf-8") for path in Path("/proc/self/task").iterdir()]
    return sum(name.startswith("bgeprep-") for name in names)


@needs_proc
def test_an_early_end_leaves_no_thread_behind(options: dict[str, Any]) -> None:
    for batch in BatchLoader(**options, layout="padded"):
        assert batch.step == 0
        break
    assert _own_threads() == 0

    def fail() -> None:
        for _ in BatchLoader(**options, prefetch=8):
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert _own_threads() == 0
    with BatchLoader(**options) as loader:
        next(loader)
    assert _own_threads() == 0


def _rows(batch: Batch) -> list[int]:
    return [int(row) for row in batch.row_ids]


def _iterate(loader: BatchLoader, answers: Any) -> None:
    answers.put([_rows(batch) for batch in loader])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_another_process_goes_on_with_the_loader(options: dict[str, Any], method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    context = multiprocessing.get_context(method)
    loader = BatchLoader(**options, layout="padded")
    next(loader)
    answers = context.SimpleQueue()
    child = context.Process(target=_iterate, args=(loader, answers))
    child.start()
    rest = [_rows(batch) for batch in loader]
    child.join(timeout=120)
    alive = child.is_alive()
    child.kill()
    assert (alive, child.exitcode) == (False, 0)
    assert answers.get() == rest
    assert len(rest) == 5


def test_a_loader_keeps_options_and_place_when_pickled(options: dict[str, Any]) -> None:
    loader = BatchLoader(**options, layout="padded", pad_multiple_of=8)
    next(loader)
    copy = pickle.loads(pickle.dumps(loader))
    assert copy.state_dict() == loader.state_dict()
    one, other = next(copy), next(loader)
    assert one.doc_chunks is not None
    assert other.doc_chunks is not None
    assert one.doc_chunks[0].input_ids.tolist() == other.doc_chunks[0].input_ids.tolist()


def _run(code: str, options: dict[str, Any]) -> subprocess.Popen[str]:
    prelude = "import json, pathlib, sys\nfrom bgeprep import BatchLoader\noptions = json.loads(sys.argv[1])\n"
    command = [sys.executable, "-W", "ignore", "-c", prelude + code, json.dumps(options, default=str)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


_WAITING = """
try:
    with BatchLoader(**options) as loader:
        print("ready", flush=True)
        for _ in loader:
            pass
except KeyboardInterrupt:
    pass
names = [(path / "comm").read_text() for path in pathlib.Path("/proc/self/task").iterdir()]
print(sum(name.startswith("bgeprep-") for name in names), flush=True)
"""


@needs_proc
def test_ctrl_c_while_waiting_for_a_batch_leaves_no_thread(options: dict[str, Any]) -> None:
    # Batches so large that the signal meets a wait for one.
    process = _run(_WAITING, options | {"batch_size": 100_000, "max_steps": 10**6, "threads": 1})
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, output) == (0, "0\n")


def test_a_program_may_end_with_a_loader_at_work(options: dict[str, Any]) -> None:
    process = _run("loader = BatchLoader(**options)\nprint(next(loader).step)", options | {"prefetch": 8})
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, output) == (0, "0\n")


def test_a_flipped_byte_is_told_with_part_batch_row_and_checksums(options: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(options["shards"], tmp_path / "shards")
    part = max((tmp_path / "shards").rglob("*.arrow"), key=lambda path: path.stat().st_size)
    damaged = bytearray(part.read_bytes())
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text(encoding="utf-8"))
    files = [file for source in manifest["sources"] for file in source["files"]]
    block = next(file for file in files if part.as_posix().endswith(file["path"]))["blocks"][0]
    damaged[block["offset"] + block["length"] // 2] ^= 1
    part.write_bytes(damaged)
    loader = BatchLoader(**options | {"shards": tmp_path / "shards", "max_steps": None}, layout="padded")
    with pytest.raises(ShardError) as raised:
        list(loader)
    told = re.search(
        r"row (\d+): batch 0 \(rows (\d+) to (\d+) of the set\): damaged: xxh3-64 ([0-9a-f]{16}), "
        r"the manifest says ([0-9a-f]{16})",
        str(raised.value),
    )
    assert told is not None, str(raised.value)
    assert str(part) in str(raised.value)
    row, first, last = (int(text) for text in told.groups()[:3])
    assert first <= row <= last
    assert last - first + 1 == block["rows"]
    assert told.group(5) == f"{int(block['xxh3_64'], 16):016x}" != told.group(4)
    with pytest.raises(ShardError, match="damaged"):
        list(loader)
