"""Training of text-embedding models on the batches that `bgeprep` plans.

```
shard set ─ data ─► encode ─► gather ─► loss ─► backward ─► optim ─► checkpoint ─► evaluate ─► export
            │        │         │         │                   │        │
            numpy    Encoder   rows of   InfoNCE per local   AdamW,   safetensors, resume
            → torch            all ranks row, masked by keys schedule bit for bit
```

`data` alone knows both `bgeprep` and torch; `gather` alone talks to other processes; `loss` is pure
functions of tensors; `config` is the one home of defaults. Importing this package imports no torch.
"""

from __future__ import annotations
