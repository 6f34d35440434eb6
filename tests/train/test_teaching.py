"""Distillation and graded pairs against slow references, and rows that teach nothing."""

from __future__ import annotations

import math

import pytest
import torch

from bgetrain.loss import cosent, kl_to_teacher, margin_mse, taught_rows
from tests.reference import loss as reference

NOTHING = float("nan")
# rows of 3, 1, 2, 2 and 2 documents; the fourth has an unscored negative, the fifth an unscored positive
ROWS = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 4, 4])
SCORES = torch.tensor([3.0, 1.0, -1.0, 2.0, 0.5, 0.5, 1.0, NOTHING, NOTHING, 1.0])


def _vectors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(5 + len(ROWS), 6, dtype=torch.float64, generator=generator)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    return vectors[:5].clone().requires_grad_(), vectors[5:].clone().requires_grad_()


def test_divergence_is_that_of_two_softmaxes() -> None:
    queries, documents = _vectors()
    found = kl_to_teacher(queries, documents, ROWS, SCORES, temperature=0.1, teacher_temperature=2.0)
    expected = []
    for row in range(5):
        members = [place for place in torch.nonzero(row == ROWS).flatten().tolist() if not SCORES[place].isnan()]
        if len(members) < 2 or SCORES[row == ROWS][0].isnan():
            expected.append(0.0)
            continue
        student = [math.exp(float(queries[row].detach() @ documents[place].detach()) / 0.1) for place in members]
        teacher = [math.exp(float(SCORES[place]) / 2.0) for place in members]
        student, teacher = ([value / sum(values) for value in values] for values in (student, teacher))
        expected.append(sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True)))
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert [value > 0 for value in expected] == [True, False, True, False, False]
    assert taught_rows(ROWS, SCORES, 5).tolist() == [value > 0 for value in expected]
    assert taught_rows(ROWS[:0], SCORES[:0], 0).tolist() == []
    found.sum().backward()
    assert torch.isfinite(queries.grad).all()
    assert float(queries.grad[0].norm()) > 0
    assert float(queries.grad[[1, 3, 4]].norm()) == 0


def test_margins_are_compared_to_the_teachers() -> None:
    queries, documents = _vectors(1)
    found = margin_mse(queries, documents, ROWS, SCORES, teacher_temperature=4.0)
    cosines = [float(queries[row].detach() @ documents[place].detach()) for place, row in enumerate(ROWS.tolist())]
    first = [((cosines[0] - cosines[j]) - (SCORES[0] - SCORES[j]).item() / 4) ** 2 for j in (1, 2)]
    third = (cosines[4] - cosines[5]) ** 2
    assert found.tolist() == pytest.approx([sum(first) / 2, 0, third, 0, 0], abs=1e-12)
    found.sum().backward()
    assert torch.isfinite(documents.grad).all()


def test_a_student_that_agrees_pays_nothing() -> None:
    queries, documents = (vectors.detach() for vectors in _vectors(2))
    scores = (queries[ROWS] * documents).sum(dim=1)
    assert float(margin_mse(queries, documents, ROWS, scores, teacher_temperature=1.0).abs().max()) < 1e-30
    same = kl_to_teacher(queries, documents, ROWS, scores, temperature=0.1, teacher_temperature=0.1)
    assert float(same.abs().max()) < 1e-14
    other = kl_to_teacher(queries, documents, ROWS, scores, temperature=0.1, teacher_temperature=0.2)
    assert float(other[0]) > 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_grades_cost_as_in_the_sum_over_pairs(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.randn(12, dtype=torch.float64, generator=generator).requires_grad_()
    grades = torch.randint(0, 4, (12,), generator=generator).float()
    expected = reference.cosent(cosines, grades.tolist(), 0.1)
    expected.backward()
    slow = cosines.grad.clone()
    cosines.grad = None
    found = cosent(cosines, grades, 0.1)
    found.backward()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    assert float((cosines.grad - slow).norm() / slow.norm()) < 1e-12


def test_equal_grades_teach_nothing() -> None:
    cosines = torch.randn(5).requires_grad_()
    loss = cosent(cosines, torch.ones(5), 0.05)
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(cosines.grad.norm()) == 0
