"""How much a step computes, and how much the device could: what MFU is made of.

A weight of a layer takes part in one multiplication and one addition for each token: 2 FLOPs forward, 2 backward for
the gradient of its input, and 2 for its own gradient where it is trained. Attention adds, for a text of L tokens,
4·h·L² FLOPs a layer forward (scores and weighted sum) and twice that backward. Embedding tables are looked up, not
multiplied, and count nothing; nor do pooling, softmax and the loss, which are little beside the rest.

Model FLOPs are those of the tokens of the texts at their real lengths. Hardware FLOPs are those that were done: padding
included, and a second forward pass where activations are computed again; without what `first_token` leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from bgetrain.first_token import first_token_weights

if TYPE_CHECKING:
    from bgetrain.encode import Encoder

__all__ = ["PEAKS", "ModelFlops", "device_name", "peak_tflops"]

PEAKS = (
    ("gb200", 2500.0),
    ("b200", 2250.0),
    ("h200", 989.0),
    ("h100 pcie", 756.0),
    ("h100 nvl", 835.0),
    ("h100", 989.0),
    ("h800", 989.0),
    ("h20", 148.0),
    ("gh200", 989.0),
    ("a100", 312.0),
    ("a800", 312.0),
    ("l40s", 362.0),
    ("l40", 181.0),
    ("l4", 121.0),
    ("a40", 149.7),
    ("a30", 165.0),
    ("a10g", 70.0),
    ("a10", 125.0),
    ("rtx a6000", 154.8),
    ("rtx 4090", 165.2),
    ("rtx 3090", 71.0),
    ("mi300x", 1307.0),
    ("mi250x", 383.0),
)
"""TFLOP/s in bf16 without sparsity, from the makers' data sheets; the longest name that is part of a device's name."""


@dataclass(frozen=True, slots=True)
class ModelFlops:
    """What a token and a text cost in one model.

    Attributes:
        weights: weights that multiply a token, embedding tables left out.
        trained: those of them that get a gradient.
        attention: layers x width, the factor of L².
        layers: of the transformer.
        recomputes: whether the backward pass computes each layer's forward pass again.
        spared: weights of the last layer that multiply the first token of a text alone.
        spared_trained: those of them that get a gradient.
    """

    weights: int
    trained: int
    attention: int
    layers: int = 1
    recomputes: bool = False
    spared: int = 0
    spared_trained: int = 0

    @classmethod
    def of(cls, encoder: Encoder, *, recomputes: bool = False) -> ModelFlops:
        """Reads a model."""
        backbone = cast("Any", encoder.backbone)
        config = backbone.config
        tables = {id(part.weight) for part in backbone.modules() if isinstance(part, nn.Embedding)}
        head = getattr(backbone, "pooler", None)
        unused = {id(weight) for weight in head.parameters()} if isinstance(head, nn.Module) else set()
        used = [weight for weight in backbone.parameters() if id(weight) not in tables | unused]
        layers = int(getattr(config, "num_hidden_layers", 0) or 0)
        # ALBERT runs the weights of a group once a layer
        times = layers // int(getattr(config, "num_hidden_groups", layers) or 1) if layers else 1
        spared = first_token_weights(backbone) if encoder.first_token_alone and not encoder.packs else []
        return cls(
            weights=times * sum(weight.numel() for weight in used),
            trained=times * sum(weight.numel() for weight in used if weight.requires_grad),
            attention=layers * int(config.hidden_size),
            layers=layers,
            recomputes=recomputes,
            spared=sum(weight.numel() for weight in spared),
            spared_trained=sum(weight.numel() for weight in spared if weight.requires_grad),
        )

    def model(self, tokens: float, squares: float) -> float:
        """FLOPs of a training step over texts of `tokens` tokens in all, whose squared lengths add up to `squares`."""
        return self._forward(tokens, squares) + self._backward(tokens, squares)

    def hardware(self, tokens: float, squares: float, computed: float, replayed: float = 0.0) -> float:
        """FLOPs done for the same texts.

        Args:
            tokens: of the texts.
            squares: their squared lengths, summed.
            computed: tokens that went through the encoder, padding included.
            replayed: those of them that went through it a second time before the backward pass.
        """
        # rectangles hold texts of nearly one length, so L² grows by about the same factor as L twice
        grown = computed / tokens if tokens else 1.0
        done = self._without_spared()
        forward = done._forward(computed, squares * grown**2)
        passes = 1 + self.recomputes + (replayed / computed if computed else 0.0)
        return forward * passes + done._backward(computed, squares * grown**2)

    def _without_spared(self) -> ModelFlops:
        """As if first tokens cost nothing there, which is one token in a text."""
        if not self.spared:
            return self
        return replace(
            self,
            weights=self.weights - self.spared,
            trained=self.trained - self.spared_trained,
            attention=self.attention - self.attention // self.layers,
        )

    def _forward(self, tokens: float, squares: float) -> float:
        return 2.0 * self.weights * tokens + 4.0 * self.attention * squares

    def _backward(self, tokens: float, squares: float) -> float:
        return 2.0 * (self.weights + self.trained) * tokens + 8.0 * self.attention * squares


def device_name(device: torch.device) -> str:
    """What the maker calls the device; `cpu` for a processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_tflops(name: str, given: float | None = None) -> float | None:
    """TFLOP/s that a device can do in bf16.

    Args:
        name: from `device_name`.
        given: the setting `peak_tflops`, which wins.

    Returns:
        The peak, or None where it is not known: for a processor, or a device that is not in the table.
    """
    if given is not None:
        return given
    words = name.lower().replace("-", " ")
    if "laptop" in words:
        return None
    found = [(len(part), peak) for part, peak in PEAKS if part in words.split() or (" " in part and part in words)]
    return max(found)[1] if found else None
