"""A transformer with its masked-LM head, as transformers has it, and the head taken apart.

A head maps a token's vector to one of the width of the word embeddings (`transform`), and that to scores of all words
by the embeddings themselves and a bias. Apart, the scores can be computed for some positions alone, and in parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from bgetrain.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

__all__ = ["Head", "load_masked_lm"]


def load_masked_lm(folder: Path, *, random_init: bool) -> tuple[nn.Module, bool]:
    """Reads a masked-LM model in fp32.

    Args:
        folder: of a transformer.
        random_init: draw all weights at random by its config.json.

    Returns:
        The model, and whether its head was drawn at random because the folder holds none.

    Raises:
        ModelError: transformers knows no masked-LM form of the model, or its weights do not fill it.
    """
    from transformers import AutoConfig, AutoModelForMaskedLM
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    auto = cast("Any", AutoModelForMaskedLM)
    try:
        if random_init:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            return cast("nn.Module", auto.from_config(config, dtype=torch.float32)), False
        model, info = auto.from_pretrained(folder, local_files_only=True, dtype=torch.float32, output_loading_info=True)
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise ModelError(
            f"{folder}: cannot be read as a masked language model: {type(error).__name__}: {lines[0] if lines else ''}",
            path=str(folder),
            hint="pre-training needs a model that transformers' AutoModelForMaskedLM knows: BERT, RoBERTa, XLM-R, "
            "ELECTRA, ModernBERT",
        ) from error
    prefix = f"{model.base_model_prefix}."
    missing = sorted(info["missing_keys"])
    wrong = [name for name in missing if name.startswith(prefix)] + sorted(str(key) for key in info["mismatched_keys"])
    if wrong:
        raise ModelError(
            f"{folder}: the weights do not fill the model of its config.json: {len(wrong)} tensors are absent or of "
            f"another shape, first {wrong[0]}",
            path=str(folder),
            hint="give a complete model, or --random_init to draw all weights at random",
        )
    return cast("nn.Module", model), bool(missing)


class Head:
    """What makes scores of words from a token's vector; holds no weights of its own."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - any transformers model
        """Finds the parts.

        Args:
            model: from `load_masked_lm`.

        Raises:
            ModelError: its head is built like none that is known.
        """
        # by what the parts are called in transformers
        if hasattr(model, "cls"):
            self._parts: list[Callable[[Tensor], Tensor]] = [model.cls.predictions.transform]
        elif hasattr(model, "lm_head") and hasattr(model.lm_head, "layer_norm"):
            self._parts = [model.lm_head.dense, nn.functional.gelu, model.lm_head.layer_norm]
        elif hasattr(model, "generator_predictions"):
            self._parts = [model.generator_predictions]
        elif hasattr(model, "head") and hasattr(model, "decoder"):
            self._parts = [model.head]
        elif hasattr(model, "vocab_transform"):
            self._parts = [model.vocab_transform, model.activation, model.vocab_layer_norm]
        else:
            raise ModelError(
                f"{type(model).__name__}: its masked-LM head is built like none of BERT, RoBERTa, ELECTRA, ModernBERT "
                "and DistilBERT"
            )
        self._words = model.get_output_embeddings()

    def transform(self, vectors: Tensor) -> Tensor:
        """[k, D] → [k, E], the width of the word embeddings."""
        for part in self._parts:
            vectors = part(vectors)
        return vectors

    @property
    def parameters(self) -> list[Tensor]:
        """Weights of `transform`."""
        return [weight for part in self._parts if isinstance(part, nn.Module) for weight in part.parameters()]

    @property
    def weight(self) -> Tensor:
        """Of the words, [V, E]; as a rule the embeddings of the encoder."""
        return cast("Tensor", self._words.weight)

    @property
    def bias(self) -> Tensor:
        """Of the words, [V]."""
        bias = self._words.bias
        return torch.zeros(len(self.weight), device=self.weight.device) if bias is None else bias
