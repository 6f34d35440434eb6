"""The table at the end of a pipeline: means, spreads and what they are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bgetrain.errors import ConfigError
from bgetrain.pipeline.config import SummaryConfig, SummaryRow
from bgetrain.pipeline.summary import markdown, per_query, summarise

METRIC = "ndcg@10"


def write(folder: Path, scores: dict[str, dict[str, float]]) -> Path:
    told = [
        {
            "collection": name,
            "runs": [{"model": model, "instruction": "", METRIC: value} for model, value in runs.items()],
        }
        for name, runs in scores.items()
    ]
    (folder / "scores.json").write_text(json.dumps(told), encoding="utf-8")
    return folder / "scores.json"


def nothing(_: str, __: str) -> None:
    return None


CONFIG = SummaryConfig(
    step="evaluate",
    columns=("stage 1", "merged"),
    rows=(SummaryRow(name="plain", models=("a-*", "")), SummaryRow(name="mine", models=("b-*", "c-*"))),
)


def test_means_and_deviations_over_seeds(tmp_path: Path) -> None:
    scores = write(
        tmp_path,
        {
            "one": {"BM25": 0.5, "a-1": 0.1, "a-2": 0.3, "b-1": 0.4, "b-2": 0.4, "c-1": 0.5, "c-2": 0.7},
            "two": {"BM25": 0.7, "a-1": 0.5, "a-2": 0.5, "b-1": 0.6, "b-2": 0.8, "c-1": 0.9, "c-2": 0.7},
        },
    )
    found = summarise(CONFIG, scores, nothing)
    plain, mine = found["collections"][0]["rows"]
    assert plain["cells"] == [{"mean": 0.2, "spread": pytest.approx(0.2 / np.sqrt(2)), "models": 2}, None]
    assert mine["cells"][1]["mean"] == pytest.approx(0.6)
    # of the mean over collections: 0.3 and 0.4 by seed
    assert found["mean"]["rows"][0]["cells"][0]["mean"] == pytest.approx(0.35)
    assert found["mean"]["rows"][0]["cells"][0]["spread"] == pytest.approx(0.1 / np.sqrt(2))
    table = markdown(found)
    assert "| one        | BM25  | 0.500         |" in table
    assert "| one        | plain | 0.200 ± 0.141 |" in table
    assert table.endswith("ndcg@10; ± is the standard deviation over 2 seeds")


def test_one_seed_has_the_error_over_queries(tmp_path: Path) -> None:
    scores = write(tmp_path, {"one": {"BM25": 0.5, "a-1": 0.5, "b-1": 0.5, "c-1": 0.5}})
    values = np.tile([0.0, 1.0], 200)
    found = summarise(CONFIG, scores, lambda _, label: values if label == "a-1" else None)
    cell = found["collections"][0]["rows"][0]["cells"][0]
    assert cell["spread"] == pytest.approx(values.std() / np.sqrt(len(values)), rel=0.1)
    assert found["collections"][0]["rows"][1]["cells"][0]["spread"] is None
    assert "one seed, ± is the standard error over queries" in markdown(found)


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    scores = write(tmp_path, {"one": {"BM25": 0.5, "a-1": 0.5, "b-1": 0.5}})
    with pytest.raises(ConfigError, match=r"mine: no model is called c-\*; found BM25, a-1, b-1"):
        summarise(CONFIG, scores, nothing)


def test_the_score_with_the_instruction_counts(tmp_path: Path) -> None:
    runs = [
        {"model": name, "instruction": said, METRIC: value}
        for name, said, value in [("a-1", "find: ", 0.9), ("a-1", "", 0.1), ("b-1", "", 0.2), ("c-1", "", 0.3)]
    ]
    (tmp_path / "scores.json").write_text(json.dumps([{"collection": "one", "runs": runs}]), encoding="utf-8")
    asked: list[str] = []

    def note(_: str, label: str) -> None:
        asked.append(label)

    found = summarise(CONFIG, tmp_path / "scores.json", note)
    assert found["collections"][0]["rows"][0]["cells"][0]["mean"] == 0.9
    assert "a-1+instruction" in asked


def test_queries_are_scored_from_run_files(tmp_path: Path) -> None:
    """The second query found its document second, the third nothing: by hand 1, 1/log2(3), 0."""
    (tmp_path / "one.a.run").write_text("q1 Q0 d1 1 9 a\nq1 Q0 d2 2 8 a\nq2 Q0 d1 1 9 a\nq2 Q0 d2 2 8 a\n")
    qrels = {"one": {"q1": {"d1": 1}, "q2": {"d2": 1}, "q3": {"d3": 1}}}
    read: Callable[[str, str], np.ndarray | None] = per_query(tmp_path, qrels, METRIC)
    assert read("one", "a") == pytest.approx([1.0, 1 / np.log2(3), 0.0])
    assert read("one", "b") is None
    # a file is called as `evaluate` calls it
    (tmp_path / "one.org_a.run").write_text("q1 Q0 d1 1 9 org_a\n")
    assert read("one", "org/a") == pytest.approx([1.0, 0.0, 0.0])


def test_scores_of_sentence_pairs_alone_make_no_table(tmp_path: Path) -> None:
    told = [{"collection": "sts", "kind": "sts", "runs": [{"model": "a", "instruction": "", "spearman": 0.5}]}]
    (tmp_path / "scores.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"summary: no collection in .* has ndcg@10"):
        summarise(CONFIG, tmp_path / "scores.json", nothing)
