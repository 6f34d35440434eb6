"""The arguments that users of other trainers know, and what each is called here.

One table serves three: a flag or key that is not ours is refused with what to use instead, one that only says what is
always done here is accepted, and docs/arguments.md is printed from it (`python -m bgetrain.arguments`). What has the
same meaning under another name is an alias, declared with the setting (`flags=` in `config`).
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass

from bgetrain.errors import ConfigError

__all__ = ["TABLE", "Argument", "markdown", "not_ours"]

# name, or name=values that are accepted because they say what is always done | name here, `=` for the same | remark
_ROWS = """
# FlagEmbedding, finetune of encoder-only embedders
model_name_or_path | = | without one: the demo's base model, where its package is installed
config_name | | the model's folder says it: --model_name_or_path
tokenizer_name | | the tokenizer is the one in the model's folder; FlagEmbedding never read this either
cache_dir | = | of shard sets from a store; of models: set HF_HOME in the environment
trust_remote_code=false | | code from a hub is never run
use_fast_tokenizer=true | | a tokenizer without a fast form cannot be trained
token | | set HF_TOKEN in the environment
train_data | = | one shard set; `bgeprep shard --in FILES --out shards/` makes it from files and folders
cache_path | | shards are mapped into memory as they are; there is no second copy
train_group_size | = | rows with fewer negatives bring fewer; none is repeated
query_max_len | = | 64 here, 32 there
passage_max_len | = | 256 here, 128 there
pad_to_multiple_of | | batches are padded to their own longest text, sorted by length
max_example_num_per_dataset | | --source_alpha, or weights in the shard set, say how much of a source is taken
query_instruction_for_retrieval | = | before queries of retrieval sources only; where none is given a row's own `prompt`
query_instruction_format={}{} | | the instruction stands before the query as it is
passage_instruction_for_retrieval= | | documents take no instruction
passage_instruction_format={}{} | | documents take no instruction
knowledge_distillation | = |
shuffle_ratio=0,0.0 | | documents are trained as they are
same_dataset_within_batch=true | | --batch_by source is the default; --batch_by mixed is false
small_threshold=0 | | --top_up fills the batch of a small source from sources like it
drop_threshold=0 | | no source is dropped for its size; --top_up fills its batches
negatives_cross_device | = | on here, off there
temperature | = |
fix_position_embedding=false | | all weights are trained, or --lora_rank adapters
sentence_pooling_method | = | cls, mean; the model's own where none is given
normalize_embeddings | = | the model's own where none is given
sub_batch_size | | --micro_batch_tokens, in tokens; unlike theirs it bounds memory, and is found by itself
kd_loss_type | = | kl_div, margin_mse; their m3_kd_loss is not here
use_mrl=true | | --mrl_dims alone switches it on
mrl_dims | = |
# FlagEmbedding, the trainer of BGE v1 and v1.5
normlized | normalize_embeddings | their spelling; off does not change the temperature here
use_inbatch_neg=true | | rows of classification sources see only their own negatives, by the task in the shard set
# FlagEmbedding, other embedders
use_lora=false | | --lora_rank above 0 switches it on
lora_rank | = | 0, which is off
lora_alpha | = | twice the rank where none is given
lora_dropout | = |
target_modules | lora_target_modules | one text, e.g. query,value
use_flash_attn=false | | --attention varlen packs texts, on a GPU
colbert_dim=-1 | | one dense vector a text is trained
unified_finetuning=false | | one dense vector a text is trained
use_self_distill=false | | one dense vector a text is trained, which has nothing to learn from itself
self_distill_start_step=-1 | | one dense vector a text is trained
fix_encoder=false | | there is nothing but the encoder to train
example_query_max_len | | queries bring no examples
example_passage_max_len | | queries bring no examples
retrieval_use_examples=false | | queries bring no examples
icl_suffix_str | | queries bring no examples
# Hugging Face, TrainingArguments: the run
output_dir | = | output/<UTC time> where none is given
overwrite_output_dir | = |
do_train=true | | `bgetrain train` trains
do_eval=false | | --eval_data; `bgetrain evaluate` measures any model
do_predict=false | | `bgetrain evaluate` measures any model
num_train_epochs | = | whole passes
max_steps | = |
seed | = |
data_seed | | --seed decides batches too
full_determinism | | batches and dropout always follow --seed; on the CPU the same run gives the same bits
resume_from_checkpoint | = | a folder, or `last`
ignore_data_skip=false | | a resumed run goes on with the next batch, at once
restore_callback_states_from_checkpoint | | early stopping goes on by itself
use_cpu | = |
no_cuda | use_cpu | its name before version 5
local_rank | | torchrun says it in the environment
run_name | = | for wandb
report_to | = | tensorboard, wandb or none; one, not a list
project | | set WANDB_PROJECT in the environment
logging_dir | | TensorBoard's events are in <output_dir>/tensorboard
# Hugging Face, TrainingArguments: batches
per_device_train_batch_size | = | or --global_batch_size, over all processes
gradient_accumulation_steps | = | negatives are not shared between the batches of a step
auto_find_batch_size=false | | the batch is part of the recipe; --micro_batch_tokens fits it into memory
dataloader_num_workers | = | threads, not processes
dataloader_prefetch_factor | = | batches made ahead, in all
dataloader_drop_last=false | | the last batch of a pass is trained as it is; ranks may be unequal
dataloader_pin_memory | | nothing to choose
dataloader_persistent_workers | | threads live as long as the run
dataloader_multiprocessing_context | | there are no worker processes
dataloader_in_order=true | | batches always come in their order
remove_unused_columns=true,false | | a shard set has no columns that are not used
label_names | | the task of a source is in the shard set
group_by_length | | texts are sorted by length inside a batch, so nothing is gained
length_column_name | | lengths are in the shard set
train_sampling_strategy | | --batch_by
# Hugging Face, TrainingArguments: optimiser and schedule
learning_rate | = | by the size of the model where none is given
lr_scheduler_type | = | linear, cosine, constant (with warm-up), wsd (their warmup_stable_decay)
lr_scheduler_kwargs | | --decay_steps or --decay_ratio, and --decay_type, for wsd
warmup_ratio | = |
warmup_steps | = | below 1 a share of the steps, as from version 5
weight_decay | = | never on biases and LayerNorm
adam_beta1 | = |
adam_beta2 | = |
adam_epsilon | = |
max_grad_norm | = | the length of the gradient of the whole batch, on any number of processes
optim=adamw_torch,adamw_torch_fused | | AdamW of torch is the one optimiser
optim_args | | --adam_beta1, --adam_beta2, --adam_epsilon
optim_target_modules | | --lora_target_modules chooses what adapters stand beside
label_smoothing_factor=0,0.0 | | the target of a query is its positive
neftune_noise_alpha | | nothing is added to embeddings
average_tokens_across_devices | | the loss is the mean over the queries of all processes, exactly
# Hugging Face, TrainingArguments: precision, memory, speed
bf16 | = | where the GPU can, unless told otherwise; scores are always fp32
fp16 | = | for a GPU without bfloat16; the loss scale starts at 65,536 and finds itself
bf16_full_eval=false | | evaluation computes as training does
fp16_full_eval=false | | evaluation computes as training does
tf32=false | | --bf16 is faster; scores need fp32 without TF32
gradient_checkpointing | = |
activation_checkpointing | gradient_checkpointing | its name in later releases of version 5
gradient_checkpointing_kwargs | | --gradient_checkpointing has nothing more to set
activation_checkpointing_kwargs | | --gradient_checkpointing has nothing more to set
torch_compile | = |
torch_compile_backend=inductor | | --torch_compile takes torch's default
torch_compile_mode=default | | --torch_compile takes torch's default
torch_empty_cache_steps | | nothing to set
use_liger_kernel=false | | Liger has no kernel for this loss
liger_kernel_config | | Liger has no kernel for this loss
use_cache=false | | encoders keep no cache
deepspeed | | --fsdp divides weights and moments; --gradient_checkpointing, --grad_cache, --lora_rank save memory too
fsdp | = | `full_shard`, with `auto_wrap` or without, or true; torch's FSDP2, around each transformer layer
fsdp_transformer_layer_cls_to_wrap | | --fsdp finds the layers by itself
fsdp_min_num_params=0 | | --fsdp divides every layer
fsdp_config | | --fsdp finds the layers by itself; precision is that of --bf16, sums are fp32
accelerator_config | | torchrun alone starts the processes
parallelism_config | | --fsdp; torchrun alone starts the processes
ddp_timeout | = |
ddp_backend=nccl,gloo | | NCCL on GPUs, gloo on CPUs
ddp_find_unused_parameters=false | | gradients are averaged once a step, whatever was used
ddp_bucket_cap_mb | | gradients are averaged once a step
ddp_broadcast_buffers | | gradients are averaged once a step
ddp_static_graph | | gradients are averaged once a step
# Hugging Face, TrainingArguments: what is said, measured and kept
logging_steps | = |
logging_strategy=steps | | --logging_steps
logging_first_step | | --logging_steps 1
logging_nan_inf_filter=false | | a loss that is not a number ends the run
log_level | | records are in metrics.jsonl
log_level_replica | | only rank 0 speaks
log_on_each_node | | only rank 0 speaks
disable_tqdm=true | | there is a line a record, no bar
include_num_input_tokens_seen | | tokens are in metrics.jsonl
skip_memory_metrics | | nothing to set
debug | | nothing to set
eval_strategy=steps,no | | --eval_data switches it on, --eval_steps says how often
evaluation_strategy=steps,no | | --eval_data switches it on, --eval_steps says how often
eval_steps | = |
eval_on_start | = |
eval_delay | | --eval_steps, --eval_on_start
per_device_eval_batch_size | | --micro_batch_tokens
eval_accumulation_steps | | nothing to set
eval_do_concat_batches | | --eval_data names a collection in the BEIR layout
eval_use_gather_object | | --eval_data names a collection in the BEIR layout
include_for_metrics | | --metric_for_best_model; all metrics are always written
batch_eval_metrics | | all metrics are always written
prediction_loss_only | | --eval_data: retrieval is measured, not the loss
metric_for_best_model | = | e.g. ndcg@10
greater_is_better=true | | all metrics are better higher
load_best_model_at_end | = |
save_steps | = |
save_strategy=steps | | --save_steps; the last step is always saved
save_total_limit | = |
save_only_model=false | | a checkpoint holds what the run needs to go on; its model opens by itself
save_safetensors=true | | nothing is ever pickled
save_on_each_node=false | | rank 0 saves
enable_jit_checkpoint | | SIGTERM always saves and stops
push_to_hub=false | | upload <output_dir> with `hf upload`: it is a complete model
hub_model_id | | upload <output_dir> with `hf upload`
hub_token | | upload <output_dir> with `hf upload`
hub_strategy | | upload <output_dir> with `hf upload`
hub_private_repo | | upload <output_dir> with `hf upload`
hub_always_push | | upload <output_dir> with `hf upload`
hub_revision | | upload <output_dir> with `hf upload`
trackio_space_id | | --report_to tensorboard or wandb
trackio_bucket_id | | --report_to tensorboard or wandb
trackio_static_space_id | | --report_to tensorboard or wandb
# sentence-transformers
scale | | --temperature, its inverse: scale 50 is temperature 0.02
gather_across_devices | negatives_cross_device | on here, off there
mini_batch_size | | --micro_batch_tokens, in tokens
mini_batch_num_tokens | micro_batch_tokens | found at the start where none is given
batch_sampler | | a batch never holds two rows with the same text
multi_dataset_batch_sampler | | --batch_by, and --source_alpha for the shares
prompts | | --query_instruction_for_retrieval
# tevatron
grad_cache | = | by itself where a batch does not fit
gc_q_chunk_size | | --micro_batch_tokens, in tokens
gc_p_chunk_size | | --micro_batch_tokens, in tokens
query_prefix | query_instruction_for_retrieval |
passage_prefix= | | documents take no instruction
pooling | sentence_pooling_method |
normalize | normalize_embeddings |
lora=false | | --lora_rank above 0 switches it on
lora_r | lora_rank |
lora_target_modules | = | one text, e.g. query,value
"""

_INTRODUCTION = """\
# Arguments of other trainers

What users of FlagEmbedding, Hugging Face's `TrainingArguments`, sentence-transformers and tevatron type, and what
`bgetrain train` calls it. A name in bold is taken as it is; one with another name beside it is taken as well. A name
without one is refused with the remark, but for the values in brackets, which say what is done here anyway.

This page is printed by `python -m bgetrain.arguments`; all settings of our own are in `bgetrain train --help`.
"""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of another trainer.

    Attributes:
        name: there.
        trainer: whose it is.
        here: the setting that means the same; empty where there is none.
        remark: what differs, or what to use instead.
        accepted: values that say what is always done here, in lower case; an empty text among them is no value.
    """

    name: str
    trainer: str
    here: str
    remark: str
    accepted: tuple[str, ...] = ()

    def check(self, value: object, where: str) -> None:
        """Takes a value that says what is done here anyway.

        Args:
            value: a flag's text or a value of a TOML file.
            where: how the user wrote it.

        Raises:
            ConfigError: any other value, with what to use instead.
        """
        text = str(value).lower()
        if text in self.accepted:
            return
        values = [f"`{value}`" for value in self.accepted if value]
        only = f", or takes {' or '.join(values)} alone" if values else ""
        raise ConfigError(
            f"{where} {value}: {self.trainer.split(',')[0]} has this, bgetrain has not{only}", hint=self.remark
        )


def _parse(rows: str) -> tuple[Argument, ...]:
    table, trainer = [], ""
    for line in rows.strip().splitlines():
        if line.startswith("# "):
            trainer = line[2:]
            continue
        written, here, remark = (cell.strip() for cell in line.split("|"))
        name, equals, values = written.partition("=")
        accepted = tuple(values.split(",")) if equals else ()
        table.append(Argument(name, trainer, name if here == "=" else here, remark, accepted))
    return tuple(table)


TABLE = _parse(_ROWS)
"""All arguments, those of one trainer together."""


def not_ours(spellings: Collection[str]) -> dict[str, Argument]:
    """The arguments that have no setting here, by name.

    Args:
        spellings: all names of all settings, aliases included.
    """
    return {argument.name: argument for argument in TABLE if argument.name not in spellings and not argument.here}


def markdown() -> str:
    """The table as the page docs/arguments.md."""
    lines, trainer = [_INTRODUCTION], ""
    for argument in TABLE:
        if argument.trainer != trainer:
            trainer = argument.trainer
            lines += [f"\n## {trainer}\n", "| there | here | remark |", "|---|---|---|"]
        there = f"**`{argument.name}`**" if argument.here == argument.name else f"`{argument.name}`"
        values = [f"`{value}`" for value in argument.accepted if value]
        there += f" ({', '.join(values)})" if values else ""
        here = f"`{argument.here}`" if argument.here else ""
        lines.append(f"| {there} | {here} | {argument.remark} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
