"""Files and flags: strict, layered, and read back as they were written."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from bgetrain.batch_size import stated_batch
from bgetrain.config import TrainConfig
from bgetrain.errors import ConfigError
from bgetrain.settings import all_settings, build, parse_flags, read_toml, to_toml

CONFIGS = Path(__file__).parents[2] / "configs"


def _file(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_leaf_has_one_name_and_a_help() -> None:
    spellings = [spelling for setting in all_settings() for spelling in setting.flags]
    assert len(spellings) == len(set(spellings))
    assert all(setting.field.metadata["help"] for setting in all_settings())
    sections = {section.name for section in fields(TrainConfig)}
    assert not sections & {setting.field.name for setting in all_settings()}


def test_names_that_users_of_other_trainers_know() -> None:
    known = {setting.field.name for setting in all_settings()}
    hugging_face = """output_dir per_device_train_batch_size gradient_accumulation_steps learning_rate weight_decay
        num_train_epochs max_steps warmup_ratio warmup_steps lr_scheduler_type bf16 gradient_checkpointing
        max_grad_norm logging_steps save_steps save_total_limit seed report_to resume_from_checkpoint ddp_timeout"""
    flag_embedding = """model_name_or_path train_data train_group_size query_max_len passage_max_len temperature
        negatives_cross_device normalize_embeddings sentence_pooling_method query_instruction_for_retrieval"""
    assert set(f"{hugging_face} {flag_embedding}".split()) <= known


def test_flags_win_over_the_file_which_wins_over_defaults(tmp_path: Path) -> None:
    file = read_toml(_file(tmp_path, "seed = 1\n[loss]\ntemperature = 1\n[optim]\nwarmup_ratio = 0.2\n"))
    config, flags = parse_flags(["--config", "x.toml", "--temperature", "0.5", "--run.seed", "3", "--bf16"])
    built = build(file, flags)
    assert config == "x.toml"
    assert (built.loss.temperature, built.optim.warmup_ratio, built.run.seed, built.run.bf16) == (0.5, 0.2, 3, True)
    assert built.optim.weight_decay == TrainConfig().optim.weight_decay


def test_data_is_the_shard_set() -> None:
    assert build(parse_flags(["--data", "a", "--data.query_max_len", "9"])[1]).data.train_data == "a"
    assert build(parse_flags(["--train_data", "b"])[1]).data.train_data == "b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[loss]\ntemprature = 1.0\n", r"unknown key `loss.temprature`; did you mean `loss.temperature`"),
        ("[los]\ntemperature = 1.0\n", r"unknown key `los`"),
        ("[loss]\nseed = 1\n", r"unknown key `loss.seed`"),
        ("[loss.temperature]\nx = 1\n", r"unknown key `loss.temperature`"),
        ("seed = 1\n[run]\nseed = 2\n", r"`run.seed` is given twice"),
        ("seed = true\n", r"seed: expected a whole number, found true"),
        ("seed = '1'\n", r'seed: expected a whole number, found "1"'),
        ("temperature = 'warm'\n", r"temperature: expected a number"),
        ("seed = \n", r"not valid TOML"),
    ],
)
def test_bad_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_toml(_file(tmp_path, text))
    assert "my.toml" in str(caught.value)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config .*absent.toml: No such file"):
        read_toml(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temprature", "1"], r"unknown flag --temprature; did you mean `--temperature`\?"),
        (["--temp", "1"], r"unknown flag --temp"),
        (["--temperature=x"], r"--temperature x: expected a number"),
        (["--temperature"], r"expected one argument"),
        (["shards"], r"unknown argument shards"),
        (["--bf16", "maybe"], r"--bf16 maybe: expected true or false"),
    ],
)
def test_bad_flag(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_flags(arguments)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("temperature", "0", r"--temperature 0.0: expected above 0"),
        ("temperature", "nan", r"--temperature nan: expected above 0"),
        ("max_steps", "0", r"--max_steps 0"),
        ("per_device_train_batch_size", "0", r"expected at least 1"),
        ("lr_scheduler_type", "step", r"expected one of linear, cosine, constant, wsd"),
        ("warmup_steps", "2.5", r"--warmup_steps 2.5: expected a whole number, or a share below 1"),
        ("ema_decay", "1", r"--ema_decay 1.0: expected below 1"),
        ("sentence_pooling_method", "last", r"expected one of cls, mean"),
        ("warmup_ratio", "1.5", r"expected at most 1"),
        ("learning_rate", "inf", r"--learning_rate inf: expected a finite number"),
        ("activation_memory", "inf", r"--activation_memory inf: expected a finite number"),
        ("mrl_dims", "0", r"--mrl_dims 0: expected sizes of at least 1"),
    ],
)
def test_value_out_of_limits(flag: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(parse_flags([f"--{flag}", value])[1])


def test_guide_that_could_find_nothing() -> None:
    with pytest.raises(ConfigError, match=r"--guide_model here: --false_negative_margin 2 leaves nothing out"):
        build(parse_flags(["--guide_model", "here", "--false_negative_margin", "2"])[1])


def test_written_file_reads_back(tmp_path: Path) -> None:
    config = build(
        {
            "data.query_instruction_for_retrieval": 'say "x":\n\\ \x7f 为这个句子',
            "optim.learning_rate": 3e-5,
            "run.bf16": False,
        }
    )
    assert build(read_toml(_file(tmp_path, to_toml(config)))) == config
    assert build(read_toml(_file(tmp_path, to_toml(TrainConfig())))) == TrainConfig()


def test_finetune_toml_states_the_defaults() -> None:
    assert build(read_toml(CONFIGS / "finetune.toml")) == TrainConfig()


# those of pipelines are held against their own rules in test_pipeline_plan.py
@pytest.mark.parametrize(
    "file",
    sorted(file for file in CONFIGS.glob("*.toml") if "[[steps]]" not in file.read_text(encoding="utf-8")),
    ids=lambda file: file.stem,
)
def test_shipped_config_is_valid(file: Path) -> None:
    assert (build(read_toml(file)) == TrainConfig()) == (file.name == "finetune.toml")


@pytest.mark.parametrize(("name", "batch", "gpus", "each"), [("", 32_784, 48, 683), ("-zh", 19_200, 24, 800)])
def test_stage1_is_the_published_recipe(name: str, batch: int, gpus: int, each: int) -> None:
    config = build(read_toml(CONFIGS / f"stage1{name}.toml"))
    assert stated_batch(config.run, gpus) == batch == gpus * each
    assert stated_batch(replace(config.run, per_device_train_batch_size=each), gpus) == batch
    # 65,567 negatives a query
    assert batch * config.data.train_group_size - 1 == {32_784: 65_567, 19_200: 38_399}[batch]
    assert (config.data.query_max_len, config.data.passage_max_len) == (128, 128)
    assert config.data.query_instruction_for_retrieval == ""
    assert (config.loss.temperature, config.optim.learning_rate) == (0.02, None)


@pytest.mark.parametrize(
    ("name", "instruction"),
    [
        ("", "Represent this sentence for searching relevant passages: "),
        ("-zh", "为这个句子生成表示以用于检索相关文章："),
    ],
)
def test_stage2_is_the_published_recipe(name: str, instruction: str) -> None:
    config = build(read_toml(CONFIGS / f"stage2{name}.toml"))
    assert config.data.query_instruction_for_retrieval == instruction
    assert (config.data.train_group_size, config.data.passage_max_len) == (2, 512)
    assert (config.loss.temperature, config.optim.learning_rate) == (0.02, None)


@pytest.mark.parametrize(
    ("stage", "differ"), [("stage1", {"run.global_batch_size"}), ("stage2", {"data.query_instruction_for_retrieval"})]
)
def test_the_chinese_file_differs_only_in(stage: str, differ: set[str]) -> None:
    english, chinese = (read_toml(CONFIGS / f"{stage}{language}.toml") for language in ("", "-zh"))
    assert english.keys() == chinese.keys()
    assert {name for name in english if english[name] != chinese[name]} == differ


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "bgeprep shard --in pairs/ --out shards/" in text
    for setting in all_settings():
        assert f"--{setting.field.name}" in text
