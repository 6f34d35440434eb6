"""What preparing and training on a corpus would cost, from a sample of it that is prepared here and watched.

```
sample ─ measure ─► seconds and bytes of each step, at two sizes ─ preparation ─► time, disk, network, memory
metrics.jsonl of a run ─► tokens a second and a row ──────────────── training ──► GPU-hours, hours
```
"""

from __future__ import annotations

from bgeprep.estimate.measure import Measured, Measurement, measure
from bgeprep.estimate.preparation import Cluster, Line, Target, lines
from bgeprep.estimate.training import Speed, read_speed, training_lines

__all__ = [
    "Cluster",
    "Line",
    "Measured",
    "Measurement",
    "Speed",
    "Target",
    "lines",
    "measure",
    "read_speed",
    "training_lines",
]
