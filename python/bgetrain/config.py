"""What can be set, and the one home of defaults.

`TrainConfig` is a tree of frozen dataclasses. Every leaf is a key of the TOML file (`[loss] temperature`),
a dotted flag (`--loss.temperature`) and a plain flag (`--temperature`); leaf names are unique over the
tree and carry the names Hugging Face and FlagEmbedding users know. `settings` reads files and flags.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bgetrain.errors import ConfigError
from bgetrain.limits import check as _check
from bgetrain.limits import setting as _setting
from bgetrain.ranking import METRICS

__all__ = [
    "DataConfig",
    "EvalConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "PretrainConfig",
    "RunConfig",
    "TrainConfig",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The encoder that training starts from."""

    model_name_or_path: str | None = _setting(
        None, "folder or hub name of the encoder [the demo's base model, where its package is installed]"
    )
    random_init: bool = _setting(False, "draw the weights at random by the folder's config.json; needs --learning_rate")
    sentence_pooling_method: str | None = _setting(
        None, "how token vectors become one [the model's own, else cls]", choices=("cls", "mean"), flags=("pooling",)
    )
    normalize_embeddings: bool | None = _setting(
        None, "give vectors length 1 [the model's own, else true]", flags=("normalize", "normlized")
    )
    lora_rank: int = _setting(
        0, "train low-rank adapters of this rank instead of the weights; 0 is off", low=0, flags=("lora_r",)
    )
    lora_alpha: float | None = _setting(None, "an adapter counts this / lora_rank times [twice lora_rank]", above=0.0)
    lora_dropout: float = _setting(0.1, "dropout before each adapter", low=0.0, high=1.0)
    lora_target_modules: str | None = _setting(
        None, "names of layers that get adapters, e.g. query,value [all linear layers]", flags=("target_modules",)
    )

    def __post_init__(self) -> None:
        """Checks the limits of each key."""
        _check(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What is read and how texts are cut."""

    train_data: str = _setting(
        "shards", "shard set made by `bgeprep shard`; from s3://… each machine fetches it once", flags=("data",)
    )
    cache_dir: str | None = _setting(
        None, "where each machine keeps sets that it fetched [bgeprep/sets in the user's cache folder]"
    )
    cache_limit: str | None = _setting(
        None, "what sets may take there, as 500GB; those used longest ago go [all that the disk has]"
    )
    train_group_size: int = _setting(
        8, "documents a query brings: its positive and up to this many less one of its negatives", low=1
    )
    query_max_len: int = _setting(64, "tokens a query is cut to, instruction and special tokens included", low=4)
    passage_max_len: int = _setting(256, "tokens a document is cut to, special tokens included", low=4)
    query_instruction_for_retrieval: str | None = _setting(
        None,
        "text before retrieval queries; empty switches it off [what the shard set says of each source]",
        flags=("query_prefix",),
    )
    source_alpha: float | None = _setting(
        None, "share of a source: rows to this power [weights of the shard set, else every row once]", low=0.0
    )
    batch_by: str = _setting(
        "source",
        "rows of a batch come from one source, from all in proportion, or from one topic cluster",
        choices=("source", "mixed", "cluster"),
    )
    clusters: str | None = _setting(None, "Parquet file of row and cluster, for --batch_by cluster")
    cluster_share: float = _setting(0.5, "share of the rows in batches of one cluster", low=0.0, high=1.0)
    top_up: bool = _setting(True, "fill a batch that its source cannot fill from sources of its task and language")
    dataloader_num_workers: int = _setting(0, "threads that read and tokenise; 0 chooses", low=0)
    dataloader_prefetch_factor: int = _setting(4, "batches made ahead", low=1)

    def __post_init__(self) -> None:
        """Checks the limits of each key."""
        _check(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """InfoNCE, and what may be added to it."""

    temperature: float = _setting(0.02, "divides the scores; scale is its inverse (BGE v1 0.01, v1.5 0.02)", above=0.0)
    negatives_cross_device: bool = _setting(
        True, "the documents of all processes are negatives", flags=("gather_across_devices",)
    )
    loss_directions: str = _setting(
        "by_task",
        "who is scored: queries, documents too (both), or documents too for symmetric sources (by_task)",
        choices=("query", "both", "by_task"),
    )
    same_tower_negatives: bool = _setting(False, "queries are negatives of queries, documents of documents")
    hardness_weight: float = _setting(
        0.0, "a negative counts exp(this x cosine) times, so that hard ones count more; 0 is off", low=0.0
    )
    false_negative_margin: float | None = _setting(
        None,
        "leave out documents of other rows that score this much higher (cosine) than the positive; 2 leaves none out "
        "[0.1 with --batch_by cluster, 0 with --guide_model, else 2]",
        low=-2.0,
        high=2.0,
    )
    guide_model: str | None = _setting(
        None, "folder or hub name of an encoder of the same vocabulary whose scores decide that [the model in training]"
    )
    mrl_dims: tuple[int, ...] = _setting(
        (), "train the first so many dimensions too, e.g. 64 128 256 (InfoNCE alone); the full vector is always trained"
    )
    knowledge_distillation: bool = _setting(False, "learn from pos_scores and neg_scores of the rows as well")
    kd_loss_type: str = _setting(
        "kl_div", "how the teacher's scores of a row's documents teach", choices=("kl_div", "margin_mse")
    )
    kd_weight: float = _setting(1.0, "of distillation beside InfoNCE", low=0.0)
    kd_temperature: float = _setting(1.0, "divides the teacher's scores", above=0.0)
    graded_temperature: float = _setting(
        0.05, "divides the scores of pairs with a grade (a symmetric source with pos_scores: CoSENT)", above=0.0
    )

    def __post_init__(self) -> None:
        """Checks the limits of each key."""
        _check(self)
        if any(size < 1 for size in self.mrl_dims):
            raise ConfigError(f"--mrl_dims {' '.join(map(str, self.mrl_dims))}: expected sizes of at least 1")
        if self.guide_model is not None and self.false_negative_margin == 2:
            raise ConfigError(
                f"--guide_model {self.guide_model}: --false_negative_margin 2 leaves nothing out that it could find",
                hint="a lower --false_negative_margin, 0 where none is given, or no guide",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """Pre-training on texts, instead of contrastive training on pairs."""

    pretrain_method: str | None = _setting(
        None,
        "pre-train on a set of texts: retromae, dupmae (a bag-of-words term besides), or mlm (masked words alone) "
        "[contrastive training on pairs]",
        choices=("retromae", "dupmae", "mlm"),
    )
    max_seq_length: int = _setting(512, "tokens of a block of text, special tokens included", low=4)
    encoder_mlm_probability: float = _setting(
        0.3, "share of the tokens hidden from the encoder", above=0.0, high=1.0, flags=("mlm_probability",)
    )
    decoder_mlm_probability: float = _setting(
        0.5, "share of the tokens hidden from each position of the decoder", above=0.0, high=1.0
    )
    query_stream: str = _setting(
        "bge",
        "what the decoder asks with: the text's vector through the embedding layer (bge), or plus the position (paper)",
        choices=("bge", "paper"),
    )
    base_masks: int = _setting(128, "masks that the positions of a text share; 0 draws one for each (paper)", low=0)
    sep_visible: bool = _setting(True, "every position of the decoder sees [SEP], as in the published code")
    mask_count: str = _setting(
        "tokens", "what the shares are of: all tokens, or those that can be masked", choices=("tokens", "maskable")
    )
    bow_loss_weight: float = _setting(0.1, "of the bag-of-words term of dupmae", low=0.0)

    def __post_init__(self) -> None:
        """Checks the limits of each key."""
        _check(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """AdamW and its schedule."""

    learning_rate: float | None = _setting(
        None,
        "peak rate [by model size: 1e-5 from 200M weights, 2e-5 from 60M, else 3e-5; 1e-4 for adapters]",
        above=0.0,
    )
    lr_scheduler_type: str = _setting(
        "linear",
        "how it falls after the warm-up; wsd stays at the peak and falls at the end",
        choices=("linear", "cosine", "constant", "wsd"),
    )
    warmup_ratio: float = _setting(0.1, "share of the steps in which the rate rises", low=0.0, high=1.0)
    warmup_steps: float = _setting(
        0.0, "steps in which the rate rises, below 1 their share; overrides --warmup_ratio", low=0.0
    )
    decay_ratio: float = _setting(0.2, "share of the steps in which wsd falls", low=0.0, high=1.0)
    decay_steps: int = _setting(0, "steps in which wsd falls; overrides --decay_ratio", low=0)
    decay_type: str = _setting("linear", "the shape in which wsd falls", choices=("linear", "1-sqrt"))
    weight_decay: float = _setting(0.01, "on weights; never on biases and LayerNorm", low=0.0)
    adam_beta1: float = _setting(0.9, "decay of the first moment", low=0.0, high=1.0)
    adam_beta2: float = _setting(0.999, "decay of the second moment", low=0.0, high=1.0)
    adam_epsilon: float = _setting(1e-8, "added to the denominator", above=0.0)
    max_grad_norm: float = _setting(1.0, "clip the gradient to this length; 0 does not clip", low=0.0)
    ema_decay: float = _setting(
        0.0, "average the weights over about 1 / (1 - this) steps; the average is what is saved; 0 is off", low=0.0
    )

    def __post_init__(self) -> None:
        """Checks the limits of each key."""
        _check(self)
        if self.warmup_steps > 1 and self.warmup_steps % 1:
            raise ConfigError(f"--warmup_steps {self.warmup_steps}: expected a whole number, or a share below 1")
        if self.ema_decay >= 1:
            raise ConfigError(f"--ema_decay {self.ema_decay}: expected below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """What is measured on the way, and what follows from it."""

    eval_data: str | None = _setting(
        None, "collection in the BEIR layout, or a folder of them, measured while training [none is]"
    )
    eval_split: str = _setting("dev", "judgements to use, qrels/<split>.tsv; reported scores should come from others")
    eval_steps: int | None = _setting(None, "steps between two evaluations [--save_steps]; the last is always", low=1)
    eval_on_start: bool = _setting(False, "measure the model before the first step too")
    eval_query_max_len: int | None = _setting(None, "tokens a query is cut to [the model's limit]", low=4)
    eval_passage_max_len: int | None = _setting(None, "tokens a document is cut to [the model's limit]", low=4)
    metric_for_best_model: str = _setting(
        "ndcg@10", "its mean over the collections decides which checkpoint is best", choices=METRICS
    )
    load_best_model_at_end: bool = _setting(False, "export the best checkpoint instead of the last step")
    early_stopping_patience: int | None = _setting(
        None, "stop after this many evaluations in a row without an improvement [never]", low=1
    )
    early_stopping_threshold: float = _setting(0.0, "by how much a score has to be higher to count as one", low=0.0)

    def __post_init__(self) -> None:
        """Checks the limits of each key."""
        _check(self)
        if self.eval_data is None:
            for name, given in (
                ("eval_on_start", self.eval_on_start),
                ("load_best_model_at_end", self.load_best_model_at_end),
                ("early_stopping_patience", self.early_stopping_patience is not None),
            ):
                if given:
                    raise ConfigError(f"--{name}: nothing is measured", hint="--eval_data names a collection")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """How long, how large, where to, and what is said on the way."""

    output_dir: str | None = _setting(None, "folder of model, checkpoints and metrics [output/<UTC time>]")
    overwrite_output_dir: bool = _setting(False, "start anew in a folder that holds a run")
    global_batch_size: int | None = _setting(None, "queries of one batch over all processes", low=1)
    per_device_train_batch_size: int | None = _setting(
        None, "queries a process takes in one batch; says the same [32 where neither is given]", low=1
    )
    gradient_accumulation_steps: int = _setting(1, "batches a step; their negatives are not shared", low=1)
    num_train_epochs: int = _setting(1, "passes over the data", low=1)
    max_steps: int = _setting(-1, "optimiser steps; -1 goes by --num_train_epochs", low=-1)
    scale_down: int = _setting(
        1, "a trial: a global batch this many times smaller, and 20 steps where --max_steps is not given", low=1
    )
    micro_batch_tokens: int | None = _setting(
        None,
        "most tokens the encoder takes at once, padding included [found at the start]",
        low=1,
        flags=("mini_batch_num_tokens",),
    )
    grad_cache: bool | None = _setting(
        None, "compute every chunk of a batch twice and hold the graph of one [only chunks that do not fit]"
    )
    activation_memory: float | None = _setting(
        None, "GiB a process may fill with graphs [what the GPU has free; a quarter of what a CPU has]", above=0.0
    )
    bf16: bool | None = _setting(None, "compute the transformer in bfloat16 [where the GPU can]")
    fp16: bool = _setting(
        False, "compute the transformer in float16 with a loss scale that finds itself, for a GPU without bfloat16"
    )
    attention: str = _setting(
        "auto",
        "sdpa on padded texts, or varlen: torch's kernel on texts end to end, without padding, on a GPU in bfloat16 "
        "[sdpa, until varlen is measured]",
        choices=("auto", "sdpa", "varlen"),
    )
    gradient_checkpointing: bool = _setting(
        False, "less memory for one more forward pass", flags=("activation_checkpointing",)
    )
    fsdp: bool = _setting(
        False,
        "divide weights and moments of a large encoder over the processes, layer by layer (torch's FSDP2)",
        words={"full_shard": True, "full_shard auto_wrap": True, "auto_wrap full_shard": True, "": False},
        hint="full_shard is the one way: every transformer layer over all processes, nothing on the CPU",
    )
    torch_compile: bool = _setting(
        False, "compile the transformer with torch.compile; costs a minute or more at the start"
    )
    use_cpu: bool = _setting(False, "stay on the CPU", flags=("no_cuda",))
    seed: int = _setting(42, "decides batches, dropout and random weights", low=0, high=2**63 - 1)
    logging_steps: int = _setting(10, "steps between two records of metrics.jsonl", low=1)
    save_steps: int = _setting(500, "steps between two checkpoints", low=1)
    save_total_limit: int = _setting(2, "checkpoints kept, the newest; the best one stays besides", low=1)
    report_to: str = _setting("tensorboard", "metrics besides metrics.jsonl", choices=("tensorboard", "wandb", "none"))
    run_name: str | None = _setting(None, "the run's name in wandb [the output folder's]")
    resume_from_checkpoint: str | None = _setting(
        None, "go on from a checkpoint folder, or from the last one (`last`) of --output_dir"
    )
    peak_tflops: float | None = _setting(
        None, "bf16 TFLOP/s of a device without sparsity, for MFU [a table of GPUs]", above=0.0
    )
    ddp_timeout: int = _setting(1800, "seconds a process waits for the others", low=1)

    def __post_init__(self) -> None:
        """Checks the limits of each key."""
        _check(self)
        if self.max_steps == 0:
            raise ConfigError("--max_steps 0: expected -1 or at least 1")
        if self.fp16 and self.bf16:
            raise ConfigError("--fp16 and --bf16: a run computes in one of them", hint="--bf16 where the GPU can")
        if self.fsdp and self.torch_compile:
            raise ConfigError(
                "--fsdp and --torch_compile: weights that come and go cannot be compiled", hint="one of them"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """All that can be set of a training run.

    Attributes:
        model: the encoder that training starts from.
        data: what is read and how texts are cut.
        loss: InfoNCE.
        pretrain: pre-training instead.
        optim: AdamW and its schedule.
        eval: what is measured on the way.
        run: how long, how large, where to.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        """Checks what concerns two sections."""
        method, model = self.pretrain.pretrain_method, self.model
        if self.run.fsdp and model.lora_rank:
            raise ConfigError(
                f"--fsdp and --lora_rank {model.lora_rank}: adapters are too small to be divided",
                hint="--lora_rank alone: the frozen weights have neither gradients nor moments",
            )
        if method is None:
            return
        if model.lora_rank:
            raise ConfigError(f"--pretrain_method {method}: all weights learn, --lora_rank is for contrastive training")
        if model.sentence_pooling_method == "mean":
            raise ConfigError(f"--pretrain_method {method}: the first token becomes the text's vector, not the mean")
