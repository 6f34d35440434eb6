"""Fine-tunes a text encoder; the same as `bgetrain train`.

python python/train.py                                       one process, the defaults
torchrun --nproc_per_node 8 python/train.py --data shards/   eight processes of one machine
torchrun python/train.py --help                              every setting
"""

from __future__ import annotations

import sys

from bgetrain.main import main

if __name__ == "__main__":
    sys.exit(main())
