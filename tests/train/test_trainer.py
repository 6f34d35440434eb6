"""Whole runs on a tiny BERT in one process: output, resume, signals, determinism, detectors."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bgetrain.main import main
from tests.train.fake_loader import FakeLoader, random_rows
from tests.train.tiny import VOCABULARY, write_tiny_bert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEPS = 20


def _flags(model: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--model_name_or_path", str(model), "--output_dir", str(output), "--use_cpu", "--report_to", "none"),
        *("--per_device_train_batch_size", "6", "--query_max_len", "16", "--passage_max_len", "32"),
        *("--learning_rate", "1e-2", "--max_steps", str(STEPS), "--logging_steps", "1", "--temperature", "0.1"),
        *more,
    ]


def _records(output: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == "train"]


def _what_was_learned(output: Path) -> list[tuple[Any, ...]]:
    names = ("step", "epoch", "loss", "learning_rate", "grad_norm", "effective_negatives", "masked", "repeated", "rows")
    return [tuple(record[name] for name in names) for record in _records(output)]


@pytest.fixture(scope="module")
def whole_run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps of 40 rows in batches of 6: almost three passes."""
    from tests.train.conftest import install_fake_data

    output = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        install_fake_data(patch)()
        assert main(_flags(tiny_bert, output, "--save_steps", "8")) == 0
    return output


def test_output_of_a_run(whole_run: Path) -> None:
    records = _records(whole_run)
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    losses = [record["loss"] for record in records]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    first = records[0]
    assert first["rows"] == 6
    assert 6 <= first["effective_negatives"] <= 17
    assert 0.0 <= first["padding_share"] < 0.6
    assert first["pairs_per_second"] > 0
    assert max(record["learning_rate"] for record in records) == pytest.approx(1e-2)
    assert min(record["learning_rate"] for record in records) > 0
    assert sum(record["masked"] for record in records) > 0
    assert sorted(entry.name for entry in whole_run.glob("checkpoint-*")) == ["checkpoint-16", "checkpoint-20"]
    assert not list(whole_run.rglob("*.bin")) + list(whole_run.rglob("*.pt")) + list(whole_run.rglob("*.pth"))
    assert not (whole_run / ".saving").exists()
    assert json.loads((whole_run / "config_sentence_transformers.json").read_text())["prompts"]["query"] == "find: "


def test_resolved_config_lies_beside_the_output(whole_run: Path) -> None:
    from bgetrain.settings import build, read_toml

    config = build(read_toml(whole_run / "config.toml"))
    assert config.optim.learning_rate == 1e-2
    assert config.run.bf16 is False
    assert config.model.sentence_pooling_method == "cls"
    assert config.model.normalize_embeddings is True


def test_same_run_twice_is_the_same(
    whole_run: Path, tiny_bert: Path, tmp_path: Path, fake_data: Callable[..., list[FakeLoader]]
) -> None:
    loaders = fake_data()
    assert main(_flags(tiny_bert, tmp_path / "run", "--save_steps", "8")) == 0
    assert _what_was_learned(tmp_path / "run") == _what_was_learned(whole_run)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (whole_run / "model.safetensors").read_bytes()
    assert all(loader.closed for loader in loaders)


def test_another_seed_is_another_run(
    whole_run: Path, tiny_bert: Path, tmp_path: Path, fake_data: Callable[..., list[FakeLoader]]
) -> None:
    fake_data()
    assert main(_flags(tiny_bert, tmp_path / "run", "--seed", "7", "--max_steps", "2")) == 0
    assert _what_was_learned(tmp_path / "run") != _what_was_learned(whole_run)[:2]


class _StoppingLoader(FakeLoader):
    """Sends SIGTERM to its own process while the batch of step 10 is made: in the middle of a pass."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if batch.step == 9:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def test_stopped_and_resumed_equals_uninterrupted(
    whole_run: Path,
    tiny_bert: Path,
    tmp_path: Path,
    fake_data: Callable[..., list[FakeLoader]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    fake_data(loader=_StoppingLoader)
    assert main(_flags(tiny_bert, output, "--save_steps", "8")) == 130
    assert "checkpoint-10 is saved" in capsys.readouterr().err
    assert not (output / "model.safetensors").exists()
    # a record beyond the checkpoint, as a killed run leaves it, must not stay
    with (output / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 11, "loss": 0.0}) + "\n" + '{"step": 12, "lo')
    fake_data()
    # everything else comes from the checkpoint
    assert main(["--resume_from_checkpoint", "--output_dir", str(output)]) == 0
    assert _what_was_learned(output) == _what_was_learned(whole_run)
    for name in ("model.safetensors", "checkpoint-20/optimizer.safetensors", "checkpoint-20/rng.safetensors"):
        ours, theirs = load_file(output / name), load_file(whole_run / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name


def test_resume_without_the_random_state_differs(
    whole_run: Path, tmp_path: Path, fake_data: Callable[..., list[FakeLoader]]
) -> None:
    """The control of the test above: dropout is on, so the random state matters."""
    import shutil

    from safetensors.torch import save_file

    fake_data()
    shutil.copytree(whole_run / "checkpoint-16", tmp_path / "run" / "checkpoint-16")
    file = tmp_path / "run" / "checkpoint-16" / "rng.safetensors"
    torch.manual_seed(1)
    save_file({"cpu.0": torch.get_rng_state()}, file)
    assert main(["--resume_from_checkpoint", str(tmp_path / "run" / "checkpoint-16")]) == 0
    assert [row[2] for row in _what_was_learned(tmp_path / "run")] != [
        row[2] for row in _what_was_learned(whole_run)[16:]
    ]


def test_accumulation_is_the_mean_over_rows(
    tmp_path: Path, fake_data: Callable[..., list[FakeLoader]], capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_bert(tmp_path / "model", dropout=0.0)
    fake_data()
    flags = _flags(model, tmp_path / "run", "--gradient_accumulation_steps", "3", "--max_steps", "3")
    assert main(flags) == 0
    assert "3 steps of 6 x 3 queries" in capsys.readouterr().err
    # 40 rows: batches of 6, the last of a pass of 4
    assert [record["rows"] for record in _records(tmp_path / "run")] == [18, 18, 4 + 6 + 6]
    assert _records(tmp_path / "run")[0]["effective_negatives"] <= 17


def test_gradient_checkpointing_changes_nothing(
    whole_run: Path, tiny_bert: Path, tmp_path: Path, fake_data: Callable[..., list[FakeLoader]]
) -> None:
    fake_data()
    assert main(_flags(tiny_bert, tmp_path / "run", "--gradient_checkpointing", "--save_steps", "8")) == 0
    ours, theirs = _what_was_learned(tmp_path / "run"), _what_was_learned(whole_run)
    assert [row[2] for row in ours] == pytest.approx([row[2] for row in theirs], rel=1e-4)


def test_fp16_learns_too_and_its_scale_goes_on(
    whole_run: Path, tiny_bert: Path, tmp_path: Path, fake_data: Callable[..., list[FakeLoader]]
) -> None:
    words = ["--fp16", "--max_steps", "4", "--save_steps", "2", "--save_total_limit", "5"]
    fake_data()
    assert main(_flags(tiny_bert, tmp_path / "run", *words)) == 0
    ours, theirs = (_what_was_learned(run)[0][2] for run in (tmp_path / "run", whole_run))
    assert ours != theirs
    assert ours == pytest.approx(theirs, rel=0.1)
    # resumed is uninterrupted, the scale included
    fake_data()
    half = tmp_path / "run" / "checkpoint-2"
    assert main(_flags(tiny_bert, tmp_path / "on", *words, "--resume_from_checkpoint", str(half))) == 0
    for name in ("model.safetensors", "checkpoint-4/loss_scale.safetensors"):
        one, other = (load_file(tmp_path / run / name) for run in ("run", "on"))
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())
    assert load_file(half / "loss_scale.safetensors")["loss_scale"].tolist() == [32_768.0, 1.0, 1.0]


def test_bf16_on_the_cpu_learns_too(
    whole_run: Path, tiny_bert: Path, tmp_path: Path, fake_data: Callable[..., list[FakeLoader]]
) -> None:
    fake_data()
    assert main(_flags(tiny_bert, tmp_path / "run", "--bf16", "--max_steps", "3")) == 0
    ours, theirs = (_what_was_learned(run)[0][2] for run in (tmp_path / "run", whole_run))
    assert ours != theirs
    assert ours == pytest.approx(theirs, rel=0.1)
    assert all(tensor.dtype == torch.float32 for tensor in load_file(tmp_path / "run" / "model.safetensors").values())


def test_loss_that_is_not_a_number_stops_and_saves_nothing(
    tiny_bert: Path, tmp_path: Path, fake_data: Callable[..., list[FakeLoader]], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_data()
    flags = _flags(tiny_bert, tmp_path / "run", "--learning_rate", "1e20", "--max_grad_norm", "0", "--save_steps", "1")
    assert main([*flags, "--logging_steps", "50", "--warmup_ratio", "0"]) == 1
    error = capsys.readouterr().err
    assert "not a number" in error
    assert "Traceback" not in error
    for file in (tmp_path / "run").glob("checkpoint-*/model.safetensors"):
        # the one saved after the step that broke the weights holds them; none was saved after a loss was seen
        assert file.parent.name == "checkpoint-1"


def test_nothing_to_learn_stops(
    tiny_bert: Path, tmp_path: Path, fake_data: Callable[..., list[FakeLoader]], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_data(random_rows(8, vocabulary=VOCABULARY, seed=1, negatives=0))
    assert main(_flags(tiny_bert, tmp_path / "run", "--per_device_train_batch_size", "1")) == 1
    assert "no query has a negative" in capsys.readouterr().err


def test_export_of_the_run_opens_in_sentence_transformers(whole_run: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from bgetrain.encode import Encoder

    texts = ["w1 w2 w3", "w4", "w9 w8 w7 w6 w5 w4 w3 w2 w1"]
    ours = Encoder.load(whole_run).encode(texts)
    theirs = SentenceTransformer(str(whole_run), device="cpu").encode(texts)
    assert (ours * theirs).sum(axis=1).min() >= 1 - 1e-6
    checkpoint = Encoder.load(whole_run / "checkpoint-20").encode(texts)
    assert np.array_equal(checkpoint, ours)
