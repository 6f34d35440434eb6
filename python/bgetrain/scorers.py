"""What says how well a query and a positive fit: the cosine of two vectors, or a cross-encoder that reads both.

The pairs that are given at once decide the shapes of chunks, and so the last bits; nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from bgetrain.embed import Precision, TextTokens, embed_rows, model_hash, weights_hash
from bgetrain.errors import ModelError
from bgetrain.model_folder import read_model_folder
from bgetrain.padding import TokenRows, length_sorted_chunks, pad, tokens_at_once
from bgetrain.precision import plain_fp32

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from bgetrain.encode import Encoder

__all__ = ["Cosine", "Reranker", "Scorer"]


class Scorer(Protocol):
    """Scores pairs.

    Attributes:
        lowest: no score is below.
        work: what decides the scores, beside the pairs; JSON-able.
    """

    lowest: float
    work: dict[str, Any]

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """float32 [pairs]: higher for (query, positive) that fit better, at most 1."""

    def to(self, device: torch.device) -> None:
        """Moves the model."""


class Cosine:
    """The cosine of two vectors of an embedding model; see `Scorer`."""

    lowest = -1.0

    def __init__(
        self,
        encoder: Encoder,
        *,
        query_prompt: str = "",
        passage_prompt: str = "",
        query_max_length: int | None = None,
        passage_max_length: int | None = None,
        precision: Precision = "fp32",
        batch_tokens: int | None = None,
    ) -> None:
        """Keeps the model; prompts stand before every text, lengths are in tokens, None for the model's own."""
        lengths = [
            min(length or encoder.max_seq_length, encoder.position_limit)
            for length in (query_max_length, passage_max_length)
        ]
        self._encoder = encoder
        self._tokens = [
            TextTokens(encoder, prompt=prompt, max_length=length)
            for prompt, length in zip((query_prompt, passage_prompt), lengths, strict=True)
        ]
        self._options: dict[str, Any] = {"precision": precision, "batch_tokens": batch_tokens}
        self.work = {
            "scorer": "cosine",
            "model": model_hash(encoder),
            "prompts": [query_prompt, passage_prompt],
            "max_length": lengths,
            "precision": precision,
        }

    def to(self, device: torch.device) -> None:
        """See `Scorer.to`."""
        self._encoder.to(device)

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """See `Scorer.score`; a text that stands in several pairs is embedded once."""
        cosines = np.ones(len(pairs), dtype=np.float64)
        sides = []
        for side, tokens in enumerate(self._tokens):
            texts = {text: place for place, text in enumerate(dict.fromkeys(pair[side] for pair in pairs))}
            vectors = embed_rows(self._encoder, tokens.rows(texts), **self._options)
            places = np.fromiter((texts[pair[side]] for pair in pairs), dtype=np.int64, count=len(pairs))
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
            # a text without tokens is like nothing
            cosines /= np.where(lengths > 0, lengths, 1)[places]
            sides.append((vectors, places))
        (queries, left), (passages, right) = sides
        for start in range(0, len(pairs), 1024):
            here = slice(start, start + 1024)
            cosines[here] *= np.einsum(
                "nd,nd->n", queries[left[here]].astype(np.float64), passages[right[here]].astype(np.float64)
            )
        return cosines.astype(np.float32)


class Reranker:
    """A cross-encoder with one output, brought to 0 … 1 by the logistic function; see `Scorer`."""

    lowest = 0.0

    def __init__(
        self,
        model: str | Path,
        *,
        max_length: int | None = None,
        precision: Precision = "fp32",
        batch_tokens: int | None = None,
    ) -> None:
        """Reads a folder of transformers for sequence classification.

        Args:
            model: a folder, or a name on the Hugging Face hub.
            max_length: tokens of query and positive together, special tokens included; the longer of the two is cut.
                None for the model's own limit.
            precision: of the transformer's products.
            batch_tokens: most tokens computed at once, padding included; None for `tokens_at_once`.

        Raises:
            ModelError: it cannot be read, or is no model with one output.
        """
        from transformers import AutoTokenizer

        folder = read_model_folder(model).transformer
        self._model = _load_classifier(folder)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
        except Exception as error:
            raise ModelError(f"{folder}: its tokenizer cannot be read: {error}", path=str(folder)) from error
        if not self._tokenizer.is_fast:
            raise ModelError(f"{folder}: its tokenizer has no fast form (tokenizer.json)", path=str(folder))
        config = cast("Any", self._model).config
        positions = int(getattr(config, "max_position_embeddings", 0) or 0)
        if positions and config.model_type in {"roberta", "xlm-roberta", "camembert"}:
            positions -= int(config.pad_token_id or 0) + 1
        known = [limit for limit in (positions, int(self._tokenizer.model_max_length)) if 0 < limit < 1_000_000]
        limit = min(known, default=512)
        self._max_length = min(max_length or limit, limit)
        self._precision = precision
        self._batch_tokens = batch_tokens
        self.work = {
            "scorer": "reranker",
            "model": weights_hash(self._model, self._tokenizer, {}),
            "max_length": [self._max_length],
            "precision": precision,
        }

    def to(self, device: torch.device) -> None:
        """See `Scorer.to`."""
        self._model.to(device)

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """See `Scorer.score`."""
        if not pairs:
            return np.zeros(0, dtype=np.float32)
        logits = np.zeros(len(pairs), dtype=np.float64)
        encoded = self._tokenizer(
            [query for query, _ in pairs],
            [positive for _, positive in pairs],
            truncation="longest_first",
            max_length=self._max_length,
        )
        rows = TokenRows.from_lists(encoded["input_ids"])
        kinds = encoded.get("token_type_ids")
        types = TokenRows.from_lists(kinds) if kinds else None
        device = next(self._model.parameters()).device
        half = torch.float16 if self._precision == "fp16" else torch.bfloat16
        with (
            torch.no_grad(),
            plain_fp32(),
            torch.autocast(device.type, dtype=half, enabled=self._precision != "fp32"),
        ):
            for chunk in length_sorted_chunks(rows.lengths, self._batch_tokens or tokens_at_once(device)):
                ids, mask = pad(rows, chunk, int(self._tokenizer.pad_token_id or 0))
                more = {"token_type_ids": pad(types, chunk, 0)[0].to(device)} if types else {}
                said = self._model(input_ids=ids.to(device), attention_mask=mask.to(device), **more).logits
                logits[chunk] = said[:, 0].double().cpu().numpy()
        with np.errstate(over="ignore"):
            return (1 / (1 + np.exp(-logits))).astype(np.float32)


def _load_classifier(folder: Path) -> nn.Module:
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise ModelError(f"{folder}: no cross-encoder can be read: {lines[0]}", path=str(folder)) from error
    missing = sorted(info["missing_keys"]) or sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise ModelError(
            f"{folder}: is no cross-encoder: {len(missing)} of its tensors are absent, first {missing[0]}",
            path=str(folder),
            hint="an embedding model is given by --model",
        )
    if model.config.num_labels != 1:
        raise ModelError(
            f"{folder}: expected a cross-encoder with one output, found {model.config.num_labels}", path=str(folder)
        )
    return cast("nn.Module", model.eval())
