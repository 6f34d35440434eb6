"""The command: exit codes, one line for each thing that cannot work, nothing written then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bgetrain.__main__ import main as bgetrain
from bgetrain.main import main
from tests.train.fake_loader import random_rows
from tests.train.tiny import VOCABULARY, write_tiny_bert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and stderr, which holds one error line and at most one hint."""
    code = main(arguments)
    error = capsys.readouterr().err
    lines = error.splitlines()
    assert [line.split(":")[0] for line in lines[-2:]] in (["error", "hint"], ["error"]) or lines[-1].startswith(
        "error:"
    )
    assert sum(line.startswith("error: ") for line in lines) == 1
    return code, error


@pytest.fixture
def flags(tiny_bert: Path, tmp_path: Path) -> list[str]:
    return [
        *("--model_name_or_path", str(tiny_bert), "--output_dir", str(tmp_path / "out"), "--use_cpu"),
        *("--query_max_len", "16", "--passage_max_len", "32", "--report_to", "none", "--max_steps", "2"),
    ]


def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["--learnin_rate", "1"], capsys)[0] == 2
    assert _run(["--config", "absent.toml"], capsys)[0] == 2
    assert bgetrain(["trian"]) == 2
    assert bgetrain([]) == 2
    assert bgetrain(["--help"]) == 0


def test_folder_that_is_no_shard_set(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bgeprep.errors import ShardError

    def refuse(path: str) -> None:
        raise ShardError(f"{path}: holds no shard set: manifest.json is absent", path)

    monkeypatch.setattr("bgetrain.data.describe_shards", refuse)
    code, error = _run([*flags, "--data", str(tmp_path)], capsys)
    assert code == 1
    assert "holds no shard set" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("fake_data")
def test_model_that_cannot_be_had(
    tmp_path: Path,
    fake_data: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_data()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    output = ["--output_dir", str(tmp_path / "out"), "--use_cpu"]
    code, error = _run(["--model_name_or_path", "nobody/nothing", *output], capsys)
    assert code == 1
    assert "HF_HUB_OFFLINE" in error
    assert "hint: offline, give a folder: --model_name_or_path" in error
    monkeypatch.setattr("bgetrain.resolve.installed_demo_model", lambda: None)
    code, error = _run(output, capsys)
    assert code == 1
    assert "--model_name_or_path is not given" in error
    assert not (tmp_path / "out").exists()


def test_lengths_beyond_the_model(
    flags: list[str], fake_data: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_data()
    code, error = _run([*flags, "--passage_max_len", "33"], capsys)
    assert code == 2
    assert "--passage_max_len 33: the model takes 32 tokens" in error
    assert not (tmp_path / "out").exists()


def test_random_weights_need_a_rate(
    flags: list[str], fake_data: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_data()
    folder = write_tiny_bert(tmp_path / "config-only", weights=False)
    wanted = [*flags, "--model_name_or_path", str(folder)]
    assert "--random_init" in _run(wanted, capsys)[1]
    code, error = _run([*wanted, "--random_init"], capsys)
    assert code == 2
    assert "--learning_rate" in error
    assert main([*wanted, "--random_init", "--learning_rate", "1e-3"]) == 0


def test_output_that_holds_a_run(
    flags: list[str], fake_data: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_data()
    assert main(flags) == 0
    code, error = _run(flags, capsys)
    assert code == 1
    assert "already holds a run" in error
    assert main([*flags, "--overwrite_output_dir", "--max_steps", "1"]) == 0
    assert [entry.name for entry in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-1"]
    records = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["kind"] == "train"] == [1]


def test_checkpoints_that_cannot_be_resumed(
    flags: list[str], fake_data: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_data()
    resume = [*flags, "--resume_from_checkpoint"]
    code, error = _run(resume, capsys)
    assert code == 1
    assert "holds no checkpoint" in error
    assert "no checkpoint" in _run([*resume, str(tmp_path)], capsys)[1]
    assert main(flags) == 0
    state_file = tmp_path / "out" / "checkpoint-2" / "trainer_state.json"
    state = json.loads(state_file.read_text())
    state_file.write_text(json.dumps({**state, "shards": "other"}))
    assert "made from another shard set" in _run(resume, capsys)[1]
    state_file.write_text(json.dumps({**state, "version": 9}))
    assert "version 9, expected 1" in _run(resume, capsys)[1]
    state_file.write_text('{"version": 1')
    assert "damaged" in _run(resume, capsys)[1]
    state_file.write_text(json.dumps(state))
    (tmp_path / "out" / "checkpoint-2" / "optimizer.safetensors").write_bytes(b"x" * 64)
    assert "optimizer.safetensors: damaged" in _run([*resume, "--max_steps", "4"], capsys)[1]


def test_stored_batch_wins_over_the_flags(
    flags: list[str], fake_data: Callable[..., list], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaders = fake_data()
    assert main([*flags, "--per_device_train_batch_size", "5"]) == 0
    more = ["--resume_from_checkpoint", "last", "--per_device_train_batch_size", "7", "--max_steps", "4"]
    assert main([*flags, *more]) == 0
    assert [loader.batch_size for loader in loaders] == [5, 5]
    assert "the batch stays 5 rows x 1" in capsys.readouterr().err


def test_batch_smaller_than_the_ranks(
    flags: list[str],
    fake_data: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bgetrain.gather import Ranks

    fake_data()
    assert main([*flags, "--per_device_train_batch_size", "3"]) == 0
    # rank 0 of four, without the others
    monkeypatch.setattr("bgetrain.gather.join", lambda **_: Ranks(rank=0, world_size=4))
    monkeypatch.setattr("bgetrain.gather.broadcast_text", lambda text, ranks: text)
    code, error = _run([*flags, "--resume_from_checkpoint"], capsys)
    assert code == 1
    assert "batch of 3 rows does not fill 4 processes" in error


def test_read_only_output(
    flags: list[str],
    fake_data: Callable[..., object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_data()
    (tmp_path / "taken").write_text("a file where the folder should go")
    code, error = _run([*flags, "--output_dir", str(tmp_path / "taken" / "out")], capsys)
    assert code == 1
    assert f"--output_dir {tmp_path / 'taken' / 'out'}: cannot be written" in error

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bgetrain.checkpoint.save_file", full)
    code, error = _run(flags, capsys)
    assert code == 1
    assert "No space left" in error
    assert not list((tmp_path / "out").glob("checkpoint-*"))
    assert not (tmp_path / "out" / ".saving").exists()


def test_guide_that_cannot_be_had(
    flags: list[str], fake_data: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_data()
    code, error = _run([*flags, "--guide_model", str(tmp_path / "absent")], capsys)
    assert code == 1
    assert f"--guide_model {tmp_path / 'absent'}: no such folder" in error
    assert "hint: --guide_model takes" in error
    assert not (tmp_path / "out").exists()


def test_teacher_without_scores_is_told_once(
    flags: list[str], fake_data: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_data(random_rows(40, vocabulary=VOCABULARY, seed=1, negatives=0))
    assert main([*flags, "--knowledge_distillation", "--logging_steps", "1"]) == 0
    assert capsys.readouterr().err.count("warning: step 1: --knowledge_distillation is on, and no query") == 1
    records = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in records] == ["run", "train", "warning", "train", "end"]


def test_run_that_is_done_says_so(
    flags: list[str], fake_data: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_data()
    assert main(flags) == 0
    assert main([*flags, "--resume_from_checkpoint", "--max_steps", "1"]) == 0
    said = capsys.readouterr().err
    assert "warning: the checkpoint is of step 2 and the run has 1: nothing is trained" in said
    assert "-1 steps" not in said


@pytest.mark.parametrize(("rank", "local", "speaks"), [("0", "0", True), ("8", "0", True), ("9", "1", False)])
def test_one_rank_of_a_machine_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str, local: str, speaks: bool
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_RANK", local)
    assert main(["--config", "absent.toml"]) == 2
    assert ("absent.toml" in capsys.readouterr().err) == speaks


@pytest.mark.parametrize("message", ["[enforce fail] gloo: Connection closed by peer", "another kind"])
def test_rank_that_ends_before_the_loop(
    flags: list[str],
    fake_data: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    message: str,
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError(message)

    fake_data()
    monkeypatch.setattr("bgetrain.gather.broadcast_text", broken)
    if "gloo" not in message:
        with pytest.raises(RuntimeError, match="another kind"):
            main(flags)
        return
    code, error = _run(flags, capsys)
    assert code == 1
    assert "rank 0: another rank has ended" in error


def test_interrupt_before_the_loop_is_130(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bgetrain.data.describe_shards", interrupt)
    assert main(flags) == 130


def test_defaults_without_flags(
    fake_data: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python python/train.py` as it stands: the installed base model, output/<UTC time>."""
    fake_data()
    monkeypatch.chdir(tmp_path)
    # the defaults are 64 and 256 tokens
    base = write_tiny_bert(tmp_path / "base", positions=256)
    monkeypatch.setattr("bgetrain.resolve.installed_demo_model", lambda: base)
    assert main(["--use_cpu"]) == 0
    (run,) = (tmp_path / "output").iterdir()
    assert (run / "modules.json").is_file()
    assert list((run / "tensorboard").iterdir())
