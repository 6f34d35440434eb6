"""Batches without duplicates: `plan_bgeprep.py SHARDS BATCH_SIZE`, the plan; opening the set is timed as well."""

from __future__ import annotations

import json
import sys
import time

from bgeprep import BatchPlan, __version__

shards, batch_size = sys.argv[1:]
started = time.perf_counter()
pairs = sum(len(batch) for batch in BatchPlan(shards, batch_size=int(batch_size), train_group_size=1))
print(json.dumps({"version": __version__, "pairs": pairs, "seconds": time.perf_counter() - started}))
