"""The training loop.

    for the batches of each step:
        1. add the gradient of this rank's texts to the weights (`learner`)
        2. average the gradients over ranks, clip, step
        3. now and then: log, evaluate, save; on a signal: save and stop; where patience ends: stop
    save the model: that of the last step, or the best

Places that wait for the device are the end of a logging window, an evaluation and a checkpoint.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bgetrain.checkpoint import (
    TrainerState,
    checkpoint_folder,
    load_optimizer,
    optimizer_tensors,
    save_checkpoint,
)
from bgetrain.chronicle import Chronicle
from bgetrain.ema import WeightAverage
from bgetrain.encode import Encoder
from bgetrain.errors import Interrupted, RankError, TrainingError
from bgetrain.export import save_pretrained
from bgetrain.flops import ModelFlops, device_name, peak_tflops
from bgetrain.gather import broadcast_parameters, exchange, gather_rows, lost_a_rank
from bgetrain.interrupt import StopSignal, outlast_sigterm
from bgetrain.loss_scale import LossScale
from bgetrain.meter import Meter
from bgetrain.optim import build_optimizer, learning_rate_at, set_learning_rate
from bgetrain.settings import to_toml
from bgetrain.sharding import clip_gradients, finish_gradients
from bgetrain.trained import as_exported, load_trained, trained_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor

    from bgetrain.checkpoint import Checkpoint
    from bgetrain.config import TrainConfig
    from bgetrain.data import BatchStream
    from bgetrain.gather import Ranks
    from bgetrain.learner import Learner, StepBatch
    from bgetrain.watch import Watch

__all__ = ["Trainer"]


class Trainer:
    """Trains one learner.

    Attributes:
        step: optimiser steps done.
        average: of the weights; `with average.applied(module)` is the model as it will be saved.
    """

    def __init__(
        self,
        *,
        learner: Learner[Any],
        stream: BatchStream[Any],
        config: TrainConfig,
        ranks: Ranks,
        folder: Path,
        state: TrainerState,
        recipe: dict[str, Any],
        watch: Watch,
        sources: tuple[str, ...],
    ) -> None:
        """Puts the parts together; nothing is read or written yet.

        Args:
            learner: what is trained, on the device of `ranks`.
            stream: batches of this rank.
            config: resolved: learning rate and bf16 are set.
            ranks: the place of this process.
            folder: the run's folder, which exists.
            state: where the run stands: step 0 and an empty loader state for a new one.
            recipe: how the model is trained, for the model card.
            watch: measures the model on the way.
            sources: names of the shard set's sources, by source id.
        """
        self.step = state.step
        self._state = state
        self._learner = learner
        self._encoder = learner.encoder
        self._stream = stream
        self._config = config
        self._ranks = ranks
        self._folder = folder
        self._recipe = recipe
        self._optimizer = build_optimizer(learner.module, config.optim)
        self.average = WeightAverage(learner.module, config.optim.ema_decay)
        self._sharded = learner.encoder.sharding is not None
        self._parameters = [parameter for parameter in learner.module.parameters() if parameter.requires_grad]
        self._loss_scale = LossScale(on=config.run.fp16)
        self._watch = watch
        self._meter = Meter(
            ranks,
            learner.record,
            sources=sources,
            flops=ModelFlops.of(learner.encoder, recomputes=config.run.gradient_checkpointing),
            peak_tflops=peak_tflops(device_name(ranks.device), config.run.peak_tflops),
        )
        self._chronicle: Chronicle
        self._saved_step = -1

    def resume(self, checkpoint: Checkpoint) -> None:
        """Takes optimiser, random state and place in the data from a checkpoint; weights are read by the caller.

        Raises:
            CheckpointError: it does not fit the model.
        """
        load_trained(self._learner, self.average, checkpoint, adapters=self._config.model.lora_rank > 0)
        load_optimizer(self._optimizer, checkpoint.optimizer())
        self._loss_scale.load(checkpoint.more("loss_scale"))
        self._stream.resume(checkpoint.state.loader)
        self._saved_step = self.step
        self._seed()
        if checkpoint.state.world_size == self._ranks.world_size:
            self._restore_rng(checkpoint.rng())

    def train(self) -> None:
        """Runs to the last step, or to the end of patience, and writes the model to the run's folder.

        Raises:
            Interrupted: a signal came; the state is saved.
            RankError: another rank has ended.
            TrainingError: the loss or the gradient is not a number, or nothing can be learned.
        """
        if self.step == 0:
            self._seed()
        if not self._sharded:
            broadcast_parameters(self._learner.module, self._ranks)
        if self.step == 0:
            self.average.load({})
        self._learner.module.train()
        state = self._state
        self._chronicle = Chronicle(
            self._folder,
            self._config,
            self._ranks,
            total_steps=state.total_steps,
            step=self.step,
            facts={
                "batch_size": state.batch_size,
                "accumulation": state.accumulation,
                "weights": self._encoder.num_parameters,
            },
        )
        try:
            with StopSignal() as stop:
                self._run(stop)
            self._export_chosen()
        except BaseException as error:
            self._chronicle.end(self.step, error=error)
            raise
        self._chronicle.end(self.step, early=self.step < state.total_steps)

    def _run(self, stop: StopSignal) -> None:
        """All steps, and what comes between them; see `train`."""
        run = self._config.run
        try:
            for line in self._watch.warnings():
                self._chronicle.say(f"warning: {line}")
            if self._watch.forgot:
                self._chronicle.say("the best score so far was measured by something else: the search starts anew")
            self._evaluate_first(stop)
            if self._watch.exhausted:
                return
            for batches in self._steps_left():
                self._train_step(batches)
                last = self.step == self._state.total_steps
                due = self._watch.due(self.step, last=last)
                if self.step % run.logging_steps == 0 or due:
                    self._write_log(batches[-1])
                better = due and self._evaluate(stop)
                ended = last or self._watch.exhausted
                # an evaluation that a signal left undone is made where the run goes on
                stopped = self._anyone(stop.requested) and not (ended and not self._watch.due(self.step, last=last))
                if self.step % run.save_steps == 0 or ended or stopped or better:
                    self._save(batches[-1])
                if better:
                    self._chronicle.best(self._watch, self._config.eval.metric_for_best_model)
                if stopped:
                    raise Interrupted(
                        f"stopped after step {self.step}; checkpoint-{self.step} is saved",
                        hint="--resume_from_checkpoint last goes on from there",
                    )
                if ended:
                    return
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"step {self.step + 1}: out of GPU memory",
                hint="a smaller --activation_memory or --micro_batch_tokens, --gradient_checkpointing, or --grad_cache",
            ) from error
        except RuntimeError as error:
            if not lost_a_rank(error):
                raise
            outlast_sigterm()
            raise RankError(
                f"rank {self._ranks.rank}: another rank has ended in step {self.step + 1}",
                hint="what it said stands above, nothing where it was killed (out of memory?); "
                "--resume_from_checkpoint last goes on from the last checkpoint",
            ) from error

    def _evaluate_first(self, stop: StopSignal) -> None:
        """Before the first step of this process: the baseline, or the evaluation that a signal had left undone."""
        here = self._watch.due(self.step, last=self.step == self._state.total_steps)
        if not (here if self.step else self._watch.on_start) or self._watch.exhausted:
            return
        if self._evaluate(stop):
            self._chronicle.best(self._watch, self._config.eval.metric_for_best_model)
        elif self.step and self._anyone(stop.requested):
            raise Interrupted(f"stopped before step {self.step + 1}", hint="--resume_from_checkpoint last goes on")

    def _evaluate(self, stop: StopSignal) -> bool:
        """Measures the model on all ranks.

        Args:
            stop: leaves the evaluation undone where it is requested.

        Returns:
            Whether it is the best so far.
        """
        with as_exported(self._learner, self.average, device=self._ranks.device) as exported:
            assert exported is not None, "every rank has asked for it"
            found = self._watch.look(exported.encoder, self.step, lambda: stop.requested)
        if found is not None:
            self._chronicle.evaluation(found)
        else:
            self._chronicle.say(f"step {self.step}: asked to stop, so the evaluation is left undone")
        self._meter.restart_clock()
        return found is not None and found.best

    def _export_chosen(self) -> None:
        """Writes the model of the last step, or of the best one where that is wished."""
        step = self._watch.best_step if self._config.eval.load_best_model_at_end else None
        best = checkpoint_folder(self._folder, step)
        if self.step < self._state.total_steps:
            progress = self._watch.progress
            self._chronicle.say(
                f"stopped early after step {self.step}: {progress.without_improvement} evaluations without an "
                f"improvement; the best is step {progress.best_step}"
            )
        if step is not None and best is None:
            self._chronicle.say(f"warning: checkpoint-{step}, the best, is not there; the last step is exported")
        elif step is not None:
            self._chronicle.say(f"the best checkpoint is exported: step {step}")
        if best is None or step == self.step:
            self._export(self._folder)
        elif self._ranks.is_main:
            save_pretrained(Encoder.load(best), self._folder, recipe={**self._recipe, "steps": step})

    def _steps_left(self) -> Iterator[list[StepBatch]]:
        """The batches of each step that is still to do."""
        total = self._state.total_steps
        if self.step >= total:
            return
        for batches in self._stream:
            yield batches
            if self.step == total:
                return
        raise TrainingError(f"the data ended after step {self.step} of {total}")

    def _train_step(self, batches: list[StepBatch]) -> None:
        """One optimiser step over the batches of all ranks."""
        config, ranks = self._config, self._ranks
        rate = self._learning_rate(self.step)
        set_learning_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        for result in self._learner.gradient(batches, loss_scale=self._loss_scale.factor):
            self._meter.add_batch(result)
        finish_gradients(self._parameters, ranks)
        if self._loss_scale.remove(self._parameters, ranks if self._sharded else None):
            limit = config.optim.max_grad_norm or math.inf
            self._meter.add_step(clip_gradients(self._parameters, limit, ranks))
            self._optimizer.step()
            self.average.update()
        else:
            self._meter.add_skipped_step()
        self.step += 1

    def _learning_rate(self, step: int) -> float:
        peak = self._config.optim.learning_rate
        assert peak is not None, "the caller resolves the learning rate"
        return learning_rate_at(step, self._config.optim, peak=peak, total_steps=self._state.total_steps)

    def _write_log(self, batch: StepBatch) -> None:
        """Ends the logging window; waits for the device."""
        if self._meter.steps == 0:
            return
        record = self._meter.read(
            step=self.step,
            epoch=batch.epoch,
            learning_rate=self._learning_rate(self.step - 1),
            source=batch.source,
            waited=self._stream.take_waited(),
        )
        self._chronicle.window(record)

    def _save(self, batch: StepBatch) -> None:
        """Writes a checkpoint, once a step; a run whose loss is not a number writes none."""
        self._write_log(batch)
        if self._saved_step == self.step:
            return
        self._saved_step = self.step
        rng = self._all_rng()
        if not self._ranks.is_main and not self._sharded:
            return
        state = TrainerState(
            step=self.step,
            total_steps=self._state.total_steps,
            batch_size=self._state.batch_size,
            accumulation=self._state.accumulation,
            world_size=self._ranks.world_size,
            shards=self._state.shards,
            loader=batch.read_state(),
            evaluation=self._watch.state_dict(),
        )
        here, adapters = self._ranks.is_main, self._config.model.lora_rank > 0
        optimizer = optimizer_tensors(self._optimizer, here=here)
        more = trained_files(self._learner, self.average, adapters=adapters, here=here)
        with self._to_write() as exported:
            if exported is None:
                return
            save_checkpoint(
                self._folder,
                state,
                write_model=lambda folder: exported.export(folder, {**self._recipe, "steps": self.step}),
                optimizer=optimizer,
                rng=rng,
                config=to_toml(self._config),
                keep=self._config.run.save_total_limit,
                more={**more, "loss_scale": self._loss_scale.tensors()},
                best=self._watch.best_step,
            )

    def _to_write(self) -> AbstractContextManager[Learner[Any] | None]:
        """The learner as rank 0 writes it, None on the others; every rank must call it where weights are divided."""
        here = torch.device("cpu") if self._ranks.is_main else None
        return as_exported(self._learner, self.average, device=here)

    def _export(self, folder: Path) -> None:
        with self._to_write() as exported:
            if exported is not None:
                exported.export(folder, {**self._recipe, "steps": self.step})

    def _anyone(self, wish: bool) -> bool:
        """Whether any rank was asked to stop: all ranks must stop after the same step."""
        return any(flag for (flag,) in exchange([int(wish)], self._ranks))

    def _seed(self) -> None:
        """Gives each rank dropout of its own; where a run goes on with other ranks, by the step."""
        entropy = [self._config.run.seed, self._ranks.rank, self.step]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1))

    def _all_rng(self) -> dict[str, Tensor]:
        """The random states of all ranks, on rank 0; every rank must call it."""
        ranks = self._ranks
        states = {"cpu": torch.get_rng_state()}
        if ranks.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(ranks.device)
        everyone = {name: gather_rows(state[None], [1] * ranks.world_size, ranks) for name, state in states.items()}
        return {f"{name}.{rank}": rows[rank].clone() for name, rows in everyone.items() for rank in range(len(rows))}

    def _restore_rng(self, states: dict[str, Tensor]) -> None:
        rank = self._ranks.rank
        if f"cpu.{rank}" in states:
            torch.set_rng_state(states[f"cpu.{rank}"])
        if self._ranks.device.type == "cuda" and f"cuda.{rank}" in states:
            torch.cuda.set_rng_state(states[f"cuda.{rank}"], self._ranks.device)
