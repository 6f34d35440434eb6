"""Blocks of text as a training step takes them: from the loader's numpy arrays to rectangles of a chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from bgetrain.padding import TokenRows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from bgeprep import TextBatch
    from bgetrain.config import TrainConfig
    from bgetrain.data import Loader

__all__ = ["PretrainBatch", "Rectangle", "open_text_loader", "pretrain_batch", "rectangle"]


def open_text_loader(
    config: TrainConfig, *, tokenizer: Path, batch_size: int, accumulation: int, rank: int, world_size: int
) -> Loader[TextBatch]:
    """Opens the masked blocks of this rank.

    Args:
        config: what to read and for how long.
        tokenizer: a folder that holds tokenizer.json, or that file.
        batch_size: blocks of a global batch.
        accumulation: batches of a step, since the loader counts batches.
        rank: of this process.
        world_size: number of processes.

    Raises:
        bgeprep.errors.BgeprepError: the shard set or the tokenizer cannot be used.
    """
    from bgeprep import TextLoader

    data, pretrain, run = config.data, config.pretrain, config.run
    loader = TextLoader(
        data.train_data,
        tokenizer,
        batch_size=batch_size,
        max_seq_length=pretrain.max_seq_length,
        rank=rank,
        world_size=world_size,
        seed=run.seed,
        num_epochs=run.num_train_epochs,
        max_steps=run.max_steps * accumulation if run.max_steps > 0 else None,
        encoder_mlm_probability=pretrain.encoder_mlm_probability,
        decoder_mlm_probability=pretrain.decoder_mlm_probability,
        base_masks=pretrain.base_masks or "fresh",
        sep_visible=pretrain.sep_visible,
        mask_count=pretrain.mask_count,  # type: ignore[arg-type]
        prefetch=data.dataloader_prefetch_factor,
        threads=data.dataloader_num_workers or None,
    )
    return cast("Loader[TextBatch]", loader)


@dataclass(frozen=True, slots=True)
class PretrainBatch:
    """The blocks of one global batch that fall to this rank; n blocks, T tokens.

    Attributes:
        epoch: pass over the data, from 0.
        source: None, since blocks of all sources share a batch.
        texts: the arrays of the loader.
        source_ids: int64 [n], index into the shard set's sources.
        decoder_places: int64 [d], places in the token arrays that the decoder predicts, rising: all but special tokens.
        read_state: where the loader stands after this batch.
    """

    epoch: int
    source: str | None
    texts: TextBatch
    source_ids: NDArray[np.int64]
    decoder_places: NDArray[np.int64]
    read_state: Callable[[], dict[str, Any]]

    @property
    def corrupted(self) -> TokenRows:
        """The texts as the encoder sees them."""
        return TokenRows(self.texts.corrupted_ids, self.texts.offsets)


def pretrain_batch(batch: TextBatch, *, source_rows: tuple[int, ...]) -> PretrainBatch:
    """Takes up one batch of the loader.

    Args:
        batch: from `bgeprep.TextLoader`.
        source_rows: rows of each source, in the order of the shard set.
    """
    from bgeprep.mask import SPECIAL

    ends = np.cumsum(np.asarray(source_rows, dtype=np.int64))
    return PretrainBatch(
        epoch=batch.epoch,
        source=None,
        texts=batch,
        source_ids=np.searchsorted(ends, batch.row_ids.astype(np.int64), side="right"),
        decoder_places=np.flatnonzero((batch.flags & SPECIAL) == 0),
        read_state=lambda: batch.state,
    )


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Some blocks of a batch, padded where the decoder needs it; b blocks, the longest of L tokens, t tokens in all.

    Everything is on the CPU, token places count the blocks' own tokens, end to end in the order of `chosen`.

    Attributes:
        input_ids: tokens as they are, int64 [b, L].
        bits: base masks, uint8 [b, M, ceil(L / 8)], 0 where a text has fewer or is shorter.
        choices: base mask of each position, int64 [b, L].
        first: place of each block's first token, int64 [b].
        masked: places that the encoder predicts, int64 [e].
        masked_labels: int64 [e].
        masked_texts: block of each, int64 [e].
        decoded: places of the rectangle, read row by row, that the decoder predicts, int64 [d].
        decoded_labels: int64 [d].
        decoded_texts: block of each, int64 [d].
    """

    input_ids: Tensor
    bits: Tensor
    choices: Tensor
    first: Tensor
    masked: Tensor
    masked_labels: Tensor
    masked_texts: Tensor
    decoded: Tensor
    decoded_labels: Tensor
    decoded_texts: Tensor

    def to(self, device: torch.device) -> Rectangle:
        """The same on a device."""
        return Rectangle(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


def rectangle(batch: PretrainBatch, chosen: NDArray[np.int64], *, pad_id: int) -> Rectangle:
    """Lays out some blocks of a batch.

    Args:
        batch: this rank's blocks.
        chosen: indices of the blocks, int64 [b], at least one.
        pad_id: fills the rest of the tokens.
    """
    texts = batch.texts
    starts, lengths = texts.offsets[chosen], np.diff(texts.offsets)[chosen]
    ends = starts + lengths
    longest = int(lengths.max())
    first = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)[:-1]])
    input_ids = np.full((len(chosen), longest), pad_id, dtype=np.int64)
    choices = np.zeros((len(chosen), longest), dtype=np.int64)
    widths = (lengths + 7) // 8
    counts = np.diff(texts.base_offsets)[chosen] // widths
    bits = np.zeros((len(chosen), int(counts.max()), (longest + 7) // 8), dtype=np.uint8)
    masked, labels, decoded, decoded_labels = [], [], [], []
    for row, (text, start, end) in enumerate(zip(chosen, starts, ends, strict=True)):
        input_ids[row, : end - start] = texts.input_ids[start:end]
        choices[row, : end - start] = texts.choices[start:end]
        own = texts.base_bits[texts.base_offsets[text] : texts.base_offsets[text + 1]]
        bits[row, : counts[row], : widths[row]] = own.reshape(counts[row], widths[row])
        of_text = slice(texts.mask_offsets[text], texts.mask_offsets[text + 1])
        masked.append(texts.mask_positions[of_text] - start + first[row])
        labels.append(texts.labels[of_text])
        low, high = np.searchsorted(batch.decoder_places, [start, end])
        places = batch.decoder_places[low:high]
        decoded.append(places - start + row * longest)
        decoded_labels.append(texts.input_ids[places])

    def tensor(parts: list[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64))

    def rows(parts: list[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.repeat(np.arange(len(parts)), [len(part) for part in parts]))

    return Rectangle(
        input_ids=torch.from_numpy(input_ids),
        bits=torch.from_numpy(bits),
        choices=torch.from_numpy(choices),
        first=torch.from_numpy(first),
        masked=tensor(masked),
        masked_labels=tensor(labels),
        masked_texts=rows(masked),
        decoded=tensor(decoded),
        decoded_labels=tensor(decoded_labels),
        decoded_texts=rows(decoded),
    )
