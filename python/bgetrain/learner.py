"""What a run trains, and by which loss: the part of the training loop that knows what a batch means.

The loop (`trainer`) has one learner, which a method sets up: `contrastive` for pairs, `retromae` for texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from bgetrain.checkpoint import TrainerState
    from bgetrain.config import TrainConfig
    from bgetrain.data import BatchStream, ShardFacts
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks
    from bgetrain.record import Record

__all__ = ["Learner", "Method", "Result", "StepBatch"]

B = TypeVar("B")


class StepBatch(Protocol):
    """What the loop itself asks of a batch: this rank's part of one global batch."""

    @property
    def epoch(self) -> int:
        """Pass over the data, from 0."""

    @property
    def source(self) -> str | None:
        """Name of the source, None where several are mixed."""

    def read_state(self) -> dict[str, Any]:
        """Where the loader stands behind this batch."""


class Result(Protocol):
    """What a batch came to on this rank; n rows, nothing carries a gradient."""

    @property
    def row_losses(self) -> Tensor:
        """Float [n]."""

    @property
    def source_ids(self) -> Tensor:
        """Index of each row's source in the shard set, int64 [n]."""

    @property
    def tokens(self) -> int:
        """Tokens of this rank's texts."""

    @property
    def squares(self) -> int:
        """Squared lengths of the texts, summed."""

    @property
    def computed(self) -> int:
        """Tokens that went through the encoder, padding included."""

    @property
    def replayed(self) -> int:
        """Those of them that went through it a second time."""

    @property
    def more_flops(self) -> float:
        """Model FLOPs of what stands around the encoder."""

    def counts(self) -> dict[str, Tensor]:
        """What the record of a window is made of, [] each; the same names on every rank and in every batch."""


class Learner(Protocol[B]):
    """What is trained."""

    @property
    def module(self) -> nn.Module:
        """All that has weights to train: the encoder, or what holds it; on the device of the ranks."""

    @property
    def encoder(self) -> Encoder:
        """What is measured while training, and exported."""

    @property
    def record(self) -> type[Record]:
        """What a window of steps becomes."""

    def gradient(self, batches: list[B], *, loss_scale: float = 1.0) -> list[Result]:
        """Adds the gradient of this rank's part of one step to the weights.

        Every rank must call it for the parts of the same batches, ranks without rows included. The sum over ranks of
        what each adds, divided by their number, is the gradient of the step, times `loss_scale`.
        """

    def holding(self, module: nn.Module) -> Learner[B]:
        """The same around another copy of `module`."""

    def export(self, folder: Path, recipe: dict[str, Any]) -> None:
        """Writes the model, with what going on from it needs."""


class Method(Protocol):
    """How a run is set up, step by step, in this order."""

    @property
    def encoder(self) -> Encoder:
        """The encoder in training; before `learner`, on the CPU."""

    def resolve(self, config: TrainConfig, shards: ShardFacts, ranks: Ranks) -> TrainConfig:
        """Fills in what depends on model and machine.

        Raises:
            ConfigError: what is set cannot work with this model.
        """

    def open_stream(
        self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks, *, tokenizer: Path
    ) -> BatchStream[Any]:
        """Opens the batches of this rank."""

    def learner(
        self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks
    ) -> tuple[Learner[Any], int]:
        """Moves the model to its device; gives what is trained, and most tokens that go through it at once."""

    def announcement(self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks) -> str:
        """What the user is told before the first step."""

    def recipe(self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks) -> dict[str, Any]:
        """How the model is trained, for its card."""
