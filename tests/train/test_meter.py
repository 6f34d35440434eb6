"""What a window says: loss by source, FLOPs, memory, and who made a loss that is no number."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from bgetrain.detectors import check_health
from bgetrain.errors import TrainingError
from bgetrain.flops import ModelFlops, peak_tflops
from bgetrain.gather import Ranks
from bgetrain.main import main
from bgetrain.meter import Meter
from bgetrain.objective import BatchResult
from bgetrain.record import PairRecord
from tests.train.fake_loader import random_rows
from tests.train.tiny import VOCABULARY, tiny_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCES = ("first", "second", "third")


def _result(losses: list[float], sources: list[int], *, flat: bool = False, taught: int | None = None) -> BatchResult:
    number = len(losses)
    none = torch.zeros(number, dtype=torch.int64)
    return BatchResult(
        row_losses=torch.tensor(losses),
        source_ids=torch.tensor(sources),
        negatives=torch.full((number,), 3),
        masked=none,
        repeated=none,
        likely=none,
        flat=torch.full((number,), flat),
        taught=taught,
        tokens=10 * number,
        squares=100 * number,
        computed=12 * number,
        replayed=0,
    )


def _meter(peak: float | None = None) -> Meter:
    flops = ModelFlops(weights=100, trained=100, attention=0)
    return Meter(Ranks(), PairRecord, sources=SOURCES, flops=flops, peak_tflops=peak)


def _read(meter: Meter, step: int) -> PairRecord:
    record = meter.read(step=step, epoch=0, learning_rate=0.1, source=None, waited=0.0)
    assert isinstance(record, PairRecord)
    return record


def _window(*steps: tuple[list[float], list[int], float], flat: bool = False, step: int | None = None) -> PairRecord:
    meter = _meter()
    for losses, sources, norm in steps:
        result = _result(losses, sources, flat=flat)
        meter.add_batch(result)
        meter.add_step(torch.tensor(norm))
    return _read(meter, step or len(steps))


def test_loss_by_source_is_the_mean_over_its_queries() -> None:
    record = _window(([1.0, 2.0, 6.0], [0, 0, 2], 1.0), ([3.0], [0], 3.0))
    assert {name: (part.loss, part.rows) for name, part in record.sources.items()} == {
        "first": (2.0, 3),
        "third": (6.0, 1),
    }
    assert record.loss == 3.0
    assert record.grad_norm == 2.0
    assert (record.bad_step, record.bad_sources, record.mfu) == (None, (), None)
    assert record.peak_memory > 1e6
    assert check_health(record) == []


def test_a_window_forgets_the_one_before() -> None:
    meter = _meter()
    first = _result([math.nan], [1])
    meter.add_batch(first)
    meter.add_step(torch.tensor(1.0))
    assert _read(meter, 1).bad_sources == ("second",)
    second = _result([1.0], [0])
    meter.add_batch(second)
    meter.add_step(torch.tensor(1.0))
    record = _read(meter, 2)
    assert (record.bad_step, set(record.sources)) == (None, {"first"})


def test_the_first_bad_step_and_its_source_are_named() -> None:
    """Later steps are all no numbers, since the weights are none: they must not be blamed."""
    good = ([1.0, 1.0], [0, 1], 1.0)
    record = _window(good, ([1.0, math.inf], [0, 2], math.nan), ([math.nan, math.nan], [0, 1], math.nan), step=13)
    assert (record.bad_step, record.bad_sources) == (12, ("third",))
    with pytest.raises(TrainingError, match=r"step 12: .*sources of that step: third;"):
        check_health(record)
    # only the gradient is no number: all that were there
    record = _window(good, ([1.0, 1.0], [2, 1], math.inf), good)
    assert (record.bad_step, record.bad_sources) == (2, ("second", "third"))


def test_all_scores_of_all_queries_equal_ends_the_run() -> None:
    row = ([1.386], [0], 0.0)
    with pytest.raises(TrainingError, match="finds all its documents equally near"):
        check_health(_window(row, row, flat=True))
    meter = _meter()
    for flat in (True, False):
        result = _result([1.386], [0], flat=flat)
        meter.add_batch(result)
        meter.add_step(torch.tensor(1.0))
    record = _read(meter, 2)
    assert record.flat_share == 0.5
    assert check_health(record) == []


def test_exact_zeros_are_warned_of() -> None:
    (zero,) = check_health(_window(([0.0], [0], 0.0)))
    assert "the loss is exactly 0" in zero.message
    (still,) = check_health(_window(([0.5], [0], 0.0)))
    assert "the gradient is exactly 0" in still.message
    assert check_health(_window(([0.5], [0], 1e-9))) == []


def test_rows_without_negatives_may_learn_from_their_grades() -> None:
    alone = replace(_window(([0.0], [0], 0.0)), effective_negatives=0.0)
    with pytest.raises(TrainingError, match="no query has a negative") as error:
        check_health(alone)
    assert "--per_device_train_batch_size" in error.value.hint
    with pytest.raises(TrainingError, match="no query has a negative") as error:
        check_health(replace(alone, likely_share=1.0))
    assert "--false_negative_margin" in error.value.hint
    assert check_health(replace(alone, loss=2.0, grad_norm=1.0)) == []


def test_a_teacher_without_scores_is_warned_of() -> None:
    meter = _meter()
    records = []
    for taught in (None, 0, 1):
        for number in (taught, taught):
            result = _result([0.5], [0], taught=number)
            meter.add_batch(result)
            meter.add_step(torch.tensor(1.0))
        records.append(_read(meter, 2))
    assert [record.taught for record in records] == [None, 0, 2]
    without, unscored, scored = map(check_health, records)
    assert without == scored == []
    assert "no query of the last 2 steps has scores" in unscored[0].message
    assert unscored[0].once


def test_flops_of_a_model_are_those_of_its_layers() -> None:
    """2 layers of 16 with 32 inside: four projections, two of the feed-forward part, their biases and norms."""
    layer = 4 * (16 * 16 + 16) + (16 * 32 + 32) + (32 * 16 + 16) + 2 * 2 * 16
    encoder = tiny_encoder()
    encoder.first_token_alone = False
    flops = ModelFlops.of(encoder)
    norm_of_embeddings = 2 * 16
    assert flops.weights == flops.trained == 2 * layer + norm_of_embeddings
    assert flops.attention == 2 * 16
    # texts of 3 and 5 tokens
    assert flops.model(8, 34) == 6 * flops.weights * 8 + 12 * 32 * 34
    assert flops.hardware(8, 34, 8) == flops.model(8, 34)
    assert flops.hardware(8, 34, 16) == 6 * flops.weights * 16 + 12 * 32 * 34 * 4
    again = replace(flops, recomputes=True)
    assert again.hardware(8, 34, 8) == pytest.approx(flops.model(8, 34) * 4 / 3)
    assert replace(flops, trained=0).model(8, 0) == 4 * flops.weights * 8


def test_forward_flops_agree_with_torch() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    encoder = tiny_encoder().eval()
    ids, found = torch.full((3, 20), 7), []
    for alone in (False, True):
        encoder.first_token_alone = alone
        flops = ModelFlops.of(encoder)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(ids, torch.ones_like(ids))
        found.append(counter.get_total_flops())
        # torch counts neither biases nor norms
        assert found[-1] == pytest.approx(flops.hardware(60, 3 * 400, 60) / 3, rel=0.1)
        assert flops.model(60, 3 * 400) / 3 == pytest.approx(found[0], rel=0.1)
    assert found[1] < 0.7 * found[0]


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("cpu", None),
        ("Tesla T4", None),
    ],
)
def test_peaks_by_name(name: str, peak: float | None) -> None:
    assert peak_tflops(name) == peak
    assert peak_tflops(name, 5.0) == 5.0


def test_a_run_writes_sources_and_use(
    tiny_bert: Path, tmp_path: Path, fake_data: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_data(random_rows(12, vocabulary=VOCABULARY, seed=1))
    run = tmp_path / "run"
    flags = ["--model_name_or_path", tiny_bert, "--output_dir", run, "--use_cpu", "--query_max_len", 16]
    flags += ["--passage_max_len", 32, "--max_steps", 2, "--logging_steps", 2, "--per_device_train_batch_size", 6]
    assert main([str(flag) for flag in [*flags, "--peak_tflops", 1e-3]]) == 0
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in records] == ["run", "train", "end"]
    start, window, end = records
    assert start["total_steps"] == 2
    assert start["environment"]["device"] == "cpu"
    assert start["environment"]["torch"] == torch.__version__.split("+")[0]
    assert window["sources"] == {"one": {"loss": window["loss"], "rows": 12}}
    assert window["mfu"] == pytest.approx(window["tflops"] / 1e-3)
    assert window["hfu"] > window["mfu"] > 0
    assert end["state"] == "done"
    events = b"".join(file.read_bytes() for file in (run / "tensorboard").iterdir())
    assert b"loss/one" in events
    assert b"train/mfu" in events
