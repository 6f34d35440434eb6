"""What the user is told before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from bgetrain.metrics import note

if TYPE_CHECKING:
    from bgetrain.checkpoint import TrainerState
    from bgetrain.config import TrainConfig
    from bgetrain.data import ShardFacts
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks

__all__ = ["announce"]


def announce(config: TrainConfig, encoder: Encoder, shards: ShardFacts, state: TrainerState, ranks: Ranks) -> None:
    """Says model, data, steps and batch."""
    group = config.data.train_group_size
    scope = state.batch_size if config.loss.negatives_cross_device else -(-state.batch_size // ranks.world_size)
    learning = sum(weight.numel() for weight in encoder.parameters() if weight.requires_grad)
    adapters = f", {learning / 1e6:.2f}M of them in adapters, which alone learn" if config.model.lora_rank else ""
    left = state.total_steps - state.step
    precision = "fp16 on" if config.run.fp16 else f"bf16 {'on' if config.run.bf16 else 'off'}"
    note(
        f"{config.model.model_name_or_path}: {encoder.num_parameters / 1e6:.1f}M weights{adapters}, "
        f"{encoder.pooling} pooling; "
        f"{config.data.train_data}: {shards.rows:,} rows of {len(shards.names)} sources\n"
        f"{max(0, left)} steps of {state.batch_size} x {state.accumulation} queries on "
        f"{ranks.world_size} x {ranks.device.type}; up to {scope * group - 1:,} negatives a query, "
        f"temperature {config.loss.temperature} (scale {1 / config.loss.temperature:g}), "
        f"learning rate {config.optim.learning_rate:g}, {precision}\n"
        f"{_packing(encoder)}"
        f"output: {config.run.output_dir}"
    )
    if left <= 0:
        note(
            f"warning: the checkpoint is of step {state.step} and the run has {state.total_steps}: nothing is trained\n"
            "hint: a higher --max_steps or --num_train_epochs goes on"
        )


def _packing(encoder: Encoder) -> str:
    """What differs from padded texts, as a line."""
    if not encoder.packs:
        return ""
    config = cast("Any", encoder.backbone).config
    names = ("attention_probs_dropout_prob", "attention_dropout")
    left_out = [f"{name} {getattr(config, name):g}" for name in names if getattr(config, name, 0.0)]
    without = f"; the kernel has no dropout, so {left_out[0]} of the model is left out" if left_out else ""
    return f"texts go packed, without padding{without}\n"
