"""Options around the loop: wandb, by a module that only notes what it is told, and the compiled transformer."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from bgetrain.main import main
from tests.train.tiny import write_tiny_bert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _flags(model: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--model_name_or_path", str(model), "--output_dir", str(output), "--use_cpu", "--report_to", "none"),
        *("--per_device_train_batch_size", "6", "--query_max_len", "16", "--passage_max_len", "32"),
        *("--learning_rate", "1e-2", "--max_steps", "4", "--logging_steps", "1", "--save_steps", "2", *more),
    ]


class _FakeWandb(ModuleType):
    """Notes the calls of `init`, `log` and `finish`."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: list[dict[str, Any]] = []
        self.logged: dict[int, dict[str, float]] = {}
        self.finished = 0
        self.refuse = False

    def init(self, **words: Any) -> _FakeWandb:
        if self.refuse:
            raise RuntimeError("nobody is logged in")
        self.begun.append(words)
        return self

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.logged.setdefault(step, {}).update(values)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> _FakeWandb:
    fake = _FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


def test_run_in_wandb(
    tiny_bert: Path,
    tmp_path: Path,
    fake_data: Callable[..., object],
    wandb: _FakeWandb,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_data()
    output = tmp_path / "run"
    assert main(_flags(tiny_bert, output, "--report_to", "wandb", "--run_name", "mine")) == 0
    begun = wandb.begun[0]
    assert (begun["project"], begun["name"], begun["config"]["optim.learning_rate"]) == ("bgetrain", "mine", 1e-2)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert {step: values["train/loss"] for step, values in wandb.logged.items()} == losses
    assert wandb.finished == 1
    assert not (output / "tensorboard").exists()
    # a run that goes on is the same run there; another one is not
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    assert main(["--resume_from_checkpoint", "--output_dir", str(output), "--max_steps", "6"]) == 0
    assert main(_flags(tiny_bert, tmp_path / "other", "--report_to", "wandb")) == 0
    names = [(begun["project"], begun["name"]) for begun in wandb.begun]
    assert names == [("bgetrain", "mine"), ("ours", "mine"), ("ours", "other")]
    first, again, other = (begun["id"] for begun in wandb.begun)
    assert first == again != other


def test_wandb_is_asked_for_only(
    tiny_bert: Path, tmp_path: Path, fake_data: Callable[..., object], wandb: _FakeWandb
) -> None:
    fake_data()
    assert main(_flags(tiny_bert, tmp_path / "run")) == 0
    assert not wandb.begun
    assert not (tmp_path / "run" / "wandb_run").exists()


def test_wandb_that_is_not_there_or_cannot_begin(
    tiny_bert: Path,
    tmp_path: Path,
    fake_data: Callable[..., object],
    wandb: _FakeWandb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_data()
    wandb.refuse = True
    assert main(_flags(tiny_bert, tmp_path / "refused", "--report_to", "wandb")) == 1
    assert "wandb cannot begin: RuntimeError: nobody is logged in" in (error := capsys.readouterr().err)
    assert "WANDB_MODE=offline" in error
    monkeypatch.delitem(sys.modules, "wandb")
    monkeypatch.setattr("bgetrain.extras.importlib.util.find_spec", lambda name: None)
    assert main(_flags(tiny_bert, tmp_path / "absent", "--report_to", "wandb")) == 1
    error = capsys.readouterr().err
    assert "error: --report_to wandb needs the package wandb" in error
    assert "hint: pip install 'bgeprep[wandb]'" in error
    assert not (tmp_path / "absent").exists()


def test_compiler_that_is_not_there(
    tiny_bert: Path,
    tmp_path: Path,
    fake_data: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_data()
    monkeypatch.setattr("bgetrain.extras.shutil.which", lambda name: None)
    assert main(_flags(tiny_bert, tmp_path / "run", "--torch_compile")) == 1
    assert "--torch_compile needs a C++ compiler" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiled_is_the_same_run(
    tmp_path: Path, fake_data: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs torch.compile makes, run without a C++ compiler; tests/system/test_compile.py runs them with one."""
    fake_data()
    compile_in_place = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **words: compile_in_place(self, backend="aot_eager", **words)
    )
    monkeypatch.setattr("bgetrain.extras.shutil.which", lambda name: name)
    model = write_tiny_bert(tmp_path / "model", dropout=0.0)
    torch._dynamo.reset()
    counted = torch._dynamo.utils.counters
    counted.clear()
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    assert main(_flags(model, plain, "--ema_decay", "0.5")) == 0
    assert counted["stats"]["unique_graphs"] == 0
    assert main(_flags(model, compiled, "--ema_decay", "0.5", "--torch_compile")) == 0
    # few for all lengths and batches
    assert 0 < counted["stats"]["unique_graphs"] < 8
    losses = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
        for run in (plain, compiled)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name in ("model", "checkpoint-4/trained", "checkpoint-4/optimizer"):
        ours, theirs = (load_file(run / f"{name}.safetensors") for run in (compiled, plain))
        assert ours.keys() == theirs.keys()


def test_a_run_on_packed_texts_is_the_run_on_padded_ones(
    tmp_path: Path, fake_data: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_bert(tmp_path / "model")
    losses, padding = [], []
    for attention in ("auto", "varlen"):
        fake_data()
        output = tmp_path / attention
        assert main(_flags(model, output, "--attention", attention)) == 0
        said = capsys.readouterr()
        assert ("texts go packed" in said.out + said.err) == (attention == "varlen")
        used = "varlen" if attention == "varlen" else "sdpa"
        assert f'attention = "{used}"' in (output / "config.toml").read_text()
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
        padding.append([line["padding_share"] for line in lines if "loss" in line])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert padding[1] == [0.0] * 4
    assert min(padding[0]) > 0.0
    # goes on packed, as it began
    fake_data()
    more = ["--resume_from_checkpoint", "--output_dir", str(tmp_path / "varlen"), "--max_steps", "6"]
    assert main(more) == 0
    assert "texts go packed" in "".join(capsys.readouterr())
