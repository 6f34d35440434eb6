"""A model whose weights, gradients and moments are divided over the processes: torch's FSDP2. No other module knows it.

1. `shard` gives each process its piece of every weight. Around each transformer layer torch puts the whole weights
   together, forth and back, and takes them apart again.
2. That is a collective, so all ranks must make the same passes in the same order: `Sharding.agree` says how many they
   are, and a rank that has fewer texts makes idle ones, whose gradient is exactly 0.
3. Gradients add up beside the whole weights and are reduced once a step, in its last backward pass
   (`Sharding.reduce_next`): torch's mean over ranks, which is what the losses are scaled for.
4. What is measured or written is a plain module of the same class (`Sharding.whole`), filled for that moment: nothing
   that evaluates or exports has to know.

Ranks hold pieces as DTensors; `to_cpu`, `own_piece` and `local` go from one to the other, and take plain tensors too.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from bgetrain.errors import ModelError
from bgetrain.gather import average_gradients, broadcast_parameters, exchange, sum_over_ranks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from bgetrain.gather import Ranks

__all__ = ["Sharding", "clip_gradients", "finish_gradients", "local", "own_piece", "shard", "to_cpu"]

_EVERY = 2**62


class Sharding:
    """How a module is divided over the ranks.

    Attributes:
        ranks: the place of this process.
    """

    def __init__(self, module: nn.Module, root: FSDPModule, hollow: nn.Module, ranks: Ranks) -> None:
        """Keeps the parts; see `shard`.

        Args:
            module: divided.
            root: the part of it whose forward pass holds all others.
            hollow: the same module, not divided, its weights without memory.
            ranks: the place of this process.
        """
        self.ranks = ranks
        self._module, self._root, self._hollow = module, root, hollow
        self._empty = hollow.state_dict(keep_vars=True)

    def agree(self, passes: int, kept: int) -> tuple[int, int]:
        """What all ranks do alike; every rank must call it.

        Args:
            passes: that this rank has texts for.
            kept: of how many of them, the last ones, it can hold the graphs.

        Returns:
            Idle passes that this rank makes first, and of how many passes, idle ones among them, graphs are kept.
        """
        shares = exchange([passes, kept if kept < passes else _EVERY], self.ranks)
        most = max(share[0] for share in shares)
        return most - passes, min(most, *(share[1] for share in shares))

    def reduce_next(self, wish: bool) -> None:
        """Says whether the next backward pass sums the gradients over ranks, or adds them to those of this rank."""
        self._root.set_requires_gradient_sync(wish)

    @contextmanager
    def whole(self, replaced: Mapping[str, Tensor], device: torch.device | None) -> Iterator[nn.Module | None]:
        """Inside the block the module as it was before it was divided; every rank must call it.

        Args:
            replaced: by name, what stands in the place of a weight.
            device: where this rank wants it; None takes part only.
        """
        made: dict[int, Tensor] = {}
        filled: dict[str, Tensor] = {}
        for name, value in self._module.state_dict(keep_vars=True).items():
            # tied weights stay one
            if id(value) not in made:
                tensor = _whole(replaced.get(name, value).detach())
                if device is not None and isinstance(value, nn.Parameter):
                    tensor = nn.Parameter(tensor.to(device, value.dtype), requires_grad=False)
                made[id(value)] = tensor if device is not None else value
            filled[name] = made[id(value)]
        if device is None:
            yield None
            return
        try:
            self._hollow.load_state_dict(filled, assign=True)
            yield self._hollow.to(device)
        finally:
            self._hollow.load_state_dict(self._empty, assign=True)


def shard(
    module: nn.Module, root: nn.Module, *, layers: int, ranks: Ranks, bf16: bool, passes: Sequence[str] = ()
) -> Sharding:
    """Divides a module; every rank must call it.

    Args:
        module: changed in place, with the weights of rank 0, on the CPU or the device of `ranks`; afterwards on that.
        root: `module` or the part of it whose forward pass holds all that is trained.
        layers: of its transformer.
        ranks: at least two.
        bf16: gather weights in bfloat16, for passes under bfloat16 autocast; gradients are summed in fp32.
        passes: methods of `root` that stand for its forward pass.

    Returns:
        What holds it together.

    Raises:
        ModelError: the layers of the transformer are not to be found.
    """
    stacks = [part for part in root.modules() if isinstance(part, nn.ModuleList) and len(part) == layers]
    if not stacks:
        raise ModelError(
            f"--fsdp: {type(root).__name__} has no list of {layers} layers, by which a model is divided",
            hint="leave out --fsdp; --gradient_checkpointing and --grad_cache save memory too",
        )
    broadcast_parameters(module, ranks)
    hollow = _hollow(module)
    mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))
    # inputs stay as autocast makes them: sums between layers in fp32, as without FSDP
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None,
        reduce_dtype=torch.float32 if bf16 else None,
        cast_forward_inputs=False,
    )
    for layer in stacks[0]:
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    divided = fully_shard(root, mesh=mesh, mp_policy=policy)
    for name in passes:
        register_fsdp_forward_method(root, name)
    return Sharding(module, divided, hollow, ranks)


def _hollow(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights take no memory; the tokenizer is the same one."""
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=False)
        for weight in module.parameters()
    }
    for part in module.modules():
        tokenizer = getattr(part, "tokenizer", None)
        memo[id(tokenizer)] = tokenizer
    return copy.deepcopy(module, memo).eval()


def _whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which this rank holds a piece; a collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def to_cpu(named: Mapping[str, Tensor], *, here: bool) -> dict[str, Tensor]:
    """Whole tensors on the CPU; every rank must call it.

    Args:
        named: the same names in the same order on every rank.
        here: whether this rank has a use for them.

    Returns:
        Name → tensor, contiguous; empty where not `here`.
    """
    found = {}
    for name, tensor in named.items():
        value = _whole(tensor.detach())
        if here:
            found[name] = value.cpu().contiguous()
    return found


def own_piece(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's piece of a tensor that it has whole, divided and placed as another; talks to no other rank."""
    if not isinstance(like, DTensor):
        return tensor.to(like.device)
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def local(tensor: Tensor) -> Tensor:
    """The piece that this rank holds, as a plain tensor in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def finish_gradients(parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
    """`average_gradients`; where weights are divided the last backward pass has done it."""
    if not any(isinstance(parameter, DTensor) for parameter in parameters):
        average_gradients(parameters, ranks)
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], limit: float, ranks: Ranks) -> Tensor:
    """Shortens the gradient to at most a length; every rank must call it.

    Args:
        parameters: with their gradients, the same ones on every rank.
        limit: may be infinite.
        ranks: the place of this process.

    Returns:
        The length of the whole gradient before, [], the same on every rank.
    """
    if not any(isinstance(parameter, DTensor) for parameter in parameters):
        return torch.nn.utils.clip_grad_norm_(parameters, limit)
    pieces = [local(cast("Tensor", parameter.grad)) for parameter in parameters]
    length = sum_over_ranks(torch.nn.utils.get_total_norm(pieces).square(), ranks).sqrt()
    # as torch's clip_grad_norm_
    torch._foreach_mul_(pieces, (limit / (length + 1e-6)).clamp(max=1.0))
    return length
