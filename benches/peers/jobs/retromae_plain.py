"""Steps of RetroMAE as the published code computes it, written plainly: masks in Python, all logits; counts tokens.

`--variant collated` makes the batches inside the clock, as its data loader does in one worker; `prepared` before it.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
import transformers
from torch import nn
from torch.nn import functional
from training import arguments, measure
from transformers import AutoTokenizer, BertForMaskedLM

options = arguments(__doc__)
LENGTH, BASE_MASKS = options.passage_max_len, 128
tokenizer = AutoTokenizer.from_pretrained(options.model)
lm = BertForMaskedLM.from_pretrained(options.model)
config = lm.config
random.seed(42)


def whole_word_mask(tokens: list[str], share: float) -> list[int]:
    """1 for a token that is hidden."""
    words: list[list[int]] = []
    for place, token in enumerate(tokens):
        if token in ("[CLS]", "[SEP]"):
            continue
        if words and token.startswith("##"):
            words[-1].append(place)
        else:
            words.append([place])
    random.shuffle(words)
    wanted = max(1, round(len(tokens) * share))
    hidden: set[int] = set()
    for word in words:
        if len(hidden) >= wanted:
            break
        if len(hidden) + len(word) <= wanted:
            hidden.update(word)
    return [int(place in hidden) for place in range(len(tokens))]


def collate(texts: list[str]) -> dict[str, torch.Tensor]:
    """One batch: padded tokens, labels, and a decoder mask a text."""
    encoded = [tokenizer.encode(text, truncation=True, max_length=LENGTH) for text in texts]
    longest = max(map(len, encoded))
    shape = (len(texts), longest)
    batch = {name: torch.zeros(shape, dtype=torch.long) for name in ("seen", "attention", "ids")}
    batch |= {name: torch.full(shape, -100, dtype=torch.long) for name in ("encoder_labels", "decoder_labels")}
    batch["visible"] = torch.zeros(*shape, longest, dtype=torch.long)
    for row, ids in enumerate(encoded):
        tokens = tokenizer.convert_ids_to_tokens(ids)
        count = len(ids)
        masks = [whole_word_mask(tokens, 0.5) for _ in range(min(count, BASE_MASKS))]
        rows = []
        for place in range(count):
            mask = list(random.choice(masks))
            mask[place] = 1
            rows.append([1 - hidden for hidden in mask])
        batch["visible"][row, :count, :count] = torch.tensor(rows)
        original = torch.tensor(ids)
        batch["ids"][row, :count] = original
        batch["attention"][row, :count] = 1
        batch["decoder_labels"][row, 1 : count - 1] = original[1:-1]
        hidden = torch.tensor(whole_word_mask(tokens, 0.3), dtype=torch.bool)
        batch["encoder_labels"][row, :count] = torch.where(hidden, original, torch.tensor(-100))
        chance = torch.rand(count)
        seen = torch.where(hidden & (chance < 0.8), torch.tensor(tokenizer.mask_token_id), original)
        noise = torch.randint(len(tokenizer), (count,))
        batch["seen"][row, :count] = torch.where(hidden & (chance >= 0.9), noise, seen)
    return batch


class Decoder(nn.Module):
    """One BERT layer whose queries are not its keys."""

    def __init__(self) -> None:
        """Sizes of the encoder."""
        super().__init__()
        width = config.hidden_size
        self.query, self.key, self.value, self.mixed = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, config.intermediate_size), nn.Linear(config.intermediate_size, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, queries: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[B, L, D]."""
        heads = config.num_attention_heads
        q, k, v = (
            part(given).unflatten(2, (heads, -1)).transpose(1, 2)
            for part, given in ((self.query, queries), (self.key, memory), (self.value, memory))
        )
        shares = self.drop((q @ k.transpose(2, 3) / q.shape[-1] ** 0.5 + mask).softmax(dim=-1))
        hidden = self.first(queries + self.drop(self.mixed((shares @ v).transpose(1, 2).flatten(2))))
        return self.second(hidden + self.drop(self.down(functional.gelu(self.up(hidden)))))


decoder = Decoder()
parameters = [*lm.parameters(), *decoder.parameters()]
lm.train()
optimizer = torch.optim.AdamW(parameters, lr=1e-4)
texts = [json.loads(line)["text"] for line in Path(options.source).read_text(encoding="utf-8").splitlines()]
order = random.sample(range(len(texts)), (options.steps + 1) * options.batch_size)
groups = [order[start : start + options.batch_size] for start in range(0, len(order), options.batch_size)]
prepared = iter([collate([texts[place] for place in group]) for group in groups])
lazy = (collate([texts[place] for place in group]) for group in groups)
batches = prepared if options.variant == "prepared" else lazy


def step() -> tuple[float, int]:
    """One batch."""
    batch = next(batches)
    optimizer.zero_grad(set_to_none=True)
    out = lm(
        input_ids=batch["seen"],
        attention_mask=batch["attention"],
        labels=batch["encoder_labels"],
        output_hidden_states=True,
    )
    vectors = out.hidden_states[-1][:, :1]
    embeddings = lm.bert.embeddings
    memory = torch.cat([vectors, embeddings(batch["ids"])[:, 1:]], dim=1)
    queries = embeddings(inputs_embeds=vectors.expand(-1, memory.shape[1], -1))
    mask = (1.0 - batch["visible"][:, None].float()) * torch.finfo(torch.float32).min
    logits = lm.cls(decoder(queries, memory, mask))
    loss = out.loss + functional.cross_entropy(logits.flatten(0, 1), batch["decoder_labels"].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return float(loss), int(batch["attention"].sum())


measure(options, transformers.__version__, step)
