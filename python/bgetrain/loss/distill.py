"""Learning from a teacher's scores of a row's own documents.

Rows are local, so nothing is gathered, and a row weighs the same for any number of ranks. Documents without a score,
and rows with fewer than two scored documents or an unscored positive, teach nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["kl_to_teacher", "margin_mse", "taught_rows"]


def taught_rows(document_rows: Tensor, scores: Tensor, rows: int) -> Tensor:
    """Which rows a teacher has something to say of: their positive has a score, and one document more.

    Args:
        document_rows: int64 [m], ascending, the row of each document, its positive first; no row is empty.
        scores: float [m], of the teacher; not a number for none.
        rows: n.

    Returns:
        bool [n].
    """
    scored = torch.isfinite(scores)
    first = torch.searchsorted(document_rows, torch.arange(rows, device=document_rows.device))
    number = scored.new_zeros(rows, dtype=torch.int64).index_add(0, document_rows, scored.long())
    return scored[first] & (number > 1)


def kl_to_teacher(
    queries: Tensor,
    documents: Tensor,
    document_rows: Tensor,
    scores: Tensor,
    *,
    temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """The Kullback-Leibler divergence of each row's softmax from its teacher's (Hinton et al. 2015, section 2).

    Args:
        queries: float [n, D].
        documents: float [m, D], those of a row together.
        document_rows: int64 [m], ascending, the row of each.
        scores: float [m], of the teacher; not a number for none.
        temperature: divides the cosines.
        teacher_temperature: divides the teacher's scores.

    Returns:
        float [n], each at least 0 up to rounding.
    """
    student, teacher, scored = _by_row(queries, documents, document_rows, scores)
    student = (student / temperature).masked_fill(~scored, -torch.inf)
    teacher = (teacher / teacher_temperature).masked_fill(~scored, -torch.inf)
    usable = scored.sum(dim=1) > 1
    # rows of no use get any finite score, so that no gradient becomes infinity times nought
    student, teacher = (torch.where(usable[:, None], values, 0.0) for values in (student, teacher))
    log_student, log_teacher = torch.log_softmax(student, dim=1), torch.log_softmax(teacher, dim=1)
    terms = log_teacher.exp() * (log_teacher - log_student)
    return torch.where(scored & usable[:, None], terms, 0.0).sum(dim=1)


def margin_mse(
    queries: Tensor, documents: Tensor, document_rows: Tensor, scores: Tensor, *, teacher_temperature: float
) -> Tensor:
    """How far the student's margins are from the teacher's, squared (Hofstätter et al. 2020, arXiv 2010.02666).

    Args:
        queries: float [n, D].
        documents: float [m, D], those of a row together, its positive first.
        document_rows: int64 [m], ascending, the row of each.
        scores: float [m], of the teacher; not a number for none.
        teacher_temperature: divides the teacher's scores, which should then span what cosines span.

    Returns:
        float [n]: the mean over a row's scored negatives of ((s_own - s_j) - (t_own - t_j))².
    """
    student, teacher, scored = _by_row(queries, documents, document_rows, scores)
    negatives = scored[:, 1:] & scored[:, :1]
    teacher = teacher / teacher_temperature
    wrong = (student[:, :1] - student[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
    squares = torch.where(negatives, wrong, 0.0).square()
    return squares.sum(dim=1) / negatives.sum(dim=1).clamp(min=1)


def _by_row(queries: Tensor, documents: Tensor, document_rows: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines, teacher scores and whether there is one, as rectangles [n, most documents of a row]."""
    own = (queries[document_rows] * documents).sum(dim=1)
    count = torch.bincount(document_rows, minlength=len(queries))
    place = torch.arange(len(documents), device=own.device) - (count.cumsum(0) - count)[document_rows]
    shape = (len(queries), int(count.max()) if len(count) else 0)
    scored = torch.isfinite(scores)
    student = own.new_zeros(shape).index_put((document_rows, place), own)
    teacher = own.new_zeros(shape)
    teacher[document_rows, place] = torch.where(scored, scores, 0.0).to(own.dtype)
    mask = torch.zeros(shape, dtype=torch.bool, device=own.device)
    mask[document_rows, place] = scored
    # a row whose positive has no score teaches nothing
    return student, teacher, mask & mask[:, :1]
