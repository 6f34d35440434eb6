"""Low-rank adapters (LoRA, by peft): the model's weights stay as they are, small matrices beside them learn.

1. `attach` puts adapters beside the linear layers and freezes all else.
2. The trainer trains, averages and saves what requires a gradient: the adapters.
3. `merged` puts plain layers in the place of the adapted ones for as long as a model is written, so that what is
   written is an ordinary model of the base's class, and training goes on from the adapters untouched.

A checkpoint goes on from the base model, read anew, and its own adapters: merging rounds, and could not be undone.
`base_digest` makes sure that the base is still the same.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from bgetrain.errors import ConfigError
from bgetrain.extras import need

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from bgetrain.config import ModelConfig
    from bgetrain.encode import Encoder

__all__ = ["attach", "base_digest", "merged"]

_ADAPTER = "default"


def attach(encoder: Encoder, config: ModelConfig) -> None:
    """Adds adapters to an encoder and freezes its own weights.

    Args:
        encoder: changed in place; its vectors stay the same, since one matrix of each adapter begins at zero.
        config: rank, alpha, dropout and the layers.

    Raises:
        LaunchError: peft is not installed.
        ConfigError: a name of `lora_target_modules` is no linear layer of the model.
    """
    need("peft", wanted_by="--lora_rank", extra="lora")
    from peft import LoraConfig, inject_adapter_in_model

    backbone = encoder.backbone
    targets = _targets(backbone, (config.lora_target_modules or "").replace(",", " ").split())
    inject_adapter_in_model(
        LoraConfig(
            r=config.lora_rank,
            lora_alpha=cast("int", 2 * config.lora_rank if config.lora_alpha is None else config.lora_alpha),
            lora_dropout=config.lora_dropout,
            target_modules=targets,
        ),
        backbone,
        adapter_name=_ADAPTER,
    )
    for name, weight in backbone.named_parameters():
        weight.requires_grad_(".lora_" in name)
    # peft's layers begin in training mode, whatever the model is in
    backbone.train(encoder.training)


def _targets(backbone: nn.Module, wanted: list[str]) -> list[str]:
    """Full names of the layers to adapt: all linear ones but the unused pooler, or those that end in a wanted name."""
    linear = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith("pooler.")
    ]
    for ending in wanted:
        if not any(_ends_in(name, ending) for name in linear):
            known = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise ConfigError(
                f"--lora_target_modules {ending}: no linear layer of the model has this name",
                hint=f"its linear layers end in {', '.join(known)}",
            )
    return [name for name in linear if not wanted or any(_ends_in(name, ending) for ending in wanted)]


def _ends_in(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _adapted(backbone: nn.Module) -> list[tuple[str, Any]]:
    """Name and module of each layer that has an adapter; works without peft."""
    return [(name, module) for name, module in backbone.named_modules() if hasattr(module, "lora_A")]


@contextmanager
def merged(encoder: Encoder) -> Iterator[None]:
    """Inside the block the backbone is an ordinary model, adapters merged; at its end the adapted layers are back.

    Without adapters this does nothing. The merged layers are new tensors, so no bit of base or adapter changes.

    Args:
        encoder: to be written inside, not trained.
    """
    adapted = _adapted(encoder.backbone)
    try:
        for name, layer in adapted:
            _put(encoder.backbone, name, _merge(layer))
        yield
    finally:
        for name, layer in adapted:
            _put(encoder.backbone, name, layer)


@torch.no_grad()
def _merge(layer: Any) -> nn.Linear:  # noqa: ANN401 - a class of peft
    base = layer.get_base_layer()
    plain = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
    plain.weight = nn.Parameter(base.weight + layer.get_delta_weight(_ADAPTER).to(base.weight.dtype), False)
    if base.bias is not None:
        plain.bias = base.bias
    return plain.train(layer.training)


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)


def base_digest(encoder: Encoder) -> Tensor:
    """SHA-256 of the weights that are not trained, as 32 bytes: a checkpoint of adapters fits no other base."""
    digest = hashlib.sha256()
    for name, weight in sorted(encoder.backbone.named_parameters()):
        if not weight.requires_grad and not name.startswith("pooler."):
            values = weight.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(name.encode())
            digest.update(cast("Any", values.numpy()))
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
