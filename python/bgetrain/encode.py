"""The encoder: a transformer, its pooling and its normalisation, read from a model folder.

1. `find_model` turns what the user typed into a folder (a folder, a hub name, or nothing).
2. `Encoder.load` reads the folder, sentence-transformers layout included.
3. `Encoder.forward` gives one vector a text; pooling and normalisation run in fp32 outside autocast,
   because at temperature 0.01 a bf16 score carries an error of about a tenth of the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import nn

from bgetrain.errors import ModelError
from bgetrain.first_token import FIRST_TOKEN_ALONE, switch_on
from bgetrain.model_folder import read_model_folder
from bgetrain.packed import pack, packed_chunks, pool_packed
from bgetrain.padding import TokenRows, length_sorted_chunks, pad, tokens_at_once

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from bgetrain.sharding import Sharding

__all__ = ["Encoder", "Pooling", "pool"]

Pooling = Literal["cls", "mean"]

# model types whose position ids start after the padding id, so that fewer positions are usable
_POSITIONS_AFTER_PADDING = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "xmod", "mpnet"}


def pool(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """One vector a text from the vectors of its tokens.

    Args:
        hidden: last hidden state, float [N, L, D].
        attention_mask: int [N, L], 1 for a token; every row has at least one.
        pooling: `cls` takes the first token, `mean` the average over tokens.

    Returns:
        [N, D] in fp32, or in fp64 where `hidden` is.
    """
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    if pooling == "cls":
        return hidden[:, 0]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


class Encoder(nn.Module):
    """A transformer that gives one vector a text.

    Attributes:
        backbone: the Hugging Face model.
        tokenizer: its fast tokenizer.
        pooling: `cls` or `mean`.
        normalize: whether vectors have length 1.
        query_instruction: text put before queries (never before documents); empty for none.
        max_seq_length: tokens a text is cut to when nothing else is asked, special tokens included.
        position_limit: most tokens the transformer can take.
        folder: the folder that was read.
        random_init: whether the weights were drawn at random instead of read.
        checkpointed: whether activations are computed again in the backward pass.
        first_position: the position id of a text's first token.
        packs: whether texts go packed instead of padded where the attention kernel takes them; see `packed.switch_on`.
        sharding: how its weights are divided over the ranks, None where each rank has them all; see `sharding`.
        first_token_alone: whether the last layer computes, for a vector, the first token alone; see `first_token`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tokenizer: Any,  # noqa: ANN401 - transformers has no public base class of fast tokenizers that is typed
        *,
        pooling: Pooling,
        normalize: bool,
        query_instruction: str = "",
        max_seq_length: int,
        position_limit: int,
        folder: Path | None = None,
        random_init: bool = False,
    ) -> None:
        """Keeps the parts; parameters of an unused pooler head are frozen, since they would get no gradient."""
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.pooling: str = pooling
        self.normalize = normalize
        self.query_instruction = query_instruction
        self.max_seq_length = max_seq_length
        self.position_limit = position_limit
        self.folder = folder
        self.random_init = random_init
        self.checkpointed = False
        self.packs = False
        self.sharding: Sharding | None = None
        self.first_position = _first_position(backbone)
        head = getattr(backbone, "pooler", None)
        if isinstance(head, nn.Module):
            head.requires_grad_(False)
        self.first_token_alone = pooling == "cls" and switch_on(backbone)

    @classmethod
    def load(
        cls,
        model_name_or_path: str | Path,
        *,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        query_instruction: str | None = None,
        random_init: bool = False,
        backbone: nn.Module | None = None,
    ) -> Encoder:
        """Reads a model in fp32.

        Args:
            model_name_or_path: a folder, or a name on the Hugging Face hub.
            pooling: None takes the folder's own (sentence-transformers layout), else `cls`.
            normalize: None takes the folder's own, else True.
            query_instruction: None takes the folder's own query prompt, else none.
            random_init: draw the weights at random by the folder's config.json instead of reading them.
            backbone: the transformer, where the caller has read it already as part of something larger.

        Returns:
            The encoder, on the CPU, in evaluation mode.

        Raises:
            ModelError: the name is neither a folder nor reachable, or the folder holds no usable model.
        """
        folder = read_model_folder(model_name_or_path, needs_weights=not random_init)
        tokenizer = _load_tokenizer(folder.transformer)
        backbone = backbone or _load_backbone(folder.transformer, random_init=random_init)
        limit = _position_limit(backbone, tokenizer)
        return cls(
            backbone,
            tokenizer,
            pooling=pooling or folder.pooling or "cls",
            normalize=folder.normalize if normalize is None else normalize,
            query_instruction=folder.query_prompt if query_instruction is None else query_instruction,
            max_seq_length=min(folder.max_seq_length or limit, limit),
            position_limit=limit,
            folder=folder.transformer,
            random_init=random_init,
        ).eval()

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(cast("Any", self.backbone).config.hidden_size)

    @property
    def layers(self) -> int:
        """The number of transformer layers."""
        return int(cast("Any", self.backbone).config.num_hidden_layers)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.backbone.parameters()).device

    @property
    def num_parameters(self) -> int:
        """The number of weights."""
        return sum(parameter.numel() for parameter in self.backbone.parameters())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """One vector a text.

        Args:
            input_ids: int64 [N, L].
            attention_mask: int64 [N, L], 1 for a token.

        Returns:
            [N, D] in fp32 (fp64 for an fp64 model), of length 1 where `normalize` is on.
        """
        words = {FIRST_TOKEN_ALONE: True} if self.first_token_alone and self.pooling == "cls" else {}
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **words).last_hidden_state
        with torch.autocast(device_type=hidden.device.type, enabled=False):
            vectors = pool(hidden, attention_mask, self.pooling)
            return nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors

    def chunks(self, lengths: NDArray[np.int64], budget: int | None) -> list[tuple[NDArray[np.int64], int]]:
        """Cuts texts into what goes through the transformer at once; under the autocast it will run with.

        Args:
            lengths: tokens of each text, int64 [N].
            budget: most tokens of a chunk, padding included; a longer text is a chunk of its own. None for
                `tokens_at_once`.

        Returns:
            Indices of the texts of each chunk, longest first, and its tokens, padding included.
        """
        budget = budget or tokens_at_once(self.device)
        if self._packs_now():
            return [(chunk, int(lengths[chunk].sum())) for chunk in packed_chunks(lengths, budget)]
        return [(chunk, len(chunk) * int(lengths[chunk[0]])) for chunk in length_sorted_chunks(lengths, budget)]

    def forward_rows(self, rows: TokenRows, chosen: NDArray[np.int64]) -> tuple[Tensor, int]:
        """One vector a text of a chunk, packed or padded.

        Args:
            rows: the texts.
            chosen: indices of the texts, int64 [n], at least one.

        Returns:
            Vectors [n, D] as `forward` gives them, and the tokens computed, padding included.
        """
        device = self.device
        if not self._packs_now():
            input_ids, attention_mask = pad(rows, chosen, self.pad_id)
            vectors = self(input_ids.to(device, non_blocking=True), attention_mask.to(device, non_blocking=True))
            return vectors, input_ids.numel()
        packed = pack(rows, chosen, self.first_position).to(device)
        hidden = packed.hidden(self.backbone)
        with torch.autocast(device_type=device.type, enabled=False):
            vectors = pool_packed(hidden, packed.starts, self.pooling)
            vectors = nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors
        return vectors, packed.input_ids.numel()

    def token_vectors(self, rows: TokenRows, chosen: NDArray[np.int64]) -> tuple[Tensor, int]:
        """The last hidden state of every token of a chunk, texts end to end; packed or padded.

        Args:
            rows: the texts.
            chosen: indices of the texts, int64 [n], at least one.

        Returns:
            [tokens, D], and the tokens computed, padding included.
        """
        device = self.device
        if self._packs_now():
            packed = pack(rows, chosen, self.first_position).to(device)
            return packed.hidden(self.backbone), packed.input_ids.numel()
        input_ids, attention_mask = pad(rows, chosen, self.pad_id)
        places = attention_mask.flatten().nonzero().squeeze(1)
        hidden = self.backbone(
            input_ids=input_ids.to(device, non_blocking=True), attention_mask=attention_mask.to(device)
        ).last_hidden_state
        return hidden.flatten(0, 1).index_select(0, places.to(device, non_blocking=True)), input_ids.numel()

    def _packs_now(self) -> bool:
        """The kernel of a GPU takes half precision; in fp32, where models are measured, texts are padded."""
        if not self.packs or self.device.type != "cuda":
            return self.packs
        kind = next(self.backbone.parameters()).dtype
        kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else kind
        return kind in (torch.bfloat16, torch.float16)

    def embed(self, rows: TokenRows, *, batch_tokens: int | None) -> tuple[Tensor, int]:
        """Vectors of many texts, in length-sorted chunks; gradients flow.

        Args:
            rows: the texts, at least zero.
            batch_tokens: most tokens of a chunk, padding included; None for `tokens_at_once`.

        Returns:
            Vectors [N, D] in the order of `rows`, and the number of tokens computed, padding included.
            Without rows the result is an empty tensor that requires a gradient, so that a rank without
            rows still takes part in the collectives of the backward pass.
        """
        if len(rows) == 0:
            dtype = torch.promote_types(next(self.backbone.parameters()).dtype, torch.float32)
            return torch.zeros(0, self.dimension, dtype=dtype, device=self.device, requires_grad=True), 0
        chunks = [chunk for chunk, _ in self.chunks(rows.lengths, batch_tokens)]
        vectors, computed = [], 0
        for chunk in chunks:
            part, tokens = self.forward_rows(rows, chunk)
            computed += tokens
            vectors.append(part)
        back = np.argsort(np.concatenate(chunks), kind="stable")
        return torch.cat(vectors)[torch.from_numpy(back).to(self.device)], computed

    def checkpoint_activations(self) -> None:
        """Keeps only the input of each layer for the backward pass and computes the rest again there."""
        backbone = cast("Any", self.backbone)
        # transformers renamed it in the course of version 5
        name = "activation_checkpointing_enable"
        enable = getattr(backbone, name, None) or backbone.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        self.checkpointed = True

    @property
    def pad_id(self) -> int:
        """The id that fills padded places; masked, so any id is right where a tokenizer has none."""
        return int(self.tokenizer.pad_token_id or 0)

    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        max_length: int | None = None,
        batch_tokens: int | None = None,
        device: str | torch.device | None = None,
    ) -> NDArray[np.float32]:
        """Vectors of texts, for evaluation and search.

        Args:
            texts: any number of texts.
            instruction: put before every text; truncation keeps it, since it comes first.
            max_length: tokens a text is cut to, special tokens included; None for `max_seq_length`.
            batch_tokens: most tokens computed at once, padding included; None for `tokens_at_once`.
            device: where to compute; None stays where the weights are.

        Returns:
            float32 [N, D], in the order of `texts`.
        """
        if device is not None:
            self.to(device)
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        was_training = self.training
        self.eval()
        try:
            # not inference_mode: what a backbone caches here must serve training too
            with torch.no_grad():
                encoded = self.tokenizer(
                    [instruction + text for text in texts],
                    truncation=True,
                    max_length=max_length or self.max_seq_length,
                    return_attention_mask=False,
                    return_token_type_ids=False,
                )
                vectors, _ = self.embed(TokenRows.from_lists(encoded["input_ids"]), batch_tokens=batch_tokens)
                return vectors.float().cpu().numpy()
        finally:
            self.train(was_training)


def _load_tokenizer(folder: Path) -> Any:  # noqa: ANN401 - see Encoder.__init__
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except Exception as error:
        raise ModelError(f"{folder}: its tokenizer cannot be read: {_one_line(error)}", path=str(folder)) from error
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: its tokenizer has no fast form (tokenizer.json)", path=str(folder))
    return tokenizer


def _load_backbone(folder: Path, *, random_init: bool) -> nn.Module:
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        if random_init:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            return cast("nn.Module", cast("Any", AutoModel).from_config(config, dtype=torch.float32))
        model, info = AutoModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        raise ModelError(f"{folder}: the model cannot be read: {_one_line(error)}", path=str(folder)) from error
    # transformers fills absent tensors with random numbers; only the unused pooler head may be absent
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing or info["mismatched_keys"]:
        wrong = missing or sorted(str(key) for key in info["mismatched_keys"])
        raise ModelError(
            f"{folder}: the weights do not fill the model of its config.json: {len(wrong)} tensors are absent or of "
            f"another shape, first {wrong[0]}",
            path=str(folder),
            hint="give a complete model, or --random_init to draw all weights at random",
        )
    return cast("nn.Module", model)


def _position_limit(backbone: nn.Module, tokenizer: Any) -> int:  # noqa: ANN401 - see Encoder.__init__
    config = cast("Any", backbone).config
    positions = int(getattr(config, "max_position_embeddings", 0) or 0)
    if positions:
        positions -= _first_position(backbone)
    limits = [limit for limit in (positions, int(tokenizer.model_max_length)) if 0 < limit < 1_000_000]
    return min(limits, default=512)


def _first_position(backbone: nn.Module) -> int:
    """The position id of a text's first token."""
    config = cast("Any", backbone).config
    return int(config.pad_token_id or 0) + 1 if config.model_type in _POSITIONS_AFTER_PADDING else 0


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
