"""One batch through the encoder to its gradient: encode → gather → loss → backward.

What a rank does with its rows; the same code on one process and on many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from bgetrain.errors import LaunchError
from bgetrain.gather import exchange, gather_rows, gather_rows_with_gradient
from bgetrain.grad_cache import embed_cached
from bgetrain.loss import Guide, Names, Rows, Seen, contrastive_loss, cosent, kl_to_teacher, margin_mse, taught_rows
from bgetrain.padding import TokenRows
from bgetrain.precision import half_precision

if TYPE_CHECKING:
    from torch import Tensor

    from bgetrain.activation_memory import Chunking
    from bgetrain.config import LossConfig
    from bgetrain.data import TrainBatch
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks

__all__ = ["BatchResult", "batch_gradient"]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What the log tells of a batch on this rank; n rows, nothing carries a gradient.

    Attributes:
        row_losses: float [n].
        source_ids: int64 [n], index of each query's source in the shard set.
        negatives: int64 [n], documents a query was scored against, without its own positive.
        masked: int64 [n], texts left out because they are a known positive or the query itself.
        repeated: int64 [n], documents left out because the batch holds their text already.
        likely: int64 [n], documents left out because they score like a positive.
        flat: bool [n], whether all documents of a query with negatives score alike.
        taught: rows that a teacher taught, None without distillation.
        tokens: tokens of this rank's texts.
        squares: their squared lengths, summed.
        computed: tokens that went through the encoder, padding included.
        replayed: those of them that went through it a second time.
    """

    row_losses: Tensor
    source_ids: Tensor
    negatives: Tensor
    masked: Tensor
    repeated: Tensor
    likely: Tensor
    flat: Tensor
    taught: int | None
    tokens: int
    squares: int
    computed: int
    replayed: int

    @property
    def more_flops(self) -> float:
        """The loss is little beside the encoder."""
        return 0.0

    def counts(self) -> dict[str, Tensor]:
        """The sums that `record.PairRecord` is made of."""
        found = {
            "negatives": self.negatives,
            "masked": self.masked,
            "repeated": self.repeated,
            "likely": self.likely,
            "flat": self.flat,
            "with_negatives": self.negatives > 0,
        }
        sums = {name: values.sum(dtype=torch.float64) for name, values in found.items()}
        if self.taught is not None:
            sums["taught"] = torch.tensor(self.taught, dtype=torch.float64, device=self.row_losses.device)
        return sums


def batch_gradient(
    encoder: Encoder,
    batch: TrainBatch,
    ranks: Ranks,
    config: LossConfig,
    *,
    step_rows: int,
    chunking: Chunking,
    bf16: bool = False,
    guide: Encoder | None = None,
    fp16: bool = False,
    loss_scale: float = 1.0,
    last: bool = True,
) -> BatchResult:
    """Adds the gradient of this rank's rows, scored against the documents of all ranks, to the weights.

    Every rank must call it for the same global batch, ranks without rows included. The sum over ranks of what each
    adds, divided by their number, is the gradient of the whole batch.

    Args:
        encoder: on the device of `ranks`.
        batch: the rows of this rank.
        ranks: the place of this process.
        config: which losses, and whether documents travel between ranks.
        step_rows: rows of the whole step over all ranks, more than the batch's own under accumulation.
        chunking: how many tokens the encoder takes at once, and of how many the graphs are kept.
        bf16: run the transformer under bfloat16 autocast; the loss stays in fp32.
        guide: an encoder of the same vocabulary that tells likely positives; None for the one in training.
        fp16: run it under float16 autocast instead.
        loss_scale: the gradient that is added is this many times larger.
        last: whether this is the last batch of the step.

    Returns:
        Losses and counts.

    Raises:
        LaunchError: the ranks do not hold the parts of one batch.
    """
    graded = _graded(batch)
    shares = exchange(
        [len(batch.queries), len(batch.documents), len(batch.known_keys), int(graded.sum()), batch.global_rows], ranks
    )
    if sum(share[0] for share in shares) != batch.global_rows or any(share[4] != batch.global_rows for share in shares):
        raise LaunchError(f"the ranks hold parts of different batches: rows, documents and batch size are {shares}")

    texts = TokenRows.concatenate(batch.queries, batch.documents)
    embedded = embed_cached(
        encoder, texts, chunk_tokens=chunking.chunk_tokens, keep_tokens=chunking.keep_tokens, bf16=bf16, fp16=fp16
    )
    step = _Step(batch, graded, shares, ranks, config, step_rows)
    half = half_precision(ranks.device, bf16=bf16, fp16=fp16)
    result = step.loss(embedded.vectors, step.guide_vectors(guide, texts, chunking, half))
    result.loss.backward()  # type: ignore[no-untyped-call]
    embedded.backward(loss_scale, last=last)
    return BatchResult(
        row_losses=result.row_losses,
        source_ids=batch.source_ids.to(ranks.device, non_blocking=True),
        negatives=result.negatives,
        masked=result.masked,
        repeated=result.repeated,
        likely=result.likely,
        flat=(result.negatives > 0)
        & torch.isclose(result.row_losses, torch.log1p(result.negatives.to(result.row_losses))),
        taught=int(taught_rows(batch.document_rows, batch.document_scores, len(batch.queries)).sum())
        if config.knowledge_distillation
        else None,
        tokens=len(texts.ids),
        squares=int((texts.lengths**2).sum()),
        computed=embedded.computed,
        replayed=embedded.replayed,
    )


def _graded(batch: TrainBatch) -> Tensor:
    """Rows whose pair carries a grade: of a symmetric source, scored, and without negatives; bool [n]."""
    documents = torch.bincount(batch.document_rows, minlength=len(batch.queries))
    first = batch.own[torch.searchsorted(batch.own_rows, torch.arange(len(batch.queries)))]
    return batch.symmetric & (documents == 1) & torch.isfinite(batch.document_scores[first])


@dataclass(frozen=True, slots=True)
class _Losses:
    loss: Tensor
    row_losses: Tensor
    negatives: Tensor
    masked: Tensor
    repeated: Tensor
    likely: Tensor


class _Step:
    """The losses of one batch on this rank."""

    def __init__(
        self,
        batch: TrainBatch,
        graded: Tensor,
        shares: list[list[int]],
        ranks: Ranks,
        config: LossConfig,
        step_rows: int,
    ) -> None:
        self.batch, self.ranks, self.config = batch, ranks, config
        self.shares = shares
        self.graded_everywhere = sum(share[3] for share in shares)
        self.graded = graded.to(ranks.device)
        self.row_weight = ranks.world_size / step_rows
        self.graded_weight = self.graded_everywhere / step_rows
        self.local = shares[ranks.rank]
        # what the candidates are: the texts of all ranks, or this rank's own
        self.counts = shares if config.negatives_cross_device else [self.local]
        self.place = ranks.rank if config.negatives_cross_device else 0

    def loss(self, vectors: Tensor, guide: Guide | None) -> _Losses:
        """All terms, weighted; every rank must call it."""
        config, batch = self.config, self.batch
        own_queries, own_documents = torch.split(vectors, self.local[:2])
        both = config.loss_directions == "both" or (config.loss_directions == "by_task" and batch.any_symmetric)
        documents = self._gather(own_documents, 1)
        queries = self._gather(own_queries, 0) if both or config.same_tower_negatives else None
        rows = self._rows(own_queries.dtype)
        if guide is None and config.false_negative_margin is not None and config.false_negative_margin < 2:
            # the model in training is its own guide (Zhang et al. 2025, Qwen3 Embedding, section 2.2)
            guide = Guide(config.false_negative_margin, *map(_unit, (own_queries.detach(), documents.detach())))
        names = self._names()
        parts = []
        # the full length first: its counts are logged
        for size in sorted({*config.mrl_dims, vectors.shape[1]}, reverse=True):
            cut = [_shortened(part, size) for part in (own_queries, documents, queries)]
            assert cut[0] is not None
            assert cut[1] is not None
            parts.append(
                contrastive_loss(
                    cut[0],
                    rows,
                    Seen(cut[2], cut[1], names),
                    temperature=config.temperature,
                    same_tower=config.same_tower_negatives,
                    hardness=config.hardness_weight,
                    guide=guide,
                )
            )
        total = torch.stack([part.loss for part in parts]).mean()
        row_losses = torch.stack([part.row_losses for part in parts]).mean(dim=0)
        if config.knowledge_distillation:
            taught = config.kd_weight * self._distilled(own_queries, own_documents)
            total = total + taught.sum() * self.row_weight
            row_losses = row_losses + taught.detach()
        if self.graded_everywhere:
            of_grades = self._of_grades(own_queries, own_documents)
            # the same number on every rank, whose gradients are summed by the gather and averaged afterwards
            total = total + of_grades * self.graded_weight
            row_losses = torch.where(self.graded, of_grades.detach(), row_losses)
        full = parts[0]
        return _Losses(total, row_losses, full.negatives, full.masked, full.repeated, full.likely)

    def guide_vectors(
        self, encoder: Encoder | None, texts: TokenRows, chunking: Chunking, half: torch.autocast
    ) -> Guide | None:
        """What a guide of its own says of the batch's texts; every rank must call it."""
        margin = self.config.false_negative_margin
        if encoder is None or margin is None:
            return None
        with torch.no_grad(), half:
            vectors, _ = encoder.embed(texts, batch_tokens=chunking.chunk_tokens)
        queries, documents = torch.split(_unit(vectors), self.local[:2])
        if self.config.negatives_cross_device:
            documents = gather_rows(documents, [share[1] for share in self.shares], self.ranks)
        return Guide(margin, queries, documents)

    def _gather(self, own: Tensor, column: int) -> Tensor:
        if not self.config.negatives_cross_device:
            return own
        return gather_rows_with_gradient(own, [share[column] for share in self.shares], self.ranks)

    def _rows(self, dtype: torch.dtype) -> Rows:
        batch, device = self.batch, self.ranks.device
        weights = torch.full((len(batch.queries),), self.row_weight, dtype=dtype, device=device)
        symmetric = batch.symmetric.to(device, non_blocking=True)
        both = {
            "query": torch.zeros_like(symmetric),
            "both": torch.ones_like(symmetric),
            "by_task": symmetric,
        }[self.config.loss_directions]
        return Rows(
            row_ids=batch.row_ids.to(device, non_blocking=True),
            query_keys=batch.query_keys.to(device, non_blocking=True),
            in_batch=batch.in_batch.to(device, non_blocking=True),
            both_sides=both,
            weights=weights.masked_fill(self.graded, 0.0),
            own_rows=batch.own_rows.to(device, non_blocking=True),
            own=batch.own.to(device, non_blocking=True),
            known_keys=batch.known_keys.to(device, non_blocking=True),
            known_rows=batch.known_rows.to(device, non_blocking=True),
            first_query=sum(share[0] for share in self.counts[: self.place]),
            first_document=sum(share[1] for share in self.counts[: self.place]),
            documents=self.local[1],
        )

    def _names(self) -> Names:
        """Keys and row ids of all candidates, in one exchange."""
        batch, device = self.batch, self.ranks.device
        keys = torch.cat([batch.query_keys, batch.document_keys, batch.known_keys])
        row_ids = torch.cat(
            [batch.row_ids, batch.row_ids[batch.document_rows], batch.row_ids[batch.known_rows]],
        )
        named = torch.stack([keys, row_ids], dim=1)
        if self.config.negatives_cross_device:
            named = gather_rows(named, [sum(share[:3]) for share in self.shares], self.ranks)
        sizes = [count for share in self.counts for count in share[:3]]
        parts = torch.split(named.to(device, non_blocking=True), sizes)
        query, document, known = (torch.cat(parts[start::3]).unbind(1) for start in range(3))
        return Names(*(part.contiguous() for part in (*query, *document, *known)))

    def _distilled(self, queries: Tensor, documents: Tensor) -> Tensor:
        config, device = self.config, self.ranks.device
        rows = self.batch.document_rows.to(device, non_blocking=True)
        scores = self.batch.document_scores.to(device, non_blocking=True)
        if config.kd_loss_type == "margin_mse":
            return margin_mse(queries, documents, rows, scores, teacher_temperature=config.kd_temperature)
        return kl_to_teacher(
            queries,
            documents,
            rows,
            scores,
            temperature=config.temperature,
            teacher_temperature=config.kd_temperature,
        )

    def _of_grades(self, queries: Tensor, documents: Tensor) -> Tensor:
        """Of all graded rows of the global batch; every rank must call it."""
        batch, ranks, device = self.batch, self.ranks, self.ranks.device
        owners = torch.nonzero(self.graded).squeeze(1)
        first = torch.searchsorted(batch.own_rows.to(device), owners)
        columns = batch.own.to(device)[first]
        cosines = (queries[owners] * documents[columns]).sum(dim=1, keepdim=True)
        grades = batch.document_scores.to(device)[columns][:, None]
        counts = [share[3] for share in self.shares]
        cosines = gather_rows_with_gradient(cosines, counts, ranks)
        grades = gather_rows(grades, counts, ranks)
        return cosent(cosines.squeeze(1), grades.squeeze(1), self.config.graded_temperature)


def _unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=1)


def _shortened(vectors: Tensor | None, size: int) -> Tensor | None:
    """The first dimensions of each vector, of length 1 again (Kusupati et al. 2022, arXiv 2205.13147)."""
    if vectors is None or size == vectors.shape[1]:
        return vectors
    return _unit(vectors[:, :size])
