"""Trains by sentence-transformers' trainer: `source model out seed steps batch sampler length rate`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss

source, base, out, seed, steps, batch, sampler, length, rate = sys.argv[1:]
model = SentenceTransformer(base, device="cpu")
model.max_seq_length = int(length)
rows = [json.loads(line) for line in Path(source).read_text(encoding="utf-8").splitlines()]
pairs = Dataset.from_dict({"query": [row["query"] for row in rows], "positive": [row["pos"][0] for row in rows]})
with tempfile.TemporaryDirectory() as folder:
    arguments = SentenceTransformerTrainingArguments(
        output_dir=folder,
        max_steps=int(steps),
        per_device_train_batch_size=int(batch),
        learning_rate=float(rate),
        warmup_steps=0.1,
        weight_decay=0.01,
        max_grad_norm=1.0,
        seed=int(seed),
        batch_sampler=sampler,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    loss = MultipleNegativesRankingLoss(model, scale=50.0)
    SentenceTransformerTrainer(model=model, args=arguments, train_dataset=pairs, loss=loss).train()
model.save_pretrained(out)
