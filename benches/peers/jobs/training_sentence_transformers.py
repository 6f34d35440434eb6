"""Steps of sentence-transformers: `--variant cached` is CachedMultipleNegativesRankingLoss, `plain` the one without."""

from __future__ import annotations

import datasets
import torch
from sentence_transformers import SentenceTransformer, __version__
from sentence_transformers.losses import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss
from sentence_transformers.models import Normalize, Pooling, Transformer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from torch.utils.data import DataLoader
from training import arguments, measure

options = arguments(__doc__)
transformer = Transformer(options.model)
pooling = Pooling(transformer.get_word_embedding_dimension(), pooling_mode="cls")
model = SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").train()
scale = 1 / options.temperature
loss = (
    CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=options.chunk)
    if options.variant == "cached"
    else MultipleNegativesRankingLoss(model, scale=scale)
)
rows = datasets.load_dataset("json", data_files=options.source, split="train", cache_dir=options.cache)
rows = rows.map(
    lambda batch: {"query": batch["query"], "positive": [row[0] for row in batch["pos"]]},
    batched=True,
    remove_columns=rows.column_names,
)
collator = SentenceTransformerDataCollator(
    preprocess_fn=model.preprocess,
    router_mapping={"query": "query", "positive": "document"},
    max_length={"query": options.query_max_len, "document": options.passage_max_len},
)
batches = iter(
    DataLoader(
        rows.select_columns(["query", "positive"]),
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
    features = [
        {name.removeprefix(f"{column}_"): value for name, value in batch.items() if name.startswith(f"{column}_")}
        for column in ("query", "positive")
    ]
    optimizer.zero_grad(set_to_none=True)
    value = loss(features, None)
    value.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return float(value.detach())


measure(options, __version__, step)
