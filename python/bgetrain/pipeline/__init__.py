"""The whole path from raw texts to a measured model, as one command: `bgetrain pipeline`.

```
file.toml ─ config ─► plan ─ scale ─► steps ─┬► runner ─► commands, one process each ─► summary
                       │                     └► estimate, cluster: what it would cost and how to start it (--dry-run)
                       └ verbs: what each command takes     identity, record: which steps are done and still fit
```

A step is one of the existing commands; the pipeline adds nothing to what they compute. It knows what each was made of,
so that it does again what no longer fits, and nothing else.
"""

from __future__ import annotations

__all__: list[str] = []
