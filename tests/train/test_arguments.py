"""Names of other trainers: none is missing, each is ours or answered, and the page says the same as the code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgetrain.arguments import TABLE, markdown, not_ours
from bgetrain.errors import ConfigError
from bgetrain.settings import all_settings, build, parse_flags, read_toml

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "arguments.md"

FLAG_EMBEDDING = """model_name_or_path config_name tokenizer_name cache_dir trust_remote_code use_fast_tokenizer token
    train_data cache_path train_group_size query_max_len passage_max_len pad_to_multiple_of
    max_example_num_per_dataset query_instruction_for_retrieval query_instruction_format
    passage_instruction_for_retrieval passage_instruction_format knowledge_distillation shuffle_ratio
    same_dataset_within_batch small_threshold drop_threshold negatives_cross_device temperature
    fix_position_embedding sentence_pooling_method normalize_embeddings sub_batch_size kd_loss_type use_mrl mrl_dims
    normlized use_inbatch_neg colbert_dim unified_finetuning use_self_distill fix_encoder self_distill_start_step
    example_query_max_len example_passage_max_len retrieval_use_examples icl_suffix_str"""

HUGGING_FACE = """output_dir per_device_train_batch_size gradient_accumulation_steps learning_rate weight_decay
    num_train_epochs max_steps warmup_ratio warmup_steps lr_scheduler_type bf16 fp16 tf32 gradient_checkpointing
    max_grad_norm logging_steps save_steps save_total_limit eval_steps eval_strategy metric_for_best_model
    resume_from_checkpoint ddp_timeout dataloader_num_workers seed report_to run_name deepspeed"""

OTHERS = """grad_cache gc_q_chunk_size gc_p_chunk_size query_prefix passage_prefix pooling normalize batch_sampler
    multi_dataset_batch_sampler prompts gather_across_devices mini_batch_size mini_batch_num_tokens scale"""


def _spellings() -> dict[str, str]:
    return {spelling: setting.field.name for setting in all_settings() for spelling in setting.flags}


def test_no_name_is_missing() -> None:
    names = [argument.name for argument in TABLE]
    assert len(names) == len(set(names))
    assert set(f"{FLAG_EMBEDDING} {HUGGING_FACE} {OTHERS}".split()) <= set(names)


def test_each_name_is_ours_or_answered() -> None:
    known = _spellings()
    for argument in TABLE:
        if not argument.here:
            assert argument.name not in known, f"{argument.name} is a setting: say so in the table"
            assert argument.remark
        else:
            # under its own name, as the setting itself or an alias of it
            assert known[argument.name] == argument.here


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), "python -m bgetrain.arguments > docs/arguments.md"


def _flags_in(text: str) -> Iterator[str]:
    for word in text.replace(",", " ").replace(";", " ").replace(":", " ").split():
        if word.startswith("--"):
            yield word.removeprefix("--").rstrip(".)")


def test_what_a_remark_advises_exists() -> None:
    known = _spellings().keys() | {"in", "out"}
    advised = {flag for argument in TABLE for flag in _flags_in(argument.remark)}
    assert not advised - known
    assert "lora_rank" in advised


@pytest.mark.parametrize("argument", not_ours(_spellings()).values(), ids=lambda argument: argument.name)
def test_what_is_not_here_is_answered(argument: object, tmp_path: Path) -> None:
    from bgetrain.arguments import Argument

    assert isinstance(argument, Argument)
    with pytest.raises(ConfigError, match=f"--{argument.name} something-else: .* bgetrain has not") as caught:
        parse_flags([f"--{argument.name}", "something-else", "--seed", "3"])
    assert caught.value.hint == argument.remark
    (tmp_path / "my.toml").write_text(f'{argument.name} = "something-else"\n')
    with pytest.raises(ConfigError, match=f"my.toml: {argument.name} something-else: .* bgetrain has not"):
        read_toml(tmp_path / "my.toml")
    for value in argument.accepted:
        assert parse_flags([f"--{argument.name}", value, "--seed", "3"])[1] == {"run.seed": 3}


def test_how_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--fp16_full_eval true: Hugging Face has this, bgetrain has not, or takes `false`"
    ):
        parse_flags(["--fp16_full_eval"])
    with pytest.raises(ConfigError, match=r"--deepspeed ds.json: Hugging Face has this, bgetrain has not$"):
        parse_flags(["--deepspeed", "ds.json"])
    assert parse_flags(["--fp16_full_eval", "False", "--seed", "1"])[1] == {"run.seed": 1}
    (tmp_path / "my.toml").write_text("fp16_full_eval = false\nseed = 1\n")
    assert read_toml(tmp_path / "my.toml") == {"run.seed": 1}
    (tmp_path / "my.toml").write_text("fp16_full_eval = true\n")
    with pytest.raises(ConfigError, match=r"fp16_full_eval true"):
        read_toml(tmp_path / "my.toml")


def test_unknown_names_are_still_unknown() -> None:
    with pytest.raises(ConfigError, match=r"unknown flag --learnin_rate; did you mean `--learning_rate`"):
        parse_flags(["--learnin_rate", "1"])
    with pytest.raises(ConfigError, match="unknown flag --no_such_thing"):
        parse_flags(["--fp16_full_eval", "false", "--no_such_thing", "1"])


def test_a_command_of_flag_embedding() -> None:
    """Their own example, with its data replaced by shards and without what nobody can do here."""
    text = """--model_name_or_path BAAI/bge-large-en-v1.5 --train_data shards --train_group_size 8
        --query_max_len 512 --passage_max_len 512 --query_instruction_format {}{} --knowledge_distillation False
        --output_dir out --overwrite_output_dir --learning_rate 1e-5 --fp16 False --num_train_epochs 2
        --per_device_train_batch_size 2 --warmup_ratio 0.1 --gradient_checkpointing --logging_steps 1 --save_steps 1000
        --negatives_cross_device --temperature 0.02 --sentence_pooling_method cls --normalize_embeddings True
        --use_fast_tokenizer True --same_dataset_within_batch True --dataloader_drop_last False"""
    words = text.split()
    if "knowledge_distillation" not in _spellings():
        place = words.index("--knowledge_distillation")
        del words[place : place + 2]
    config = build(parse_flags(words)[1])
    assert (config.optim.learning_rate, config.data.query_max_len, config.run.save_steps) == (1e-5, 512, 1000)


def test_aliases() -> None:
    words = [
        "--pooling",
        "mean",
        "--normlized",
        "False",
        "--lora_r",
        "4",
        "--target_modules",
        "query,value",
        "--no_cuda",
    ]
    config = build(parse_flags(words)[1])
    assert (config.model.sentence_pooling_method, config.model.normalize_embeddings) == ("mean", False)
    assert (config.model.lora_rank, config.model.lora_target_modules, config.run.use_cpu) == (4, "query,value", True)
