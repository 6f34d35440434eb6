"""RetroMAE as the paper and BGE's code have it: text by text, all logits, masks spelled out, attention by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from bgeprep.mask import MaskedTexts
    from bgetrain.retromae.model import PretrainModel


class Losses(NamedTuple):
    """Summed over labels, and how many there are."""

    encoder: torch.Tensor
    masked: int
    decoder: torch.Tensor
    decoded: int
    bow: torch.Tensor
    texts: int

    def total(self, bow_weight: float = 0.0) -> torch.Tensor:
        return self.encoder / self.masked + self.decoder / self.decoded + bow_weight * self.bow / self.texts


def losses(model: PretrainModel, texts: MaskedTexts, special: set[int], *, see_itself: bool = False) -> Losses:
    """All losses of some texts; without dropout.

    Args:
        model: in evaluation mode.
        texts: with masks.
        special: ids of special tokens.
        see_itself: a control: every position sees its own token.
    """
    lm: Any = model.masked_lm
    backbone, sums = lm.base_model, [torch.zeros((), dtype=torch.float64) for _ in range(3)]
    masked = decoded = 0
    for text in range(len(texts.offsets) - 1):
        start, end = int(texts.offsets[text]), int(texts.offsets[text + 1])
        ids = torch.from_numpy(texts.input_ids[start:end].astype("int64"))
        seen = torch.from_numpy(texts.corrupted_ids[start:end].astype("int64"))
        labels = torch.full_like(ids, -100)
        for place in range(int(texts.mask_offsets[text]), int(texts.mask_offsets[text + 1])):
            labels[int(texts.mask_positions[place]) - start] = int(texts.labels[place])
        output = lm(input_ids=seen[None], attention_mask=torch.ones_like(seen)[None], output_hidden_states=True)
        sums[0] = sums[0] + functional.cross_entropy(output.logits[0], labels, ignore_index=-100, reduction="sum")
        masked += int((labels >= 0).sum())

        ordinary = torch.tensor([int(token) not in special for token in ids])
        found = output.logits[0, 1:].max(dim=0).values.log_softmax(dim=0)
        words = {int(token) for token in ids[ordinary]}
        sums[2] = sums[2] - sum(found[word] for word in words) / int(ordinary.sum())

        if model.decoder is not None:
            hidden = backbone(input_ids=seen[None], attention_mask=torch.ones_like(seen)[None]).last_hidden_state[0]
            visible = torch.from_numpy(texts.visible(text).copy())
            if see_itself:
                visible.fill_diagonal_(fill_value=True)
            rebuilt = decode(model, ids, hidden[0], visible)
            logits = _all_logits(lm, rebuilt)
            wanted = torch.where(ordinary, ids, torch.tensor(-100))
            sums[1] = sums[1] + functional.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum")
            decoded += int(ordinary.sum())
    return Losses(sums[0], masked, sums[1], max(1, decoded), sums[2], len(texts.offsets) - 1)


def decode(model: PretrainModel, ids: torch.Tensor, c: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """One text through the decoder, position by position and head by head; [L, D]."""
    backbone: Any = model.encoder.backbone
    decoder: Any = model.decoder
    config = backbone.config
    memory = backbone.embeddings(ids[None])
    if hasattr(backbone, "embeddings_project"):
        memory = backbone.embeddings_project(memory)
    own = hasattr(decoder, "position_embeddings")
    first = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    table = decoder.position_embeddings.weight if own else backbone.embeddings.position_embeddings.weight[first:]
    memory = memory[0] + table[: len(ids)] if own else memory[0]
    memory = torch.stack([c, *memory[1:]])
    queries = torch.stack([c + table[place] for place in range(len(ids))])
    if decoder.query_stream == "bge":
        if own:
            queries = decoder.query_norm(queries)
        else:
            queries = backbone.embeddings.LayerNorm(queries + backbone.embeddings.token_type_embeddings.weight[0])
    heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    q, k, v = decoder.query(queries), decoder.key(memory), decoder.value(memory)
    rows = []
    for place in range(len(ids)):
        columns = [column for column in range(len(ids)) if visible[place, column]]
        parts = []
        for head in range(heads):
            cut = slice(head * width, (head + 1) * width)
            if not columns:
                parts.append(torch.zeros(width, dtype=v.dtype))
                continue
            scores = k[columns, cut] @ q[place, cut] / math.sqrt(width)
            parts.append(scores.softmax(dim=0) @ v[columns, cut])
        rows.append(torch.cat(parts))
    hidden = decoder.attention_norm(queries + decoder.attention_output(torch.stack(rows)))
    inner = functional.gelu(decoder.intermediate(hidden))
    return decoder.output_norm(hidden + decoder.output(inner))


def _all_logits(lm: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The model's own head, whole."""
    for name in ("cls", "lm_head"):
        if hasattr(lm, name):
            return getattr(lm, name)(hidden)
    if hasattr(lm, "generator_predictions"):
        return lm.generator_lm_head(lm.generator_predictions(hidden))
    return lm.decoder(lm.head(hidden))
