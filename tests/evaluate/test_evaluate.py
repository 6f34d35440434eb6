"""The command and its function: what is searched, what is printed, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
import torch

from bgetrain import evaluate as module
from bgetrain.__main__ import main
from bgetrain.collection import open_collection
from bgetrain.encode import Encoder
from bgetrain.errors import ModelError
from bgetrain.evaluate import evaluate
from bgetrain.export import save_pretrained
from bgetrain.ranking import METRICS
from tests.evaluate.plain_encoder import SENTENCES, PlainEncoder


@pytest.fixture
def wings(tmp_path: Path) -> Path:
    """Six documents, three queries of which one is also a document, one judged document missing."""
    folder = tmp_path / "data" / "wings"
    (folder / "qrels").mkdir(parents=True)
    texts = SENTENCES
    rows = [{"_id": f"d{number}", "title": "", "text": text} for number, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"_id": "d0", "text": SENTENCES[0]}, {"_id": "q1", "text": SENTENCES[2]}, {"_id": "q2", "text": "wing"}]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels" / "test.tsv").write_text("d0\td1\t2\nd0\td4\t1\nq1\td3\t1\nq2\td1\t1\nq2\td8\t1\n")
    return folder


def bgetrain(*argv: object) -> int:
    """The command as it is typed, with its exit code."""
    return main(["evaluate", *(str(item) for item in argv)])


@pytest.fixture
def model(encoder: PlainEncoder, tmp_path: Path) -> Path:
    encoder.query_instruction = "Find: "
    return save_pretrained(encoder, tmp_path / "wing-model", recipe={"base_model": "none"})


def test_searches_with_and_without_the_instruction(encoder: PlainEncoder, wings: Path) -> None:
    encoder.query_instruction = "Find: "
    runs: dict[str, Any] = {}
    report = evaluate(encoder, wings, runs=runs)
    # Queries in both forms, documents once and never with the instruction.
    assert encoder.seen == [("", 3), ("Find: ", 3), ("", 6)]
    assert report["with"].keys() == report["without"].keys() == set(METRICS)
    assert (report["documents"], report["queries"], report["judgements"]) == (6, 3, 5)
    assert report["missing"] == {"queries": 0, "documents": 1}

    collection = open_collection(wings)
    documents = encoder.encode([text for piece in collection.documents(9) for text in piece])
    for form, instruction in (("without", ""), ("with", "Find: ")):
        queries = encoder.encode(list(collection.queries.values()), instruction=instruction)
        expected = {
            query: dict(zip(collection.document_ids, row.tolist(), strict=True))
            for query, row in zip(collection.queries, queries @ documents.T, strict=True)
        }
        for query, found in runs[form].items():
            assert dict(found) == pytest.approx(expected[query], abs=1e-6)
        peer = pytrec_eval.RelevanceEvaluator(collection.qrels, {"ndcg_cut.10", "map_cut.1000"})
        rows = peer.evaluate({query: dict(found) for query, found in runs[form].items()}).values()
        for metric, measure in (("ndcg@10", "ndcg_cut_10"), ("map@1000", "map_cut_1000")):
            assert report[form][metric] == pytest.approx(np.mean([row[measure] for row in rows]), abs=1e-9)


def test_pieces_do_not_change_the_scores(encoder: PlainEncoder, wings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(encoder, wings)
    monkeypatch.setattr(module, "PIECE", 1)
    assert evaluate(encoder, wings) == whole
    assert whole["with"] is None


def test_identical_ids_are_left_out_when_asked(encoder: PlainEncoder, wings: Path) -> None:
    runs: dict[str, Any] = {}
    kept = evaluate(encoder, wings, runs=runs)
    assert runs["without"]["d0"][0][0] == "d0"
    without = evaluate(encoder, wings, ignore_identical_ids=True, runs=runs)
    assert "d0" not in dict(runs["without"]["d0"])
    assert len(runs["without"]["d0"]) == 5
    assert without["without"]["mrr@10"] > kept["without"]["mrr@10"]


def test_the_command_prints_a_table_and_writes_runs(
    model: Path, wings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert bgetrain("--model", model, "--data", wings.parent, "--output_dir", out, "--device", "cpu") == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "wings (test): 6 documents, 3 queries, 5 judgements"
    assert lines[1].split() == ["model", "instruction", *METRICS]
    assert [line.split()[:2] for line in lines[2:]] == [
        ["BM25", "-"],
        ["wing-model", "without"],
        ["wing-model", "with"],
    ]
    assert "warning: wings: 1 judged documents are missing" in printed.err
    assert "wings: 6 of 6 documents encoded" in printed.err
    assert sorted(path.name for path in out.iterdir()) == [
        "scores.json",
        "wings.BM25.run",
        "wings.wing-model+instruction.run",
        "wings.wing-model.run",
    ]
    first = (out / "wings.wing-model.run").read_text().splitlines()[0].split()
    assert first[:4] == ["d0", "Q0", "d0", "1"]
    # The run file alone gives the printed score.
    with (out / "wings.wing-model.run").open() as lines_of_run:
        loaded = pytrec_eval.parse_run(lines_of_run)
    rows = pytrec_eval.RelevanceEvaluator(open_collection(wings).qrels, {"map_cut.1000"}).evaluate(loaded).values()
    assert f"{np.mean([row['map_cut_1000'] for row in rows]):.4f}" == lines[3].split()[-1]


def test_json_is_alone_on_stdout_and_the_card_gets_the_scores(
    model: Path, wings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", model, "--data", wings, "--json", "--quiet", "--update_model_card", "--device", "cpu"]
    assert bgetrain(*arguments, "--query_instruction_for_retrieval", "") == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in report["runs"]] == ["BM25", "wing-model"]
    card = (model / "README.md").read_text()
    for row in report["runs"]:
        assert f"| wings | {row['model']} | {row['ndcg@10']:.4f} |" in card


def test_an_exported_model_scores_as_the_encoder_it_came_from(model: Path, encoder: PlainEncoder, wings: Path) -> None:
    encoder.query_instruction = "Find: "
    assert evaluate(Encoder.load(model), wings, batch_tokens=64) == evaluate(encoder, wings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{model}", "--data", "{tmp}/nowhere"], "nowhere: no such folder"),
        (["--model", "{tmp}/nowhere", "--data", "{wings}"], "nowhere"),
        (["--model", "{model}", "--data", "{wings}", "--split", "dev"], "splits found: test"),
        (["--model", "{wings}", "--data", "{wings}"], "no config.json"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_1(
    arguments: list[str], message: str, model: Path, wings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.format(model=model, wings=wings, tmp=tmp_path) for argument in arguments]
    assert bgetrain(*filled, "--quiet") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    errors = [line for line in printed.err.splitlines() if not line.startswith(("warning", "hint"))]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]


def test_wrong_usage_is_exit_code_2(model: Path, wings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bgetrain("--model", model, model, "--data", wings, "--quiet") == 2
    assert bgetrain("--model", model, "--data", wings, wings, "--quiet") == 2
    with pytest.raises(SystemExit, match="2"):
        bgetrain("--model", model, "--data", wings, "--batch_tokens", "0")
    assert "expected a whole number of at least 1, found '0'" in capsys.readouterr().err


def test_damaged_weights_are_named(encoder: PlainEncoder, wings: Path) -> None:
    with torch.no_grad():
        encoder.backbone.embeddings.LayerNorm.weight[0] = float("nan")
    with pytest.raises(ModelError, match="wings: queries: 3 of 3 vectors are not finite"):
        evaluate(encoder, wings)


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("a/model", "b/model", "c/final"):
        (tmp_path / name).mkdir(parents=True)
    models = [str(tmp_path / name) for name in ("a/model", "b/model", "c/final")]
    assert module._labels(models) == ["a/model", "b/model", "c/final"]
    assert module._labels(["org/name", "other"]) == ["name", "other"]
