"""Many texts through an encoder: tokenised by `bgeprep`, embedded in chunks of nearly equal length.

`Encoder.encode` takes a list that fits in memory many times over; here a window of texts is held only as token ids.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from bgeprep.tokenize import Tokenizer
from bgetrain.padding import TokenRows
from bgetrain.precision import half_precision, plain_fp32

if TYPE_CHECKING:
    from torch import nn

    from bgetrain.encode import Encoder

__all__ = ["HalfPrecision", "Precision", "TextTokens", "embed_rows", "model_hash", "weights_hash"]

Precision = Literal["fp32", "bf16", "fp16"]

_TEXTS_AT_ONCE = 512
"""Texts that are held while they are tokenised."""

# what a config.json says that changes no vector
_NO_MATTER = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}


class TextTokens:
    """Tokenises as an encoder's tokenizer does, into flat arrays and many times faster for BERT's vocabularies."""

    def __init__(self, encoder: Encoder, *, prompt: str, max_length: int) -> None:
        """Opens the tokenizer.

        Args:
            encoder: whose tokenizer it is.
            prompt: put before every text.
            max_length: tokens a text is cut to, special tokens included.

        Raises:
            TokenizerError: it cannot be used.
        """
        # what transformers made of the folder's files, which need not be what tokenizer.json says
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tokenizer.json"
            path.write_text(encoder.tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
            self._tokenizer = Tokenizer(path)
        self._prompt = prompt
        self._max_length = max_length

    def rows(self, texts: Iterable[str]) -> TokenRows:
        """Token ids of texts, which are let go as they are tokenised.

        Raises:
            ValueError: a text holds half a surrogate pair.
            TokenizerError: the tokenizer refuses a text.
        """
        texts = iter(texts)
        ids, offsets = [np.zeros(0, dtype=np.int32)], [np.zeros(1, dtype=np.int64)]
        while window := [self._prompt + text for text in islice(texts, _TEXTS_AT_ONCE)]:
            found, ends = self._tokenizer.encode(window, self._max_length, threads=torch.get_num_threads())
            ids.append(found)
            offsets.append(ends[1:] + offsets[-1][-1])
        return TokenRows(np.concatenate(ids), np.concatenate(offsets))


class HalfPrecision:
    """An encoder whose transformer computes its products in half precision when texts are encoded."""

    def __init__(self, encoder: Encoder, precision: Literal["bf16", "fp16"]) -> None:
        """Keeps the encoder; its weights stay as they are."""
        self._encoder = encoder
        self._precision = precision

    @property
    def query_instruction(self) -> str:
        """The encoder's own."""
        return self._encoder.query_instruction

    def encode(self, texts: Sequence[str], *, device: Any = None, **options: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """See `Encoder.encode`."""
        if device is not None:
            self._encoder.to(device)
        with half_precision(self._encoder.device, bf16=self._precision == "bf16", fp16=self._precision == "fp16"):
            return self._encoder.encode(texts, **options)


def embed_rows(
    encoder: Encoder, rows: TokenRows, *, precision: Precision = "fp32", batch_tokens: int | None = None
) -> NDArray[np.float32]:
    """One vector a text, without gradient.

    Args:
        encoder: the model, where it is to compute.
        rows: the texts.
        precision: of the transformer's products; pooling and normalisation are always fp32.
        batch_tokens: most tokens computed at once, padding included; None for `tokens_at_once`.

    Returns:
        float32 [N, D] in the order of `rows`; the zero vector for a text without tokens, which is like nothing.
    """
    vectors = np.zeros((len(rows), encoder.dimension), dtype=np.float32)
    some = np.flatnonzero(rows.lengths)
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    was_training = encoder.training
    encoder.eval()
    try:
        with (
            torch.no_grad(),
            plain_fp32(),
            torch.autocast(encoder.device.type, dtype=half, enabled=precision != "fp32"),
        ):
            chunks = [some[chunk] for chunk, _ in encoder.chunks(rows.lengths[some], batch_tokens)]
            # copied at the end, so that a GPU never waits for the processor between chunks
            made = [encoder.forward_rows(rows, chunk)[0].float() for chunk in chunks]
            for chunk, part in zip(chunks, made, strict=True):
                vectors[chunk] = part.cpu().numpy()
    finally:
        encoder.train(was_training)
    return vectors


def model_hash(encoder: Encoder) -> str:
    """SHA-256 of all that decides an encoder's vectors: weights, configuration, tokenizer, pooling, normalisation.

    Neither the folder's name nor the instruction is part of it, and nothing that no vector needs (the pooler head).
    """
    return weights_hash(
        encoder.backbone, encoder.tokenizer, {"pooling": encoder.pooling, "normalize": encoder.normalize}
    )


def weights_hash(model: nn.Module, tokenizer: Any, more: dict[str, Any]) -> str:  # noqa: ANN401 - see Encoder.__init__
    """SHA-256 of a transformers model, its tokenizer, and what else decides what it says."""
    digest = hashlib.sha256()
    stored: dict[str, Any] = cast("Any", model).config.to_dict()
    config = {key: value for key, value in stored.items() if key not in _NO_MATTER}
    text = json.loads(tokenizer.backend_tokenizer.to_str())
    # what the last call asked for stays in the tokenizer and says nothing of it
    text.pop("truncation", None)
    text.pop("padding", None)
    said = {"config": config, "tokenizer": text, **more}
    digest.update(json.dumps(said, sort_keys=True, default=str).encode())
    for name, weight in sorted(model.state_dict().items()):
        if not name.startswith("pooler."):
            values = weight.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(f"\n{name} {weight.dtype} {list(weight.shape)}\n".encode())
            digest.update(values.numpy().data)
    return digest.hexdigest()
