"""One batch through the encoder to its loss: encode → gather → mask → score.

What a rank does with its rows; the same code on one process and on many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bgetrain.errors import LaunchError
from bgetrain.gather import exchange, gather_rows, gather_rows_with_gradient
from bgetrain.loss import candidates, info_nce, leave_out_likely, scaled_loss
from bgetrain.padding import TokenRows

if TYPE_CHECKING:
    from torch import Tensor

    from bgetrain.config import LossConfig
    from bgetrain.data import TrainBatch
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks

__all__ = ["BatchResult", "batch_loss"]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The loss of a batch on this rank, and what the log tells of it.

    Attributes:
        loss: scalar to run the backward pass on, scaled as `loss.scaled_loss` says.
        row_losses: float [n], without gradient.
        source_ids: int64 [n], index of each query's source in the shard set.
        negatives: int64 [n], documents a query was scored against, without its own positive.
        masked: int64 [n], documents left out because they are a known positive or the query itself.
        repeated: int64 [n], documents left out because they are counted already.
        likely: int64 [n], documents left out because they score like a positive.
        flat: bool [n], whether all documents of a query with negatives score alike.
        tokens: tokens of this rank's texts.
        computed: tokens computed, padding included.
    """

    loss: Tensor
    row_losses: Tensor
    source_ids: Tensor
    negatives: Tensor
    masked: Tensor
    repeated: Tensor
    likely: Tensor
    flat: Tensor
    tokens: int
    computed: int


def batch_loss(
    encoder: Encoder,
    batch: TrainBatch,
    ranks: Ranks,
    config: LossConfig,
    *,
    step_rows: int,
    micro_batch_tokens: int,
    bf16: bool = False,
) -> BatchResult:
    """Encodes the rows of this rank and scores them against the documents of all ranks.

    Every rank must call it for the same global batch, ranks without rows included.

    Args:
        encoder: on the device of `ranks`.
        batch: the rows of this rank.
        ranks: the place of this process.
        config: temperature, and whether documents travel between ranks.
        step_rows: rows of the whole step over all ranks, more than the batch's own under accumulation.
        micro_batch_tokens: most tokens the encoder takes at once.
        bf16: run the transformer under bfloat16 autocast; the loss stays in fp32.

    Returns:
        Loss and counts.

    Raises:
        LaunchError: the ranks do not hold the parts of one batch.
    """
    shares = exchange([len(batch.queries), len(batch.documents), batch.global_rows], ranks)
    if sum(share[0] for share in shares) != batch.global_rows or any(share[2] != batch.global_rows for share in shares):
        raise LaunchError(f"the ranks hold parts of different batches: rows, documents and batch size are {shares}")

    texts = TokenRows.concatenate(batch.queries, batch.documents)
    with torch.autocast(ranks.device.type, dtype=torch.bfloat16, enabled=bf16):
        vectors, computed = encoder.embed(texts, batch_tokens=micro_batch_tokens)
    queries, documents = torch.split(vectors, [len(batch.queries), len(batch.documents)])

    names = torch.stack([batch.document_keys, batch.document_row_ids], dim=1)
    own = batch.own
    if config.negatives_cross_device:
        counts = [share[1] for share in shares]
        documents = gather_rows_with_gradient(documents, counts, ranks)
        names = gather_rows(names, counts, ranks)
        own = own + sum(counts[: ranks.rank])
    device = ranks.device
    names = names.to(device, non_blocking=True)
    chosen = candidates(
        row_ids=batch.row_ids.to(device, non_blocking=True),
        query_keys=batch.query_keys.to(device, non_blocking=True),
        in_batch=batch.in_batch.to(device, non_blocking=True),
        own=own.to(device, non_blocking=True),
        known_keys=batch.known_keys.to(device, non_blocking=True),
        known_rows=batch.known_rows.to(device, non_blocking=True),
        document_row_ids=names[:, 1].contiguous(),
        document_keys=names[:, 0].contiguous(),
    )
    # No cosine is more than 2 above another.
    if (margin := config.false_negative_margin) is not None and margin < 2:
        chosen = leave_out_likely(queries, documents, chosen, margin)
    row_losses = info_nce(queries, documents, chosen, config.temperature)
    return BatchResult(
        loss=scaled_loss(row_losses, global_rows=step_rows, world_size=ranks.world_size),
        row_losses=row_losses.detach(),
        source_ids=batch.source_ids.to(device, non_blocking=True),
        negatives=chosen.negatives,
        masked=chosen.masked,
        repeated=chosen.repeated,
        likely=chosen.likely,
        flat=(chosen.negatives > 0) & torch.isclose(row_losses.detach(), torch.log1p(chosen.negatives.to(row_losses))),
        tokens=len(texts.ids),
        computed=computed,
    )
