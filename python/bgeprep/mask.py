"""What RetroMAE trains on: a corrupted copy of a text for the encoder, visibility for the decoder.

```
text ─ tokens ─┬─ encoder mask ─► corrupted_ids, mask_positions, labels
               └─ decoder masks ─► base_bits [M, ceil(L / 8)], choices [L] ─ visible() ─► [L, L]
```

Row i of the decoder sees position j if bit j of base mask `choices[i]` is set and j is not i. The matrix is never
shipped: it is expanded where the attention is computed. Whole words are masked, special tokens (known by id) never;
position 0, where the decoder finds the text's embedding, is seen by every other row. Every draw is a function of
(seed, epoch, block id) alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from bgeprep import _native
from bgeprep.errors import ConfigError
from bgeprep.plan import check_ranges

__all__ = ["SPECIAL", "WORD_START", "MaskedTexts", "TextMasker"]

WORD_START = 1
"""Flag of a token that begins a word."""

SPECIAL = 2
"""Flag of a token that stands for no text, as `[CLS]`: the decoder has no label there."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MaskedTexts:
    """Some masked texts, not padded, as numpy arrays that share no memory with anything else.

    n texts, T tokens, k masked tokens. Text i has L = `offsets[i + 1] - offsets[i]` tokens and M base masks, which is
    the option `base_masks`, or L where that is less.

    Attributes:
        block_ids: uint64[n], the number that a text's masks are keyed by.
        row_ids: uint64[n], place of its row in the shard set; the block id again for texts that are from no set.
        input_ids: int32[T], tokens as they are, special ones included.
        offsets: int64[n + 1]; text i owns `offsets[i]:offsets[i + 1]` of all token arrays.
        flags: uint8[T], `WORD_START` and `SPECIAL` of each token.
        corrupted_ids: int32[T], tokens as the encoder sees them: of the masked ones 80 % are the mask token, 10 %
            another token that is not special, 10 % as they were.
        mask_positions: int64[k], places in the token arrays that the encoder is to predict, rising.
        labels: int32[k], the tokens that stood there.
        mask_offsets: int64[n + 1]; text i owns `mask_offsets[i]:mask_offsets[i + 1]` of positions and labels.
        base_bits: uint8, base masks of all texts. Text i owns `base_bits[base_offsets[i]:base_offsets[i + 1]]`, to be
            taken as [M, ceil(L / 8)]: bit `j % 8` (lowest first) of byte `j // 8` says whether j is visible.
        base_offsets: int64[n + 1].
        choices: uint16[T], which of its text's base masks the row of each token has.
    """

    block_ids: npt.NDArray[np.uint64]
    row_ids: npt.NDArray[np.uint64]
    input_ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    flags: npt.NDArray[np.uint8]
    corrupted_ids: npt.NDArray[np.int32]
    mask_positions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    mask_offsets: npt.NDArray[np.int64]
    base_bits: npt.NDArray[np.uint8]
    base_offsets: npt.NDArray[np.int64]
    choices: npt.NDArray[np.uint16]

    def base_masks(self, text: int) -> npt.NDArray[np.bool_]:
        """The base masks of one text as bool[M, L]; True is visible."""
        tokens = int(self.offsets[text + 1] - self.offsets[text])
        bits = self.base_bits[self.base_offsets[text] : self.base_offsets[text + 1]].reshape(-1, (tokens + 7) // 8)
        return np.unpackbits(bits, axis=1, count=tokens, bitorder="little").astype(np.bool_)

    def visible(self, text: int) -> npt.NDArray[np.bool_]:
        """What each decoder row of one text sees, as bool[L, L]: to look at; training expands it on the device."""
        seen = self.base_masks(text)[self.choices[self.offsets[text] : self.offsets[text + 1]]]
        np.fill_diagonal(seen, False)
        return seen


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskOptions:
    """What `_native` reads of the masks, attribute by attribute."""

    tokenizer: Path
    max_seq_length: int
    seed: int
    encoder_mlm_probability: float
    decoder_mlm_probability: float
    base_masks: int | None
    sep_visible: bool
    mask_count: str

    @classmethod
    def checked(
        cls,
        tokenizer: str | os.PathLike[str],
        *,
        max_seq_length: int,
        seed: int,
        encoder_mlm_probability: float,
        decoder_mlm_probability: float,
        base_masks: int | str,
        sep_visible: bool,
        mask_count: str,
    ) -> MaskOptions:
        """Refuses numbers that the native side could not even take; it refuses the rest itself."""
        if isinstance(base_masks, str) and base_masks != "fresh":
            raise ConfigError(f'text.base_masks: expected a number of masks or "fresh", found {base_masks!r}')
        count = None if isinstance(base_masks, str) else base_masks
        check_ranges("text", max_seq_length=max_seq_length, seed=seed, base_masks=count)
        return cls(
            tokenizer=Path(tokenizer),
            max_seq_length=max_seq_length,
            seed=seed,
            encoder_mlm_probability=float(encoder_mlm_probability),
            decoder_mlm_probability=float(decoder_mlm_probability),
            base_masks=count,
            sep_visible=sep_visible,
            mask_count=mask_count,
        )


class TextMasker:
    """Tokenises and masks texts that the caller brings; `TextLoader` does it for a shard set."""

    def __init__(
        self,
        tokenizer: str | os.PathLike[str],
        *,
        max_seq_length: int = 512,
        seed: int = 42,
        encoder_mlm_probability: float = 0.3,
        decoder_mlm_probability: float = 0.5,
        base_masks: int | Literal["fresh"] = 128,
        sep_visible: bool = True,
        mask_count: Literal["tokens", "maskable"] = "tokens",
    ) -> None:
        """Opens the tokenizer and checks the options.

        Args:
            tokenizer: a `tokenizer.json`, or a model folder that holds one.
            max_seq_length: tokens of a text with the special ones, at most; what is beyond is cut off.
            seed: decides every draw, with the epoch and the block id.
            encoder_mlm_probability: share of the tokens that the encoder does not see.
            decoder_mlm_probability: share of the tokens that a decoder row does not see, beside itself.
            base_masks: decoder masks that the rows of a text draw from (BGE has 128, RetroMAE 256), or "fresh" for
                one a row, as in the paper.
            sep_visible: whether special tokens behind the first are visible to every row (as in the published code) or
                are drawn like a word (as in the paper).
            mask_count: what the shares are taken of: "tokens" counts special tokens too, as the published code does,
                which masks short texts more; "maskable" does not. At least one token is asked for either way, and a
                word that would take more than the share is passed over.

        Raises:
            ConfigError: an option that cannot work.
            TokenizerError: no fast tokenizer, one without a mask token, or one that puts no special token before a
                text.
        """
        self._native = _native.TextMasker(
            MaskOptions.checked(
                tokenizer,
                max_seq_length=max_seq_length,
                seed=seed,
                encoder_mlm_probability=encoder_mlm_probability,
                decoder_mlm_probability=decoder_mlm_probability,
                base_masks=base_masks,
                sep_visible=sep_visible,
                mask_count=mask_count,
            )
        )

    def mask(self, texts: Sequence[str], *, block_ids: Sequence[int] | None = None, epoch: int = 0) -> MaskedTexts:
        """Masks texts; `block_ids` (0, 1, 2 … if not given) and `epoch` key the draws."""
        ids = list(range(len(texts))) if block_ids is None else list(block_ids)
        if len(ids) != len(texts):
            raise ConfigError(f"block_ids: expected one for each of {len(texts)} texts, found {len(ids)}")
        return MaskedTexts(**self._native.mask(list(texts), ids, epoch))
