"""Pairs on disk become shards, and shards become batches.

```
files ─ read ─► clean ─► dedup ─► shuffle ─► shard set ─► plan ─► tokenise ─► batches (numpy)
        └──────────────── shard() ──────────────┘ │      └────── BatchLoader ──────┘
                                              open(), inspect(), verify()
```

This package never imports torch; `bgetrain` does, and builds on this one.
"""

from __future__ import annotations

import importlib
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
from bgeprep.errors import BgeprepError, ConfigError, CorpusError, ShardError, StoreError, TokenizerError
from bgeprep.scores import text_hash
from bgeprep.shard import ShardResult, shard
from bgeprep.shardset import ShardSet, inspect, verify

if TYPE_CHECKING:
    from bgeprep.batch import Batch, BatchLoader
    from bgeprep.mask import MaskedTexts, TextMasker
    from bgeprep.text import TextBatch, TextLoader

__all__ = [
    "Batch",
    "BatchLoader",
    "BgeprepError",
    "CleanConfig",
    "ConfigError",
    "CorpusError",
    "DedupConfig",
    "ExcludeConfig",
    "MaskedTexts",
    "PrepConfig",
    "ReadConfig",
    "ScoresConfig",
    "ShardConfig",
    "ShardError",
    "ShardResult",
    "ShardSet",
    "SourceConfig",
    "StoreError",
    "TextBatch",
    "TextLoader",
    "TextMasker",
    "TokenizerError",
    "__version__",
    "inspect",
    "load_config",
    "open",
    "shard",
    "text_hash",
    "verify",
]

open = ShardSet.open


_LOADERS = {
    "Batch": "batch",
    "BatchLoader": "batch",
    "MaskedTexts": "mask",
    "TextBatch": "text",
    "TextLoader": "text",
    "TextMasker": "mask",
}


def __getattr__(name: str) -> object:
    """Imports a loader, and numpy with it, when it is first asked for: `bgeprep shard` needs neither."""
    if name in _LOADERS:
        return getattr(importlib.import_module(f"bgeprep.{_LOADERS[name]}"), name)
    raise AttributeError(f"module 'bgeprep' has no attribute {name!r}")


if build_profile == "debug":
    import warnings

    warnings.warn("bgeprep is a debug build and slow; hint: maturin develop --release", stacklevel=2)
