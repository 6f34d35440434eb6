"""A cross-encoder as a second opinion: what it lets pass, the scores it leaves, the same bytes after a kill.

The cross-encoder is random, so its opinion has nothing to do with the search: it must show in what is chosen.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from bgetrain import mining
from bgetrain.__main__ import main
from bgetrain.scorers import Reranker
from tests.train.mine_material import BLOCK, make_shards, mine, run_mining_rank
from tests.train.tiny import write_tiny_bert, write_tiny_reranker

COUNT = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_reranker(tmp_path_factory.mktemp("reranker") / "tiny")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_the_cross_encoder_finds_as_good_as_a_positive_goes(
    model: Path,
    shards: Path,
    reranker: Path,
    tmp_path: Path,
) -> None:
    words = ("--data", shards, "--near", "off")
    deep = tmp_path / "deep.jsonl"
    # without it: all that it is asked about, best first
    assert mine(model, *words, "--out", deep, "--negative_number", 2 * COUNT) == 0
    out = tmp_path / "out.jsonl"
    asked = ("--negative_number", COUNT, "--reranker", reranker, "--write_scores")
    assert mine(model, *words, "--out", out, *asked) == 0
    judge = Reranker(reranker)
    assert judge.score([]).shape == (0,)
    candidates, rows = rows_of(deep), rows_of(out)
    answers: dict[str, set[str]] = {}
    for row in candidates:
        answers.setdefault(row["query"], set()).update(row["pos"])
    refused = 0
    for row, before in zip(rows, candidates, strict=True):
        own = sorted(answers[row["query"]])
        ceiling = 0.95 * min(judge.score([(row["query"], text) for text in own]).tolist())
        scores = judge.score([(row["query"], text) for text in before["neg"]]).tolist()
        passed = [text for text, score in zip(before["neg"], scores, strict=True) if score <= ceiling]
        assert row["neg"] == passed[:COUNT]
        refused += len(scores) - len(passed)
        # the teacher's scores, not the model's
        said = judge.score([(row["query"], text) for text in (*row["pos"], *row["neg"])])
        assert np.allclose([*row.get("pos_scores", []), *row.get("neg_scores", [])], said, atol=1e-5)
    report = json.loads((tmp_path / "out.jsonl.mine.json").read_text())["report"]
    assert report["went"]["reranker"] > 0
    assert refused > 0
    assert any(row["neg"] != before["neg"][:COUNT] for row, before in zip(rows, candidates, strict=True))


def test_a_reranker_that_is_none_is_told_before_anything_is_written(
    model: Path,
    shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.jsonl"
    for given, told in ((model, "is no cross-encoder"), (tmp_path, str(tmp_path))):
        assert mine(model, "--data", shards, "--out", out, "--reranker", given) == 1
        assert told in capsys.readouterr().err
        assert not out.exists()


def test_another_cross_encoder_of_the_same_name_is_another_run(
    model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = write_tiny_reranker(tmp_path / "judge")
    words = ("--data", shards, "--out", tmp_path / "out.jsonl", "--reranker", judge, "--negative_number", COUNT)
    assert mine(model, *words) == 0
    assert mine(model, *words) == 0, "up to date"
    weights = load_file(judge / "model.safetensors")
    save_file({name: -weight for name, weight in weights.items()}, judge / "model.safetensors", {"format": "pt"})
    capsys.readouterr()
    assert mine(model, *words) == 1
    assert "is there already, made otherwise" in capsys.readouterr().err


def mine_by(ranks: int, words: list[str], killed: dict[int, int]) -> list[int | None]:
    """Exit codes of so many processes; those in `killed` die in a block of that number."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=run_mining_rank, args=(rank, ranks, port, words, killed.get(rank)))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    return [process.exitcode for process in processes]


def test_two_ranks_of_which_one_is_killed_and_then_one_alone_give_the_bytes_of_one(
    monkeypatch: pytest.MonkeyPatch,
    model: Path,
    shards: Path,
    reranker: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(mining, "QUERY_BLOCK", BLOCK)
    flags = ["--model", model, "--data", shards, "--reranker", reranker, "--write_scores", "--range", "2-40"]
    flags += ["--sampling", "random", "--negative_number", COUNT, "--use_cpu", "--quiet"]
    words = [*map(str, flags), "--out"]
    whole, shared, again = (tmp_path / name for name in ("whole.jsonl", "shared.jsonl", "again.jsonl"))
    assert main(["mine", *words, str(whole)]) == 0
    assert mine_by(2, [*words, str(shared)], {}) == [0, 0]
    assert shared.read_bytes() == whole.read_bytes()

    codes = mine_by(2, [*words, str(again)], {1: 2})
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, None)
    assert not again.exists()
    assert list((tmp_path / "again.jsonl.work" / "chosen").glob("part-*.places.npy"))
    assert main(["mine", *words, str(again)]) == 0
    assert again.read_bytes() == whole.read_bytes()
