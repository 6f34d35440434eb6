"""Encoder, masked-LM head and decoder as one module; how they are read and written.

```
<model>/config.json model.safetensors …   the encoder with its masked-LM head, in the layout of any exported encoder:
                                          contrastive training, sentence-transformers and AutoModelForMaskedLM open it
<model>/decoder.safetensors               the decoder, from which pre-training goes on
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from bgetrain.encode import Encoder
from bgetrain.errors import ModelError
from bgetrain.export import save_pretrained
from bgetrain.model_folder import read_model_folder
from bgetrain.padding import ONE_TOKEN
from bgetrain.retromae.bag_of_words import bow_losses
from bgetrain.retromae.decoder import Decoder, visible_pairs
from bgetrain.retromae.masked_lm import Head, load_masked_lm
from bgetrain.retromae.projection import label_losses

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from bgetrain.config import PretrainConfig
    from bgetrain.retromae.data import PretrainBatch, Rectangle

__all__ = ["ChunkLosses", "PretrainModel", "Scales"]

_DECODER = "decoder.safetensors"


@dataclass(frozen=True, slots=True)
class Scales:
    """What one label of each kind counts in the loss of a step.

    Attributes:
        encoder: a masked token.
        decoder: a token that the decoder predicts.
        bow: a text, for its bag of words.
    """

    encoder: float
    decoder: float
    bow: float


@dataclass(frozen=True, slots=True)
class ChunkLosses:
    """What a chunk of b texts came to.

    Attributes:
        loss: scaled and summed, [], the only one with a gradient.
        encoder, decoder, bow: unscaled losses of each text, summed over its labels, [b]; None where not trained.
        encoder_found, decoder_found: labels that were the likeliest word, int64 [].
        computed: tokens that went through the encoder, padding included.
    """

    loss: Tensor
    encoder: Tensor
    decoder: Tensor | None
    bow: Tensor | None
    encoder_found: Tensor
    decoder_found: Tensor | None
    computed: int


class PretrainModel(nn.Module):
    """What is pre-trained.

    Attributes:
        encoder: whose backbone is that of `masked_lm`.
        masked_lm: the transformer with its head.
        decoder: None for plain masked-LM training.
    """

    def __init__(self, encoder: Encoder, masked_lm: nn.Module, decoder: Decoder | None) -> None:
        """Keeps the parts."""
        super().__init__()
        self.encoder = encoder
        self.masked_lm = masked_lm
        self.decoder = decoder
        self._head = Head(masked_lm)

    @classmethod
    def load(
        cls,
        name: str | Path,
        config: PretrainConfig,
        *,
        random_init: bool = False,
        normalize: bool | None = None,
    ) -> tuple[PretrainModel, list[str]]:
        """Reads a model in fp32; what the folder does not hold is drawn at random.

        Args:
            name: a folder, or a name on the Hugging Face hub.
            config: the method, and the sizes of the decoder.
            random_init: draw all weights at random by the folder's config.json.
            normalize: whether the exported encoder gives vectors of length 1; None for the folder's own, else True.

        Returns:
            The model, on the CPU, and what the user should know, a line each.

        Raises:
            ModelError: it cannot be read, or not be pre-trained.
        """
        folder = read_model_folder(name, needs_weights=not random_init).transformer
        masked_lm, new_head = load_masked_lm(folder, random_init=random_init)
        notes = [f"{name}: holds no masked-LM head, which starts at random"] if new_head else []
        # the decoder rebuilds texts from their first token, so that is what the exported encoder gives
        encoder = Encoder.load(
            name,
            pooling="cls",
            normalize=normalize,
            random_init=random_init,
            backbone=cast("nn.Module", cast("Any", masked_lm).base_model),
        )
        # pre-training asks for every token, and FLOPs are counted by this
        encoder.first_token_alone = False
        decoder = None
        if config.pretrain_method != "mlm":
            decoder = Decoder(
                encoder.backbone,
                query_stream=cast("Any", config.query_stream),
                positions=encoder.position_limit,
                first_position=encoder.first_position,
            )
            if (folder / _DECODER).is_file() and not random_init:
                trained_with = _read_decoder(folder, decoder)
                if trained_with != config.query_stream:
                    notes.append(
                        f"warning: {folder / _DECODER}: trained with --query_stream {trained_with}, goes on with "
                        f"{config.query_stream}"
                    )
                notes.append(f"{name}: the decoder goes on from {_DECODER}")
            if decoder.has_positions:
                notes.append("the encoder has no table of positions for the decoder, which learns one of its own")
        return cls(encoder, masked_lm, decoder), notes

    def save(self, folder: Path, recipe: dict[str, Any]) -> None:
        """Writes the encoder with its head, and the decoder."""
        save_pretrained(self.encoder, folder, recipe=recipe, transformer=self.masked_lm)
        if self.decoder is None:
            return
        beside = folder / f".{_DECODER}.part"
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.decoder.state_dict().items()}
        save_file(weights, beside, metadata={"query_stream": self.decoder.query_stream})
        beside.replace(folder / _DECODER)

    def flops(self, *, tokens: int, squares: int, labels: int) -> float:
        """Of a training step in decoder and head; see `flops`."""
        head = sum(weight.numel() for weight in self._head.parameters) + self._head.weight.numel()
        done = 6.0 * head * labels
        if self.decoder is not None:
            linear = sum(part.weight.numel() for part in self.decoder.modules() if isinstance(part, nn.Linear))
            done += 6.0 * linear * tokens + 12.0 * self.encoder.dimension * squares
        return done

    def idle(self) -> Tensor:
        """A pass of a rank that has no texts, beside others that have; a loss of 0 whose gradient is 0, []."""
        hidden, _ = self.encoder.token_vectors(ONE_TOKEN, np.zeros(1, dtype=np.int64))
        weights = [*self._head.parameters, self._head.weight, self._head.bias]
        weights += [] if self.decoder is None else self.decoder.parameters()
        return sum((part[:0].sum() for part in weights), start=hidden[:0].sum())

    def chunk(self, batch: PretrainBatch, texts: Rectangle, chosen: Any, scales: Scales, *, bow: bool) -> ChunkLosses:  # noqa: ANN401 - int64 [b]
        """Losses of some texts of a batch.

        Args:
            batch: this rank's blocks.
            texts: the chosen ones, on the device.
            chosen: their indices, int64 [b].
            scales: what a label counts.
            bow: whether to add the bag-of-words term.
        """
        hidden, computed = self.encoder.token_vectors(batch.corrupted, chosen)
        parts = [self._head.transform(hidden.index_select(0, texts.masked))]
        labels, weights = [texts.masked_labels], [scales.encoder]
        if self.decoder is not None:
            vectors = hidden.index_select(0, texts.first)
            visible = visible_pairs(texts.bits, texts.choices, texts.input_ids.shape[1])
            rebuilt = self.decoder(self.encoder.backbone, texts.input_ids, vectors, visible)
            parts.append(self._head.transform(rebuilt.flatten(0, 1).index_select(0, texts.decoded)))
            labels.append(texts.decoded_labels)
            weights.append(scales.decoder)
        counts = [len(part) for part in labels]
        # both passes in one go, so that the gradient of the embeddings is made once
        exact = torch.promote_types(hidden.dtype, torch.float32)
        scaled = torch.cat([torch.full((n,), weight, dtype=exact) for n, weight in zip(counts, weights, strict=True)])
        loss, losses, found = label_losses(
            torch.cat(parts), self._head.weight, self._head.bias, torch.cat(labels), scaled.to(hidden.device)
        )
        of_labels, of_found = torch.split(losses, counts), torch.split(found, counts)
        rows = len(texts.first)
        words = None
        if bow:
            more, words = self._bow(hidden, texts, batch.corrupted.lengths[chosen], scales)
            loss = loss + more
        decodes = self.decoder is not None
        return ChunkLosses(
            loss=loss,
            encoder=_by_text(of_labels[0], texts.masked_texts, rows),
            decoder=_by_text(of_labels[1], texts.decoded_texts, rows) if decodes else None,
            bow=words,
            encoder_found=of_found[0].sum(),
            decoder_found=of_found[1].sum() if decodes else None,
            computed=computed,
        )

    def _bow(self, hidden: Tensor, texts: Rectangle, lengths: Any, scales: Scales) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - int64 [b]
        ordinary = torch.ones(len(hidden), dtype=torch.bool)
        ordinary[texts.first.cpu()] = False
        places = torch.nonzero(ordinary).squeeze(1).to(hidden.device)
        scored = self._head.transform(hidden.index_select(0, places))
        return bow_losses(
            scored,
            (lengths - 1).tolist(),
            self._head.weight,
            self._head.bias,
            texts.decoded_labels,
            texts.decoded_texts,
            scales.bow,
        )


def _by_text(losses: Tensor, texts: Tensor, rows: int) -> Tensor:
    return torch.zeros(rows, dtype=losses.dtype, device=losses.device).index_add_(0, texts, losses)


def _read_decoder(folder: Path, decoder: Decoder) -> str:
    """Fills a decoder from a folder; gives the query stream it was trained with."""
    file = folder / _DECODER
    try:
        with safe_open(file, framework="pt") as stored:
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
            query_stream = str((stored.metadata() or {}).get("query_stream", ""))
        decoder.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        raise ModelError(
            f"{file}: does not fit the model: {lines[-1].strip() if lines else ''}",
            path=str(file),
            hint="remove the file to start with a new decoder",
        ) from error
    return query_stream
