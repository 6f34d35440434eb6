"""An encoder divided over ranks learns what an undivided one learns, writes the same files, and goes on from them.

Independent ground: one process, where nothing is divided, gathered or computed twice, and runs without --fsdp.
"""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

from bgetrain.encode import Encoder
from bgetrain.errors import ConfigError, ModelError
from bgetrain.evaluate import evaluate
from bgetrain.gather import Ranks
from bgetrain.main import main
from bgetrain.settings import build, parse_flags, read_toml, to_toml
from bgetrain.sharding import shard
from tests.train.eval_workers import write_collection
from tests.train.fake_loader import FakeRow, random_rows
from tests.train.retromae_models import TEXTS, write_backbone
from tests.train.retromae_workers import step_gradient
from tests.train.sharding_workers import free_ports, run_gradients, run_main
from tests.train.tiny import VOCABULARY, tiny_encoder, write_tiny_bert
from tests.train.workers import Scenario, gradient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ROWS = random_rows(26, vocabulary=VOCABULARY, seed=3, negatives=2, sources=2)
CONTROLS = ("never reduced", "mean of local means")
PRETRAINED = ("bert", "modernbert")
GROUPS = 3
"""Two layers, and all that is outside them."""


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_backbone(name, tmp_path_factory.mktemp("models") / name) for name in (*PRETRAINED, "dropout")}


def _spawn(work: Callable[..., None], world_size: int, *arguments: object) -> None:
    # one server imports torch once and forks the ranks from there
    multiprocessing.set_forkserver_preload(
        ["tests.train.sharding_workers", "transformers.models.bert.modeling_bert", "bgetrain.trainer"]
    )
    mp.start_processes(work, (world_size, *arguments), nprocs=world_size, start_method="forkserver")


def _split(rows: list[FakeRow], counts: Sequence[int]) -> list[list[FakeRow]]:
    starts = np.cumsum([0, *counts])
    return [rows[start : start + count] for start, count in zip(starts, counts, strict=False)]


def _scenarios(world_size: int) -> dict[str, Scenario]:
    uneven = {2: (12, 1), 3: (9, 0, 4)}[world_size]
    second = {2: (0, 13), 3: (5, 0, 8)}[world_size]
    few = {2: (0, 1), 3: (1, 0, 0)}[world_size]
    plain = Scenario(parts=[_split(ROWS[:13], uneven)], fsdp=True)
    two = replace(plain, parts=[*plain.parts, _split(ROWS[13:], second)])
    found = {
        "every graph kept": plain,
        "some graphs kept, checkpointing, two batches": replace(two, keep_tokens=60, checkpointing=True),
        "one row": replace(plain, parts=[_split(ROWS[:1], few)], loss={"loss_directions": "both"}),
    }
    if world_size == 2:
        found |= {
            "no graph kept": replace(two, keep_tokens=0),
            "every graph kept, checkpointing": replace(plain, checkpointing=True),
            "no texts of other ranks": replace(plain, loss={"negatives_cross_device": False}),
            "bf16": replace(plain, dtype=torch.float32, bf16=True, keep_tokens=60),
            "mean of local means": replace(plain, local_mean=True),
            "never reduced": plain,
        }
    return found | {"fp32": replace(two, dtype=torch.float32, keep_tokens=60)}


def _alone(scenario: Scenario) -> torch.Tensor:
    """The same step on one process: other order, one chunk, nothing cached, fp64."""
    # without texts of other ranks each rank's rows are a batch of their own
    apart = scenario.loss.get("negatives_cross_device", True) is False
    whole = [[[row for rows in reversed(batch) for row in rows]] for batch in scenario.parts]
    parts = [[rows] for batch in scenario.parts for rows in batch if rows] if apart else whole
    words: dict[str, Any] = {"keep_tokens": None, "checkpointing": False, "fsdp": False, "bf16": False}
    plain = replace(scenario, parts=parts, chunk_tokens=10_000, dtype=torch.float64, local_mean=False, **words)
    return gradient(plain, Ranks())


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert expected.norm() > 1e-3
    return float((found.double() - expected).norm() / expected.norm())


@dataclass(frozen=True)
class Found:
    """Relative error of the gradient and number of reductions, by scenario, and each rank's share of the weights."""

    errors: dict[str, float]
    reduced: dict[str, int]
    shares: list[float]


@pytest.fixture(scope="module", params=[2, 3])
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]
) -> Found:
    world_size, folder = request.param, tmp_path_factory.mktemp("ranks")
    scenarios: dict[str, Any] = dict(_scenarios(world_size))
    steps = {
        f"{name}, {texts=}": {"folder": backbones[name], "texts": texts, "pretrain_method": method}
        for name, method in zip(PRETRAINED, ("dupmae", "retromae"), strict=True)
        for texts in (len(TEXTS), 1)
    }
    scenarios |= steps
    _spawn(run_gradients, world_size, str(folder), scenarios)
    gradients = [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(world_size)]
    reduced = [json.loads((folder / f"reduced-{rank}.json").read_text()) for rank in range(world_size)]
    shares = [counts.pop("held") / counts.pop("total") for counts in reduced]
    assert all(counts == reduced[0] for counts in reduced)
    for name in scenarios:
        assert all(torch.equal(gradients[0][name], other[name]) for other in gradients), name
    alone = {name: _alone(scenario) for name, scenario in _scenarios(world_size).items()}
    alone |= {name: step_gradient(ranks=Ranks(), **words) for name, words in steps.items()}
    return Found({name: _error(gradients[0][name], alone[name]) for name in scenarios}, reduced[0], shares)


def test_gradient_is_that_of_one_process(found: Found) -> None:
    right = {name: error for name, error in found.errors.items() if name not in (*CONTROLS, "bf16")}
    assert len(right) == (7 if len(found.shares) == 2 else 4) + 2 * len(PRETRAINED)
    # transformers turns ModernBERT's queries and keys in fp32, whatever the model is in
    limits = {"fp32": 1e-5, "modernbert": 1e-7, "": 1e-10}
    wrong = {name: error for name, error in right.items() if error > next(limits[key] for key in limits if key in name)}
    assert not wrong
    assert 1e-5 < found.errors.get("bf16", 1e-3) < 0.1


def test_controls_are_told_apart(found: Found) -> None:
    assert all(error > 1e-3 for name, error in found.errors.items() if name in CONTROLS)
    assert len(found.shares) == 3 or found.errors.keys() > {*CONTROLS}


def test_gradients_are_reduced_once_a_step(found: Found) -> None:
    counts = {**found.reduced}
    assert counts.pop("never reduced", 0) == 0
    assert set(counts.values()) == {GROUPS}


def test_a_rank_holds_its_share(found: Found) -> None:
    assert sum(found.shares) == pytest.approx(1.0, abs=1e-9)
    assert max(found.shares) < 1.1 / len(found.shares)


@dataclass(frozen=True)
class Runs:
    """Folders of runs, by name, and what they were made of."""

    folder: Path
    collection: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def losses(self, name: str) -> list[float]:
        return [record["loss"] for record in self.records(name, "train")]

    def records(self, name: str, kind: str) -> list[dict[str, Any]]:
        lines = (self.folder / name / "metrics.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["kind"] == kind]


def _flags(model: Path, output: Path, *more: object) -> list[str]:
    words = [
        *("--model_name_or_path", model, "--output_dir", output, "--use_cpu", "--report_to", "none"),
        *("--global_batch_size", 7, "--query_max_len", 16, "--passage_max_len", 32, "--micro_batch_tokens", 48),
        *("--learning_rate", 1e-2, "--max_steps", 6, "--save_steps", 3, "--logging_steps", 1, "--temperature", 0.1),
        *("--ddp_timeout", 60),
    ]
    return [str(word) for word in [*words, *more]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, backbones: dict[str, Path]) -> Runs:
    """Runs on two ranks, divided and not, one after the other in the same two processes."""
    folder = tmp_path_factory.mktemp("runs")
    collection = write_collection(folder / "toy")
    dry = write_tiny_bert(folder / "dry", dropout=0.0)
    with pytest.MonkeyPatch.context() as patch:
        from tests.train.conftest import install_fake_data

        install_fake_data(patch)()
        assert main(_flags(dry, folder / "one", "--fsdp")) == 0
    # GradCache, dropout, accumulation, clipping, an average, evaluations on the way
    all_of_it = (tiny_bert, "--grad_cache", "--gradient_accumulation_steps", 2, "--ema_decay", 0.8)
    all_of_it += ("--eval_data", collection, "--eval_steps", 3, "--eval_on_start")
    made = {
        "plain": all_of_it,
        "divided": (*all_of_it, "--fsdp", "full_shard", "--gradient_checkpointing"),
        "plain fp16": (dry, "--fp16"),
        "fp16": (dry, "--fp16", "--fsdp"),
        "dry": (dry, "--fsdp"),
        "broken": (dry, "--fsdp", "--learning_rate", "1e20", "--max_grad_norm", 0, "--warmup_ratio", 0),
    }
    resumed = {
        "divided on": folder / "divided" / "checkpoint-3",
        "one on": folder / "one" / "checkpoint-3",
    }
    pretraining = ("--pretrain_method", "retromae", "--data", _text_shards(folder), "--max_seq_length", 24)
    made |= {
        "plain pre-training": (backbones["dropout"], *pretraining),
        "pre-training": (backbones["dropout"], *pretraining, "--fsdp"),
    }
    resumed["pre-training on"] = folder / "pre-training" / "checkpoint-3"
    flags = [_flags(model, folder / name, *more) for name, (model, *more) in made.items()]
    flags += [
        ["--resume_from_checkpoint", str(source), "--output_dir", str(folder / name)]
        + (["--data", str(folder / "shards")] if "pre" in name else [])
        for name, source in resumed.items()
    ]
    _spawn(run_main, 2, free_ports(len(flags)), flags)
    return Runs(folder, collection)


def _text_shards(folder: Path) -> Path:
    import bgeprep

    texts = [" ".join(f"w{word}" for word in np.random.default_rng(seed).integers(0, 55, 30)) for seed in range(40)]
    (folder / "texts").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "texts" / "toy.jsonl").write_text(lines, encoding="utf-8")
    bgeprep.shard(folder / "texts", folder / "shards", threads=1)
    return folder / "shards"


def _weights(folder: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def _apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference; a bias of attention's keys changes no score, so what it learns is rounding."""
    assert one.keys() == other.keys()
    assert all(one[name].shape == other[name].shape for name in one)
    names = [name for name in one if not name.endswith("key.bias")]
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in names)


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_is_that_without(runs: Runs) -> None:
    """The same losses with dropout, GradCache and accumulation, on ranks of 3 and 4 rows; the same files."""
    assert runs.losses("divided") == pytest.approx(runs.losses("plain"), rel=1e-5)
    assert runs.losses("divided") != pytest.approx(runs.losses("dry"), rel=1e-3)
    for name in ("grad_norm", "rows", "effective_negatives"):
        ours, theirs = ([record[name] for record in runs.records(run, "train")] for run in ("divided", "plain"))
        assert ours == pytest.approx(theirs, rel=1e-4)
    for name in ("model", "checkpoint-6/optimizer", "checkpoint-6/ema", "checkpoint-6/trained"):
        assert _apart(_weights(runs / "divided", name), _weights(runs / "plain", name)) < 1e-5, name
    # the controls: another step, and the average beside the weights
    assert _apart(_weights(runs / "divided"), _weights(runs / "divided" / "checkpoint-3")) > 1e-3
    averaged, trained = (_weights(runs / "divided" / "checkpoint-6", name) for name in ("ema", "trained"))
    averaged.pop("updates")
    assert _apart(averaged, trained) > 1e-3
    assert _same(_weights(runs / "divided", "checkpoint-6/rng"), _weights(runs / "plain", "checkpoint-6/rng"))
    names = [
        sorted(str(file.relative_to(runs / run)) for file in (runs / run).rglob("*")) for run in ("divided", "plain")
    ]
    assert names[0] == names[1]


def test_resumed_is_uninterrupted_to_the_bit(runs: Runs) -> None:
    for run in ("divided", "pre-training"):
        assert runs.losses(f"{run} on") == runs.losses(run)[3:]
        files = sorted(file.stem for file in (runs / run / "checkpoint-6").glob("*.safetensors"))
        assert len(files) >= 4
        for name in files:
            assert _same(*(_weights(runs / where / "checkpoint-6", name) for where in (f"{run} on", run))), name


def test_pretraining_is_that_without(runs: Runs) -> None:
    assert runs.losses("pre-training") == pytest.approx(runs.losses("plain pre-training"), rel=1e-5)
    for name in ("model", "decoder"):
        assert _apart(_weights(runs / "pre-training", name), _weights(runs / "plain pre-training", name)) < 1e-5


def test_goes_on_with_another_number_of_processes(
    runs: Runs, tmp_path: Path, fake_data: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    """From two to one and from one to two, without dropout."""
    assert runs.losses("dry") == pytest.approx(runs.losses("one"), rel=1e-5)
    assert runs.losses("one on") == pytest.approx(runs.losses("one")[3:], rel=1e-5)
    assert _apart(_weights(runs / "one on"), _weights(runs / "one")) < 1e-5
    fake_data()
    start = ["--resume_from_checkpoint", str(runs / "dry" / "checkpoint-3"), "--output_dir", str(tmp_path / "run")]
    assert main(start) == 0
    assert "--fsdp has no effect: one process" in capsys.readouterr().err
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in losses if record["kind"] == "train"]
    assert losses == pytest.approx(runs.losses("dry")[3:], rel=1e-5)


def test_what_is_measured_is_what_is_saved(runs: Runs) -> None:
    """The average of the weights, whole, in fp32: the scores on the way are those of the checkpoint."""
    ours, theirs = (runs.records(name, "eval") for name in ("divided", "plain"))
    assert [record["step"] for record in ours] == [0, 3, 6]
    for record, plain in zip(ours, theirs, strict=True):
        assert record["mean"] == pytest.approx(plain["mean"], abs=0.02)
    for record in ours[1:]:
        encoder = Encoder.load(runs / "divided" / f"checkpoint-{record['step']}")
        report = evaluate(encoder, runs.collection, split="dev", device="cpu", both_forms=False)
        assert record["mean"]["ndcg@10"] == pytest.approx((report["with"] or report["without"])["ndcg@10"], abs=1e-9)


def test_export_opens_in_sentence_transformers(runs: Runs) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["w1 w2 w3", "w4", "w9 w8 w7 w6 w5 w4 w3 w2 w1"]
    ours = Encoder.load(runs / "divided").encode(texts)
    theirs = SentenceTransformer(str(runs / "divided"), device="cpu").encode(texts)
    assert (ours * theirs).sum(axis=1).min() >= 1 - 1e-6


def test_fp16_steps_over_an_overflow_together(runs: Runs) -> None:
    """What overflows in the piece of one rank is left out on all."""
    assert runs.losses("fp16") == pytest.approx(runs.losses("plain fp16"), rel=1e-3)
    scales = [_weights(runs / run / "checkpoint-6", "loss_scale") for run in ("fp16", "plain fp16")]
    assert _same(*scales)
    factor, good, skipped = scales[0]["loss_scale"].tolist()
    assert skipped > 0
    assert good + skipped == 6
    assert factor == 65_536 / 2**skipped


def test_a_gradient_that_is_not_a_number_ends_the_run(runs: Runs) -> None:
    assert 0 < len(runs.losses("broken")) < 6
    assert not (runs / "broken" / "model.safetensors").exists()


@pytest.mark.parametrize("words", [["--fsdp"], ["--fsdp", "full_shard"], ["--fsdp=full_shard auto_wrap"]])
def test_words_of_hugging_face(words: list[str]) -> None:
    assert build(parse_flags(words)[1]).run.fsdp is True
    assert build(parse_flags(["--fsdp", ""])[1]).run.fsdp is False


def test_words_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    for value in ('"full_shard"', "true"):
        file.write_text(f"[run]\nfsdp = {value}\n")
        config = build(read_toml(file))
        assert config.run.fsdp is True
        file.write_text(to_toml(config))
        assert build(read_toml(file)) == config
    file.write_text('fsdp = "hybrid_shard"\n')
    with pytest.raises(ConfigError, match=r'fsdp: expected true or false, found "hybrid_shard"') as caught:
        read_toml(file)
    assert "full_shard" in caught.value.hint


@pytest.mark.parametrize("word", ["shard_grad_op", "offload", "full_shard offload", "auto_wrap"])
def test_other_ways_are_answered(word: str) -> None:
    with pytest.raises(ConfigError, match=f"--fsdp {word}: expected") as caught:
        parse_flags(["--fsdp", word])
    assert "full_shard" in caught.value.hint


@pytest.mark.parametrize("more", [("--lora_rank", "4"), ("--torch_compile",)])
def test_what_does_not_go_together_is_refused(more: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=f"--fsdp and {more[0]}") as caught:
        build(parse_flags(["--fsdp", *more])[1])
    assert caught.value.hint


def test_a_model_without_a_list_of_layers_is_refused() -> None:
    encoder = tiny_encoder()
    with pytest.raises(ModelError, match="BertModel has no list of 5 layers") as caught:
        shard(encoder, encoder.backbone, layers=5, ranks=Ranks(), bf16=False)
    assert "--fsdp" in caught.value.hint
