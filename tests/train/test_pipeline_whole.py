"""A toy of the whole path with the real commands: raw texts to a table, killed half-way and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bgetrain.__main__ import main

ROOT = Path(__file__).parents[2]
_TOPICS = ROOT / "examples" / "demo" / "data" / "pairs" / "topics.jsonl"

FILE = """
output_dir = "unused"
[variables]
data = "data"
[defaults."bgetrain train"]
use_cpu = true
report_to = "none"
logging_steps = 1
save_steps = 2
query_max_len = 16
passage_max_len = 32
num_train_epochs = 100
learning_rate = 1e-3
global_batch_size = 16
[[steps]]
name = "texts"
run = "bgeprep shard"
flags = { in = "{data}/texts.jsonl" }
[[steps]]
name = "pairs"
run = "bgeprep shard"
sources = [{ name = "pairs", path = "{data}/pairs.jsonl", columns = { query = "q", pos = ["a"] } }]
flags = { exclude = "{data}/dev" }
[[steps]]
name = "vocab"
run = "bgetrain vocab"
[steps.flags]
data = ["{texts}", "{pairs}"]
vocab_size = 500
num_hidden_layers = 1
hidden_size = 32
num_attention_heads = 2
intermediate_size = 64
max_position_embeddings = 64
[[steps]]
name = "retromae"
run = "bgetrain train"
[steps.flags]
data = "{texts}"
model_name_or_path = "{vocab}"
random_init = true
pretrain_method = "retromae"
max_seq_length = 32
max_steps = 40
[[steps]]
name = "stage1"
run = "bgetrain train"
flags = { data = "{pairs}", model_name_or_path = "{retromae}", max_steps = 4, train_group_size = 1 }
[[steps]]
name = "scores"
run = "bgetrain score"
flags = { data = "{pairs}", model = "{stage1}", use_cpu = true }
[[steps]]
name = "filtered"
run = "bgeprep shard"
flags = { in = "{pairs}", scores = "{scores}", min-score = -0.5 }
[[steps]]
name = "mined"
run = "bgetrain mine"
flags = { data = "{filtered}", model = "{stage1}", negative_number = 2, max_relative = "off", use_cpu = true }
[[steps]]
name = "stage2"
run = "bgetrain train"
[steps.flags]
data = "{mined}"
model_name_or_path = "{stage1}"
max_steps = 3
train_group_size = 2
query_instruction_for_retrieval = "find: "
[[steps]]
name = "merged"
run = "bgetrain merge"
flags = { models = ["{stage2}", "{stage1}"], query_instruction_for_retrieval = "find: " }
[[steps]]
name = "evaluate"
run = "bgetrain evaluate"
flags = { model = ["{stage*}", "{merged}"], data = "{data}/dev" }
[summary]
step = "evaluate"
columns = ["stage 1", "stage 2", "merged"]
rows = [{ name = "toy", models = ["stage1", "stage2", "merged"] }]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The file, and real questions and answers: 120 to train on and 20 held out."""
    rows = [json.loads(line) for line in _TOPICS.read_text(encoding="utf-8").splitlines()]
    data = tmp_path / "data"
    (data / "dev" / "qrels").mkdir(parents=True)

    def write(name: str, lines: list[dict[str, str]]) -> None:
        (data / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    write("texts.jsonl", [{"text": answer} for _, answer in rows[:120]])
    write("pairs.jsonl", [{"q": question, "a": answer} for question, answer in rows[:120]])
    held = rows[-20:]
    write("dev/corpus.jsonl", [{"_id": f"d{i}", "title": "", "text": answer} for i, (_, answer) in enumerate(held)])
    write("dev/queries.jsonl", [{"_id": f"q{i}", "text": question} for i, (question, _) in enumerate(held)])
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(20))
    (data / "dev" / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", encoding="utf-8")
    (tmp_path / "pipeline.toml").write_text(FILE.replace('"data"', f'"{data}"', 1), encoding="utf-8")
    return tmp_path


def flags_of(folder: Path, *more: str) -> list[str]:
    return ["pipeline", "--config", str(folder / "pipeline.toml"), "--output_dir", str(folder / "out"), *more]


def test_raw_texts_become_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "bgetrain", *flags_of(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
    checkpoint = folder / "out" / "retromae" / "checkpoint-4"
    try:
        deadline = time.monotonic() + 120
        while not checkpoint.is_dir():
            assert process.poll() is None, (folder / "said").read_text()
            assert time.monotonic() < deadline, "pre-training does not begin"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()

    # the training that was left alone is asked to stop by the system, and saves where it is
    log = folder / "out" / "logs" / "retromae.log"
    deadline = time.monotonic() + 60
    while "--resume_from_checkpoint last goes on" not in log.read_text():
        assert time.monotonic() < deadline, "training outlives its pipeline"
        time.sleep(0.05)

    assert main(flags_of(folder)) == 0
    told = capsys.readouterr()
    assert "texts  skipped" in told.err
    assert "retromae  running  goes on" in told.err
    starts = [line for line in log.read_text().splitlines() if line.startswith("$ ")]
    assert [start.endswith("--resume_from_checkpoint last") for start in starts] == [False, True]
    assert "| dev        | BM25  |" in told.out
    assert "standard error over queries" in told.out
    assert f"{folder}/out/stage2/report.html" in told.out
    assert f"{folder}/out/scores/scores.html" in told.out

    assert main(flags_of(folder, "--json", "--quiet")) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {step["state"] for step in facts["steps"]} == {"skipped"}
    scores = json.loads((folder / "out" / "evaluate" / "scores.json").read_text())
    with_instruction = {run["model"]: run["ndcg@10"] for run in scores[0]["runs"] if run["instruction"]}
    cells = facts["summary"]["collections"][0]["rows"][0]["cells"]
    assert cells[1]["mean"] == with_instruction["stage2"], "with its instruction, as the model is used"
    assert cells[0]["mean"] == next(run["ndcg@10"] for run in scores[0]["runs"] if run["model"] == "stage1")
    assert all(0 < cell["spread"] < 0.2 for cell in cells)
