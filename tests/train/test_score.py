"""Scores of pairs: those of plain transformers, joined by `bgeprep`, the same bytes after a kill; and the page."""

from __future__ import annotations

import json
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import bgeprep
from bgeprep.cli import main as prep
from bgetrain.__main__ import main
from bgetrain.encode import Encoder
from bgetrain.errors import ConfigError, ModelError
from bgetrain.report.scores import collect, render
from bgetrain.resumable import PartsError
from bgetrain.score import score_pairs
from bgetrain.scorers import Cosine, Reranker
from tests.train.tiny import write_tiny_reranker
from tests.train.vector_workers import run_scoring_rank, score

pytest.importorskip("pyarrow", reason="the extra `score` is not installed")

PAIRS = Path(__file__).parents[2] / "examples" / "demo" / "data" / "pairs" / "topics.jsonl"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words of the tiny tokenizer; queries and positives that stand in several rows, and rows of several positives."""
    folder = tmp_path_factory.mktemp("score") / "pairs"
    folder.mkdir()
    rng = np.random.default_rng(3)

    def text(words: int) -> str:
        return " ".join(f"w{word}" for word in rng.integers(0, 55, words))

    rows = [{"query": text(4), "pos": [text(int(rng.integers(3, 30))) for _ in range(1 + n % 3)]} for n in range(90)]
    rows += [{"query": rows[n]["query"], "pos": [rows[n + 9]["pos"][0]]} for n in range(8)]
    rows.append({"query": "<script>alert(1)</script>", "pos": ["w1 & w2"]})
    for number, name in enumerate(("first", "second")):
        own = rows[number::2]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    return folder


@pytest.fixture(scope="module")
def shards(pairs: Path) -> Path:
    bgeprep.shard(pairs, pairs.parent / "shards", threads=1)
    return pairs.parent / "shards"


@pytest.fixture(scope="module")
def whole(shards: Path, tiny_bert: Path) -> Path:
    """What nothing stopped, made by one process."""
    score(str(tiny_bert), str(shards), shards.parent / "whole")
    return shards.parent / "whole"


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_reranker(tmp_path_factory.mktemp("reranker") / "tiny", outputs=1)


def _all_pairs(shards: Path) -> list[tuple[str, str]]:
    return [(row["query"], pos) for row in bgeprep.open(shards) for pos in row["pos"]]


def _read(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.glob("part-*.parquet"))])


def test_cosines_are_those_of_plain_transformers(shards: Path, whole: Path, tiny_bert: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(tiny_bert).eval(), AutoTokenizer.from_pretrained(tiny_bert)

    def vector(text: str) -> torch.Tensor:
        with torch.no_grad():
            said = model(**tokenizer(text, truncation=True, max_length=32, return_tensors="pt"))
        return said.last_hidden_state[0, 0]

    found = _read(whole)
    assert found.columns == ["query_hash", "pos_hash", "score", "row", "pos"]
    expected = [float(torch.cosine_similarity(vector(q), vector(p), dim=0)) for q, p in _all_pairs(shards)]
    assert np.abs(found["score"].to_numpy() - expected).max() < 1e-5
    assert np.std(expected) > 0.05, "the control: scores differ"
    hashes = [(bgeprep.text_hash(q), bgeprep.text_hash(p)) for q, p in _all_pairs(shards)]
    assert list(zip(found["query_hash"], found["pos_hash"], strict=True)) == hashes
    row = bgeprep.open(shards)[found["row"][40]]
    assert bgeprep.text_hash(row["pos"][found["pos"][40]]) == found["pos_hash"][40]


def test_an_instruction_and_lengths_count(tiny_bert: Path) -> None:
    encoder = Encoder.load(tiny_bert)
    some = [("w1 w2", "w3 " * 9), ("w4", "w5 w6 w7 w8")]
    plain = Cosine(encoder).score(some)
    vectors = encoder.encode(["w9 w1 w2", "w9 w4"]), encoder.encode(["w3 w3 w3", "w5 w6 w7"])
    prompted = Cosine(encoder, query_prompt="w9 ", passage_max_length=5)
    assert np.allclose(prompted.score(some), (vectors[0] * vectors[1]).sum(1), atol=1e-6)
    assert np.abs(prompted.score(some) - plain).max() > 1e-3
    assert prompted.work != Cosine(encoder).work
    assert Cosine(encoder).score([]).shape == (0,)
    longer = Encoder.load(tiny_bert, normalize=False)
    assert np.allclose(Cosine(longer).score(some), plain, atol=1e-6)


def test_a_text_of_several_pairs_is_embedded_once(
    shards: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[int] = []
    forward_rows = Encoder.forward_rows

    def counted(self: Encoder, rows: Any, chosen: Any) -> Any:
        embedded.append(len(chosen))
        return forward_rows(self, rows, chosen)

    monkeypatch.setattr(Encoder, "forward_rows", counted)
    pairs = _all_pairs(shards)
    Cosine(Encoder.load(tiny_bert)).score(pairs)
    assert sum(embedded) == len({q for q, _ in pairs}) + len({p for _, p in pairs}) < 2 * len(pairs)


def test_a_reranker_gives_the_probability_of_plain_transformers(reranker: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(reranker).eval()
    tokenizer = AutoTokenizer.from_pretrained(reranker)
    some = [("w1 w2", "w3 w4 w5"), ("w1", "w9 " * 40), ("w7 " * 40, "w8"), ("w3 w4 w5", "w1 w2"), ("", "")]
    expected = []
    for query, positive in some:
        # one pair, but as a list: an empty positive would be taken for none
        encoded = tokenizer([query], [positive], truncation=True, max_length=32, return_tensors="pt")
        with torch.no_grad():
            expected.append(float(torch.sigmoid(model(**encoded).logits[0, 0])))
    found = Reranker(reranker, batch_tokens=64).score(some)
    assert np.abs(found - expected).max() < 1e-5
    assert abs(expected[0] - expected[3]) > 1e-3, "the control: who asks counts"
    assert np.std(expected) > 0.01


def test_what_is_no_reranker_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no cross-encoder") as caught:
        Reranker(tiny_bert)
    assert "--model" in caught.value.hint
    with pytest.raises(ModelError, match="one output, found 3"):
        Reranker(write_tiny_reranker(tmp_path / "three", outputs=3))


def test_the_filter_keeps_what_the_page_says(
    pairs: Path, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From pair files to a filtered set, by the two commands as they are typed."""
    out, filtered = tmp_path / "scores", tmp_path / "filtered"
    words = ["score", "--data", str(pairs), "--model", str(tiny_bert), "--out", str(out), "--use_cpu", "--quiet"]
    assert main([*words, "--json"]) == 0
    threshold = round(json.loads(capsys.readouterr().out)["median"] + 0.003, 3)
    words += ["--threshold", str(threshold)]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    line = next(line for line in said["kept"] if line["threshold"] == threshold)
    assert 0 < line["rows"] < said["rows"]
    assert prep(
        ["shard", "--in", said["shards"], "--out", str(filtered), "--scores", str(out), "--min-score", str(threshold)]
    ) == 0  # fmt: skip
    kept = bgeprep.open(filtered)
    assert len(kept) == line["rows"]
    assert sum(len(row["pos"]) for row in kept) == line["pairs"]
    page = (out / "scores.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert f"{line['pairs']:,}" in page

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert main(words) == 0
    assert "choose X" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.timeout(120)
def test_killed_and_gone_on_with_by_more_ranks_gives_the_same_bytes(
    shards: Path, whole: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    multiprocessing.set_forkserver_preload(["tests.train.vector_workers", "transformers.models.bert.modeling_bert"])
    for world_size, killed_after, parts in ((1, 48, 3), (2, None, 7)):
        ranks = torch.multiprocessing.start_processes(
            run_scoring_rank,
            (world_size, str(tmp_path), str(tiny_bert), str(shards), killed_after),
            nprocs=world_size,
            join=False,
            start_method="forkserver",
        )
        for process in ranks.processes:
            process.join(60)
        assert {process.exitcode for process in ranks.processes} == {-signal.SIGKILL if killed_after else 0}
        assert len(list((tmp_path / "out").glob("part-*.parquet"))) == parts
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {path.name: path.read_bytes() for path in whole.iterdir()}


def test_scores_of_other_work_are_refused(shards: Path, whole: Path, tiny_bert: Path, tmp_path: Path) -> None:
    rows = bgeprep.open(shards)
    with pytest.raises(PartsError, match="holds scores of something else: model"):
        score_pairs(rows, whole, Cosine(Encoder.load(tiny_bert, pooling="mean")), part_rows=16)
    (tmp_path / "texts.jsonl").write_text('{"text": "a text of its own"}\n')
    bgeprep.shard(tmp_path / "texts.jsonl", tmp_path / "set", threads=1)
    with pytest.raises(ConfigError, match="expected a set of pairs"):
        score_pairs(bgeprep.open(tmp_path / "set"), tmp_path / "out", Cosine(Encoder.load(tiny_bert)))


def test_scores_that_are_no_numbers_end_the_run(shards: Path, tiny_bert: Path, tmp_path: Path) -> None:
    encoder = Encoder.load(tiny_bert)
    with torch.no_grad():
        encoder.backbone.get_parameter("embeddings.word_embeddings.weight")[2] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        score_pairs(bgeprep.open(shards), tmp_path / "out", Cosine(encoder))
    assert not list((tmp_path / "out").glob("part-*"))


def test_the_page_counts_exactly(shards: Path, whole: Path) -> None:
    files = sorted(whole.glob("part-*.parquet"))
    figures = collect(files, bgeprep.open(shards), lowest=-1.0, threshold=0.2)
    found = _read(whole)
    values = found["score"].to_numpy()
    assert figures["pairs"] == len(values) == sum(figures["histogram"])
    assert figures["mean"] == pytest.approx(values.mean(), abs=1e-6)
    assert figures["median"] <= np.median(values) < figures["median"] + 0.02
    assert figures["kept"][0]["pairs"] == len(values)
    assert figures["kept"][-1]["pairs"] == 0 or figures["kept"][-1]["threshold"] >= 0.95
    best = found.group_by("row").agg(pl.col("score").max())["score"].to_numpy()
    for line in figures["kept"]:
        at = np.float32(line["threshold"])
        assert (line["pairs"], line["rows"]) == ((values >= at).sum(), (best >= at).sum())
    assert [source["name"] for source in figures["sources"]] == ["first", "second"]
    assert sum(source["rows"] for source in figures["sources"]) == len(best)
    # a page of fewer, larger parts shows the same pairs
    shown = [sample["score"] for sample in figures["samples"]]
    assert shown == sorted(shown)
    assert len(shown) > 20
    assert "By source" in render(figures, "tiny", whole)


def test_flags_that_would_be_ignored_are_mistakes(
    shards: Path, reranker: Path, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", str(shards), "--out", str(tmp_path / "out"), "--use_cpu", "--quiet"]
    for words, named in (
        (["--reranker", str(reranker), "--query_max_len", "5"], "--query_max_len: only with --model"),
        (["--model", str(tiny_bert), "--max_len", "5"], "--max_len: only with --reranker"),
    ):
        assert main(["score", *common, *words]) == 2
        assert named in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["score", *common])
    assert main(["score", *common, "--reranker", str(reranker)]) == 0
    assert "rows kept" in capsys.readouterr().out
    assert main(["score", *common[2:], "--data", str(tmp_path / "nothing"), "--model", str(tiny_bert)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
