"""Batches without duplicates: `plan_bgeprep.py SHARDS BATCH_SIZE`, the plan; opening the set is timed as well.

Both classes are imported before, and numpy with them: imports are not timed.
"""

from __future__ import annotations

import json
import sys
import time

from bgeprep import BatchPlan, GlobalBatch, __version__

shards, batch_size = sys.argv[1:]
started = time.perf_counter()
pairs = sum(map(GlobalBatch.__len__, BatchPlan(shards, batch_size=int(batch_size), train_group_size=1)))
print(json.dumps({"version": __version__, "pairs": pairs, "seconds": time.perf_counter() - started}))
