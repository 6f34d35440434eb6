"""What was embedded once is never embedded again, for whoever asks, and only where it is of the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bgetrain.__main__ import main
from bgetrain.collection import open_collection
from bgetrain.embedding_cache import EmbeddingCache, find_vectors
from bgetrain.encode import Encoder
from bgetrain.evaluate import evaluate
from bgetrain.gather import Ranks
from bgetrain.ranking import METRICS
from bgetrain.resumable import PartsError


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the chunks that go through any encoder."""
    seen: list[int] = []
    forward = Encoder.forward_rows

    def watched(self: Encoder, rows: Any, chosen: Any) -> Any:
        seen.append(len(chosen))
        return forward(self, rows, chosen)

    monkeypatch.setattr(Encoder, "forward_rows", watched)
    return seen


@pytest.fixture
def flags(model: Path, wings: Path, tmp_path: Path) -> list[str]:
    """A collection, both forms of queries, and sentence pairs."""
    (tmp_path / "few.tsv").write_text("A broken wing\twing\t4\nLift grows\tx\t0\nwing\tx\t1\n")
    words = ["evaluate", "--model", model, "--data", wings, "--sts", tmp_path / "few.tsv", "--json", "--quiet"]
    return [str(word) for word in [*words, "--device", "cpu", "--cache_dir", tmp_path / "cache"]]


def scores(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [report["runs"] for report in json.loads(capsys.readouterr().out)]


def test_a_second_evaluation_embeds_nothing(
    flags: list[str], tmp_path: Path, embedded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 0
    first = scores(capsys)
    # 6 documents, 3 queries in two forms, 4 sentences
    assert sum(embedded) == 6 + 3 + 3 + 4
    embedded.clear()
    assert main(flags) == 0
    assert scores(capsys) == first
    assert embedded == []
    # another length is of something else
    assert main([*flags, "--query_max_len", "5"]) == 0
    assert sum(embedded) == 6
    assert len(list((tmp_path / "cache").glob("*/*/manifest.json"))) == 6


def test_scores_are_those_without_a_cache(
    flags: list[str], embedded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 0
    with_cache = scores(capsys)
    assert main(flags[: flags.index("--cache_dir")]) == 0
    for rows, others in zip(scores(capsys), with_cache, strict=True):
        for row, other in zip(rows, others, strict=True):
            for metric in {*METRICS, "spearman"} & row.keys():
                assert row[metric] == pytest.approx(other[metric], abs=1e-6)


def test_a_run_that_died_goes_on(
    flags: list[str], tmp_path: Path, embedded: list[int], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr("bgetrain.evaluate_models.evaluate_similarity", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(flags)
    assert sum(embedded) == 12
    embedded.clear()
    assert main(flags) == 0
    assert sum(embedded) == 4, "only the sentences were missing"
    assert capsys.readouterr().out


def test_a_changed_text_or_model_is_made_anew(
    flags: list[str], wings: Path, model: Path, embedded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 0
    embedded.clear()
    corpus = (wings / "corpus.jsonl").read_text()
    (wings / "corpus.jsonl").write_text(corpus.replace("swollen", "swallowed"))
    assert main(flags) == 0
    assert sum(embedded) == 6
    embedded.clear()
    # the folder keeps its name, its weights do not
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["embeddings.LayerNorm.weight"] = weights["embeddings.LayerNorm.weight"] * 1.5
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert main(flags) == 0
    assert sum(embedded) == 16
    assert capsys.readouterr().out


def test_what_encode_made_is_taken(
    model: Path, wings: Path, tmp_path: Path, embedded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its queries are all of the file, those of an evaluation the judged ones."""
    queries = (wings / "queries.jsonl").read_text()
    (wings / "queries.jsonl").write_text('{"_id": "idle", "text": "not judged"}\n' + queries)
    made = tmp_path / "vectors"
    encode = ["encode", "--model", str(model), "--data", str(wings), "--out", str(made), "--use_cpu", "--quiet"]
    assert main(encode) == 0
    capsys.readouterr()
    embedded.clear()
    words = ["evaluate", "--model", str(model), "--data", str(wings), "--device", "cpu", "--quiet", "--json"]
    assert main([*words, "--embeddings", str(made), "--instruction", "with"]) == 0
    found = scores(capsys)
    assert embedded == []
    assert main([*words, "--instruction", "with"]) == 0
    assert [row["ndcg@10"] for row in scores(capsys)[0]] == [row["ndcg@10"] for row in found[0]]
    embedded.clear()
    # without the instruction the queries are of something else, and only they
    assert main([*words, "--embeddings", str(made), "--instruction", "without"]) == 0
    assert sum(embedded) == 3


def test_vectors_of_another_model_are_not_taken(
    model: Path, wings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = Encoder.load(model)
    with torch.no_grad():
        encoder.backbone.embeddings.LayerNorm.weight[0] = 3.0
    cache = EmbeddingCache(encoder, tmp_path / "cache", ranks=Ranks())
    other = evaluate(encoder, wings, cache=cache)
    folders = [path.parent for path in (tmp_path / "cache").glob("*/*/manifest.json")]
    made = find_vectors(folders)
    assert len(made) == 3
    assert not EmbeddingCache(Encoder.load(model), None, ranks=Ranks(), made=made).fits
    words = ["evaluate", "--model", str(model), "--data", str(wings), "--device", "cpu", "--quiet", "--json"]
    assert main([*words, "--embeddings", *map(str, folders)]) == 0
    printed = capsys.readouterr()
    assert "none of these vectors are of this model" in printed.err
    rows = json.loads(printed.out)[0]["runs"]
    assert rows[-1]["map@1000"] == pytest.approx(evaluate(Encoder.load(model), wings)["with"]["map@1000"])
    assert EmbeddingCache(encoder, None, ranks=Ranks(), made=made).fits
    assert other["with"] is not None


def test_stored_rows_are_those_of_the_texts(model: Path, wings: Path, tmp_path: Path) -> None:
    encoder = Encoder.load(model)
    cache = EmbeddingCache(encoder, tmp_path / "cache", ranks=Ranks())
    collection = open_collection(wings)
    documents = cache.documents(collection)
    assert documents is not None
    expected = encoder.encode([text for piece in collection.documents(9) for text in piece])
    assert np.abs(documents.rows_at(np.arange(6)) - expected).max() < 1e-5
    queries = cache.queries(collection, "Find: ")
    assert queries is not None
    assert np.abs(queries - encoder.encode(list(collection.queries.values()), instruction="Find: ")).max() < 1e-5
    assert EmbeddingCache(encoder, None, ranks=Ranks()).texts(["x"], "x") is None


def test_a_folder_without_vectors_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PartsError, match="holds no vectors"):
        find_vectors([tmp_path])
