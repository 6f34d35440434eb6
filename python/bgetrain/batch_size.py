"""How many queries share a batch, and where a run starts.

A batch is stated by `global_batch_size`, or a process by `per_device_train_batch_size`; both may be given where they
agree. It is fixed at the first start, since batches are planned for the whole run: a run that is resumed, with more
processes or fewer, keeps it. `scale_down` makes a trial of a large run: the same settings, fewer queries, few steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bgetrain.checkpoint import TrainerState
from bgetrain.errors import CheckpointError, ConfigError, LaunchError
from bgetrain.metrics import note

if TYPE_CHECKING:
    from bgetrain.checkpoint import Checkpoint
    from bgetrain.config import RunConfig, TrainConfig
    from bgetrain.data import ShardFacts
    from bgetrain.gather import Ranks

__all__ = ["PER_DEVICE", "TRIAL_STEPS", "as_started", "start_state", "stated_batch"]

PER_DEVICE = 32
"""Queries of a process where nothing is said."""

TRIAL_STEPS = 20
"""Steps of a run that is scaled down and does not say how long it is."""


def stated_batch(run: RunConfig, world_size: int) -> int | None:
    """The queries of a global batch that the settings state, `scale_down` included.

    Args:
        run: what is set.
        world_size: number of processes.

    Returns:
        A number that gives every process a query; None where the settings state none.

    Raises:
        ConfigError: batch and share of a process disagree.
        LaunchError: there are more processes than queries.
    """
    given, share = run.global_batch_size, run.per_device_train_batch_size
    if given is not None and share is not None and share * world_size != given:
        raise ConfigError(
            f"--per_device_train_batch_size {share} on {world_size} processes makes {share * world_size} queries, "
            f"--global_batch_size says {given}",
            hint="--global_batch_size alone is right for any number of processes",
        )
    batch = given if share is None else share * world_size
    if batch is None:
        return None
    if run.scale_down > 1:
        # one query has no negative of another
        batch = max(2, world_size, batch // run.scale_down)
    if batch < world_size:
        raise LaunchError(
            f"--global_batch_size {batch} does not fill {world_size} processes",
            hint=f"--nproc_per_node {batch} at most",
        )
    return batch


def as_started(run: RunConfig, state: TrainerState) -> RunConfig:
    """The settings as used: the batch as it is, on any number of processes, and nothing left to scale."""
    trial = run.scale_down > 1 and run.max_steps < 0
    return replace(
        run,
        global_batch_size=state.batch_size,
        per_device_train_batch_size=None,
        gradient_accumulation_steps=state.accumulation,
        scale_down=1,
        max_steps=TRIAL_STEPS if trial else run.max_steps,
    )


def start_state(config: TrainConfig, checkpoint: Checkpoint | None, shards: ShardFacts, ranks: Ranks) -> TrainerState:
    """Batch size and place: of the checkpoint where there is one.

    Raises:
        ConfigError: batch and share of a process disagree.
        CheckpointError: the checkpoint was made from another shard set.
        LaunchError: there are more processes than queries in a batch.
    """
    run = config.run
    stated = stated_batch(run, ranks.world_size)
    if checkpoint is None:
        if stated is None:
            stated = stated_batch(replace(run, per_device_train_batch_size=PER_DEVICE), ranks.world_size)
            assert stated is not None, "a share of a process states a batch"
        return TrainerState(
            step=0,
            total_steps=0,
            batch_size=stated,
            accumulation=run.gradient_accumulation_steps,
            world_size=ranks.world_size,
            shards=shards.hash,
            loader={},
        )
    state = checkpoint.state
    if state.shards != shards.hash:
        raise CheckpointError(
            f"{checkpoint.folder}: made from another shard set: {state.shards}, found {shards.hash} in "
            f"{config.data.train_data}",
            path=str(checkpoint.folder),
            hint="--data with the set it was made from, or start anew with --model_name_or_path and the checkpoint",
        )
    if state.batch_size < ranks.world_size:
        raise LaunchError(
            f"{checkpoint.folder}: its batch of {state.batch_size} rows does not fill {ranks.world_size} processes",
            hint=f"--nproc_per_node {state.batch_size} at most",
        )
    wanted = (stated or state.batch_size, run.gradient_accumulation_steps)
    stays = f"the batch stays {state.batch_size} rows x {state.accumulation} as at the first start"
    if ranks.is_main and (state.batch_size, state.accumulation) != wanted:
        note(f"{stays}; {wanted[0]} x {wanted[1]} would be another run")
    elif ranks.is_main and state.world_size != ranks.world_size:
        note(f"{stays}, on {ranks.world_size} processes instead of {state.world_size}")
    return state
