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
from typing import TYPE_CHECKING, cast

from bgetrain.errors import BgetrainError, CheckpointError, ConfigError, LaunchError, RankError
from bgetrain.settings import build, parse_flags, read_toml, to_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bgetrain.checkpoint import Checkpoint
    from bgetrain.config import TrainConfig
    from bgetrain.data import ShardFacts
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks
    from bgetrain.learner import Method

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
    from bgetrain.interrupt import until_said

    with until_said():
        return _report(command)


def _report(command: Callable[[], object]) -> int:
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
    from bgetrain.gather import joined
    from bgetrain.local_shards import local_shards, refuse_idle_cache

    config = build(*layers)
    with joined(use_cpu=config.run.use_cpu, timeout_seconds=config.run.ddp_timeout) as ranks:
        checkpoint = _find_checkpoint(config, ranks)
        if checkpoint is None:
            refuse_idle_cache(config.data)
        else:
            config = build(_settings_of(checkpoint), *layers)
        with local_shards(config.data, ranks) as folder:
            _train(config, checkpoint, ranks, folder)


def _train(config: TrainConfig, checkpoint: Checkpoint | None, ranks: Ranks, shard_folder: str) -> None:
    from bgeprep.errors import BgeprepError
    from bgetrain.batch_size import as_started, start_state
    from bgetrain.checkpoint import remove_run
    from bgetrain.data import describe_shards
    from bgetrain.dropout import switch_on as drop_quickly
    from bgetrain.extras import need_extras
    from bgetrain.lora import attach
    from bgetrain.metrics import note
    from bgetrain.resumable import check_shared
    from bgetrain.trainer import Trainer
    from bgetrain.watch import Watch, open_collections

    need_extras(config)
    shards = describe_shards(shard_folder)
    method = _open_method(config, checkpoint, shards)
    encoder = method.encoder
    folder = _output_folder(config, checkpoint, ranks)
    config = method.resolve(config, shards, ranks)
    collections = open_collections(config.eval)
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
    # rank 0 writes checkpoints; the next launch may put it on another machine
    check_shared(folder, ranks)
    if config.run.fsdp and ranks.is_main:
        alone = "--fsdp has no effect: one process has nobody to divide the model with; torchrun starts several"
        note(
            alone if ranks.world_size == 1 else f"--fsdp divides weights and moments over {ranks.world_size} processes"
        )
    local = replace(config, data=replace(config.data, train_data=shard_folder))
    stream = method.open_stream(local, shards, state, ranks, tokenizer=_tokenizer_folder(encoder, folder, ranks))
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
        learner, chunk_tokens = method.learner(config, shards, state, ranks)
        config = replace(config, run=replace(config.run, micro_batch_tokens=chunk_tokens))
        if ranks.is_main:
            (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
        trainer = Trainer(
            learner=learner,
            stream=stream,
            config=config,
            ranks=ranks,
            folder=folder,
            state=state,
            recipe=method.recipe(config, shards, state, ranks),
            watch=Watch(config, collections, ranks=ranks, stored=state.evaluation),
            sources=shards.names,
        )
        if checkpoint is not None:
            trainer.resume(checkpoint)
        if ranks.is_main:
            note(method.announcement(config, shards, state, ranks))
            if state.step >= state.total_steps:
                note(
                    f"warning: the checkpoint is of step {state.step} and the run has {state.total_steps}: nothing is "
                    "trained\nhint: a higher --max_steps or --num_train_epochs goes on"
                )
        try:
            trainer.train()
        except (BgeprepError, OSError) as error:
            raise RankError(f"rank {ranks.rank}: {error}") from error
        if ranks.is_main:
            note(f"the model is in {folder}; report.html beside it shows the run")
    finally:
        stream.close()


def _open_method(config: TrainConfig, checkpoint: Checkpoint | None, shards: ShardFacts) -> Method:
    """Reads the model, for what the settings and the kind of the shard set ask for."""
    from bgetrain.contrastive import ContrastiveMethod
    from bgetrain.retromae import PretrainMethod

    wanted = config.pretrain.pretrain_method
    if (shards.kind == "text") != (wanted is not None):
        named = f"--pretrain_method {wanted}" if wanted else "contrastive training"
        raise ConfigError(
            f"{config.data.train_data}: a set of {shards.kind}, and {named} takes {'text' if wanted else 'pairs'}",
            hint="texts are for --pretrain_method retromae (configs/retromae.toml), pairs for contrastive training",
        )
    kind = PretrainMethod if wanted else ContrastiveMethod
    return kind.load(config, checkpoint)


def _find_checkpoint(config: TrainConfig, ranks: Ranks) -> Checkpoint | None:
    """The checkpoint to go on from: rank 0 says which, since a machine may be late to see the last one."""
    from bgetrain.checkpoint import find_checkpoint
    from bgetrain.gather import from_main

    wanted = config.run.resume_from_checkpoint
    if wanted is None:
        return None
    output = Path(config.run.output_dir) if config.run.output_dir else None
    chosen = from_main(lambda: str(find_checkpoint(wanted, output).folder), ranks)
    return find_checkpoint(chosen, output)


def _settings_of(checkpoint: Checkpoint) -> dict[str, object]:
    """The settings the checkpoint was made with, without those that say where to and how large a batch."""
    try:
        stored = read_toml(checkpoint.config_file)
        # the batch of the run is that of its state; what the settings state besides is a new wish
        left_out = {"run.output_dir", "run.global_batch_size", "run.per_device_train_batch_size"}
        return {name: value for name, value in stored.items() if name not in left_out}
    except ConfigError as error:
        raise CheckpointError(str(error), path=str(checkpoint.config_file)) from error


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
    """A folder that holds tokenizer.json in the bytes that checkpoints have, whoever wrote the model's own.

    Blocks of text are cut by the hash of that file: a run that is resumed reads it from its checkpoint.
    """
    from tokenizers import Tokenizer

    from bgetrain.gather import exchange

    plain = Tokenizer.from_str(encoder.tokenizer.backend_tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    text = plain.to_str(pretty=True)
    own = encoder.folder / "tokenizer.json" if encoder.folder is not None else None
    if own is not None and own.is_file() and own.read_text(encoding="utf-8") == text:
        return own.parent
    if ranks.is_main:
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    exchange([0], ranks)
    return folder
