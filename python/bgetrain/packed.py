"""Texts end to end in one row of tokens, each attending to itself alone: no padding is computed.

1. `pack` lays texts one after the other; positions begin anew with each text.
2. `switch_on` registers `_attention` with transformers and compares the vectors of a few texts packed and padded, so
   that an encoder whose attention cannot be had this way is refused before the first step.
3. `_attention` calls torch's kernel for texts of unequal length on a GPU, and attends text by text elsewhere: slow, the
   same numbers, for tests. It drops no attention weights, since the kernel does not.
4. `pool_packed` makes one vector a text.

A rectangle with its mask goes through the same function and gets `scaled_dot_product_attention`, as without packing.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from bgetrain.errors import ConfigError, ModelError
from bgetrain.padding import TokenRows

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from bgetrain.encode import Encoder

__all__ = ["Pack", "check_kernel", "pack", "packed_chunks", "pool_packed", "switch_on"]

_NAME = "bgetrain_varlen"
_HALF = (torch.bfloat16, torch.float16)

_TOLERANCE = 1e-3
"""Of a vector of length 1 in fp32, where packed and padded differ by about 1e-6 and a wrong position by about 1e-1."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Texts of one forward pass.

    Attributes:
        input_ids: int64 [1, tokens].
        position_ids: int64 [1, tokens].
        starts: int32 [texts + 1], where each text begins, and the end.
        longest: tokens of the longest text; known without asking the device.
    """

    input_ids: Tensor
    position_ids: Tensor
    starts: Tensor
    longest: int

    def to(self, device: torch.device) -> Pack:
        """The same on a device."""
        parts = (self.input_ids, self.position_ids, self.starts)
        input_ids, position_ids, starts = (part.to(device, non_blocking=True) for part in parts)
        return Pack(input_ids, position_ids, starts, self.longest)

    def hidden(self, backbone: nn.Module) -> Tensor:
        """Last hidden state, [tokens, D]; `switch_on` came before."""
        # the names under which transformers hands the places of packed texts through to an attention function
        output = backbone(
            input_ids=self.input_ids,
            position_ids=self.position_ids,
            attention_mask=None,
            cu_seq_lens_q=self.starts,
            cu_seq_lens_k=self.starts,
            max_length_q=self.longest,
            max_length_k=self.longest,
        )
        return cast("Tensor", output.last_hidden_state[0])


def packed_chunks(lengths: NDArray[np.int64], budget: int) -> list[NDArray[np.int64]]:
    """Cuts rows into groups of at most `budget` tokens; a longer row is a group of its own.

    Args:
        lengths: tokens of each row, int64 [rows].
        budget: most tokens of a group.

    Returns:
        Row indices, one int64 array a group; the longest rows come first, as in `padding.length_sorted_chunks`.
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    chunks: list[NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + budget, side="right")))
        chunks.append(order[start:end])
        start = end
    return chunks


def pack(rows: TokenRows, chosen: NDArray[np.int64], first_position: int) -> Pack:
    """Lays the chosen rows one after the other.

    Args:
        rows: the texts.
        chosen: indices of the rows, int64 [n], at least one.
        first_position: the position id of a text's first token.

    Returns:
        The texts, on the CPU.
    """
    lengths = rows.lengths[chosen]
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    ids = rows.ids[places + np.repeat(rows.offsets[chosen], lengths)]
    return Pack(
        torch.from_numpy(ids.astype(np.int64))[None],
        torch.from_numpy(places + first_position)[None],
        torch.from_numpy(starts.astype(np.int32)),
        int(lengths.max()),
    )


def pool_packed(hidden: Tensor, starts: Tensor, pooling: str) -> Tensor:
    """One vector a text, as `encode.pool` gives it.

    Args:
        hidden: float [tokens, D].
        starts: int32 [texts + 1]; every text has at least one token.
        pooling: `cls` or `mean`.

    Returns:
        [texts, D] in fp32, or in fp64 where `hidden` is.
    """
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    if pooling == "cls":
        return hidden.index_select(0, starts[:-1])
    # unsafe only leaves out a check that would wait for the device
    return torch.segment_reduce(hidden, "mean", lengths=starts.diff().long(), unsafe=True)


def switch_on(encoder: Encoder) -> None:
    """Makes the encoder pack its texts from now on.

    Args:
        encoder: on the CPU, where the comparison runs in full precision.

    Raises:
        ModelError: its attention cannot be replaced, or its vectors are others when packed; it stays as it was.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    backbone = cast("Any", encoder.backbone)
    before = backbone.config._attn_implementation
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, _mask)
    try:
        backbone.set_attn_implementation(_NAME)
    except (AttributeError, ImportError, ValueError) as error:
        raise _refused(encoder, f"its attention cannot be replaced ({error})") from error
    if backbone.config._attn_implementation != _NAME:
        raise _refused(encoder, "its attention cannot be replaced")
    encoder.packs = True
    try:
        difference = _difference(encoder)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        difference, cause = float("inf"), f" ({type(error).__name__}: {error})"
    else:
        cause = ""
    if not difference < _TOLERANCE:
        encoder.packs = False
        backbone.set_attn_implementation(before)
        raise _refused(encoder, f"packed texts get other vectors than padded ones, {difference:.2g} apart{cause}")


def check_kernel(encoder: Encoder, device: torch.device, *, bf16: bool) -> None:
    """Holds what torch's kernel takes against device and model.

    Args:
        encoder: the model that is to pack its texts.
        device: where it will run; anything but a GPU needs no kernel.
        bf16: whether the transformer runs under bfloat16 autocast.

    Raises:
        ConfigError: the kernel does not take the precision, or the device is too old for it.
        ModelError: the kernel does not take the model.
    """
    if device.type != "cuda":
        return
    config = cast("Any", encoder.backbone).config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if not bf16:
        raise ConfigError(
            "--attention varlen: torch's kernel takes bfloat16, and this run computes in fp32",
            hint="--bf16, or --attention sdpa",
        )
    if torch.cuda.get_device_capability(device) < (8, 0):
        raise ConfigError(
            "--attention varlen: torch's kernel needs a GPU of the Ampere generation or later", hint="--attention sdpa"
        )
    if width % 8 or width > 256:
        raise _refused(encoder, f"torch's kernel takes heads of 8, 16 … 256 dimensions, this one has {width}")
    if _window(config) and "window_size" not in inspect.signature(_kernel()).parameters:
        raise _refused(encoder, "the kernel of this torch knows no sliding window", "a later torch, or ")


def _refused(encoder: Encoder, why: str, hint: str = "") -> ModelError:
    return ModelError(
        f"--attention varlen: {encoder.folder or type(encoder.backbone).__name__}: {why}",
        path=str(encoder.folder or ""),
        hint=f"{hint}--attention sdpa",
    )


@torch.no_grad()
def _difference(encoder: Encoder) -> float:
    """How far apart the vectors of a few texts are, packed and padded."""
    config = cast("Any", encoder.backbone).config
    # longer than a sliding window reaches, where there is one
    longest = min(encoder.position_limit, 9 + 2 * _window(config))
    lengths = [longest, *(max(1, longest // part) for part in (3, 2, 9))]
    # some models count positions by what is not padding
    words = np.setdiff1d(np.arange(min(1_000, int(config.vocab_size))), [encoder.pad_id, config.pad_token_id or 0])
    ids = words[np.arange(sum(lengths)) * 7_919 % len(words)]
    rows = TokenRows(ids, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)]))
    training = encoder.training
    encoder.eval()
    found = []
    try:
        for packs in (True, False):
            encoder.packs = packs
            found.append(encoder.forward_rows(rows, np.arange(len(lengths)))[0])
    finally:
        encoder.packs = True
        encoder.train(training)
    packed, padded = (nn.functional.normalize(vectors, dim=1) for vectors in found)
    return float((packed - padded).abs().max())


def _window(config: Any) -> int:  # noqa: ANN401 - the class of a model's own
    return int(getattr(config, "sliding_window", None) or 0)


def _kernel() -> Any:  # noqa: ANN401 - its signature grows with torch
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


def _mask(*args: object, attention_mask: Tensor | None = None, **others: object) -> Tensor | None:
    """No mask for packed texts, which come without one; that of `sdpa` for a rectangle."""
    if attention_mask is None:
        return None
    from transformers.masking_utils import sdpa_mask

    return cast("Tensor | None", cast("Any", sdpa_mask)(*args, attention_mask=attention_mask, **others))


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    **others: object,
) -> tuple[Tensor, None]:
    """What a layer of transformers calls; query, key and value are [batch, heads, tokens, width].

    Returns:
        [batch, tokens, heads, width], and no attention weights.
    """
    if cu_seq_lens_q is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        plain = cast("Any", sdpa_attention_forward)
        return cast("tuple[Tensor, None]", plain(module, query, key, value, attention_mask, scaling=scaling, **others))
    heads = query.shape[1]
    key, value = (part.repeat_interleave(heads // part.shape[1], dim=1) for part in (key, value))
    scale = query.shape[-1] ** -0.5
    if scaling is not None and scaling != scale:
        # the kernel of torch 2.10 has a scale of its own and takes no other
        query = query * (scaling / scale)
    attend = _attend_on_gpu if query.device.type == "cuda" else _attend_text_by_text
    return attend(query, key, value, cu_seq_lens_q, max_length_q, sliding_window), None


def _attend_on_gpu(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, longest: int, window: int | None
) -> Tensor:
    kind = query.dtype if query.dtype in _HALF else torch.get_autocast_dtype("cuda")
    # [1, heads, tokens, width] → [tokens, heads, width]
    flat = [part[0].transpose(0, 1).to(kind).contiguous() for part in (query, key, value)]
    # what transformers calls a window counts the token itself, what the kernel calls one does not
    words = {} if window is None else {"window_size": (window - 1, window - 1)}
    return cast("Tensor", _kernel()(*flat, starts, starts, longest, longest, **words))[None]


def _attend_text_by_text(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, longest: int, window: int | None
) -> Tensor:
    places = torch.arange(longest, device=query.device)
    near = None if window is None else (places[:, None] - places).abs() < window
    texts = []
    for start, end in pairwise(starts.tolist()):
        mask = None if near is None else near[: end - start, : end - start]
        own = slice(start, end)
        texts.append(scaled_dot_product_attention(query[:, :, own], key[:, :, own], value[:, :, own], attn_mask=mask))
    return torch.cat(texts, dim=2).transpose(1, 2)


def packing(encoder: Encoder) -> str:
    """What differs from padded texts, as a line for the user; empty where nothing does."""
    if not encoder.packs:
        return ""
    config = cast("Any", encoder.backbone).config
    names = ("attention_probs_dropout_prob", "attention_dropout")
    left_out = [f"{name} {getattr(config, name):g}" for name in names if getattr(config, name, 0.0)]
    without = f"; the kernel has no dropout, so {left_out[0]} of the model is left out" if left_out else ""
    return f"texts go packed, without padding{without}\n"
