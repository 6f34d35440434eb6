"""The gradient on several ranks is that of the whole batch on one process, in fp64.

Independent ground: one process, where nothing is gathered, with its own order of rows and other chunks.
"""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.multiprocessing as mp

from bgetrain.gather import Ranks
from tests.train.fake_loader import FakeRow, random_rows
from tests.train.tiny import VOCABULARY
from tests.train.workers import gradient, run_rank

if TYPE_CHECKING:
    from pathlib import Path

ROWS = random_rows(26, vocabulary=VOCABULARY, seed=3, sources=2)
ALL_IN_BATCH, SECOND_OFF = (True, True), (True, False)


def _split(rows: list[FakeRow], counts: list[int]) -> list[list[FakeRow]]:
    assert sum(counts) == len(rows)
    starts = [sum(counts[:rank]) for rank in range(len(counts))]
    return [rows[start : start + count] for start, count in zip(starts, counts, strict=True)]


def _scenarios(world_size: int) -> dict[str, dict[str, Any]]:
    ragged = {2: [7, 6], 4: [4, 3, 3, 3]}[world_size]
    uneven = {2: [12, 1], 4: [9, 0, 3, 1]}[world_size]
    few = {2: [0, 1], 4: [1, 0, 1, 1]}[world_size]
    second = {2: [9, 4], 4: [0, 5, 6, 2]}[world_size]
    plain = {"in_batch": ALL_IN_BATCH, "tokens": 40}
    scenarios = {
        "rows do not divide by ranks": {"parts": [_split(ROWS[:13], ragged)], **plain},
        "very unequal ranks": {"parts": [_split(ROWS[:13], uneven)], **plain},
        "fewer rows than ranks": {"parts": [_split(ROWS[: sum(few)], few)], **plain},
        "accumulation": {"parts": [_split(ROWS[:13], ragged), _split(ROWS[13:], second)], **plain},
        "a source without in-batch negatives": {
            "parts": [_split(ROWS[6:19], ragged)],
            "in_batch": SECOND_OFF,
            "tokens": 40,
        },
    }
    for way in ("gather without gradient", "gradient of the own slot only", "mean of local means"):
        scenarios[way] = {"parts": [_split(ROWS[:13], uneven)], "way": way, **plain}
    return scenarios


@pytest.fixture(scope="module", params=[2, 4])
def errors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Scenario → relative error against one process, after all ranks were found equal."""
    world_size = request.param
    folder: Path = tmp_path_factory.mktemp("ranks")
    scenarios = _scenarios(world_size)
    # one server imports torch once and forks the ranks from there
    multiprocessing.set_forkserver_preload(["tests.train.workers", "transformers.models.bert.modeling_bert"])
    mp.start_processes(run_rank, (world_size, str(folder), scenarios), nprocs=world_size, start_method="forkserver")
    found = [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(world_size)]
    result = {}
    for name, scenario in scenarios.items():
        whole = [[[row for rows in reversed(batch) for row in rows]] for batch in scenario["parts"]]
        alone = gradient(whole, Ranks(), in_batch=scenario["in_batch"], tokens=10_000)
        assert all(torch.equal(found[0][name], other[name]) for other in found)
        assert alone.norm() > 1e-3
        result[name] = float((found[0][name] - alone).norm() / alone.norm())
    return result


def test_equals_one_process(errors: dict[str, float]) -> None:
    right = {
        name: error
        for name, error in errors.items()
        if name not in {"gather without gradient", "gradient of the own slot only", "mean of local means"}
    }
    assert len(right) == 5
    assert max(right.values()) <= 1e-10, right


@pytest.mark.parametrize("way", ["gather without gradient", "gradient of the own slot only", "mean of local means"])
def test_control_is_told_apart(errors: dict[str, float], way: str) -> None:
    assert errors[way] > 1e-3


def test_chunks_decide_nothing() -> None:
    parts = [[ROWS[:13]]]
    one = gradient(parts, Ranks(), in_batch=ALL_IN_BATCH, tokens=1)
    many = gradient(parts, Ranks(), in_batch=ALL_IN_BATCH, tokens=10_000)
    assert float((one - many).norm() / many.norm()) <= 1e-12
