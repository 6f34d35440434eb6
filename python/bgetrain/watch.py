"""Evaluation while training: what the model scores on the way, which checkpoint is best, and when to stop.

Every `eval_steps` and at the end, all ranks search the collections together (`retrieval`); each form of a query is the
one the model will be used with: with its instruction where it has one. The scores are those that `bgetrain evaluate`
finds with the saved model. Nothing of training is touched: no random number is drawn, and the encoder goes back to
training mode.

The best evaluation is the one whose mean over the collections is highest. One that is not higher than the best by more
than the threshold counts against the patience; where patience ends, the run does. What is remembered travels in the
trainer's state, so that a run that goes on knows it. A score from before the first step is a baseline: it is no
checkpoint, so it cannot be best.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bgetrain.collection import CollectionError, find_collections, open_collection
from bgetrain.errors import CheckpointError, ConfigError
from bgetrain.evaluate import evaluate
from bgetrain.ranking import METRICS
from bgetrain.retrieval import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bgetrain.collection import Collection
    from bgetrain.config import EvalConfig, TrainConfig
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks

__all__ = ["Evaluated", "Progress", "Watch", "open_collections"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """One evaluation; a line of `metrics.jsonl`.

    Attributes:
        step: optimiser steps done.
        metric: the one that decides.
        value: its mean over the collections.
        best: whether it is higher than at all evaluations before; never before the first step.
        best_value: the highest so far, or None before the first step.
        best_step: where that was.
        without_improvement: evaluations in a row that count against the patience.
        collections: collection → metric → value.
        mean: metric → mean over the collections.
        seconds: how long it took.
    """

    step: int
    metric: str
    value: float
    best: bool
    best_value: float | None
    best_step: int | None
    without_improvement: int
    collections: dict[str, dict[str, float]]
    mean: dict[str, float]
    seconds: float

    def line(self, total_steps: int) -> str:
        """What the terminal shows."""
        each = "  ".join(f"{name} {scores[self.metric]:.4f}" for name, scores in self.collections.items())
        best = ""
        if self.best_value is not None:
            best = "  best so far" if self.best else f"  best {self.best_value:.4f} at step {self.best_step}"
        several = f"  ({each})" if len(self.collections) > 1 else f"  [{next(iter(self.collections))}]"
        return f"step {self.step}/{total_steps}  {self.metric} {self.value:.4f}{best}{several}  {self.seconds:.1f} s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What evaluations have shown so far; a part of the trainer's state.

    Attributes:
        judged_by: the metric and what it was measured on; scores of other ones cannot be compared.
        last_step: of the last evaluation.
        best_value: the highest score.
        best_step: where that was.
        without_improvement: evaluations in a row that count against the patience.
    """

    judged_by: str = ""
    last_step: int | None = None
    best_value: float | None = None
    best_step: int | None = None
    without_improvement: int = 0

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Progress:
        """What a trainer's state holds; empty in states from before evaluation came.

        Raises:
            CheckpointError: it is damaged.
        """
        try:
            return cls(**stored)
        except TypeError as error:
            raise CheckpointError(f"trainer_state.json: damaged: evaluation: {error}") from error

    def after(self, step: int, value: float, threshold: float) -> Progress:
        """The state after one more evaluation."""
        improved = self.best_value is None or value > self.best_value + threshold
        higher = self.best_value is None or value > self.best_value
        return replace(
            self,
            last_step=step,
            best_value=value if higher else self.best_value,
            best_step=step if higher else self.best_step,
            without_improvement=0 if improved else self.without_improvement + 1,
        )


class Watch:
    """Evaluates a model in training.

    Attributes:
        progress: what has been seen so far.
    """

    def __init__(
        self,
        config: TrainConfig,
        collections: list[Collection],
        *,
        ranks: Ranks,
        stored: Mapping[str, Any],
    ) -> None:
        """Takes up what a checkpoint remembers, where it was judged alike.

        Args:
            config: what to measure and when; nothing is measured without collections.
            collections: from `open_collections`.
            ranks: the place of this process.
            stored: the part of the trainer's state, or nothing.
        """
        self._config = config.eval
        self._collections = collections
        self._every = config.eval.eval_steps or config.run.save_steps
        self._ranks = ranks
        names = " ".join(f"{collection.name}/{collection.split}" for collection in collections)
        judged_by = f"{config.eval.metric_for_best_model} {names}" if collections else ""
        before = Progress.of(stored)
        # a run that goes on without collections forgets nothing
        alike = before.judged_by == judged_by or not collections
        self.forgot = bool(before.judged_by) and not alike
        self.progress = before if alike else Progress(judged_by=judged_by)

    def warnings(self) -> list[str]:
        """What a reader of the scores has to know, a line each."""
        return [line for collection in self._collections for line in collection.warnings()]

    @property
    def on_start(self) -> bool:
        """Whether the model is measured before the first step."""
        return self._config.eval_on_start

    def due(self, step: int, *, last: bool) -> bool:
        """Whether the model is to be measured after this step."""
        return bool(self._collections) and (step % self._every == 0 or last) and self.progress.last_step != step

    @property
    def exhausted(self) -> bool:
        """Whether the patience has ended."""
        patience = self._config.early_stopping_patience
        return bool(self._collections) and patience is not None and self.progress.without_improvement >= patience

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint, None before there is one."""
        return self.progress.best_step

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to remember."""
        return asdict(self.progress)

    def look(self, encoder: Encoder, step: int, stop_wanted: Callable[[], bool]) -> Evaluated | None:
        """Measures the model; every rank must call it.

        Returns:
            The scores, the same on every rank, or None where a rank was asked to stop.

        Raises:
            CollectionError: a file changed since it was opened.
            ModelError: the model gives vectors that are not finite.
        """
        started = time.perf_counter()
        scores: dict[str, dict[str, float]] = {}
        try:
            for collection in self._collections:
                report = evaluate(
                    encoder,
                    collection,
                    query_max_len=self._config.eval_query_max_len,
                    passage_max_len=self._config.eval_passage_max_len,
                    device=str(self._ranks.device),
                    both_forms=False,
                    ranks=self._ranks,
                    stop_wanted=stop_wanted,
                )
                scores[collection.name] = report["with"] or report["without"]
        except Stopped:
            return None
        mean = {metric: math.fsum(row[metric] for row in scores.values()) / len(scores) for metric in METRICS}
        value = mean[self._config.metric_for_best_model]
        if step > 0:
            self.progress = self.progress.after(step, value, self._config.early_stopping_threshold)
        return Evaluated(
            step=step,
            metric=self._config.metric_for_best_model,
            value=value,
            best=step > 0 and self.progress.best_step == step,
            best_value=self.progress.best_value,
            best_step=self.progress.best_step,
            without_improvement=self.progress.without_improvement,
            collections=scores,
            mean=mean,
            seconds=time.perf_counter() - started,
        )


def open_collections(config: EvalConfig) -> list[Collection]:
    """Opens what is to be measured, so that what is wrong with it is found before training.

    Raises:
        CollectionError: a collection cannot be used.
        ConfigError: two collections have one name.
    """
    if config.eval_data is None:
        return []
    try:
        opened = [open_collection(folder, config.eval_split) for folder in find_collections(config.eval_data)]
    except CollectionError as error:
        hint = error.hint.replace("--split", "--eval_split").replace("--data", "--eval_data")
        raise CollectionError(f"--eval_data {error}", path=error.path, hint=hint) from error
    names = [collection.name for collection in opened]
    if len(set(names)) < len(names):
        raise ConfigError(f"--eval_data: two collections have the same name: {', '.join(sorted(names))}")
    return opened
