"""RetroMAE against a slow reference, for any backbone, chunk and number of ranks; what it writes, how it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bgetrain.config import PretrainConfig
from bgetrain.gather import Ranks
from bgetrain.main import main
from bgetrain.retromae.decoder import visible_pairs
from bgetrain.retromae.model import PretrainModel
from tests.reference import retromae as reference
from tests.train.retromae_models import BACKBONES, SPECIAL, TEXTS, write_backbone
from tests.train.retromae_workers import flat_gradient, make_learner, make_pretrain_batch, run_rank, step_gradient


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_backbone(name, tmp_path_factory.mktemp("models") / name) for name in (*BACKBONES, "dropout")}


def _gradients_of_ranks(folder: Path, world_size: int, work: Path, **more: Any) -> list[torch.Tensor]:
    torch.multiprocessing.spawn(run_rank, (world_size, str(work), str(folder), more), nprocs=world_size)
    return [torch.load(work / f"rank-{rank}.pt") for rank in range(world_size)]


def _tolerance(backbone: str) -> float:
    # transformers turns ModernBERT's queries and keys in fp32, whatever the model is in
    return 1e-7 if backbone == "modernbert" else 1e-10


def _distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("query_stream", ["bge", "paper"])
@pytest.mark.parametrize("masks", [{"base_masks": 4}, {"base_masks": "fresh", "sep_visible": False}])
def test_losses_and_gradients_are_those_of_the_reference(
    folders: dict[str, Path], backbone: str, query_stream: str, masks: dict[str, Any]
) -> None:
    learner = make_learner(folders[backbone], query_stream=query_stream)
    batch = make_pretrain_batch(folders[backbone], **masks)
    (result,) = learner.gradient([batch])
    found = flat_gradient(learner.module)
    sums = {name: float(value) for name, value in result.counts().items()}
    learner.module.zero_grad()
    slow = reference.losses(learner.module, batch.texts, SPECIAL)
    slow.total().backward()
    assert sums["encoder_labels"] == slow.masked
    assert sums["decoder_labels"] == slow.decoded
    assert sums["encoder_loss"] == pytest.approx(slow.encoder.item(), rel=_tolerance(backbone))
    assert sums["decoder_loss"] == pytest.approx(slow.decoder.item(), rel=_tolerance(backbone))
    assert _distance(found, flat_gradient(learner.module)) < _tolerance(backbone)
    # the control: a decoder that sees what it is to say
    learner.module.zero_grad()
    reference.losses(learner.module, batch.texts, SPECIAL, see_itself=True).total().backward()
    assert _distance(found, flat_gradient(learner.module)) > 1e-3


def test_in_fp32_to_1e_5(folders: dict[str, Path]) -> None:
    learner = make_learner(folders["bert"], dtype=torch.float32)
    batch = make_pretrain_batch(folders["bert"])
    (result,) = learner.gradient([batch])
    exact = make_learner(folders["bert"])
    slow = reference.losses(exact.module, batch.texts, SPECIAL)
    slow.total().backward()
    assert float(result.counts()["encoder_loss"]) == pytest.approx(slow.encoder.item(), rel=1e-5)
    assert float(result.counts()["decoder_loss"]) == pytest.approx(slow.decoder.item(), rel=1e-5)
    assert _distance(flat_gradient(learner.module).double(), flat_gradient(exact.module)) < 1e-5


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_bag_of_words_of_dupmae(folders: dict[str, Path], backbone: str) -> None:
    learner = make_learner(folders[backbone], pretrain_method="dupmae", bow_loss_weight=0.3)
    batch = make_pretrain_batch(folders[backbone])
    (result,) = learner.gradient([batch])
    found = flat_gradient(learner.module)
    learner.module.zero_grad()
    slow = reference.losses(learner.module, batch.texts, SPECIAL)
    slow.total(0.3).backward()
    assert float(result.counts()["bow_loss"]) == pytest.approx(slow.bow.item(), rel=_tolerance(backbone))
    assert _distance(found, flat_gradient(learner.module)) < _tolerance(backbone)
    learner.module.zero_grad()
    reference.losses(learner.module, batch.texts, SPECIAL).total(0.2).backward()
    assert _distance(found, flat_gradient(learner.module)) > 1e-4


def test_plain_masked_language_modelling(folders: dict[str, Path]) -> None:
    learner = make_learner(folders["bert"], pretrain_method="mlm")
    assert learner.module.decoder is None
    batch = make_pretrain_batch(folders["bert"])
    (result,) = learner.gradient([batch])
    found = flat_gradient(learner.module)
    learner.module.zero_grad()
    slow = reference.losses(learner.module, batch.texts, SPECIAL)
    (slow.encoder / slow.masked).backward()
    assert _distance(found, flat_gradient(learner.module)) < 1e-10
    assert "decoder_loss" not in result.counts()


@pytest.mark.parametrize("chunk_tokens", [1, 40, 10_000])
def test_chunks_change_nothing(folders: dict[str, Path], chunk_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_learner(folders["bert"])
    whole.gradient([make_pretrain_batch(folders["bert"])])
    # a few positions of logits at a time, too
    monkeypatch.setattr("bgetrain.retromae.projection._LOGITS", 5_000)
    cut = make_learner(folders["bert"], chunk_tokens=chunk_tokens)
    cut.gradient([make_pretrain_batch(folders["bert"])])
    assert _distance(flat_gradient(cut.module), flat_gradient(whole.module)) < 1e-12


def test_accumulation_counts_every_label_once(folders: dict[str, Path]) -> None:
    """Two batches of a step are one batch of both, though they differ in size."""
    learner = make_learner(folders["bert"])
    batch = make_pretrain_batch(folders["bert"])
    learner.gradient([batch, batch])
    twice = flat_gradient(learner.module)
    learner.module.zero_grad()
    learner.gradient([batch])
    assert _distance(twice, flat_gradient(learner.module)) < 1e-12


@pytest.mark.parametrize("texts", [len(TEXTS), 1])
def test_the_gradient_is_the_same_on_any_number_of_ranks(folders: dict[str, Path], tmp_path: Path, texts: int) -> None:
    """Also with a rank that has no text."""
    alone = step_gradient(folders["bert"], Ranks(), texts=texts)
    for found in _gradients_of_ranks(folders["bert"], 3, tmp_path, texts=texts):
        assert _distance(found, alone) < 1e-10


def test_ranks_that_each_take_their_own_mean_would_be_seen(folders: dict[str, Path], tmp_path: Path) -> None:
    alone = step_gradient(folders["bert"], Ranks())
    for found in _gradients_of_ranks(folders["bert"], 2, tmp_path, own_mean=True):
        assert _distance(found, alone) > 1e-4


def test_visibility_is_that_of_the_masks(folders: dict[str, Path]) -> None:
    batch = make_pretrain_batch(folders["bert"], base_masks=3)
    texts = batch.texts
    from bgetrain.retromae.data import rectangle

    chosen = np.arange(len(TEXTS))
    laid_out = rectangle(batch, chosen, pad_id=0)
    seen = visible_pairs(laid_out.bits, laid_out.choices, laid_out.input_ids.shape[1]).numpy()
    for text in chosen:
        length = int(texts.offsets[text + 1] - texts.offsets[text])
        wanted = texts.visible(int(text)).copy()
        assert not np.diag(wanted).any()
        wanted[:, 0] = True
        np.testing.assert_array_equal(seen[text, :length, :length], wanted)
        assert not seen[text, :, length:].any()


@pytest.fixture(scope="module")
def text_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import bgeprep

    folder = tmp_path_factory.mktemp("texts")
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    for source in ("books", "news"):
        lines = [
            json.dumps({"text": " ".join(f"w{rng.integers(0, 55)}" for _ in range(rng.integers(4, 40)))})
            for _ in range(30)
        ]
        (folder / "in" / f"{source}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    bgeprep.shard(folder / "in", folder / "shards", threads=1)
    return folder / "shards"


def _flags(shards: Path, model: Path, output: Path, *more: object) -> list[str]:
    words = ["--pretrain_method", "retromae", "--data", shards, "--model_name_or_path", model, "--output_dir", output]
    words += ["--max_seq_length", 24, "--global_batch_size", 8, "--max_steps", 6, "--learning_rate", 1e-3]
    words += ["--logging_steps", 1, "--report_to", "none", "--use_cpu", *more]
    return [str(word) for word in words]


def _records(output: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [record for record in lines if record["kind"] == "train"]


def test_a_run_writes_what_goes_on(text_shards: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    """The same losses after a stop; a next run takes up head and decoder; stage 1 and transformers open the model."""
    from safetensors.torch import load_file
    from transformers import AutoModelForMaskedLM

    from bgetrain.encode import Encoder

    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main(_flags(text_shards, folders["dropout"], whole)) == 0
    assert main(_flags(text_shards, folders["dropout"], halves, "--save_steps", 3, "--save_total_limit", 5)) == 0
    resumed = ["--output_dir", str(halves), "--resume_from_checkpoint", str(halves / "checkpoint-3"), "--use_cpu"]
    assert main(resumed) == 0
    records = _records(whole)
    assert [record["loss"] for record in _records(halves)] == [record["loss"] for record in records]
    assert set(records[0]["sources"]) <= {"books", "news"}
    assert records[0]["loss"] == pytest.approx(records[0]["encoder_loss"] + records[0]["decoder_loss"], rel=1e-9)
    assert (whole / "model.safetensors").read_bytes() == (halves / "model.safetensors").read_bytes()
    assert (whole / "decoder.safetensors").read_bytes() == (halves / "decoder.safetensors").read_bytes()
    assert "Share of the tokens that are found" in (whole / "report.html").read_text(encoding="utf-8")

    model, notes = PretrainModel.load(whole, PretrainConfig(pretrain_method="retromae"))
    assert model.decoder is not None
    stored = load_file(whole / "decoder.safetensors")
    assert all(torch.equal(weight, stored[name]) for name, weight in model.decoder.state_dict().items())
    assert not any("starts at random" in line for line in notes)
    encoder = Encoder.load(whole)
    assert encoder.pooling == "cls"
    for name, weight in encoder.backbone.named_parameters():
        assert "pooler" in name or torch.equal(weight, model.encoder.backbone.get_parameter(name))
    _, info = AutoModelForMaskedLM.from_pretrained(whole, output_loading_info=True)
    assert not info["missing_keys"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--pretrain_method", "dupmae", "--bf16", "true"],
        ["--pretrain_method", "mlm", "--ema_decay", "0.9"],
        ["--gradient_checkpointing", "--gradient_accumulation_steps", "2", "--query_stream", "paper"],
        ["--base_masks", "0", "--sep_visible", "false", "--mask_count", "maskable", "--random_init"],
    ],
    ids=["dupmae", "mlm", "checkpointing", "paper"],
)
def test_options_of_a_run(text_shards: Path, folders: dict[str, Path], tmp_path: Path, flags: list[str]) -> None:
    output = tmp_path / "run"
    assert main(_flags(text_shards, folders["dropout"], output, *flags, "--max_steps", 4, "--save_steps", 2)) == 0
    records = _records(output)
    assert (records[0]["decoder_loss"] is None) == ("mlm" in flags) == (not (output / "decoder.safetensors").exists())
    assert (records[0]["bow_loss"] is not None) == ("dupmae" in flags)
    # from its checkpoint it goes on as if it had not stopped
    assert (
        main(["--resume_from_checkpoint", str(output / "checkpoint-2"), "--output_dir", str(output), "--use_cpu"]) == 0
    )
    assert [record["loss"] for record in _records(output)] == [record["loss"] for record in records]


def test_a_probe_on_the_way(text_shards: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    """The encoder in training is searched with as it is: one more curve beside the losses."""
    data = tmp_path / "collection"
    (data / "qrels").mkdir(parents=True)
    texts = [{"_id": str(place), "text": f"w{place} w{place + 1} w{place + 2}"} for place in range(20)]
    for name in ("corpus", "queries"):
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        (data / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    judged = "".join(f"{place}\t{place}\t1\n" for place in range(20))
    (data / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged, encoding="utf-8")
    output = tmp_path / "run"
    flags = _flags(text_shards, folders["bert"], output, "--eval_data", data, "--eval_steps", 3, "--eval_on_start")
    assert main(flags) == 0
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["step"] for record in lines if record["kind"] == "eval"] == [0, 3, 6]


@pytest.mark.parametrize("name", ["retromae", "retromae-zh"])
def test_the_published_recipe_runs_scaled_down(
    text_shards: Path, folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    from sentence_transformers import SentenceTransformer

    config = Path(__file__).parents[2] / "configs" / f"{name}.toml"
    flags = ["--config", config, "--data", text_shards, "--model_name_or_path", folders["bert"], "--use_cpu"]
    flags += ["--output_dir", tmp_path / "run", "--scale_down", 64, "--max_seq_length", 24, "--report_to", "none"]
    assert main([str(flag) for flag in flags]) == 0
    settings = (tmp_path / "run" / "config.toml").read_text(encoding="utf-8")
    assert "global_batch_size = 11\n" in settings
    assert "max_steps = 20\n" in settings
    assert SentenceTransformer(str(tmp_path / "run"), device="cpu").encode(["w1 w2"]).shape == (1, 16)


def test_the_losses_fall(text_shards: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    assert main(_flags(text_shards, folders["bert"], tmp_path / "run", "--max_steps", "40")) == 0
    records = _records(tmp_path / "run")
    for name in ("encoder_loss", "decoder_loss"):
        assert np.mean([record[name] for record in records[-5:]]) < np.mean([record[name] for record in records[:5]])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max_seq_length", "99"], "--max_seq_length 99: the model takes"),
        (["--lora_rank", "4"], "--lora_rank is for contrastive training"),
        (["--sentence_pooling_method", "mean"], "the first token becomes the text's vector"),
        (["--random_init", "--learning_rate", "none"], "--learning_rate"),
        (["--encoder_mlm_probability", "1.5"], "expected at most 1.0"),
    ],
)
def test_what_cannot_work_is_said(
    text_shards: Path,
    folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    assert main(_flags(text_shards, folders["bert"], tmp_path / "run", *flags)) in (1, 2)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_set_of_the_other_kind_is_refused(
    text_shards: Path, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = _flags(text_shards, folders["bert"], tmp_path / "run")[2:]
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert "a set of text, and contrastive training takes pairs" in error
    assert "--pretrain_method retromae" in error
