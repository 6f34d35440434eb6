"""The command: what it takes, prints and writes, how it compares models, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
import torch

from bgetrain.__main__ import main
from bgetrain.collection import open_collection
from bgetrain.export import save_pretrained
from bgetrain.ranking import METRICS
from bgetrain.scoreboard import labels_of
from tests.evaluate.plain_encoder import SENTENCES, PlainEncoder


def bgetrain(*argv: object) -> int:
    """The command as it is typed, with its exit code."""
    return main(["evaluate", *(str(item) for item in argv)])


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


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("a/model", "b/model", "c/final"):
        (tmp_path / name).mkdir(parents=True)
    models = [str(tmp_path / name) for name in ("a/model", "b/model", "c/final")]
    assert labels_of(models) == ["a/model", "b/model", "c/final"]
    assert labels_of(["org/name", "other"]) == ["name", "other"]


@pytest.fixture
def several(encoder: PlainEncoder, model: Path, wings: Path, tmp_path: Path) -> list[str]:
    """Two models on two collections and two files of pairs."""
    with torch.no_grad():
        encoder.backbone.embeddings.LayerNorm.weight *= torch.linspace(0.2, 3, 32)
    encoder.query_instruction = ""
    other = save_pretrained(encoder, tmp_path / "other", recipe={"base_model": "none"})
    flag = wings.parent / "flag"
    flag.mkdir()
    corpus = [json.loads(line) for line in (wings / "corpus.jsonl").read_text().splitlines()]
    rows = [{"id": row["_id"], "text": f"{row['text']} again"} for row in corpus]
    (flag / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (flag / "test_queries.jsonl").write_text('{"id": "a", "text": "wing"}\n{"id": "b", "text": "flow"}\n')
    (flag / "test_qrels.jsonl").write_text(
        '{"qid": "a", "docid": "d5", "relevance": 1}\n{"qid": "b", "docid": "d3", "relevance": 1}\n'
    )
    (tmp_path / "sts.tsv").write_text("".join(f"{SENTENCES[at]}\t{SENTENCES[at - 2]}\t{at % 4}\n" for at in range(6)))
    (tmp_path / "nli.tsv").write_text("".join(f"{SENTENCES[at]}\t{SENTENCES[at - 1]}\t{at % 2}\n" for at in range(6)))
    words: list[object] = ["--model", model, other, "--data", wings.parent, "--device", "cpu", "--quiet"]
    return [str(word) for word in [*words, "--sts", tmp_path / "sts.tsv", "--pairs", tmp_path / "nli.tsv"]]


def test_models_are_compared_to_the_first(
    several: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "pages" / "report.html"
    assert bgetrain(*several, "--json", "--report", page, "--output_dir", tmp_path / "runs") == 0
    reports = json.loads(capsys.readouterr().out)
    assert reports == json.loads((tmp_path / "runs" / "scores.json").read_text())
    assert [(report["kind"], report["collection"]) for report in reports] == [
        ("retrieval", "flag"),
        ("retrieval", "wings"),
        ("sts", "sts"),
        ("pairs", "nli"),
        ("mean", "mean"),
    ]
    rows = [(row["model"], row["instruction"], "difference" in row) for row in reports[0]["runs"]]
    expected = [("BM25", "", True), ("wing-model", "", True), ("wing-model", "Find: ", False), ("other", "", True)]
    assert rows == [(row["model"], row["instruction"], "difference" in row) for row in reports[4]["runs"]] == expected
    assert reports[0]["compared_to"] == {"model": "wing-model", "instruction": "Find: "}
    base, last = reports[1]["runs"][2], reports[1]["runs"][3]
    each = last["difference"]
    assert each["value"] == pytest.approx(last["ndcg@10"] - base["ndcg@10"], abs=1e-12)
    assert each["low"] <= each["value"] <= each["high"]
    assert each["better"] + each["worse"] == sum(each["histogram"]) <= 3
    mean = reports[4]["runs"]
    for place, row in enumerate(mean):
        both = [reports[at]["runs"][place] for at in (0, 1)]
        assert row["ndcg@10"] == pytest.approx(np.mean([one["ndcg@10"] for one in both]), abs=1e-12)
        if "difference" in row:
            assert row["difference"]["value"] == pytest.approx(row["ndcg@10"] - mean[2]["ndcg@10"], abs=1e-12)
    # sentences never get the instruction, so there is one form
    assert [(row["model"], row["instruction"]) for row in reports[2]["runs"]] == [("wing-model", ""), ("other", "")]
    change = reports[3]["runs"][1]["difference"]["value"]
    assert change == pytest.approx(reports[3]["runs"][1]["ap"] - reports[3]["runs"][0]["ap"], abs=1e-12)
    for report in reports[:2]:
        for row in report["runs"]:
            held = [case["ndcg@10_against"] - case["ndcg@10"] for case in row.get("worst", [])]
            assert held == sorted(held, reverse=True)
            assert all(loss > 0 for loss in held)
    assert any(row.get("worst") for report in reports[:2] for row in report["runs"])
    written = page.read_text()
    assert written.startswith("<!DOCTYPE html>")
    for words in ("All collections", "Queries that lost most", "Pairs farthest", "wing-model with instruction"):
        assert words in written
    assert "<script" not in written
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


def test_the_table_of_several_models_has_differences(several: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert bgetrain(*several, "--no_bm25", "--instruction", "with", "--worst_cases", "0") == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert len(blocks) == 5
    head, names, first, second = blocks[1].splitlines()
    assert head == "wings (test): 6 documents, 3 queries, 5 judgements"
    assert names.endswith("ndcg@10 against the first, 95 %")
    assert first.split()[:2] == ["wing-model", "with"]
    assert second.split()[:2] == ["other", "without"]
    assert not first.endswith(")")
    assert second.endswith(")")
    assert blocks[3].splitlines()[0] == "nli (pairs): 6 pairs, 3 of them 1"
    assert blocks[4].splitlines()[0] == "mean of 2 collections"


def test_a_page_is_the_same_each_time_and_escapes_what_it_shows(
    several: list[str], wings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "</style><script>alert(1)</script>"
    corpus = (wings / "corpus.jsonl").read_text()
    (wings / "corpus.jsonl").write_text(corpus.replace('"text": "', f'"text": "{hostile}'))
    for name in ("one.html", "two.html"):
        assert bgetrain(*several, "--report", tmp_path / name) == 0
    page = (tmp_path / "one.html").read_text()
    assert page == (tmp_path / "two.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert capsys.readouterr().err.count("warning") == 2


def test_what_cannot_be_written_is_known_before_a_model_is_loaded(
    wings: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgetrain.encode.Encoder.load", lambda *_, **__: pytest.fail("a model was loaded"))
    (tmp_path / "file").write_text("")
    common = ["--model", model, "--data", wings, "--quiet"]
    for flag, place in (
        ("--report", "file/page.html"),
        ("--output_dir", "file"),
        ("--cache_dir", "file"),
        ("--report", "/proc/none/page.html"),
    ):
        assert bgetrain(*common, flag, tmp_path / place) == 2
        assert f"{flag} " in (said := capsys.readouterr().err)
        assert "cannot be written" in said
    assert bgetrain(*common, "--report", tmp_path) == 2
    assert bgetrain(*common, "--device", "abacus") == 2
    assert bgetrain("--model", model, "--quiet") == 2
    assert "nothing to measure on" in capsys.readouterr().err


def test_input_of_the_wrong_kind_is_named(
    wings: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "graded.tsv").write_text("a\tb\t2.5\nc\td\t1\n")
    (tmp_path / "words.tsv").write_text("a\tb\tentailment\nc\td\tneutral\n")
    for flags, words in (
        (["--pairs", tmp_path / "graded.tsv"], "expected 1 or 0"),
        (["--sts", tmp_path / "words.tsv"], "--pairs takes labels"),
        (["--sts", wings], "no file that ends in"),
        (["--data", tmp_path / "graded.tsv"], "not a folder"),
        (["--data", wings, "--embeddings", wings], "holds no vectors"),
    ):
        if flags[0] == "--sts" and flags[1] == wings:
            (wings / "queries.jsonl").rename(wings / "queries.json")
            (wings / "corpus.jsonl").rename(wings / "corpus.json")
        assert bgetrain("--model", model, "--quiet", *flags) == 1
        assert words in capsys.readouterr().err
        if flags[0] == "--sts" and flags[1] == wings:
            (wings / "queries.json").rename(wings / "queries.jsonl")
            (wings / "corpus.json").rename(wings / "corpus.jsonl")
    assert bgetrain("--model", model, "--data", wings, "--sts", tmp_path / "graded.tsv", tmp_path / "graded.tsv") == 2


def test_ids_with_spaces_have_no_run_file(
    wings: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("corpus.jsonl", "qrels/test.tsv"):
        (wings / name).write_text((wings / name).read_text().replace("d3", "d 3"))
    out = tmp_path / "runs"
    assert bgetrain("--model", model, "--data", wings, "--output_dir", out, "--quiet", "--device", "cpu") == 0
    assert "no run file: the id 'd 3' holds white space" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["scores.json"]


def test_half_precision_moves_scores_a_little(wings: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--model", model, "--data", wings, "--json", "--quiet", "--device", "cpu", "--no_bm25"]
    runs = []
    for precision in ("fp32", "bf16"):
        assert bgetrain(*common, "--precision", precision) == 0
        runs.append(json.loads(capsys.readouterr().out)[0]["runs"])
    assert runs[0][0]["recall@100"] == runs[1][0]["recall@100"]


def test_two_processes_print_what_one_does(
    several: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [word for word in several if word not in {"--device", "cpu"}]
    flags += ["--use_cpu", "--json", "--cache_dir", str(tmp_path / "cache")]
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "bgetrain", "evaluate"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command, *flags], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert bgetrain(*flags) == 0
    assert json.loads(done.stdout) == json.loads(capsys.readouterr().out)
