"""Enhanced decoding (RetroMAE, section 3.3): one layer that rebuilds a text from its vector and half of its tokens.

The queries know where they are and the text's vector c; keys and values are the tokens' embeddings, with c in the
place of the first. Which tokens a position sees is drawn for each (`bgeprep.mask`); never itself.

Positions are those of the encoder where it has a table of them as wide as its vectors (BERT, RoBERTa, XLM-R). Where
it has none (ModernBERT and others with rotary positions, ELECTRA with narrow embeddings) the decoder has a table of
its own, added to queries, keys and values, and stored with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Decoder", "QueryStream", "visible_pairs"]

QueryStream = Literal["bge", "paper"]


def visible_pairs(bits: Tensor, choices: Tensor, length: int) -> Tensor:
    """Expands masks on the device where the attention is computed.

    Args:
        bits: base masks, uint8 [n, M, ceil(length / 8)]; bit `j % 8` (lowest first) of byte `j // 8` says whether j is
            visible; 0 behind the end of a text.
        choices: which base mask each position has, int64 [n, length].
        length: positions.

    Returns:
        bool [n, length, length]: whether the row sees the column. No row sees itself, but for the first, which has no
        label; every row sees the first column, padding rows too, so that no softmax is over nothing.
    """
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    masks = ((bits[..., None] >> places) & 1).flatten(2)[..., :length].bool()
    seen = masks.gather(1, choices[..., None].expand(-1, -1, length))
    seen.diagonal(dim1=1, dim2=2).fill_(value=False)
    seen[:, :, 0] = True
    return seen


class Decoder(nn.Module):
    """Streams and the one layer, a BERT layer whose queries come from elsewhere than its keys and values.

    Attributes:
        query_stream: `paper`: c + position (equation 4). `bge`: dropout(LayerNorm(c + type + position)), as BGE's code
            has it.
    """

    def __init__(self, backbone: nn.Module, *, query_stream: QueryStream, positions: int, first_position: int) -> None:
        """Draws its weights at random.

        Args:
            backbone: whose sizes and embeddings are used; its weights stay its own.
            query_stream: which form of queries.
            positions: most tokens of a text.
            first_position: position id of a text's first token in the backbone's table.
        """
        super().__init__()
        config = cast("Any", backbone).config
        width = int(config.hidden_size)
        self.query_stream = query_stream
        self._heads = int(config.num_attention_heads)
        self._first_position = first_position
        self._hidden_dropout = _setting(config, "hidden_dropout_prob", "mlp_dropout", "dropout")
        self._attention_dropout = _setting(config, "attention_probs_dropout_prob", "attention_dropout")
        epsilon = _setting(config, "layer_norm_eps", "norm_eps") or 1e-12
        inner = int(_setting(config, "intermediate_size", "hidden_dim") or 4 * width)
        shared = getattr(cast("Any", backbone).embeddings, "position_embeddings", None)
        self.has_positions = not (isinstance(shared, nn.Embedding) and shared.embedding_dim == width)
        if self.has_positions:
            self.position_embeddings = nn.Embedding(positions, width)
            self.query_norm = nn.LayerNorm(width, eps=epsilon)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=epsilon)
        self.intermediate = nn.Linear(width, inner)
        self.output = nn.Linear(inner, width)
        self.output_norm = nn.LayerNorm(width, eps=epsilon)
        self._activation = _activation(config)
        spread = float(getattr(config, "initializer_range", 0.02))
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=spread)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)

    def forward(self, backbone: nn.Module, input_ids: Tensor, vectors: Tensor, visible: Tensor) -> Tensor:
        """Rebuilds texts.

        Args:
            backbone: the encoder's, for its embeddings.
            input_ids: tokens as they are, int64 [n, L], padded.
            vectors: c of each text, [n, D].
            visible: bool [n, L, L], from `visible_pairs`.

        Returns:
            [n, L, D].
        """
        queries, memory = self._streams(cast("Any", backbone), input_ids, vectors)
        attended = functional.scaled_dot_product_attention(
            self._split(self.query(queries)),
            self._split(self.key(memory)),
            self._split(self.value(memory)),
            attn_mask=visible[:, None],
            dropout_p=self._attention_dropout if self.training else 0.0,
        )
        attended = self.attention_output(attended.transpose(1, 2).flatten(2))
        hidden = self.attention_norm(queries + self._drop(attended))
        inner = self.output(self._activation(self.intermediate(hidden)))
        return cast("Tensor", self.output_norm(hidden + self._drop(inner)))

    def _streams(self, backbone: Any, input_ids: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - any transformers model
        """Queries, and what keys and values are made of; both [n, L, D]."""
        table = backbone.embeddings
        memory = table(input_ids)
        if hasattr(backbone, "embeddings_project"):
            memory = backbone.embeddings_project(memory)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        if self.has_positions:
            positions = self.position_embeddings(places)
            memory, norm = memory + positions, self.query_norm
        else:
            positions = table.position_embeddings(places + self._first_position)
            norm = table.LayerNorm
        memory = torch.cat([vectors[:, None].to(memory.dtype), memory[:, 1:]], dim=1)
        queries = vectors[:, None] + positions
        if self.query_stream == "bge":
            types = getattr(table, "token_type_embeddings", None)
            if types is not None and not self.has_positions:
                queries = queries + types.weight[0]
            queries = self._drop(norm(queries))
        return queries, memory

    def _split(self, hidden: Tensor) -> Tensor:
        """[n, L, D] → [n, heads, L, D / heads]."""
        return hidden.view(*hidden.shape[:2], self._heads, -1).transpose(1, 2)

    def _drop(self, hidden: Tensor) -> Tensor:
        return functional.dropout(hidden, self._hidden_dropout, training=self.training)


def _setting(config: Any, *names: str) -> float:  # noqa: ANN401 - any transformers config
    return next((float(getattr(config, name)) for name in names if getattr(config, name, None) is not None), 0.0)


def _activation(config: Any) -> nn.Module:  # noqa: ANN401 - as above
    from transformers.activations import ACT2FN

    names = ("hidden_act", "hidden_activation", "activation")
    return cast("nn.Module", ACT2FN[next((getattr(config, name) for name in names if hasattr(config, name)), "gelu")])
