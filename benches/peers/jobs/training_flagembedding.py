"""Steps of FlagEmbedding: its model, dataset and collator, in sub-batches of `--chunk` or without."""

from __future__ import annotations

from importlib.metadata import version

import torch
from FlagEmbedding.abc.finetune.embedder.AbsArguments import AbsEmbedderDataArguments
from FlagEmbedding.abc.finetune.embedder.AbsDataset import AbsEmbedderCollator, AbsEmbedderTrainDataset
from FlagEmbedding.finetune.embedder.encoder_only.base.modeling import BiEncoderOnlyEmbedderModel
from torch.utils.data import DataLoader
from training import arguments, measure
from transformers import AutoModel, AutoTokenizer

options = arguments(__doc__)
tokenizer = AutoTokenizer.from_pretrained(options.model)
model = BiEncoderOnlyEmbedderModel(
    AutoModel.from_pretrained(options.model),
    tokenizer=tokenizer,
    temperature=options.temperature,
    sentence_pooling_method="cls",
    normalize_embeddings=True,
    sub_batch_size=options.chunk or -1,
).train()
rows = AbsEmbedderTrainDataset(
    AbsEmbedderDataArguments(train_data=[options.source], cache_path=options.cache, train_group_size=1), tokenizer
)
collator = AbsEmbedderCollator(
    tokenizer,
    query_max_len=options.query_max_len,
    passage_max_len=options.passage_max_len,
    padding=True,
    sub_batch_size=options.chunk or -1,
)
batches = iter(
    DataLoader(
        rows,
        batch_size=options.batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(42),
        collate_fn=collator,
    )
)
parameters = list(model.parameters())
optimizer = torch.optim.AdamW(parameters, lr=1e-4)


def step() -> float:
    """One batch."""
    batch = next(batches)
    optimizer.zero_grad(set_to_none=True)
    loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return float(loss.detach())


measure(options, version("FlagEmbedding"), step)
