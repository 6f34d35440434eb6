"""JSONL → trimmed, filtered, unique by (query, positive), shuffled → uncompressed Arrow IPC, with polars.

The file is read in streaming fashion; `unique` and the shuffle hold the rows in memory.
"""

from __future__ import annotations

import json
import sys

import polars as pl

source, target = sys.argv[1:]
rows = (
    pl.scan_ndjson(source)
    .with_columns(
        pl.col("query").str.strip_chars(),
        pl.col("pos").list.eval(pl.element().str.strip_chars()),
        pl.col("neg").list.eval(pl.element().str.strip_chars()),
    )
    .filter(
        pl.col("query").str.len_chars() >= 2,
        pl.col("pos").list.first().str.len_chars() >= 2,
        pl.col("query") != pl.col("pos").list.first(),
    )
    .with_columns(pl.col("pos").list.first().alias("positive"))
    .unique(subset=["query", "positive"], keep="any")
    .drop("positive")
    .collect(engine="streaming")
    .sample(fraction=1.0, shuffle=True, seed=42)
)
rows.write_ipc(target, compression="uncompressed")
print(json.dumps({"rows": rows.height, "version": pl.__version__}))
