"""What training minimises. Pure functions of tensors; nothing here knows of processes or models.

| module        | loss                                                                        |
|---------------|-----------------------------------------------------------------------------|
| `contrastive` | InfoNCE over the texts of all ranks, one side or both                       |
| `distill`     | a teacher's scores of a row's own documents                                 |
| `graded`      | pairs with a grade                                                          |

`names` says which texts are never each other's negatives, `tiled` computes scores without holding them.

Scale. Rank r holds n of the N rows of a step and minimises W / N times the sum over its rows; gradients are averaged
over the W ranks afterwards. That makes the gradient the one of the whole batch on one process, however unequal the
ranks are, and gives every term the same weight for any W.
"""

from __future__ import annotations

from bgetrain.loss.contrastive import Contrastive, Guide, Rows, Seen, contrastive_loss
from bgetrain.loss.distill import kl_to_teacher, margin_mse, taught_rows
from bgetrain.loss.graded import cosent
from bgetrain.loss.names import Names

__all__ = [
    "Contrastive",
    "Guide",
    "Names",
    "Rows",
    "Seen",
    "contrastive_loss",
    "cosent",
    "kl_to_teacher",
    "margin_mse",
    "taught_rows",
]
