"""The gradient on several ranks, in chunks, computed twice or over two batches is that of one process and one chunk.

Independent ground: one process, where nothing is gathered or computed twice, with its own order of rows and in one
chunk. fp64 is held to 1e-10, fp32 to 1e-5.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch
import torch.multiprocessing as mp

from bgetrain.gather import Ranks
from tests.train.fake_loader import FakeRow, random_rows
from tests.train.tiny import VOCABULARY
from tests.train.workers import SECOND_ALONE, SECOND_SYMMETRIC, Scenario, gradient, run_rank

if TYPE_CHECKING:
    from pathlib import Path

PAIRS = random_rows(26, vocabulary=VOCABULARY, seed=5, negatives=0, sources=2)
NEGATIVES = random_rows(26, vocabulary=VOCABULARY, seed=4, negatives=2, sources=2, ragged=False)
RAGGED = random_rows(26, vocabulary=VOCABULARY, seed=3, negatives=2, sources=2)
DATA = {"pairs": PAIRS, "hard negatives": NEGATIVES, "ragged": RAGGED}
CONTROLS = ("gather without gradient", "gradient of the own slot only", "mean of local means")


def _split(rows: list[FakeRow], counts: list[int]) -> list[list[FakeRow]]:
    assert sum(counts) == len(rows)
    starts = [sum(counts[:rank]) for rank in range(len(counts))]
    return [rows[start : start + count] for start, count in zip(starts, counts, strict=True)]


def _scenarios(world_size: int) -> dict[str, Scenario]:
    """Every combination of what must not matter, then shapes of batches, then what must be told apart."""
    even = {2: [7, 6], 4: [4, 3, 3, 3]}[world_size]
    uneven = {2: [12, 1], 4: [9, 0, 3, 1]}[world_size]
    few = {2: [0, 1], 4: [1, 0, 1, 1]}[world_size]
    second = {2: [9, 4], 4: [0, 5, 6, 2]}[world_size]
    found = {}
    for (data, rows), both, cached, checkpointing, batches in product(
        DATA.items(), (False, True), (False, True), (False, True), (1, 2)
    ):
        parts = [_split(rows[:13], even), _split(rows[13:], second)][:batches]
        name = f"{data}, {'both' if both else 'one'}, {cached=}, {checkpointing=}, {batches=}"
        found[name] = Scenario(
            parts=parts,
            loss={"loss_directions": "both" if both else "query"},
            keep_tokens=0 if cached else None,
            checkpointing=checkpointing,
        )
    plain = Scenario(parts=[_split(RAGGED[:13], uneven)])
    mixed = replace(plain, parts=[_split(RAGGED[6:19], even)])
    graded = {"loss_directions": "by_task"}
    found |= {
        "very unequal ranks": plain,
        "fewer rows than ranks": replace(plain, parts=[_split(RAGGED[: sum(few)], few)]),
        "a source without in-batch negatives": replace(mixed, tasks=SECOND_ALONE),
        "a symmetric source beside another": replace(mixed, tasks=SECOND_SYMMETRIC, loss=graded),
        "graded pairs": replace(plain, parts=[_split(PAIRS[6:19], even)], tasks=SECOND_SYMMETRIC, loss=graded),
        "same tower": replace(plain, loss={"loss_directions": "both", "same_tower_negatives": True}),
        "matryoshka": replace(plain, loss={"mrl_dims": (4, 8), "hardness_weight": 2.0}),
        "likely positives": replace(plain, loss={"false_negative_margin": 0.05}),
        "distillation": replace(plain, loss={"knowledge_distillation": True}),
        "margin": replace(plain, loss={"knowledge_distillation": True, "kd_loss_type": "margin_mse"}),
    }
    found |= {f"{name}, fp32": replace(scenario, dtype=torch.float32) for name, scenario in found.items()}
    found |= {way: replace(plain, way=way) for way in CONTROLS[:2]}
    found["mean of local means"] = replace(plain, local_mean=True)
    return found


def _alone(scenario: Scenario) -> torch.Tensor:
    """The same step on one process: other order, one chunk, nothing cached, fp64."""
    whole = [[[row for rows in reversed(batch) for row in rows]] for batch in scenario.parts]
    return gradient(
        replace(
            scenario,
            parts=whole,
            way="right",
            local_mean=False,
            chunk_tokens=10_000,
            keep_tokens=None,
            checkpointing=False,
            dtype=torch.float64,
        ),
        Ranks(),
    )


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert expected.norm() > 1e-3
    return float((found.double() - expected).norm() / expected.norm())


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
    for name in scenarios:
        assert all(torch.equal(found[0][name], other[name]) for other in found), name
    return {name: _error(found[0][name], _alone(scenario)) for name, scenario in scenarios.items()}


def test_equals_one_process(errors: dict[str, float]) -> None:
    right = {name: error for name, error in errors.items() if name not in CONTROLS}
    assert len(right) == 2 * (3 * 2 * 2 * 2 * 2 + 10)
    wrong = {name: error for name, error in right.items() if error > (1e-5 if name.endswith("fp32") else 1e-10)}
    assert not wrong


@pytest.mark.parametrize("way", CONTROLS)
def test_control_is_told_apart(errors: dict[str, float], way: str) -> None:
    assert errors[way] > 1e-3


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("keep_tokens", [0, 60, 120])
def test_computing_twice_replays_the_dropout(keep_tokens: int, checkpointing: bool) -> None:
    base = Scenario(parts=[[RAGGED[:13]], [RAGGED[13:]]], dropout=0.1)
    kept = gradient(base, Ranks())
    torch.manual_seed(0)
    twice = gradient(replace(base, keep_tokens=keep_tokens, checkpointing=checkpointing), Ranks())
    # how much is kept decides no bit; recomputing inside a layer may sum in another order
    assert _error(twice, kept) <= (1e-10 if checkpointing else 0.0)
    assert _error(gradient(replace(base, dropout=0.0), Ranks()), kept) > 1e-3
    other = gradient(replace(base, keep_tokens=0, way="replay with another dropout"), Ranks())
    assert _error(other, kept) > 1e-3


def test_random_states_end_where_they_would_have() -> None:
    ends = []
    for keep_tokens in (None, 0, 60):
        gradient(Scenario(parts=[[RAGGED[:13]]], dropout=0.1, keep_tokens=keep_tokens), Ranks())
        ends.append(torch.get_rng_state())
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_chunks_decide_nothing() -> None:
    one = gradient(Scenario(parts=[[RAGGED[:13]]], chunk_tokens=1), Ranks())
    many = gradient(Scenario(parts=[[RAGGED[:13]]], chunk_tokens=10_000), Ranks())
    assert _error(one, many) <= 1e-12
