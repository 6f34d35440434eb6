"""From a pipeline's file to its steps: what is put in where, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgetrain.errors import ConfigError
from bgetrain.pipeline.config import read_pipeline
from bgetrain.pipeline.plan import Plan, make_plan
from bgetrain.pipeline.verbs import VERBS, words_of

ROOT = Path(__file__).parents[2]

FILE = """
output_dir = "out"
[variables]
raw = "raw"
seeds = [1, 2]
[defaults."bgetrain train"]
report_to = "none"
[[steps]]
name = "pairs"
run = "bgeprep shard"
flags = { in = "{raw}/pairs" }
[[steps]]
name = "stage1-{seed}"
each = { seed = "{seeds}" }
run = "bgetrain train"
flags = { data = "{pairs}", seed = "{seed}" }
[[steps]]
name = "stage2-{seed}"
each = { seed = "{seeds}" }
run = "bgetrain train"
flags = { data = "{pairs}", model_name_or_path = "{stage1-{seed}}", negatives_cross_device = false }
[[steps]]
name = "evaluate"
run = "bgetrain evaluate"
flags = { model = ["{stage*}"], data = "{here}/dev", no_bm25 = true }
"""


def plan_of(text: str, folder: Path, **given: str) -> Plan:
    path = folder / "pipeline.toml"
    path.write_text(text, encoding="utf-8")
    return make_plan(read_pipeline(path), Path("out"), folder, given)


def test_names_in_braces_become_variables_and_outputs(tmp_path: Path) -> None:
    plan = plan_of(FILE, tmp_path)
    assert list(plan.steps) == ["pairs", "stage1-1", "stage1-2", "stage2-1", "stage2-2", "evaluate"]
    stage2 = plan.steps["stage2-2"]
    assert stage2.needs == ("pairs", "stage1-2")
    assert stage2.words() == [
        *("--report_to", "none", "--data", "out/pairs", "--model_name_or_path", "out/stage1-2"),
        *("--negatives_cross_device", "false", "--output_dir", "out/stage2-2"),
    ]
    assert stage2.described["model_name_or_path"] == "{stage1-2}", "what is remembered knows no place"
    evaluate = plan.steps["evaluate"]
    assert evaluate.flags["model"] == ["out/stage1-1", "out/stage1-2", "out/stage2-1", "out/stage2-2"]
    assert evaluate.flags["data"] == f"{tmp_path}/dev"
    assert set(evaluate.needs) == {"stage1-1", "stage1-2", "stage2-1", "stage2-2"}


def test_variables_can_be_set_otherwise(tmp_path: Path) -> None:
    plan = plan_of(FILE, tmp_path, raw="/data", seeds="7")
    assert plan.steps["pairs"].flags["in"] == "/data/pairs"
    assert [name for name in plan.steps if name.startswith("stage1")] == ["stage1-7"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('[[steps]]\nname = "pairs"', '[[steps]]\ncolour = 1\nname = "pairs"', "steps[0].colour: unknown key"),
        ('output_dir = "out"', 'output_dri = "out"', "did you mean output_dir"),
        ("report_to", "reprt_to", "did you mean `--report_to`?"),
        ('run = "bgetrain evaluate"', 'run = "bgetrain evalute"', "expected one of bgeprep convert"),
        ("no_bm25 = true", "no_bm26 = true", "unrecognized arguments: --no_bm26"),
        ('"{raw}/pairs"', '"{row}/pairs"', "{row} names no variable and no earlier step; did you mean `raw`?"),
        ('"{pairs}", seed', '"{evaluate}", seed', "{evaluate} names no variable and no earlier step"),
        ('stage1-{seed}"\neach', 'stage1"\neach', "two steps have that name"),
        ("seeds = [1, 2]", "seeds = 1", "each.seed: expected a list of values"),
        ('defaults."bgetrain train"', 'defaults."bgetrain trian"', "no such command; did you mean `bgetrain train`?"),
        ('name = "pairs"', 'name = "Pairs of mine"', "expected a name of lower-case letters"),
        ('in = "{raw}/pairs"', "memory = 3, in = 3, max-bad = true", "--max-bad: expected one argument"),
        ('seed = "{seed}"', 'seed = "{seed}", temperature = -1.0', "--temperature -1.0: expected above 0.0"),
        ("output_dir", "output_dir = [\noutput_dir", "expected TOML"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FILE
    with pytest.raises(ConfigError) as caught:
        plan_of(FILE.replace(old, new, 1), tmp_path)
    assert said in str(caught.value)


def test_a_variable_that_is_not_there_cannot_be_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--set row: no such variable; did you mean `raw`"):
        plan_of(FILE, tmp_path, row="x")


def test_steps_are_chosen_by_name(tmp_path: Path) -> None:
    plan = plan_of(FILE, tmp_path)
    assert [step.name for step in plan.chosen("stage1-2", None)] == ["stage1-2"]
    assert [step.name for step in plan.chosen(None, "stage2-1")] == ["stage2-1", "stage2-2", "evaluate"]
    with pytest.raises(ConfigError, match="--from stage3-1: no such step; did you mean `stage"):
        plan.chosen(None, "stage3-1")


def test_two_steps_cannot_write_to_one_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two steps write to out/pairs"):
        plan_of(FILE.replace('run = "bgetrain evaluate"', 'run = "bgetrain evaluate"\nout = "pairs"'), tmp_path)


def test_words_of_flags() -> None:
    assert words_of("bgetrain merge", {"weights": [0.5, 0.5], "models": ["a", "b"]}) == [
        "a",
        "b",
        "--weights",
        "0.5",
        "0.5",
    ]
    assert words_of("bgetrain mine", {"use_cpu": True, "quiet": False}) == ["--use_cpu"]
    assert words_of("bgetrain train", {"use_cpu": True, "bf16": False}) == ["--use_cpu", "--bf16", "false"]


def test_every_command_of_a_file_is_known() -> None:
    from typing import get_args

    from bgetrain.pipeline import config

    assert set(get_args(config.Run)) == set(VERBS)


@pytest.mark.parametrize("name", ["bge-en", "bge-zh", "pipeline-small-en", "pipeline-small-zh"])
def test_the_files_that_come_along_are_whole(name: str) -> None:
    """Each flag of each step is one that its command takes, and each summary row is of a step that is there."""
    path = ROOT / "configs" / f"{name}.toml"
    config = read_pipeline(path)
    plan = make_plan(config, Path(config.output_dir), path.parent, {})
    assert config.summary is not None
    assert config.summary.step in plan.steps
    for step in plan.steps.values():
        assert step.config is None or step.config.is_file()
    if name.startswith("pipeline"):
        for places in plan.steps["labelled"].inputs().values():
            assert all(Path(place).exists() for place in places)


@pytest.mark.parametrize("name", ["bge-en", "bge-zh"])
def test_recipes_that_a_mix_names_make_what_its_step_needs(name: str) -> None:
    from bgeprep import recipes

    config = read_pipeline(ROOT / "configs" / f"{name}.toml")
    named = [
        (step.name, recipes.find(source["recipe"]).kind)
        for step in config.steps
        for source in step.sources
        if "recipe" in source
    ]
    assert len(named) > 10
    assert all((kind == "text") == (step == "texts") for step, kind in named)
