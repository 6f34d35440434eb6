"""The tiled, masked loss against a slow reference with plain autograd, and its behaviour at the edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from bgetrain.loss import Guide, Names, Rows, Seen, contrastive_loss
from tests.reference.loss import contrastive


def random_batch(seed: int, *, rows: int, keys: int, some_off: bool = False, several: bool = False) -> list[dict]:
    """Rows with planted repeats of texts, shared positives and known positives among the candidates."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(10_000, rows, replace=False)
    batch, place = [], 0
    for index in range(rows):
        count = int(rng.integers(1, 4)) + several
        documents = [(place + i, int(rng.integers(0, keys))) for i in range(count)]
        place += count
        positives = int(rng.integers(1, count + 1)) if several else 1
        known = {key for _, key in documents[:positives]} | set(rng.integers(0, keys, rng.integers(0, 3)).tolist())
        batch.append(
            {
                "row_id": int(ids[index]),
                "query_key": int(rng.integers(0, keys * 2)),
                "known": known,
                "in_batch": not (some_off and rng.random() < 0.4),
                "both": True,
                "documents": documents,
                "positives": positives,
            }
        )
    return batch


def arguments(
    batch: list[dict], queries: torch.Tensor, documents: torch.Tensor, shown: slice = slice(None), both: bool = False
) -> dict[str, Any]:
    """Arguments of `contrastive_loss` for some rows against the texts of the whole batch."""
    local = batch[shown]
    first = batch.index(local[0]) if local else 0
    place = sum(len(row["documents"]) for row in batch[:first])
    listed = [(row["row_id"], key) for row in batch for _, key in row["documents"]]
    known = [(row["row_id"], key) for row in batch for key in sorted(row["known"])]
    own = [
        (index, document - place)
        for index, row in enumerate(local)
        for document, _ in row["documents"][: row["positives"]]
    ]
    own_known = [(index, key) for index, row in enumerate(local) for key in sorted(row["known"])]

    def column(pairs: list[tuple[int, int]], side: int) -> torch.Tensor:
        return torch.tensor([pair[side] for pair in pairs], dtype=torch.int64)

    names = Names(
        query_keys=torch.tensor([row["query_key"] for row in batch]),
        query_rows=torch.tensor([row["row_id"] for row in batch]),
        document_keys=column(listed, 1),
        document_rows=column(listed, 0),
        known_keys=column(known, 1),
        known_rows=column(known, 0),
    )
    rows = Rows(
        row_ids=torch.tensor([row["row_id"] for row in local], dtype=torch.int64),
        query_keys=torch.tensor([row["query_key"] for row in local], dtype=torch.int64),
        in_batch=torch.tensor([row["in_batch"] for row in local], dtype=torch.bool),
        both_sides=torch.full((len(local),), both),
        weights=torch.ones(len(local), dtype=queries.dtype),
        own_rows=column(own, 0),
        own=column(own, 1),
        known_keys=column(own_known, 1),
        known_rows=column(own_known, 0),
        first_query=first,
        first_document=place,
        documents=sum(len(row["documents"]) for row in local),
    )
    return {"own_queries": queries[shown], "rows": rows, "seen": Seen(queries, documents, names)}


def random_vectors(batch: list[dict], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = sum(len(row["documents"]) for row in batch)
    both = torch.randn(len(batch) + count, 5, dtype=torch.float64, generator=generator)
    both = torch.nn.functional.normalize(both, dim=1)
    return both[: len(batch)].clone().requires_grad_(), both[len(batch) :].clone().requires_grad_()


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("same_tower", [False, True])
@pytest.mark.parametrize("some_off", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_slow_reference(seed: int, some_off: bool, same_tower: bool, both: bool) -> None:
    several = seed % 2 == 1
    batch = random_batch(seed, rows=9, keys=14 if seed < 4 else 300, some_off=some_off, several=several)
    for row in batch:
        row["both"] = both
    hardness = 3.0 if seed == 2 else 0.0
    queries, documents = random_vectors(batch, seed)
    expected, negatives = contrastive(queries, documents, batch, 0.3, same_tower=same_tower, hardness=hardness)
    expected.sum().backward()
    slow = queries.grad.clone(), documents.grad.clone()
    queries.grad = documents.grad = None
    for tile_bytes in (1, None):
        found = contrastive_loss(
            **arguments(batch, queries, documents, both=both),
            temperature=0.3,
            same_tower=same_tower,
            hardness=hardness,
            tile_bytes=tile_bytes,
        )
        found.loss.backward()
        assert found.row_losses.tolist() == pytest.approx(expected.tolist(), abs=1e-12)
        assert float(found.loss.detach()) == pytest.approx(float(expected.sum().detach()), abs=1e-11)
        assert found.negatives.tolist() == negatives
        assert relative(queries.grad, slow[0]) < 1e-12
        assert relative(documents.grad, slow[1]) < 1e-12
        queries.grad = documents.grad = None
    # every text that could be seen is the positive, a negative, masked or repeated
    seen = found.negatives + found.masked + found.repeated
    for index, row in enumerate(batch):
        whole = len(row["documents"])
        if row["in_batch"]:
            twin = any(other["query_key"] == row["query_key"] and other["row_id"] < row["row_id"] for other in batch)
            # a query is no candidate of itself, but for one that the batch holds twice
            whole = len(documents) + same_tower * (len(batch) - 1 + twin)
        assert seen[index] == whole - 1


@pytest.mark.parametrize("margin", [-0.2, 0.0, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_likely_positives_are_left_out_as_in_the_reference(seed: int, margin: float) -> None:
    batch = [{**row, "both": False} for row in random_batch(seed, rows=9, keys=40, some_off=True)]
    queries, documents = random_vectors(batch, seed)
    expected, negatives = contrastive(queries, documents, batch, 0.3, margin=margin)
    given = arguments(batch, queries, documents)
    found = contrastive_loss(
        **given, temperature=0.3, guide=Guide(margin, queries.detach(), documents.detach()), tile_bytes=1
    )
    assert found.row_losses.tolist() == pytest.approx(expected.tolist(), abs=1e-12)
    assert found.negatives.tolist() == negatives
    assert int(found.likely.sum()) > 0
    plain = contrastive_loss(**given, temperature=0.3)
    assert torch.equal(plain.negatives, found.negatives + found.likely)


def test_a_part_of_the_rows_is_that_part_of_the_whole() -> None:
    batch = random_batch(3, rows=9, keys=14, some_off=True)
    queries, documents = random_vectors(batch, 3)
    whole = contrastive_loss(**arguments(batch, queries, documents, both=True), temperature=0.3, same_tower=True)
    whole.loss.backward()
    gradient = documents.grad.clone()
    documents.grad = None
    for shown in (slice(0, 2), slice(2, 6), slice(6, 9)):
        part = contrastive_loss(
            **arguments(batch, queries, documents, shown, both=True), temperature=0.3, same_tower=True
        )
        part.loss.backward()
        assert part.row_losses.tolist() == pytest.approx(whole.row_losses[shown].tolist(), abs=1e-13)
        assert torch.equal(part.negatives, whole.negatives[shown])
    assert relative(documents.grad, gradient) < 1e-13
    nobody = contrastive_loss(**arguments(batch, queries, documents, slice(0, 0)), temperature=0.3)
    assert nobody.row_losses.shape == (0,)
    assert float(nobody.loss.detach()) == 0


def test_rank_order_of_rows_decides_nothing() -> None:
    batch = random_batch(5, rows=8, keys=6)
    queries, documents = random_vectors(batch, 5)
    straight = contrastive_loss(**arguments(batch, queries, documents, both=True), temperature=0.3)
    turned, places = [dict(row) for row in reversed(batch)], []
    for row in turned:
        start = len(places)
        places += [place for place, _ in row["documents"]]
        row["documents"] = [(start + i, key) for i, (_, key) in enumerate(row["documents"])]
    other = contrastive_loss(**arguments(turned, queries.flip(0), documents[places], both=True), temperature=0.3)
    assert straight.row_losses.tolist() == pytest.approx(other.row_losses.flip(0).tolist(), abs=1e-13)
    assert torch.equal(straight.negatives, other.negatives.flip(0))


def test_a_loss_without_masks_is_told_apart() -> None:
    # what the masks are for: with keys that never repeat and nothing known, the loss is another one
    batch = random_batch(1, rows=9, keys=14)
    queries, documents = random_vectors(batch, 1)
    masked = contrastive_loss(**arguments(batch, queries, documents), temperature=0.3)
    keys = iter(range(1_000_000))
    bare = [{**row, "documents": [(place, next(keys)) for place, _ in row["documents"]]} for row in batch]
    bare = [{**row, "known": {row["documents"][0][1]}, "query_key": next(keys)} for row in bare]
    unmasked = contrastive_loss(**arguments(bare, queries, documents), temperature=0.3)
    assert torch.equal(unmasked.negatives, torch.full_like(unmasked.negatives, len(documents) - 1))
    assert float((unmasked.row_losses - masked.row_losses).abs().max()) > 1e-2


@pytest.mark.parametrize("temperature", [0.01, 0.02])
def test_fp32_equals_a_dense_matrix_at_small_temperature(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    count, size = 512, 64
    batch = [
        {
            "row_id": i,
            "query_key": 10**6 + i,
            "known": {2 * i},
            "in_batch": True,
            "positives": 1,
            "documents": [(2 * i, 2 * i), (2 * i + 1, 2 * i + 1)],
        }
        for i in range(count)
    ]
    # clusters: positives near .8, many negatives near .5, as a trained model has them
    centre = torch.nn.functional.normalize(torch.randn(16, size, generator=generator), dim=1)
    queries = torch.nn.functional.normalize(
        centre[torch.arange(count) % 16] + 0.1 * torch.randn(count, size, generator=generator), dim=1
    )
    documents = torch.nn.functional.normalize(
        queries.repeat_interleave(2, dim=0) + 0.08 * torch.randn(2 * count, size, generator=generator), dim=1
    )
    for tensor in (queries, documents):
        tensor.requires_grad_()
    found = contrastive_loss(**arguments(batch, queries, documents), temperature=temperature, tile_bytes=1 << 18)
    found.loss.backward()
    exact = [tensor.detach().double().requires_grad_() for tensor in (queries, documents)]
    scores = exact[0] @ exact[1].T / temperature
    dense = torch.nn.functional.cross_entropy(scores, torch.arange(0, 2 * count, 2), reduction="none")
    dense.sum().backward()
    dense = dense.detach()
    # 1/t stands before the rounding of a score
    assert float((found.row_losses - dense).abs().max()) < 1e-5 * max(1.0, float(dense.max()))
    for tensor, reference in zip((queries, documents), exact, strict=True):
        assert relative(tensor.grad.double(), reference.grad) < 1e-5
    coarse = queries.detach().bfloat16().float() @ documents.detach().bfloat16().float().T / temperature
    control = torch.nn.functional.cross_entropy(coarse, torch.arange(0, 2 * count, 2), reduction="none")
    assert float((control - dense).abs().max()) > 1e-2


def test_finite_at_small_temperature_with_identical_vectors() -> None:
    batch = random_batch(1, rows=6, keys=1000)
    count = sum(len(row["documents"]) for row in batch)
    queries = torch.nn.functional.normalize(torch.ones(6, 8), dim=-1).requires_grad_()
    documents = torch.nn.functional.normalize(torch.ones(count, 8), dim=-1).requires_grad_()
    found = contrastive_loss(**arguments(batch, queries, documents, both=True), temperature=0.005)
    found.loss.backward()
    one_sided = contrastive_loss(**arguments(batch, queries, documents), temperature=0.005)
    expected = [math.log(1 + negatives) for negatives in one_sided.negatives.tolist()]
    assert one_sided.row_losses.tolist() == pytest.approx(expected, abs=1e-4)
    assert torch.isfinite(queries.grad).all()
    assert torch.isfinite(documents.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coarse_vectors_are_refused(dtype: torch.dtype) -> None:
    batch = random_batch(1, rows=2, keys=50)
    count = sum(len(row["documents"]) for row in batch)
    with pytest.raises(TypeError, match="fp32"):
        contrastive_loss(
            **arguments(batch, torch.ones(2, 4, dtype=dtype), torch.ones(count, 4, dtype=dtype)), temperature=1
        )


def test_scores_stay_fp32_inside_autocast() -> None:
    batch = random_batch(2, rows=6, keys=1000)
    queries, documents = (vectors.detach().float() for vectors in random_vectors(batch, 0))
    plain = contrastive_loss(**arguments(batch, queries, documents), temperature=0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = contrastive_loss(**arguments(batch, queries, documents), temperature=0.01)
    assert torch.equal(plain.row_losses, cast.row_losses)
