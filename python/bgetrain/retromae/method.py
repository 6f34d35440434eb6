"""How a pre-training run is set up; see `learner.Method`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from bgetrain.activation_memory import agreed_chunking
from bgetrain.data import BatchStream
from bgetrain.errors import ConfigError
from bgetrain.optim import learning_rate_for
from bgetrain.packed import packing
from bgetrain.precision import precision_in_words
from bgetrain.resolve import model_name, resolve_run
from bgetrain.retromae.data import open_text_loader, pretrain_batch
from bgetrain.retromae.model import PretrainModel
from bgetrain.retromae.objective import Pretraining
from bgetrain.sharding import shard

if TYPE_CHECKING:
    from pathlib import Path

    from bgetrain.checkpoint import Checkpoint, TrainerState
    from bgetrain.config import TrainConfig
    from bgetrain.data import ShardFacts
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks
    from bgetrain.retromae.data import PretrainBatch

__all__ = ["PretrainMethod"]


@dataclass(frozen=True, slots=True)
class PretrainMethod:
    """How a run on texts is set up; see `learner.Method`.

    Attributes:
        model: read, on the CPU.
        notes: what the user should know of it, a line each.
    """

    model: PretrainModel
    notes: list[str]

    @classmethod
    def load(cls, config: TrainConfig, checkpoint: Checkpoint | None) -> PretrainMethod:
        """Reads the model, that of the checkpoint where there is one."""
        # the seed decides random weights, which every rank draws alike
        torch.manual_seed(config.run.seed)
        if checkpoint is not None:
            model, _ = PretrainModel.load(checkpoint.folder, config.pretrain)
            return cls(model, [])
        given = config.model
        return cls(
            *PretrainModel.load(
                model_name(given),
                config.pretrain,
                random_init=given.random_init,
                normalize=given.normalize_embeddings,
            )
        )

    @property
    def encoder(self) -> Encoder:
        """The encoder in training."""
        return self.model.encoder

    def resolve(self, config: TrainConfig, shards: ShardFacts, ranks: Ranks) -> TrainConfig:
        """Fills in what depends on model and machine, and holds the length against the model.

        Raises:
            ConfigError: blocks longer than the model takes, or a random model without a learning rate.
        """
        longest = config.pretrain.max_seq_length
        if longest > self.encoder.position_limit:
            raise ConfigError(f"--max_seq_length {longest}: the model takes {self.encoder.position_limit} tokens")
        rate = config.optim.learning_rate or learning_rate_for(
            self.encoder.num_parameters, random_init=self.encoder.random_init
        )
        # an instruction is for queries, which come later
        self.encoder.query_instruction = ""
        config = resolve_run(config, self.encoder, ranks)
        return replace(config, optim=replace(config.optim, learning_rate=rate))

    def open_stream(
        self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks, *, tokenizer: Path
    ) -> BatchStream[PretrainBatch]:
        """Opens the masked blocks of this rank, and cuts the documents where that was not done before."""
        loader = open_text_loader(
            config,
            tokenizer=tokenizer,
            batch_size=state.batch_size,
            accumulation=state.accumulation,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )
        return BatchStream(
            loader, partial(pretrain_batch, source_rows=shards.source_rows), accumulation=state.accumulation
        )

    def learner(
        self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks
    ) -> tuple[Pretraining, int]:
        """Moves the model to its device and finds how much it takes at once."""
        self.model.to(ranks.device)
        run = config.run
        # of the memory that is free half goes to the encoder's chunk; decoder and head have the rest
        chunking = agreed_chunking(
            self.encoder,
            ranks,
            longest=config.pretrain.max_seq_length,
            micro_batch_tokens=run.micro_batch_tokens,
            grad_cache=False,
            activation_memory=run.activation_memory,
            bf16=bool(run.bf16),
            fp16=run.fp16,
            divided_by=ranks.world_size if run.fsdp else 1,
        )
        if run.fsdp and ranks.world_size > 1:
            self.encoder.sharding = shard(
                self.model.cpu(),
                self.model,
                layers=self.encoder.layers,
                ranks=ranks,
                bf16=bool(run.bf16),
                passes=("chunk", "idle"),
            )
        learner = Pretraining(
            self.model, ranks, config.pretrain, chunking.chunk_tokens, bf16=bool(run.bf16), fp16=run.fp16
        )
        return learner, chunking.chunk_tokens

    def announcement(self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks) -> str:
        """Model, data, steps and batch."""
        pretrain, encoder = config.pretrain, self.encoder
        weights = sum(weight.numel() for weight in self.model.parameters())
        decoder = ""
        if self.model.decoder is not None:
            masks = pretrain.base_masks or "fresh"
            decoder = f", decoder {pretrain.decoder_mlm_probability:g} ({pretrain.query_stream} queries, {masks} masks)"
        return "".join(f"{line}\n" for line in self.notes) + (
            f"{config.model.model_name_or_path}: {encoder.num_parameters / 1e6:.1f}M weights, "
            f"{weights / 1e6:.1f}M with head and decoder; "
            f"{config.data.train_data}: {shards.rows:,} texts of {len(shards.names)} sources\n"
            f"{max(0, state.total_steps - state.step)} steps of {state.batch_size} x {state.accumulation} blocks of up "
            f"to {pretrain.max_seq_length} tokens on {ranks.world_size} x {ranks.device.type}; "
            f"{pretrain.pretrain_method}: encoder mask {pretrain.encoder_mlm_probability:g}{decoder}, "
            f"learning rate {config.optim.learning_rate:g}, {precision_in_words(config.run)}\n"
            f"{packing(encoder)}"
            f"output: {config.run.output_dir}"
        )

    def recipe(self, config: TrainConfig, shards: ShardFacts, state: TrainerState, ranks: Ranks) -> dict[str, Any]:
        """How the model is trained, for its card."""
        pretrain, optim = config.pretrain, config.optim
        decodes = self.model.decoder is not None
        return {
            "base_model": config.model.model_name_or_path,
            "datasets": list(shards.names),
            "languages": list(shards.languages),
            "shard_set": shards.hash,
            "rows": shards.rows,
            "pretrain_method": pretrain.pretrain_method,
            "max_seq_length": pretrain.max_seq_length,
            "encoder_mlm_probability": pretrain.encoder_mlm_probability,
            **({"decoder_mlm_probability": pretrain.decoder_mlm_probability} if decodes else {}),
            **({"query_stream": pretrain.query_stream, "base_masks": pretrain.base_masks} if decodes else {}),
            **({"bow_loss_weight": pretrain.bow_loss_weight} if pretrain.pretrain_method == "dupmae" else {}),
            "global_batch_size": state.batch_size,
            "gradient_accumulation_steps": state.accumulation,
            "learning_rate": optim.learning_rate,
            "lr_scheduler_type": optim.lr_scheduler_type,
            "warmup_ratio": optim.warmup_ratio,
            "weight_decay": optim.weight_decay,
            "max_grad_norm": optim.max_grad_norm,
            "bf16": config.run.bf16,
            "seed": config.run.seed,
            "processes": ranks.world_size,
            "device": ranks.device.type,
        }
