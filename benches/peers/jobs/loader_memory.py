"""Time to the first batch and private memory of a loader: `loader_memory.py SHARDS TOKENIZER BATCH_SIZE BATCHES COLD`.

Memory is what the kernel says of this process, less what it said after `import torch` alone. Anonymous memory is what
nothing else can hold; pages of the mapped shards belong to the page cache and go when memory is wanted.
COLD is 1 to have the kernel forget the parts first, as far as no other process maps them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import islice
from pathlib import Path

import torch


def memory() -> dict[str, int]:
    """Bytes by kind."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


shards, tokenizer, batch_size, batches, cold = sys.argv[1:]
torch.zeros(1)
bare = memory()

from bgeprep import BatchLoader, ShardSet  # noqa: E402 - measured: what stands above is the bare torch
from bgetrain.data import chunk_tensors  # noqa: E402

if cold == "1":
    for part in Path(shards).rglob("*.arrow"):
        descriptor = os.open(part, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
started = time.perf_counter()
loader = BatchLoader(shards, tokenizer, batch_size=int(batch_size), train_group_size=1, layout="padded")
first = 0.0
peak: dict[str, int] = {}
for batch in islice(loader, int(batches)):
    tensors = [chunk_tensors(chunk) for chunk in [*(batch.query_chunks or []), *(batch.doc_chunks or [])]]
    first = first or time.perf_counter() - started
    now = memory()
    peak = {name: max(peak.get(name, 0), size) for name, size in now.items()}
loader.close()
above = {name: peak[name] - bare[name] for name in ("Anonymous", "Pss", "Rss")}
print(json.dumps({"rows": len(ShardSet.open(shards)), "first": first, "above": above}))
