"""Batches without duplicates: `plan_bgeprep.py SHARDS TOKENIZER BATCH_SIZE`, the plan of `BatchLoader`."""

from __future__ import annotations

import json
import sys
import time

from bgeprep import BatchLoader, __version__

shards, tokenizer, batch_size = sys.argv[1:]
started = time.perf_counter()
loader = BatchLoader(shards, tokenizer, batch_size=int(batch_size), train_group_size=1)
pairs = sum(len(batch["rows"]) for batch in loader.plan())
print(json.dumps({"version": __version__, "pairs": pairs, "seconds": time.perf_counter() - started}))
