"""The masked loss against a slow reference, and its behaviour at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bgetrain.loss import candidates, info_nce, leave_out_likely, scaled_loss
from tests.reference.loss import masked_info_nce


def _random_batch(seed: int, *, rows: int, keys: int, some_off: bool) -> list[dict]:
    rng = np.random.default_rng(seed)
    ids = rng.choice(10_000, rows, replace=False)
    batch, place = [], 0
    for index in range(rows):
        count = int(rng.integers(1, 4))
        documents = [(place + i, int(rng.integers(0, keys))) for i in range(count)]
        place += count
        known = {documents[0][1], *rng.integers(0, keys, rng.integers(0, 3)).tolist()}
        batch.append(
            {
                "row_id": int(ids[index]),
                "query_key": int(rng.integers(0, keys * 2)),
                "known": known,
                "in_batch": not (some_off and rng.random() < 0.4),
                "documents": documents,
            }
        )
    return batch


def _tensors(batch: list[dict], shown: list[dict]) -> dict[str, torch.Tensor]:
    """Arguments of `candidates` for the queries `shown`, against the documents of the whole batch."""
    documents = [(row["row_id"], key) for row in batch for _, key in row["documents"]]
    known = [(index, key) for index, row in enumerate(shown) for key in sorted(row["known"])]
    return {
        "row_ids": torch.tensor([row["row_id"] for row in shown], dtype=torch.int64),
        "query_keys": torch.tensor([row["query_key"] for row in shown], dtype=torch.int64),
        "in_batch": torch.tensor([row["in_batch"] for row in shown], dtype=torch.bool),
        "own": torch.tensor([row["documents"][0][0] for row in shown], dtype=torch.int64),
        "known_keys": torch.tensor([key for _, key in known], dtype=torch.int64),
        "known_rows": torch.tensor([index for index, _ in known], dtype=torch.int64),
        "document_row_ids": torch.tensor([row_id for row_id, _ in documents]),
        "document_keys": torch.tensor([key for _, key in documents]),
    }


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("some_off", [False, True])
def test_equals_the_slow_reference(seed: int, some_off: bool) -> None:
    batch = _random_batch(seed, rows=9, keys=14, some_off=some_off)
    generator = torch.Generator().manual_seed(seed)
    count = sum(len(row["documents"]) for row in batch)
    queries = torch.randn(len(batch), 5, dtype=torch.float64, generator=generator)
    documents = torch.randn(count, 5, dtype=torch.float64, generator=generator)
    chosen = candidates(**_tensors(batch, batch))
    ours = info_nce(queries, documents, chosen, 0.3)
    expected = masked_info_nce(queries.tolist(), documents.tolist(), batch, 0.3)
    assert ours.tolist() == pytest.approx([loss for loss, _ in expected], abs=1e-12)
    assert chosen.negatives.tolist() == [negatives for _, negatives in expected]
    # every document that could be seen is the positive, a negative, masked or repeated
    for index, row in enumerate(batch):
        seen = count if row["in_batch"] else len(row["documents"])
        assert seen == 1 + int((chosen.negatives + chosen.masked + chosen.repeated)[index])


def test_mask_of_a_part_of_the_queries_is_that_part_of_the_mask() -> None:
    batch = _random_batch(3, rows=9, keys=14, some_off=True)
    whole = candidates(**_tensors(batch, batch)).allowed
    assert torch.equal(candidates(**_tensors(batch, batch[2:6])).allowed, whole[2:6])
    assert candidates(**_tensors(batch, [])).allowed.shape == (0, whole.shape[1])


def test_rank_order_of_documents_decides_nothing() -> None:
    batch = _random_batch(5, rows=8, keys=6, some_off=False)
    straight = candidates(**_tensors(batch, batch))
    turned = [dict(row) for row in reversed(batch)]
    place = 0
    for row in turned:
        row["documents"] = [(place + i, key) for i, (_, key) in enumerate(row["documents"])]
        place += len(row["documents"])
    other = candidates(**_tensors(turned, turned))
    assert straight.negatives.tolist() == other.negatives.flip(0).tolist()
    names = {(row["row_id"], i): p for row in batch for i, (p, _) in enumerate(row["documents"])}
    back = {(row["row_id"], i): p for row in turned for i, (p, _) in enumerate(row["documents"])}
    columns = torch.tensor([back[name] for name in sorted(names, key=names.__getitem__)])
    assert torch.equal(other.allowed.flip(0)[:, columns], straight.allowed)


def test_finite_at_small_temperature_with_identical_vectors() -> None:
    batch = _random_batch(1, rows=6, keys=1000, some_off=False)
    vectors = torch.nn.functional.normalize(torch.ones(6, 8), dim=-1).requires_grad_()
    count = sum(len(row["documents"]) for row in batch)
    documents = torch.nn.functional.normalize(torch.ones(count, 8), dim=-1)
    chosen = candidates(**_tensors(batch, batch))
    losses = info_nce(vectors, documents, chosen, 0.005)
    losses.sum().backward()
    expected = [math.log(1 + negatives) for negatives in chosen.negatives.tolist()]
    assert losses.tolist() == pytest.approx(expected, abs=1e-4)
    assert torch.isfinite(vectors.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coarse_scores_are_refused(dtype: torch.dtype) -> None:
    batch = _random_batch(1, rows=2, keys=50, some_off=False)
    count = sum(len(row["documents"]) for row in batch)
    with pytest.raises(TypeError, match="fp32"):
        info_nce(
            torch.ones(2, 4, dtype=dtype), torch.ones(count, 4, dtype=dtype), candidates(**_tensors(batch, batch)), 1
        )


def test_scores_stay_fp32_inside_autocast() -> None:
    batch = _random_batch(2, rows=6, keys=1000, some_off=False)
    count = sum(len(row["documents"]) for row in batch)
    generator = torch.Generator().manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(6, 64, generator=generator), dim=-1)
    documents = torch.nn.functional.normalize(torch.randn(count, 64, generator=generator), dim=-1)
    chosen = candidates(**_tensors(batch, batch))
    plain = info_nce(queries, documents, chosen, 0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(queries, documents, chosen, 0.01), plain)
    # the control: what autocast would have made of the scores is visibly another loss
    coarse = info_nce(queries.bfloat16().float(), documents.bfloat16().float(), chosen, 0.01)
    assert (coarse - plain).abs().max() > 1e-3


def test_what_scores_above_the_positive_by_the_margin_is_left_out() -> None:
    batch = _random_batch(6, rows=7, keys=1000, some_off=True)
    count = sum(len(row["documents"]) for row in batch)
    generator = torch.Generator().manual_seed(6)
    queries = torch.randn(7, 4, generator=generator, requires_grad=True)
    documents = torch.randn(count, 4, generator=generator)
    chosen = candidates(**_tensors(batch, batch))
    left = leave_out_likely(queries, documents, chosen, 0.1)
    owner = [index for index, row in enumerate(batch) for _ in row["documents"]]
    for query in range(7):
        cosine = torch.nn.functional.cosine_similarity(queries[query].detach(), documents, dim=1)
        for column in range(count):
            likely = owner[column] != query and bool(cosine[column] > cosine[chosen.own[query]] + 0.1)
            assert bool(left.allowed[query, column]) == (bool(chosen.allowed[query, column]) and not likely)
    assert left.likely.sum() > 5
    assert torch.equal(left.negatives + left.likely, chosen.negatives)
    assert not left.likely.requires_grad
    # The control: a margin that no cosine passes leaves all of them.
    assert torch.equal(leave_out_likely(queries, documents, chosen, 2.0).allowed, chosen.allowed)


def test_no_rows_give_a_loss_that_still_carries_a_gradient() -> None:
    batch = _random_batch(4, rows=4, keys=50, some_off=False)
    count = sum(len(row["documents"]) for row in batch)
    documents = torch.ones(count, 4, requires_grad=True)
    losses = info_nce(torch.zeros(0, 4, requires_grad=True), documents, candidates(**_tensors(batch, [])), 0.1)
    loss = scaled_loss(losses, global_rows=4, world_size=3)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(documents.grad, torch.zeros_like(documents))
