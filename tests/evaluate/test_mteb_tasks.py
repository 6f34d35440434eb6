"""mteb scores our vectors by its own code; what it says equals what we say. Skipped where mteb is not installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from bgetrain.__main__ import main
from bgetrain.collection import CollectionError, open_collection
from bgetrain.encode import Encoder
from bgetrain.errors import ConfigError, LaunchError
from bgetrain.evaluate import evaluate, evaluate_similarity
from bgetrain.mteb_tasks import MtebEncoder, local_task, open_task, score_task
from bgetrain.sentence_pairs import SentencePairs
from tests.evaluate.plain_encoder import SENTENCES

needs_mteb = pytest.mark.skipif(
    importlib.util.find_spec("mteb") is None, reason="mteb is not installed: pip install 'bgeprep[mteb]'"
)
# mteb and what it brings warn of themselves
quiet = pytest.mark.filterwarnings("ignore")

NAMES = {"ndcg@10": "ndcg_at_10", "mrr@10": "mrr_at_10", "recall@100": "recall_at_100", "map@1000": "map_at_1000"}


@needs_mteb
@quiet
@pytest.mark.parametrize("ignore", [False, True])
def test_a_collection_scores_the_same_in_mteb(model: Path, wings: Path, ignore: bool) -> None:
    encoder = Encoder.load(model)
    # one judged document is not in the corpus, which mteb counts as not found too
    ours = evaluate(encoder, wings, ignore_identical_ids=ignore)
    task = local_task(open_collection(wings), ignore_identical_ids=ignore)
    theirs = score_task(task, MtebEncoder(encoder, "wing-model"))
    (scores,) = theirs.result["scores"]["test"]
    # mteb rounds to five digits
    assert {metric: scores[name] for metric, name in NAMES.items()} == pytest.approx(ours["with"], abs=6e-6)
    assert theirs.instructed
    assert (theirs.metric, theirs.value) == ("ndcg_at_10", scores["ndcg_at_10"])
    without = score_task(task, MtebEncoder(encoder, "wing-model", query_instruction=""))
    assert not without.instructed
    assert without.value == pytest.approx(ours["without"]["ndcg@10"], abs=6e-6)
    assert ours["with"] != ours["without"]


@needs_mteb
@quiet
@pytest.mark.parametrize("kind", ["sts", "pairs"])
def test_sentence_pairs_score_the_same_in_mteb(model: Path, kind: str) -> None:
    encoder = Encoder.load(model)
    # each pair once, none of a sentence with itself: ranks of equal scores would hang on the last bit
    first, second = zip(*combinations(SENTENCES[:6], 2), strict=True)
    labels = np.array([place * 7 % 5 for place in range(len(first))], dtype=np.float64)
    pairs = SentencePairs(
        "few", kind, list(first), list(second), labels if kind == "sts" else (labels > 2).astype(float), 0
    )
    ours, _ = evaluate_similarity(encoder, pairs)
    theirs = score_task(local_task(pairs), MtebEncoder(encoder, "wing-model"))
    (scores,) = theirs.result["scores"]["test"]
    names = ("spearman", "pearson") if kind == "sts" else ("ap", "accuracy", "f1")
    for name in names:
        assert scores[f"cosine_{name}"] == pytest.approx(ours[name], abs=2e-5), name
    assert not theirs.instructed, "a sentence got the instruction"


@needs_mteb
@quiet
def test_the_command_takes_folders_for_mteb(
    model: Path, wings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["evaluate", "--model", model, "--data", wings, "--mteb", wings, "--json", "--quiet", "--use_cpu"]
    flags += ["--instruction", "with", "--output_dir", tmp_path / "out", "--cache_dir", tmp_path / "cache"]
    assert main([str(flag) for flag in flags]) == 0
    retrieval, mteb = json.loads(capsys.readouterr().out)
    assert mteb["kind"] == "mteb"
    assert mteb["runs"][0]["instruction"] == "Find: "
    assert mteb["runs"][0]["ndcg_at_10"] == pytest.approx(retrieval["runs"][-1]["ndcg@10"], abs=6e-6)
    assert json.loads((tmp_path / "out" / "wings.wing-model.mteb.json").read_text())["scores"]["test"]


@needs_mteb
@quiet
def test_unknown_tasks_and_absent_data_are_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such task") as error:
        open_task("STSBenchmarc")
    assert "STSBenchmark" in error.value.hint
    task = open_task("STSBenchmark")

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network here")

    monkeypatch.setattr(type(task), "load_data", offline)
    with pytest.raises(CollectionError, match="STSBenchmark: its data cannot be read: ConnectionError: no network"):
        score_task(task, MtebEncoder(Encoder.load(model), "wing-model"))


def test_without_mteb_the_extra_is_named(wings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(LaunchError, match="mteb is not installed") as error:
        open_task(str(wings))
    assert "bgeprep[mteb]" in error.value.hint
