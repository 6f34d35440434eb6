"""Looks at each window for a run that cannot learn: what is certain ends the run, what may be wanted is a warning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bgetrain.errors import TrainingError
from bgetrain.record import PairRecord

if TYPE_CHECKING:
    from bgetrain.record import Record

__all__ = ["Warned", "check_health"]

_SOURCES_NAMED = 5


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that a person should look at while the run goes on.

    Attributes:
        message: what was seen, with the step.
        hint: what to do.
        once: whether it is said at its first sight alone, since the data will not change.
    """

    message: str
    hint: str
    once: bool = False


def check_health(record: Record) -> list[Warned]:
    """Looks at one window.

    Returns:
        What to warn of.

    Raises:
        TrainingError: a loss or gradient is not a number, no query has a negative, or every query finds all its
            documents equally near.
    """
    if record.bad_step is not None or not (math.isfinite(record.loss) and math.isfinite(record.grad_norm)):
        step = record.step if record.bad_step is None else record.bad_step
        raise TrainingError(
            f"step {step}: loss or gradient is not a number (sources of that step: {_names(record.bad_sources)}; "
            f"over the window the loss is {record.loss}, the gradient length {record.grad_norm})",
            hint="the checkpoint before it is sound; try a lower --learning_rate, or --bf16 false",
        )
    if isinstance(record, PairRecord):
        _check_pairs(record)
    warned = []
    if record.loss == 0.0:
        warned.append(
            Warned(
                f"step {record.step}: the loss is exactly 0: every positive is far above all negatives",
                "a higher --temperature, or harder negatives",
            )
        )
    elif record.grad_norm == 0.0 and record.skipped < record.steps:
        warned.append(
            Warned(
                f"step {record.step}: the gradient is exactly 0 at a loss of {record.loss:.4f}: no weight moves",
                "are all weights frozen, or do all scores lie where the loss is flat (--temperature)?",
            )
        )
    if isinstance(record, PairRecord) and record.taught == 0:
        warned.append(
            Warned(
                f"step {record.step}: --knowledge_distillation is on, and no query of the last {record.steps} steps "
                "has scores to learn from",
                "a row teaches with pos_scores and neg_scores, and a --train_group_size that leaves it a negative: are "
                "they in the pairs that the shard set was made of?",
                once=True,
            )
        )
    return warned


def _check_pairs(record: PairRecord) -> None:
    """Ends a run whose queries have nothing to tell their documents apart by."""
    # graded pairs learn from each other, without negatives
    if record.effective_negatives == 0 and max(record.loss, record.grad_norm) < 1e-6:
        hint = "larger --per_device_train_batch_size, or pairs with negatives where in-batch negatives are off"
        if record.likely_share > 0:
            hint = "all score like positives and are left out: a higher --false_negative_margin, or another guide"
        raise TrainingError(f"step {record.step}: no query has a negative, so there is nothing to learn", hint=hint)
    if record.flat_share == 1.0 and record.loss > 0:
        raise TrainingError(
            f"step {record.step}: every query of the last {record.steps} steps finds all its documents equally near: "
            "all vectors are alike, so there is nothing to learn from",
            hint="is the pooling the model's own (--sentence_pooling_method), the tokenizer that of these weights, and "
            "are the weights those of a trained encoder? a collapse in the middle of a run asks for a lower "
            "--learning_rate",
        )


def _names(sources: tuple[str, ...]) -> str:
    more = f" and {len(sources) - _SOURCES_NAMED} more" if len(sources) > _SOURCES_NAMED else ""
    return (", ".join(sources[:_SOURCES_NAMED]) or "none") + more
