"""The batch as users state it: over all processes or for one, scaled down, kept on resume; the shipped configs run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bgetrain.batch_size import stated_batch
from bgetrain.config import RunConfig
from bgetrain.errors import ConfigError, LaunchError
from bgetrain.gather import Ranks
from bgetrain.main import main
from bgetrain.settings import build, read_toml

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("settings", "processes", "batch"),
    [
        ({}, 4, None),
        ({"scale_down": 8}, 4, None),
        ({"global_batch_size": 100}, 7, 100),
        ({"per_device_train_batch_size": 5}, 7, 35),
        ({"per_device_train_batch_size": 5, "global_batch_size": 35}, 7, 35),
        ({"global_batch_size": 32_784, "scale_down": 1024}, 1, 32),
        ({"global_batch_size": 32_784, "scale_down": 1_000_000}, 1, 2),
        ({"global_batch_size": 32_784, "scale_down": 1_000_000}, 4, 4),
        ({"per_device_train_batch_size": 683, "scale_down": 100}, 48, 327),
    ],
)
def test_stated_batch(settings: dict[str, Any], processes: int, batch: int | None) -> None:
    assert stated_batch(RunConfig(**settings), processes) == batch


def test_batch_and_share_that_disagree() -> None:
    run = RunConfig(global_batch_size=64, per_device_train_batch_size=16)
    assert stated_batch(run, 4) == 64
    with pytest.raises(ConfigError, match=r"16 on 8 processes makes 128 queries, --global_batch_size says 64"):
        stated_batch(run, 8)


def test_more_processes_than_queries() -> None:
    with pytest.raises(LaunchError, match="--global_batch_size 3 does not fill 4 processes"):
        stated_batch(RunConfig(global_batch_size=3), 4)


@pytest.fixture
def flags(tiny_bert: Path, tmp_path: Path) -> list[str]:
    return [
        *("--model_name_or_path", str(tiny_bert), "--output_dir", str(tmp_path / "out"), "--use_cpu"),
        *("--query_max_len", "16", "--passage_max_len", "32", "--report_to", "none"),
    ]


@pytest.mark.parametrize(
    ("name", "down", "batch"), [("stage1", 4096, 8), ("stage1-zh", 2048, 9), ("stage2", 64, 16), ("stage2-zh", 128, 8)]
)
def test_a_stage_runs_scaled_down_with_one_flag(
    flags: list[str], fake_data: Callable[..., list[Any]], tmp_path: Path, name: str, down: int, batch: int
) -> None:
    from sentence_transformers import SentenceTransformer

    loaders = fake_data()
    config = ["--config", str(CONFIGS / f"{name}.toml"), "--scale_down", str(down)]
    assert main([*config, *flags]) == 0
    assert loaders[0].batch_size == batch
    used = build(read_toml(tmp_path / "out" / "config.toml"))
    assert (used.run.global_batch_size, used.run.per_device_train_batch_size, used.run.scale_down) == (batch, None, 1)
    assert used.run.max_steps == loaders[0].done == 20
    prompts = SentenceTransformer(str(tmp_path / "out"), device="cpu").prompts
    assert bool(prompts["query"]) == name.startswith("stage2")
    # the same command goes on: nothing is scaled twice, and there is nothing left to do
    assert main([*config, *flags, "--resume_from_checkpoint"]) == 0
    # and so does the file that the run left
    again = ["--config", str(tmp_path / "out" / "config.toml"), "--output_dir", str(tmp_path / "again")]
    assert main([*again, "--max_steps", "1"]) == 0
    assert [loader.batch_size for loader in loaders] == [batch] * 3


def test_other_flags_stand_in_a_trial(
    flags: list[str], fake_data: Callable[..., list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaders = fake_data()
    assert main([*flags, "--global_batch_size", "12", "--scale_down", "2", "--max_steps", "3"]) == 0
    assert (loaders[0].batch_size, loaders[0].done) == (6, 3)
    assert "3 steps of 6 x 1 queries" in capsys.readouterr().err
    # the control: without the flag the batch is as stated, and so is the length of the run
    assert main([*flags, "--global_batch_size", "12", "--output_dir", str(tmp_path / "whole")]) == 0
    assert (loaders[1].batch_size, loaders[1].done) == (12, 4)


def test_default_is_a_share(flags: list[str], fake_data: Callable[..., list[Any]]) -> None:
    loaders = fake_data()
    assert main([*flags, "--max_steps", "1"]) == 0
    assert loaders[0].batch_size == 32


def test_batch_stays_on_more_processes(
    flags: list[str],
    fake_data: Callable[..., list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_data()
    assert main([*flags, "--global_batch_size", "8", "--max_steps", "1"]) == 0
    # rank 0 of four, without the others: what it says before it would wait for them
    monkeypatch.setattr("bgetrain.gather.join", lambda **_: Ranks(rank=0, world_size=4))
    monkeypatch.setattr("bgetrain.gather.broadcast_text", lambda text, ranks: text)
    monkeypatch.setattr("bgetrain.resumable.check_shared", lambda folder, ranks: None)
    monkeypatch.setattr("bgetrain.contrastive.open_loader", _refuse)
    for more, told in (
        ([], False),
        (["--per_device_train_batch_size", "2"], False),
        (["--global_batch_size", "9"], True),
    ):
        capsys.readouterr()
        assert main([*flags, "--max_steps", "2", "--resume_from_checkpoint", *more]) == 1
        error = capsys.readouterr().err
        assert "far enough" in error
        assert ("on 4 processes instead of 1" if not told else "9 x 1 would be another run") in error
        assert "the batch stays 8 rows x 1 as at the first start" in error


def _refuse(*_: object, **__: object) -> None:
    raise LaunchError("far enough")
