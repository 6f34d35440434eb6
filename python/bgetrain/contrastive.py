"""Training on pairs: what learns is an encoder, the losses are those of `objective`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

from bgetrain.data import BatchStream, open_loader, train_batch
from bgetrain.encode import Encoder
from bgetrain.export import save_pretrained
from bgetrain.objective import batch_gradient
from bgetrain.packed import packing
from bgetrain.precision import precision_in_words
from bgetrain.record import PairRecord, Record
from bgetrain.resolve import find_chunking, load_guide, model_name, resolve
from bgetrain.sharding import shard

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from bgetrain.activation_memory import Chunking
    from bgetrain.checkpoint import Checkpoint, TrainerState
    from bgetrain.config import LossConfig, TrainConfig
    from bgetrain.data import ShardFacts, TrainBatch
    from bgetrain.gather import Ranks
    from bgetrain.learner import Result

__all__ = ["Contrastive", "ContrastiveMethod"]


@dataclass(frozen=True, slots=True)
class Contrastive:
    """Trains an encoder on pairs; see `learner.Learner`.

    Attributes:
        encoder: on the device of `ranks`.
        ranks: the place of this process.
        config: which losses.
        chunking: how a batch goes through the encoder.
        bf16: run the transformer under bfloat16 autocast.
        guide: tells likely positives, on the device of `ranks`; None for the encoder itself.
        fp16: run it under float16 autocast instead.
    """

    encoder: Encoder
    ranks: Ranks
    config: LossConfig
    chunking: Chunking
    bf16: bool = False
    guide: Encoder | None = None
    fp16: bool = False

    @property
    def module(self) -> Encoder:
        """The encoder, which alone is trained."""
        return self.encoder

    @property
    def record(self) -> type[Record]:
        """That of pairs."""
        return PairRecord

    def gradient(self, batches: list[TrainBatch], *, loss_scale: float = 1.0) -> list[Result]:
        """One batch after the other; negatives are not shared between them."""
        step_rows = sum(batch.global_rows for batch in batches)
        return [
            batch_gradient(
                self.encoder,
                batch,
                self.ranks,
                self.config,
                step_rows=step_rows,
                chunking=self.chunking,
                bf16=self.bf16,
                guide=self.guide,
                fp16=self.fp16,
                loss_scale=loss_scale,
                last=batch is batches[-1],
            )
            for batch in batches
        ]

    def holding(self, module: nn.Module) -> Contrastive:
        """The same around another encoder."""
        return replace(self, encoder=cast("Encoder", module))

    def export(self, folder: Path, recipe: dict[str, Any]) -> None:
        """As sentence-transformers reads it."""
        save_pretrained(self.encoder, folder, recipe=recipe)


@dataclass(slots=True)
class ContrastiveMethod:
    """How a run on pairs is set up; see `learner.Method`.

    Attributes:
        encoder: read, on the CPU.
        guide: tells likely positives; read by `resolve` where one is asked for.
    """

    encoder: Encoder
    guide: Encoder | None = None

    @classmethod
    def load(cls, config: TrainConfig, checkpoint: Checkpoint | None) -> ContrastiveMethod:
        """Reads the encoder, that of the checkpoint where there is one."""
        model = config.model
        # adapters go on from the model they stand beside, not from the one they were merged into
        if checkpoint is not None and not model.lora_rank:
            return cls(Encoder.load(checkpoint.folder))
        # the seed decides random weights, which every rank draws alike
        torch.manual_seed(config.run.seed)
        return cls(
            Encoder.load(
                model_name(model),
                pooling=model.sentence_pooling_method,  # type: ignore[arg-type]
                normalize=model.normalize_embeddings,
                random_init=model.random_init,
            )
        )

    def resolve(self, config: TrainConfig, shards: ShardFacts, ranks: Ranks) -> TrainConfig:
        """Fills in what depends on model and machine, and reads the guide."""
        config = resolve(config, self.encoder, shards, ranks)
        self.guide = load_guide(config, self.encoder, ranks)
        return config

    def open_stream(
        self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks, *, tokenizer: Path
    ) -> BatchStream[TrainBatch]:
        """Opens the planned batches of this rank."""
        loader = open_loader(
            config,
            tokenizer=tokenizer,
            batch_size=state.batch_size,
            accumulation=state.accumulation,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )
        return BatchStream(loader, partial(train_batch, tasks=shards.tasks), accumulation=state.accumulation)

    def learner(
        self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks
    ) -> tuple[Contrastive, int]:
        """Moves the encoder to its device and finds how much it takes at once."""
        self.encoder.to(ranks.device)
        chunking = find_chunking(config, self.encoder, ranks)
        if config.run.fsdp and ranks.world_size > 1:
            self.encoder.sharding = shard(
                # layers go to the device one by one, divided
                self.encoder.cpu(),
                self.encoder.backbone,
                layers=self.encoder.layers,
                ranks=ranks,
                bf16=bool(config.run.bf16),
            )
        learner = Contrastive(
            self.encoder,
            ranks,
            config.loss,
            chunking=chunking,
            bf16=bool(config.run.bf16),
            guide=self.guide,
            fp16=config.run.fp16,
        )
        return learner, chunking.chunk_tokens

    def announcement(self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks) -> str:
        """Model, data, steps and batch."""
        encoder, group = self.encoder, config.data.train_group_size
        scope = state.batch_size if config.loss.negatives_cross_device else -(-state.batch_size // ranks.world_size)
        learning = sum(weight.numel() for weight in encoder.parameters() if weight.requires_grad)
        adapters = f", {learning / 1e6:.2f}M of them in adapters, which alone learn" if config.model.lora_rank else ""
        return (
            f"{config.model.model_name_or_path}: {encoder.num_parameters / 1e6:.1f}M weights{adapters}, "
            f"{encoder.pooling} pooling; "
            f"{config.data.train_data}: {shards.rows:,} rows of {len(shards.names)} sources\n"
            f"{max(0, state.total_steps - state.step)} steps of {state.batch_size} x {state.accumulation} queries on "
            f"{ranks.world_size} x {ranks.device.type}; up to {scope * group - 1:,} negatives a query, "
            f"temperature {config.loss.temperature} (scale {1 / config.loss.temperature:g}), "
            f"learning rate {config.optim.learning_rate:g}, {precision_in_words(config.run)}\n"
            f"{packing(encoder)}"
            f"output: {config.run.output_dir}"
        )

    def recipe(self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks) -> dict[str, Any]:
        """How the model is trained, for its card."""
        return {
            "base_model": config.model.model_name_or_path,
            "datasets": list(shards.names),
            "languages": list(shards.languages),
            "shard_set": shards.hash,
            "rows": shards.rows,
            "loss": _losses(config, shards),
            "temperature": config.loss.temperature,
            "scale": 1.0 / config.loss.temperature,
            "global_batch_size": state.batch_size,
            "gradient_accumulation_steps": state.accumulation,
            "train_group_size": config.data.train_group_size,
            "query_max_len": config.data.query_max_len,
            "passage_max_len": config.data.passage_max_len,
            "query_instruction": self.encoder.query_instruction,
            "learning_rate": config.optim.learning_rate,
            "lr_scheduler_type": config.optim.lr_scheduler_type,
            "warmup_ratio": config.optim.warmup_ratio,
            **({"decay_ratio": config.optim.decay_ratio} if config.optim.lr_scheduler_type == "wsd" else {}),
            **({"ema_decay": config.optim.ema_decay} if config.optim.ema_decay else {}),
            **({"lora_rank": config.model.lora_rank} if config.model.lora_rank else {}),
            "weight_decay": config.optim.weight_decay,
            "max_grad_norm": config.optim.max_grad_norm,
            "bf16": config.run.bf16,
            **({"fp16": True} if config.run.fp16 else {}),
            "seed": config.run.seed,
            "processes": ranks.world_size,
            "device": ranks.device.type,
        }


def _losses(config: TrainConfig, shards: ShardFacts) -> str:
    """What is minimised, in words."""
    loss = config.loss
    both = loss.loss_directions == "both" or (loss.loss_directions == "by_task" and "symmetric" in shards.tasks)
    margin = loss.false_negative_margin
    parts = [
        f"InfoNCE, {'both directions' if both else 'query to document'}, in-batch negatives"
        + (" over all processes" if loss.negatives_cross_device else ""),
        "same-tower negatives" if loss.same_tower_negatives else "",
        f"hardness weight {loss.hardness_weight:g}" if loss.hardness_weight else "",
        f"likely positives left out, margin {margin:g}" if margin is not None and margin < 2 else "",
        f"Matryoshka at {', '.join(map(str, loss.mrl_dims))} dimensions" if loss.mrl_dims else "",
        f"distillation by {loss.kd_loss_type}, weight {loss.kd_weight:g}" if loss.knowledge_distillation else "",
    ]
    return "; ".join(part for part in parts if part)
