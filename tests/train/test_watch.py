"""Evaluation while training: the same scores by any number of ranks, training untouched, best kept, patience."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bgetrain.evaluate import evaluate
from bgetrain.gather import Ranks
from bgetrain.main import main
from bgetrain.retrieval import Stopped
from bgetrain.watch import Progress
from tests.train.eval_workers import run_rank, score, write_collection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("eval") / "toy")


def _flags(model: Path, output: Path, *more: object) -> list[str]:
    words = [
        *("--model_name_or_path", model, "--output_dir", output, "--use_cpu", "--report_to", "none"),
        *("--per_device_train_batch_size", 6, "--query_max_len", 16, "--passage_max_len", 32),
        *("--learning_rate", 1e-2, "--max_steps", 8, "--logging_steps", 1, "--temperature", 0.1, *more),
    ]
    return [str(word) for word in words]


def _records(output: Path, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def _checkpoints(output: Path) -> list[str]:
    return sorted(folder.name for folder in output.glob("checkpoint-*"))


def _script(monkeypatch: pytest.MonkeyPatch, values: list[float | Callable[[], float]]) -> list[float]:
    """Evaluations that find these values, one after the other; returns those found."""
    seen: list[float] = []

    def scripted(*_: object, **words: Any) -> dict[str, Any]:
        value = values[len(seen)]
        value = value() if callable(value) else value
        seen.append(value)
        if words["stop_wanted"]():
            raise Stopped
        return {"with": None, "without": dict.fromkeys(("ndcg@10", "mrr@10", "recall@100", "map@1000"), value)}

    monkeypatch.setattr("bgetrain.watch.evaluate", scripted)
    return seen


def test_any_number_of_ranks_finds_the_same_scores(collection: Path, tmp_path: Path) -> None:
    alone = json.loads(json.dumps(score(str(collection), Ranks())))
    # 8 pieces of documents, 4 of queries and 7 queries: none divides by three
    torch.multiprocessing.spawn(run_rank, (3, str(tmp_path), str(collection)), nprocs=3)
    for rank in range(3):
        found = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        # the first one writes the run files
        assert found == (alone if rank == 0 else alone | {"runs": None})
    assert len(alone["runs"]["with"]) == 7
    assert 0 < alone["with"]["ndcg@10"] < 1
    assert alone["with"] != alone["without"], "the instruction has to matter, or half of this proves nothing"
    assert score(str(collection), Ranks(), piece=5) != alone, "other pieces have to show, or it proves nothing"


def test_a_stop_leaves_the_search(collection: Path) -> None:
    from tests.train.tiny import tiny_encoder

    with pytest.raises(Stopped):
        evaluate(tiny_encoder(dtype=torch.float32), collection, split="dev", stop_wanted=lambda: True)


def test_training_is_the_same_and_scores_are_those_of_the_saved_model(
    tiny_bert: Path, collection: Path, tmp_path: Path, fake_data: Callable[..., object]
) -> None:
    """With dropout, so that one random number drawn by an evaluation would show."""
    from bgetrain.encode import Encoder

    fake_data()
    measured = ("--eval_data", collection, "--eval_steps", 3, "--eval_on_start")
    assert main(_flags(tiny_bert, tmp_path / "plain")) == 0
    assert main(_flags(tiny_bert, tmp_path / "measured", *measured)) == 0
    plain, watched = tmp_path / "plain", tmp_path / "measured"
    losses = [[record["loss"] for record in _records(run, "train")] for run in (plain, watched)]
    assert losses[0] == losses[1]
    assert (plain / "model.safetensors").read_bytes() == (watched / "model.safetensors").read_bytes()
    found = _records(watched, "eval")
    assert [record["step"] for record in found] == [0, 3, 6, 8]
    assert found[0]["best_step"] is None
    saved = evaluate(Encoder.load(watched), collection, split="dev")
    assert saved["instruction"] == "find: "
    assert found[-1]["collections"]["toy"] == saved["with"]
    assert found[-1]["collections"] != found[0]["collections"]
    control = evaluate(Encoder.load(tiny_bert), collection, split="dev", query_instruction="find: ")
    assert found[-1]["collections"]["toy"] != control["with"]


@pytest.mark.parametrize("load_best", [True, False])
def test_the_best_checkpoint_stays_and_is_exported(
    tiny_bert: Path,
    collection: Path,
    tmp_path: Path,
    fake_data: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    load_best: bool,
) -> None:
    fake_data()
    seen = _script(monkeypatch, [0.3, 0.5, 0.4, 0.2])
    run = tmp_path / "run"
    kept = ("--eval_data", collection, "--eval_steps", 2, "--save_steps", 2, "--save_total_limit", 1)
    assert main(_flags(tiny_bert, run, *kept, "--load_best_model_at_end", str(load_best).lower())) == 0
    assert seen == [0.3, 0.5, 0.4, 0.2]
    assert _checkpoints(run) == ["checkpoint-4", "checkpoint-8"]
    assert json.loads((run / "best.json").read_text()) == {
        "checkpoint": "checkpoint-4",
        "step": 4,
        "metric": "ndcg@10",
        "value": 0.5,
    }
    state = json.loads((run / "checkpoint-8" / "trainer_state.json").read_text())["evaluation"]
    assert (state["best_step"], state["best_value"], state["without_improvement"]) == (4, 0.5, 2)
    exported, other = ("checkpoint-4", "checkpoint-8") if load_best else ("checkpoint-8", "checkpoint-4")
    assert (run / "model.safetensors").read_bytes() == (run / exported / "model.safetensors").read_bytes()
    assert (run / "model.safetensors").read_bytes() != (run / other / "model.safetensors").read_bytes()


def test_patience_ends_the_run_and_survives_a_resume(
    tiny_bert: Path,
    collection: Path,
    tmp_path: Path,
    fake_data: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_data()
    run = tmp_path / "run"
    flags = ("--eval_data", collection, "--eval_steps", 1, "--save_steps", 1)
    patience = ("--early_stopping_patience", 2, "--early_stopping_threshold", 0.1)

    def interrupt() -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0.55

    # the third is higher than the best, but not by enough; it is asked to stop in the fourth
    _script(monkeypatch, [0.3, 0.5, 0.55, interrupt])
    assert main(_flags(tiny_bert, run, *flags, *patience)) == 130
    assert "the evaluation is left undone" in capsys.readouterr().err
    assert _records(run, "end")[-1]["state"] == "interrupted"
    assert [record["step"] for record in _records(run, "eval")] == [1, 2, 3]
    # what was left undone comes first, and the one evaluation that counted before still counts
    _script(monkeypatch, [0.55])
    assert main(["--resume_from_checkpoint", "last", "--output_dir", str(run)]) == 0
    error = capsys.readouterr().err
    assert "stopped early after step 4: 2 evaluations without an improvement; the best is step 3" in error
    assert [record["step"] for record in _records(run, "train")] == [1, 2, 3, 4]
    assert _records(run, "end")[-1]["state"] == "stopped early"
    assert (run / "modules.json").is_file()
    assert "stopped early" in (run / "report.html").read_text()


def test_without_patience_the_same_scores_end_nothing(
    tiny_bert: Path,
    collection: Path,
    tmp_path: Path,
    fake_data: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_data()
    seen = _script(monkeypatch, [0.5] + [0.4] * 7)
    assert main(_flags(tiny_bert, tmp_path / "run", "--eval_data", collection, "--eval_steps", 1)) == 0
    assert len(seen) == 8
    assert _records(tmp_path / "run", "end")[-1]["state"] == "done"


def test_interrupted_in_an_evaluation_equals_uninterrupted(
    tiny_bert: Path,
    collection: Path,
    tmp_path: Path,
    fake_data: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_data()
    flags = ("--eval_data", collection, "--eval_steps", 4)
    assert main(_flags(tiny_bert, tmp_path / "whole", *flags)) == 0

    def interrupt() -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0.0

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        _script(patch, [interrupt])
        assert main(_flags(tiny_bert, run, *flags)) == 130
    assert _checkpoints(run) == ["checkpoint-4"]
    assert main(["--resume_from_checkpoint", "last", "--output_dir", str(run)]) == 0
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    scores = [[record["collections"] for record in _records(one, "eval")] for one in (run, tmp_path / "whole")]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 2


def test_a_state_from_before_evaluation_still_resumes(
    tiny_bert: Path, collection: Path, tmp_path: Path, fake_data: Callable[..., object]
) -> None:
    fake_data()
    run = tmp_path / "run"
    assert main(_flags(tiny_bert, run, "--max_steps", 4)) == 0
    file = run / "checkpoint-4" / "trainer_state.json"
    state = json.loads(file.read_text())
    del state["evaluation"]
    file.write_text(json.dumps(state))
    more = ["--max_steps", "6", "--eval_data", str(collection)]
    assert main(["--resume_from_checkpoint", "last", "--output_dir", str(run), *more]) == 0
    assert [record["step"] for record in _records(run, "eval")] == [6]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--load_best_model_at_end"], "--load_best_model_at_end: nothing is measured"),
        (["--early_stopping_patience", "2"], "--early_stopping_patience: nothing is measured"),
        (["--eval_data", "absent"], "--eval_data absent: no such folder"),
        (["--eval_data", "COLLECTION", "--eval_split", "train"], "--eval_split names the judgements"),
        (
            ["--eval_data", "COLLECTION", "--metric_for_best_model", "loss"],
            "--metric_for_best_model loss: expected one",
        ),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_written(
    tiny_bert: Path,
    collection: Path,
    tmp_path: Path,
    fake_data: Callable[..., object],
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    told: str,
) -> None:
    fake_data()
    words = [str(collection) if word == "COLLECTION" else word for word in more]
    assert main(_flags(tiny_bert, tmp_path / "run", *words)) != 0
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_progress_counts_what_is_not_enough() -> None:
    progress = Progress(judged_by="m")
    for step, value in enumerate([0.5, 0.55, 0.62, 0.8, 0.7], start=1):
        progress = progress.after(step, value, 0.1)
    assert (progress.best_step, progress.best_value, progress.without_improvement) == (4, 0.8, 1)
    assert progress.after(6, 0.8, 0.1).best_step == 4
