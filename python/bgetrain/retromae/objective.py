"""One step over this rank's blocks to its gradient: chunk by chunk, each forth and back at once.

A label counts 1 / (labels of its kind in the step, over all ranks and batches), so that chunks, ranks and accumulation
change nothing but rounding; encoder and decoder count the same as wholes (Xiao et al. 2022, equation 7).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from bgetrain.errors import LaunchError
from bgetrain.gather import exchange
from bgetrain.precision import half_precision
from bgetrain.record import Record, TextRecord
from bgetrain.retromae.data import rectangle
from bgetrain.retromae.model import Scales

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from bgetrain.config import PretrainConfig
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks
    from bgetrain.learner import Result
    from bgetrain.retromae.data import PretrainBatch
    from bgetrain.retromae.model import PretrainModel

__all__ = ["Pretraining", "TextResult"]


@dataclass(slots=True)
class TextResult:
    """What a batch came to on this rank; n blocks, nothing carries a gradient.

    Attributes:
        row_losses: float [n], encoder and decoder loss of each block as means over its own labels.
        source_ids: int64 [n].
        tokens: tokens of the blocks.
        squares: their squared lengths, summed.
        computed: tokens that went through the encoder, padding included.
        replayed: none twice.
        more_flops: of decoder and head.
        sums: what the record is made of.
    """

    row_losses: Tensor
    source_ids: Tensor
    tokens: int
    squares: int
    computed: int = 0
    replayed: int = 0
    more_flops: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def counts(self) -> dict[str, Tensor]:
        """The sums that `record.TextRecord` is made of."""
        return self.sums

    def add(self, name: str, value: Tensor | float) -> None:
        """Adds to a sum."""
        given = torch.as_tensor(value, dtype=torch.float64, device=self.row_losses.device)
        self.sums[name] = self.sums[name] + given if name in self.sums else given


@dataclass(frozen=True, slots=True)
class Pretraining:
    """Pre-trains a model; see `learner.Learner`.

    Attributes:
        module: on the device of `ranks`.
        ranks: the place of this process.
        config: the method.
        chunk_tokens: most tokens of a chunk, padding included; a longer block is a chunk of its own.
        bf16: run transformer and decoder under bfloat16 autocast; losses stay in fp32.
        fp16: the same in float16.
    """

    module: PretrainModel
    ranks: Ranks
    config: PretrainConfig
    chunk_tokens: int
    bf16: bool = False
    fp16: bool = False

    @property
    def encoder(self) -> Encoder:
        """What is measured while training, and exported."""
        return self.module.encoder

    @property
    def record(self) -> type[Record]:
        """That of texts."""
        return TextRecord

    def holding(self, module: nn.Module) -> Pretraining:
        """The same around another model."""
        return replace(self, module=cast("PretrainModel", module))

    def export(self, folder: Path, recipe: dict[str, Any]) -> None:
        """Encoder, head and decoder."""
        self.module.save(folder, recipe)

    def gradient(self, batches: list[PretrainBatch], *, loss_scale: float = 1.0) -> list[Result]:
        """Adds the gradient of this rank's blocks to the weights; every rank must call it."""
        scales = self._scales(batches, loss_scale)
        return [self._batch(batch, scales, last=batch is batches[-1]) for batch in batches]

    def _scales(self, batches: list[PretrainBatch], loss_scale: float) -> Scales:
        """1 / labels of the step, times the ranks, whose gradients are averaged afterwards."""
        shares = exchange(
            [
                sum(len(batch.texts.labels) for batch in batches),
                sum(len(batch.decoder_places) for batch in batches),
                sum(len(batch.source_ids) for batch in batches),
                sum(batch.texts.global_blocks for batch in batches),
            ],
            self.ranks,
        )
        masked, decoded, texts = (sum(share[kind] for share in shares) for kind in range(3))
        if any(share[3] != texts for share in shares):
            raise LaunchError(f"the ranks hold parts of different batches: labels, blocks and batch size are {shares}")
        # with the loss scale from the start, since the gradient of the logits is made where they are
        size = self.ranks.world_size * loss_scale
        bow = self.config.bow_loss_weight if self.config.pretrain_method == "dupmae" else 0.0
        return Scales(size / max(1, masked), size / max(1, decoded), bow * size / max(1, texts))

    def _batch(self, batch: PretrainBatch, scales: Scales, *, last: bool) -> TextResult:
        texts, device = batch.texts, self.ranks.device
        lengths = np.diff(texts.offsets)
        row_losses = torch.zeros(len(lengths), device=device)
        squares = int((lengths**2).sum())
        result = TextResult(
            row_losses, torch.from_numpy(batch.source_ids).to(device, non_blocking=True), int(lengths.sum()), squares
        )
        model, bow = self.module, self.config.pretrain_method == "dupmae"
        labels = len(texts.labels) + (len(batch.decoder_places) if model.decoder is not None else 0)
        result.more_flops = model.flops(tokens=result.tokens, squares=squares, labels=labels)
        _start_sums(result, batch, decodes=model.decoder is not None, bow=bow)
        with half_precision(device, bf16=self.bf16, fp16=self.fp16):
            chunks = [chosen for chosen, _ in model.encoder.chunks(lengths, self.chunk_tokens)] if len(lengths) else []
        sharding = model.encoder.sharding
        idle = 0 if sharding is None else sharding.agree(len(chunks), 0)[0]
        passes: list[NDArray[np.int64] | None] = [*[None] * idle, *chunks]
        for place, chosen in enumerate(passes, start=1):
            if sharding is not None:
                sharding.reduce_next(last and place == len(passes))
            if chosen is None:
                # the blocks drop what they drop without it
                with torch.random.fork_rng([device] if device.type == "cuda" else []):
                    with half_precision(device, bf16=self.bf16, fp16=self.fp16):
                        nothing = model.idle()
                    nothing.backward()  # type: ignore[no-untyped-call]
                continue
            laid_out = rectangle(batch, chosen, pad_id=model.encoder.pad_id).to(device)
            with half_precision(device, bf16=self.bf16, fp16=self.fp16):
                losses = model.chunk(batch, laid_out, chosen, scales, bow=bow)
            losses.loss.backward()  # type: ignore[no-untyped-call]
            result.computed += losses.computed
            result.add("encoder_loss", losses.encoder.sum())
            result.add("encoder_found", losses.encoder_found)
            each = losses.encoder / torch.bincount(laid_out.masked_texts, minlength=len(chosen)).clamp(min=1)
            if losses.decoder is not None and losses.decoder_found is not None:
                result.add("decoder_loss", losses.decoder.sum())
                result.add("decoder_found", losses.decoder_found)
                each = each + losses.decoder / torch.bincount(laid_out.decoded_texts, minlength=len(chosen)).clamp(
                    min=1
                )
            if losses.bow is not None:
                result.add("bow_loss", losses.bow.sum())
                result.add("bow_weighted", self.config.bow_loss_weight * losses.bow.sum())
            row_losses[torch.from_numpy(chosen).to(device)] = each.float()
        return result


def _start_sums(result: TextResult, batch: PretrainBatch, *, decodes: bool, bow: bool) -> None:
    """All names at 0, since a rank without blocks must tell the same ones."""
    names = ["encoder_loss", "encoder_found"]
    result.add("encoder_labels", len(batch.texts.labels))
    if decodes:
        names += ["decoder_loss", "decoder_found"]
        result.add("decoder_labels", len(batch.decoder_places))
    if bow:
        names += ["bow_loss", "bow_weighted"]
        result.add("texts", len(batch.source_ids))
    for name in names:
        result.add(name, 0.0)
