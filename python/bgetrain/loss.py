"""InfoNCE over the documents of all ranks, with known positives masked. Pure functions of tensors.

Rank r holds n of the N queries of a global batch and sees M documents. With temperature t, query i scores
document j by s_ij = q_i . d_j / t and pays

    l_i = log sum_{j in A(i)} exp(s_ij) - s_i,own        A(i): its own positive and its negatives

The local loss is W / N * sum_i l_i; gradients are averaged over the W ranks afterwards, which makes the
gradient that of the whole batch on one process, however unequal the ranks are (van den Oord et al. 2018
for the loss; one-directional, as in C-Pack, Xiao et al. 2023).

Who is in A(i). A text is named by its 64-bit key. Document j is left out for query i, unless it is i's own
positive, where
- its key is a known positive of i, the key of i's own positive, or the key of the query itself, or
- it repeats a document that is counted already, or
- the source of i is trained without in-batch negatives and j belongs to another row, or
- `leave_out_likely` is asked for, and j belongs to another row and scores far above i's own positive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Candidates", "candidates", "info_nce", "leave_out_likely", "scaled_loss"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Which documents each local query is scored against.

    Attributes:
        allowed: bool [n, M]; the own positive is always allowed.
        own: int64 [n], the column of each query's own positive.
        masked: int64 [n], documents left out because they are a known positive or the query itself.
        repeated: int64 [n], documents left out because they are counted already.
        likely: int64 [n], documents left out because they score like a positive.
        same_row: bool [n, M], documents that the query's own row brought.
    """

    allowed: Tensor
    own: Tensor
    masked: Tensor
    repeated: Tensor
    likely: Tensor
    same_row: Tensor

    @property
    def negatives(self) -> Tensor:
        """The effective negatives of each query, int64 [n]."""
        return self.allowed.sum(dim=1) - 1


def candidates(
    *,
    row_ids: Tensor,
    query_keys: Tensor,
    in_batch: Tensor,
    own: Tensor,
    known_keys: Tensor,
    known_rows: Tensor,
    document_row_ids: Tensor,
    document_keys: Tensor,
) -> Candidates:
    """Decides which documents are negatives of which query.

    Keys and ids are 64-bit and only compared for equality, so unsigned values may come as int64 bits. The
    result does not depend on how rows are spread over ranks: of equal documents the one of the smallest
    row id stays.

    Args:
        row_ids: int64 [n], the shard-set row of each local query.
        query_keys: int64 [n].
        in_batch: bool [n], False where only the row's own documents may be negatives.
        own: int64 [n], the column of each query's own positive.
        known_keys: int64 [k], known positives of the local queries, flat.
        known_rows: int64 [k], the local query each of them belongs to.
        document_row_ids: int64 [M], the row each document belongs to.
        document_keys: int64 [M].

    Returns:
        The candidates of the n queries.
    """
    columns = torch.arange(len(document_keys), device=document_keys.device)
    is_own = columns[None, :] == own[:, None]
    same_row = document_row_ids[None, :] == row_ids[:, None]

    keys, which = torch.unique(document_keys, return_inverse=True)
    known = torch.zeros(len(row_ids), len(keys) + 1, dtype=torch.bool, device=keys.device)
    everyone = torch.arange(len(row_ids), device=keys.device)
    known[everyone, _find(keys, query_keys)] = True
    known[everyone, _find(keys, document_keys[own])] = True
    known[known_rows, _find(keys, known_keys)] = True
    is_known = known[:, which] & ~is_own

    in_scope = in_batch[:, None] | same_row
    repeats_any = _repeats(which, document_row_ids)
    repeats_in_row = _repeats(which, document_row_ids, within_row=True)
    is_repeat = torch.where(in_batch[:, None], repeats_any[None, :], repeats_in_row[None, :]) & ~is_own

    return Candidates(
        allowed=in_scope & ~is_known & ~is_repeat,
        own=own,
        masked=(is_known & in_scope).sum(dim=1),
        repeated=(is_repeat & in_scope & ~is_known).sum(dim=1),
        likely=torch.zeros_like(row_ids),
        same_row=same_row,
    )


@torch.no_grad()
def leave_out_likely(queries: Tensor, documents: Tensor, chosen: Candidates, margin: float) -> Candidates:
    """Leaves out documents of other rows that are more like the query than its positive is, by more than a margin.

    The model in training is its own guide (Zhang et al. 2025, Qwen3 Embedding, section 2.2, where the margin is 0.1).
    A row's own hard negatives stay: they were chosen to be none of its positives.

    Args:
        queries: float [n, D].
        documents: float [M, D].
        chosen: which documents count so far.
        margin: by how much the cosine has to be higher.

    Returns:
        The candidates that are left.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        cosines = torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(documents, dim=1).T
    of_positive = cosines.gather(1, chosen.own[:, None])
    likely = chosen.allowed & ~chosen.same_row & (cosines > of_positive + margin)
    return replace(chosen, allowed=chosen.allowed & ~likely, likely=likely.sum(dim=1))


def _find(keys: Tensor, wanted: Tensor) -> Tensor:
    """The place of each wanted key among the sorted keys, or len(keys) where it is absent."""
    if len(keys) == 0:
        return torch.zeros_like(wanted)
    places = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[places] == wanted, places, len(keys))


def _repeats(which: Tensor, row_ids: Tensor, *, within_row: bool = False) -> Tensor:
    """Marks each document that is not the first of its key, in the order of row ids; bool [M]."""
    order = torch.argsort(row_ids, stable=True)
    order = order[torch.argsort(which[order], stable=True)]
    repeats = torch.zeros_like(which, dtype=torch.bool)
    same = which[order[1:]] == which[order[:-1]]
    if within_row:
        same = same & (row_ids[order[1:]] == row_ids[order[:-1]])
    repeats[order[1:]] = same
    return repeats


def info_nce(queries: Tensor, documents: Tensor, chosen: Candidates, temperature: float) -> Tensor:
    """The loss of each local query.

    Runs outside autocast, in the type of its inputs: fp32 at least. TF32 and bf16 scores are too coarse at
    the temperatures in use.

    Args:
        queries: float [n, D].
        documents: float [M, D].
        chosen: which documents count.
        temperature: t, above 0.

    Returns:
        float [n], each at least 0.

    Raises:
        TypeError: a tensor is coarser than fp32.
    """
    if queries.dtype not in {torch.float32, torch.float64} or queries.dtype != documents.dtype:
        raise TypeError(f"scores need fp32 or fp64 vectors: found {queries.dtype} and {documents.dtype}")
    with torch.autocast(device_type=queries.device.type, enabled=False):
        scores = queries @ documents.T / temperature
        own_scores = scores.gather(1, chosen.own[:, None]).squeeze(1)
        return torch.logsumexp(scores.masked_fill(~chosen.allowed, float("-inf")), dim=1) - own_scores


def scaled_loss(row_losses: Tensor, *, global_rows: int, world_size: int) -> Tensor:
    """The scalar a rank runs its backward pass on: W / N * sum of its rows.

    Args:
        row_losses: float [n], of this rank; n may be 0.
        global_rows: N, rows over all ranks and, under accumulation, over all batches of the step.
        world_size: W, since gradients are averaged over ranks afterwards.

    Returns:
        A scalar that carries a gradient even without rows.
    """
    return row_losses.sum() * (world_size / global_rows)
