"""An exported model gives the embeddings of the trained one, in sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from bgetrain.export import save_pretrained, write_scores
from tests.evaluate.plain_encoder import SENTENCES, PlainEncoder

RECIPE = {"base_model": "example/base", "languages": ["en", "no"], "training": {"learning_rate": 3e-05, "note": "a|b"}}
SCORES = {"before": {"cran": {"ndcg@10": 0.25}}, "after": {"cran": {"ndcg@10": 0.5, "mrr@10": 0.625}}}


def _cosine(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    left, right = left.astype(np.float64), right.astype(np.float64)
    return (left * right).sum(1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_transformers_gives_the_same_embeddings(
    encoder: PlainEncoder, tmp_path: Path, pooling: str, normalize: bool
) -> None:
    encoder.pooling, encoder.normalize = pooling, normalize
    encoder.query_instruction = "Find the passage: "
    save_pretrained(encoder, tmp_path / "model", recipe=RECIPE)
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu")

    for prompt, instruction in (("query", "Find the passage: "), ("document", ""), (None, "")):
        expected = encoder.encode(SENTENCES, instruction=instruction)
        found = model.encode(SENTENCES, prompt_name=prompt)
        assert _cosine(expected, found).min() >= 1 - 1e-6
        # Cosine alone would not see a lost Normalize.
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1), rtol=1e-5)
    with_prompt, without = (model.encode(SENTENCES, prompt_name=name) for name in ("query", "document"))
    assert _cosine(with_prompt, without).min() < 0.9999
    assert model.max_seq_length == encoder.max_seq_length
    assert model.prompts == {"query": "Find the passage: ", "document": ""}
    assert model.default_prompt_name is None
    assert model.similarity_fn_name == ("cosine" if normalize else "dot")


def test_the_wrong_pooling_would_be_seen(encoder: PlainEncoder, tmp_path: Path) -> None:
    """The control of the test above: a folder whose pooling is changed gives other vectors."""
    folder = save_pretrained(encoder, tmp_path / "model", recipe={})
    file = folder / "1_Pooling" / "config.json"
    config = json.loads(file.read_text()) | {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    file.write_text(json.dumps(config))
    found = SentenceTransformer(str(folder), device="cpu").encode(SENTENCES)
    assert _cosine(encoder.encode(SENTENCES), found).min() < 1 - 1e-3


def test_only_safetensors_and_classic_module_names(encoder: PlainEncoder, tmp_path: Path) -> None:
    folder = save_pretrained(encoder, tmp_path / "model", recipe={})
    suffixes = {file.suffix for file in folder.rglob("*") if file.is_file()}
    assert suffixes == {".json", ".safetensors", ".md"}
    assert [entry["type"] for entry in json.loads((folder / "modules.json").read_text())] == [
        "sentence_transformers.models.Transformer",
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Normalize",
    ]
    stored = json.loads((folder / "tokenizer.json").read_text())
    assert stored["truncation"] is None
    assert stored["padding"] is None
    # The encoder's own tokenizer keeps what it was set to.
    assert encoder.tokenizer.backend_tokenizer.truncation is not None


def test_an_existing_output_folder_keeps_its_other_files(encoder: PlainEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "output"
    (folder / "checkpoint-10").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("{}\n")
    (folder / "model-00001-of-00002.safetensors").write_text("of an earlier, larger model")
    save_pretrained(encoder, folder, recipe={}, scores=SCORES)
    save_pretrained(encoder, folder, recipe={})
    assert (folder / "checkpoint-10").is_dir()
    assert (folder / "metrics.jsonl").read_text() == "{}\n"
    assert not (folder / "model-00001-of-00002.safetensors").exists()
    assert not (folder / "scores.json").exists()
    assert _cosine(encoder.encode(SENTENCES), SentenceTransformer(str(folder)).encode(SENTENCES)).min() >= 1 - 1e-6
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


@pytest.mark.parametrize("existing", [False, True])
def test_a_failing_save_leaves_no_model(
    encoder: PlainEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    folder = tmp_path / "model"
    if existing:
        save_pretrained(encoder, folder, recipe={})
        kept = (folder / "model.safetensors").read_bytes()

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoder.tokenizer.__class__, "save_pretrained", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_pretrained(encoder, folder, recipe={})
    if existing:
        assert (folder / "model.safetensors").read_bytes() == kept
        assert (folder / "modules.json").is_file()
    else:
        assert list(tmp_path.iterdir()) == []


def test_unknown_pooling_is_refused(encoder: PlainEncoder, tmp_path: Path) -> None:
    encoder.pooling = "last_token"
    with pytest.raises(ValueError, match="'last_token': expected one of cls, mean"):
        save_pretrained(encoder, tmp_path / "model", recipe={})


def test_model_card_has_recipe_and_scores(encoder: PlainEncoder, tmp_path: Path) -> None:
    folder = save_pretrained(encoder, tmp_path / "my-model", recipe=RECIPE | {"data": "/home/me/shards"}, scores=SCORES)
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: sentence-transformers\n")
    assert 'language:\n- en\n- "no"\nbase_model: example/base\n' in card
    assert "| training.note | a\\|b |" in card
    assert "/home" not in card
    assert "| data | me/shards |" in card
    assert "| cran | before | 0.2500 |  |" in card
    assert "| cran | after | 0.5000 | 0.6250 |" in card

    write_scores(folder, {"after": {"vaswani": {"ndcg@10": 0.75}}})
    again = (folder / "README.md").read_text()
    assert again.split("## Scores")[0] == card.split("## Scores")[0]
    assert "| vaswani | after | 0.7500 |" in again
    assert "cran" not in again
    with pytest.raises(ValueError, match=r"no recipe\.json"):
        write_scores(tmp_path, SCORES)
