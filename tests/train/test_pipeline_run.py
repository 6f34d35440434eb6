"""Which steps run: each where its output is not there or no longer fits, and no other; after kills and failures too."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bgetrain.errors import ConfigError, Interrupted, LaunchError
from bgetrain.pipeline.config import read_pipeline
from bgetrain.pipeline.plan import Plan, Step, make_plan
from bgetrain.pipeline.record import Entry, PipelineError, opened_record
from bgetrain.pipeline.runner import Launch, run_steps
from bgetrain.pipeline.screen import Screen

ROOT = Path(__file__).parents[2]

FILE = """
output_dir = "unused"
[variables]
raw = "raw"
least = 2
[[steps]]
name = "pairs"
run = "bgeprep shard"
flags = { in = "{raw}", min_query_chars = 0 }
[[steps]]
name = "lines"
run = "bgeprep export"
out = "lines.jsonl"
flags = { in = "{pairs}" }
[[steps]]
name = "again"
run = "bgeprep shard"
flags = { in = "{lines}" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline of three quick steps on five pairs."""
    (tmp_path / "raw").mkdir()
    write_rows(tmp_path, 5)
    (tmp_path / "pipeline.toml").write_text(
        FILE.replace('raw = "raw"', f'raw = "{tmp_path / "raw"}"').replace(
            "min_query_chars = 0", '"clean.min_query_chars" = "{least}"'
        ),
        encoding="utf-8",
    )
    return tmp_path


def write_rows(folder: Path, count: int) -> None:
    rows = [{"query": f"question number {i}", "pos": [f"the answer to it is {i * 7}"]} for i in range(count)]
    (folder / "raw" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def plan_of(folder: Path, **given: str) -> Plan:
    return make_plan(read_pipeline(folder / "pipeline.toml"), folder / "out", folder, given)


def states(plan: Plan, wanted: list[Step] | None = None, launch: Launch | None = None) -> dict[str, str]:
    """Runs a plan; what became of each step."""
    steps = plan.chosen(None, None) if wanted is None else wanted
    screen = Screen(steps, stream=io.StringIO())
    with opened_record(plan.folder) as record:
        run_steps(plan, steps, record, launch or Launch(), screen)
    return screen.states


def test_what_is_done_and_fits_is_not_done_again(folder: Path) -> None:
    assert states(plan_of(folder)) == {"pairs": "done", "lines": "done", "again": "done"}
    assert states(plan_of(folder)) == {"pairs": "skipped", "lines": "skipped", "again": "skipped"}
    assert len((folder / "out" / "lines.jsonl").read_text().splitlines()) == 5


def test_another_input_makes_all_that_comes_of_it_again(folder: Path) -> None:
    states(plan_of(folder))
    write_rows(folder, 6)
    assert set(states(plan_of(folder)).values()) == {"done"}
    assert len((folder / "out" / "lines.jsonl").read_text().splitlines()) == 6


def test_a_setting_that_changes_no_output_stops_there(folder: Path) -> None:
    """Another flag makes a step again; where the same comes out of it, what follows still fits."""
    states(plan_of(folder))
    before = (folder / "out" / "pairs" / "manifest.json").read_bytes()
    again = states(plan_of(folder, least="3"))
    assert again["pairs"] == "done"
    # the manifest holds the config, so that set is another one, and what follows is made again
    assert (folder / "out" / "pairs" / "manifest.json").read_bytes() != before
    assert again["lines"] == "done"


def test_an_output_that_was_touched_and_not_changed_still_fits(folder: Path) -> None:
    states(plan_of(folder))
    os.utime(folder / "out" / "pairs" / "manifest.json")
    assert set(states(plan_of(folder)).values()) == {"skipped"}


def test_an_output_that_is_gone_or_changed_is_made_again(folder: Path) -> None:
    states(plan_of(folder))
    (folder / "out" / "lines.jsonl").unlink()
    # made of the same, it has another time and so, as a plain file, another identity
    assert states(plan_of(folder)) == {"pairs": "skipped", "lines": "done", "again": "done"}
    (folder / "out" / "lines.jsonl").write_text("{}\n", encoding="utf-8")
    assert states(plan_of(folder))["lines"] == "done"


def test_one_step_alone_needs_what_is_before_it(folder: Path) -> None:
    plan = plan_of(folder)
    with pytest.raises(PipelineError, match="lines: needs pairs, which is not done"):
        states(plan, plan.chosen("lines", None))
    states(plan, plan.chosen("pairs", None))
    assert states(plan, plan.chosen("lines", None)) == {"lines": "done"}
    assert states(plan, plan.chosen(None, "lines")) == {"lines": "skipped", "again": "done"}


def test_a_missing_input_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"pairs: --in .*nowhere: no such file or folder"):
        states(plan_of(folder, raw=str(folder / "nowhere")))


def test_a_step_that_fails_says_why_and_what_to_do(folder: Path) -> None:
    (folder / "raw" / "rows.jsonl").write_text("no JSON\n" * 40, encoding="utf-8")
    with pytest.raises(PipelineError) as caught:
        states(plan_of(folder))
    assert str(caught.value).startswith("pairs: bgeprep shard ended with exit code 1\n")
    assert "  | error: " in str(caught.value)
    assert "the same command goes on" in caught.value.hint
    write_rows(folder, 5)
    assert set(states(plan_of(folder)).values()) == {"done"}


def test_a_replacement_that_was_killed_at_once_still_replaces(folder: Path) -> None:
    """The record says `begun` and the old output is still there: the same call must not stumble over it."""
    states(plan_of(folder))
    path = folder / "out" / "pipeline.json"
    before = (folder / "out" / "pairs" / "manifest.json").read_bytes()
    plan = plan_of(folder, least="4")
    with opened_record(plan.folder) as record:
        step = plan.steps["pairs"]
        made_of = record.made_of(step, plan.steps)
        record.write("pairs", Entry(made_of=made_of, state="begun", replaces=True))
    assert states(plan)["pairs"] == "done"
    assert (folder / "out" / "pairs" / "manifest.json").read_bytes() != before
    assert not json.loads(path.read_text())["steps"]["pairs"]["replaces"]


def test_checkpoints_of_other_settings_go_only_where_that_is_asked_for(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(
        'output_dir = "unused"\n[[steps]]\nname = "run"\nrun = "bgetrain train"\n'
        f'flags = {{ data = "{folder / "raw"}", learning_rate = 1e-3, model_name_or_path = "{folder / "raw"}" }}\n',
        encoding="utf-8",
    )
    (folder / "out" / "run" / "checkpoint-5").mkdir(parents=True)
    plan = plan_of(folder)
    with opened_record(plan.folder) as record:
        record.write("run", Entry(made_of="other settings", state="begun"))
    with pytest.raises(PipelineError, match=r"run: .* has checkpoints of other settings") as refused:
        states(plan)
    assert "--overwrite" in refused.value.hint
    assert (folder / "out" / "run" / "checkpoint-5").is_dir()
    with pytest.raises(PipelineError, match="run: bgetrain train ended with exit code"):
        states(plan, launch=Launch(overwrite=True))
    assert not (folder / "out" / "run" / "checkpoint-5").exists()
    words = (folder / "out" / "logs" / "run.log").read_text().splitlines()[0]
    assert words.endswith("--overwrite_output_dir")


def hash_of_step(folder: Path, text: str) -> str:
    (folder / "pipeline.toml").write_text(f'output_dir = "unused"\n[[steps]]\nname = "step"\n{text}', encoding="utf-8")
    plan = plan_of(folder)
    with opened_record(plan.folder) as record:
        return record.made_of(plan.steps["step"], plan.steps)


@pytest.mark.parametrize(
    "text",
    [
        'run = "bgetrain evaluate"\nflags = { model = "some/model", sts = "RAW" }',
        'run = "bgetrain evaluate"\nflags = { model = "some/model", pairs = ["RAW"] }',
        'run = "bgetrain evaluate"\nflags = { model = "some/model", mteb = ["STS12", "RAW"] }',
        'run = "bgetrain evaluate"\nflags = { model = "some/model", data = "RAW", embeddings = "RAW" }',
        'run = "bgeprep shard"\nconfig = "CONFIG"',
        'run = "bgetrain train"\nconfig = "CONFIG"',
        'run = "bgetrain train"\nflags = { "data.train_data" = "RAW", "model.model_name_or_path" = "some/model" }',
    ],
)
def test_all_that_a_step_reads_decides_whether_it_is_done_again(folder: Path, text: str) -> None:
    raw = folder / "raw"
    said = (
        f'[[sources]]\nname = "a"\npath = "{raw}/*.jsonl"\n' if "shard" in text else f'[data]\ntrain_data = "{raw}"\n'
    )
    (folder / "config.toml").write_text(said, encoding="utf-8")
    text = text.replace("RAW", str(raw)).replace("CONFIG", str(folder / "config.toml"))
    before = hash_of_step(folder, text)
    assert hash_of_step(folder, text) == before
    write_rows(folder, 6)
    assert hash_of_step(folder, text) != before


def test_what_nobody_remembers_is_not_overwritten(folder: Path) -> None:
    (folder / "out" / "pairs").mkdir(parents=True)
    (folder / "out" / "pairs" / "precious.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(PipelineError, match="nothing is remembered of how it was made"):
        states(plan_of(folder))


def test_one_pipeline_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgetrain.pipeline.record._LOCK_SECONDS", 0)
    with opened_record(folder / "out"), pytest.raises(LaunchError, match="another pipeline is at work there"):
        states(plan_of(folder))


def test_a_damaged_record_is_an_error(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "pipeline.json").write_text('{"format": 1, "steps": {"pairs": {"made_of"', encoding="utf-8")
    with pytest.raises(PipelineError, match="damaged"):
        states(plan_of(folder))


SLOW = """
import json, os, pathlib, sys, time
words = sys.argv[1:]
out = pathlib.Path(words[words.index("--out") + 1])
out.mkdir(parents=True, exist_ok=True)
began = out.with_name(out.name + ".starts")
began.write_text((began.read_text() if began.exists() else "") + " ".join(words) + "\\n")
links = [os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd") if int(one) > 2]
out.with_name(out.name + ".lock").write_text(str(any(link.endswith(".pipeline.lock") for link in links)))
for part in range(3):
    if not (out / f"part-{part}").exists():
        if part == 2 and began.read_text().count("\\n") == 1:
            time.sleep(600)
        (out / f"part-{part}").write_text(str(time.time()))
(out / "manifest.json").write_text("{}")
"""


class SlowLaunch(Launch):
    """In place of `bgeprep shard` a program that makes two parts of three and hangs, the first time it is started."""

    def command(self, step: Step) -> list[str]:
        return [sys.executable, str(Path(os.environ["SLOW_STEP"]))]


MAIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from bgetrain.main import report
from tests.train.test_pipeline_run import SlowLaunch, plan_of, states
plan = plan_of(Path(sys.argv[1]))
sys.exit(report(lambda: states(plan, plan.chosen("pairs", None), SlowLaunch())))
"""


def test_a_step_that_is_left_behind_keeps_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock holds until the last process that writes there has ended, with or without its pipeline."""
    monkeypatch.setattr("bgetrain.pipeline.record._LOCK_SECONDS", 0)
    with opened_record(folder / "out") as record:
        step = subprocess.Popen(["sleep", "600"], pass_fds=record.lock)
    try:
        with pytest.raises(LaunchError, match="another pipeline is at work there"):
            states(plan_of(folder))
    finally:
        step.kill()
        step.wait()
    with opened_record(folder / "out"):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_after_a_kill_the_same_call_goes_on(
    folder: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step's own process ends with the pipeline, and goes on with its parts the next time."""
    slow = folder / "slow.py"
    slow.write_text(SLOW, encoding="utf-8")
    monkeypatch.setenv("SLOW_STEP", str(slow))
    pairs = folder / "out" / "pairs"
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, str(folder), str(ROOT)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (pairs / "part-1").exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert ("the same command goes on" in said) == (number == signal.SIGTERM)
    entry = json.loads((folder / "out" / "pipeline.json").read_text())["steps"]["pairs"]
    assert entry["state"] == "begun"
    assert (pairs.with_name("pairs.lock")).read_text() == "True", "a step holds the lock of its pipeline"
    kept = (pairs / "part-1").read_text()

    plan = plan_of(folder)
    assert states(plan, plan.chosen("pairs", None), SlowLaunch()) == {"pairs": "done"}
    assert (pairs / "part-1").read_text() == kept, "what was made before the kill is kept"
    starts = (folder / "out" / "pairs.starts").read_text().splitlines()
    assert len(starts) == 2
    assert not any("--overwrite" in start for start in starts), "it goes on; nothing is replaced"


CTRL_C = """
import os, pathlib, signal, sys, time
words = sys.argv[1:]
out = pathlib.Path(words[words.index("--out") + 1])
out.mkdir(parents=True, exist_ok=True)
os.kill(os.getppid(), signal.SIGINT)
if os.environ["ENDS_WITH"] == "0":
    (out / "manifest.json").write_text("{}")
sys.exit(int(os.environ["ENDS_WITH"]))
"""


@pytest.mark.parametrize(("code", "state"), [("130", "begun"), ("0", "done")])
def test_a_step_that_ctrl_c_ended_did_not_fail(
    folder: Path, code: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal gives the signal to the step too; what was done by then is done, and nothing else begins."""
    step = folder / "step.py"
    step.write_text(CTRL_C, encoding="utf-8")
    monkeypatch.setenv("SLOW_STEP", str(step))
    monkeypatch.setenv("ENDS_WITH", code)
    with pytest.raises(Interrupted):
        states(plan_of(folder), launch=SlowLaunch())
    steps = json.loads((folder / "out" / "pipeline.json").read_text())["steps"]
    assert {name: entry["state"] for name, entry in steps.items()} == {"pairs": state}


def test_steps_that_need_nothing_of_each_other_run_at_once(folder: Path) -> None:
    text = (folder / "pipeline.toml").read_text()
    twin = text.replace('[[steps]]\nname = "pairs"', '[[steps]]\nname = "twin"', 1).split("[[steps]]")[1]
    (folder / "pipeline.toml").write_text(text + "[[steps]]" + twin, encoding="utf-8")
    stream = io.StringIO()
    plan = plan_of(folder)
    steps = plan.chosen(None, None)
    with opened_record(plan.folder) as record:
        run_steps(plan, steps, record, Launch(jobs=2), Screen(steps, stream=stream))
    lines = [line.split()[1:3] for line in stream.getvalue().splitlines()]
    assert lines[:2] == [["pairs", "running"], ["twin", "running"]]
    assert lines.index(["pairs", "done"]) < lines.index(["lines", "running"])
