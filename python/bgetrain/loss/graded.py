"""Pairs with a grade instead of a yes: more alike must score higher.

    L = log(1 + sum over pairs of rows with grade_i > grade_j of exp((cos_j - cos_i) / t))

CoSENT (Su 2022, https://kexue.fm/archives/8847). The sum runs over all pairs of graded rows of the global batch; sorted
by grade it is a running sum, so no N x N matrix is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["cosent"]


def cosent(cosines: Tensor, grades: Tensor, temperature: float) -> Tensor:
    """The loss of N graded pairs.

    Args:
        cosines: float [N].
        grades: float [N], on any scale; only their order counts.
        temperature: t, above 0.

    Returns:
        A scalar; 0 where all grades are equal.
    """
    order = torch.argsort(grades, stable=True)
    grades, scores = grades[order].contiguous(), cosines[order] / temperature
    # for each row the sum over all rows of a lower grade
    lower = torch.searchsorted(grades, grades)
    running = torch.logcumsumexp(scores, dim=0)
    beaten = lower > 0
    terms = running[(lower - 1)[beaten]] - scores[beaten]
    return torch.logsumexp(torch.cat([scores.new_zeros(1), terms]), dim=0)
