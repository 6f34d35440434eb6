"""Pairs on disk become shards, and shards become batches.

```
files ─ read ─► clean ─► dedup ─► shuffle ─► shard set ─► plan ─► tokenise ─► batches (numpy)
        └──────────────── shard() ──────────────┘ │      └────── BatchLoader ──────┘
                                              open(), inspect(), verify()           Tokenizer
```

This package never imports torch; `bgetrain` does, and builds on this one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bgeprep._native import __version__, build_profile
from bgeprep.config import (
    CleanConfig,
    DedupConfig,
    ExcludeConfig,
    PrepConfig,
    ReadConfig,
    ScoresConfig,
    ShardConfig,
    SourceConfig,
    load_config,
)
from bgeprep.errors import (
    BgeprepError,
    ConfigError,
    CorpusError,
    ExecutorError,
    ShardError,
    SlowTokenizerWarning,
    StoreError,
    TokenizerError,
)
from bgeprep.scores import text_hash
from bgeprep.shard import ShardResult, shard
from bgeprep.shardset import ShardSet, inspect, verify

if TYPE_CHECKING:
    from bgeprep.batch import BatchLoader
    from bgeprep.batch_arrays import Batch, Chunk, GlobalBatch
    from bgeprep.clusters import read_clusters, write_clusters
    from bgeprep.mask import MaskedTexts, TextMasker
    from bgeprep.plan import BatchPlan, audit
    from bgeprep.text import TextBatch, TextLoader
    from bgeprep.tokenize import Tokenizer

__all__ = [
    "Batch",
    "BatchLoader",
    "BatchPlan",
    "BgeprepError",
    "Chunk",
    "CleanConfig",
    "ConfigError",
    "CorpusError",
    "DedupConfig",
    "ExcludeConfig",
    "ExecutorError",
    "GlobalBatch",
    "MaskedTexts",
    "PrepConfig",
    "ReadConfig",
    "ScoresConfig",
    "ShardConfig",
    "ShardError",
    "ShardResult",
    "ShardSet",
    "SlowTokenizerWarning",
    "SourceConfig",
    "StoreError",
    "TextBatch",
    "TextLoader",
    "TextMasker",
    "Tokenizer",
    "TokenizerError",
    "__version__",
    "audit",
    "inspect",
    "load_config",
    "open",
    "read_clusters",
    "shard",
    "text_hash",
    "verify",
    "write_clusters",
]

open = ShardSet.open


_LATE = {
    "batch": {"BatchLoader"},
    "batch_arrays": {"Batch", "Chunk", "GlobalBatch"},
    "plan": {"BatchPlan", "audit"},
    "clusters": {"read_clusters", "write_clusters"},
    "tokenize": {"Tokenizer"},
    "mask": {"MaskedTexts", "TextMasker"},
    "text": {"TextBatch", "TextLoader"},
}


def __getattr__(name: str) -> object:
    """Imports what needs numpy when it is first asked for: `bgeprep shard` does not."""
    for module, names in _LATE.items():
        if name in names:
            return getattr(import_module(f"bgeprep.{module}"), name)
    raise AttributeError(f"module 'bgeprep' has no attribute {name!r}")


if build_profile == "debug":
    import warnings

    warnings.warn("bgeprep is a debug build and slow; hint: maturin develop --release", stacklevel=2)
