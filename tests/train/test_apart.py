"""A function in a process of its own: what it returns and raises, and that it never outlives who called it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bgetrain.apart import apart
from bgetrain.errors import ConfigError, LaunchError
from tests.train.apart_work import answer_by_half, die, fail, fail_strangely, where
from tests.train.killing import ROOT
from tests.train.mine_material import make_shards, mine
from tests.train.tiny import write_tiny_bert


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("data"))


def test_what_a_function_returns_and_raises_comes_back() -> None:
    process, given = where(1, two=2)
    assert (process, given) == (os.getpid(), (1, 2))
    process, given = apart(where, 1, two=2)
    assert process != os.getpid()
    assert given == (1, 2)
    with pytest.raises(ConfigError, match="no good") as raised:
        apart(fail, "no good")
    assert (raised.value.hint, raised.value.exit_code) == ("another", 2)
    with pytest.raises(LaunchError, match="Strange: cannot be sent"):
        apart(fail_strangely)
    with pytest.raises(LaunchError, match=r"apart_work\.die ended with code -9"):
        apart(die)


def test_a_process_that_is_killed_in_the_midst_of_its_answer_is_told() -> None:
    with pytest.raises(LaunchError, match=r"apart_work\.answer_by_half ended with code -9"):
        apart(answer_by_half)


def test_what_lies_in_the_current_directory_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit('a stranger')", encoding="utf-8")
    (tmp_path / "bgetrain.py").write_text("raise SystemExit('a stranger')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *(path for path in sys.path if path)])
    assert apart(where, 1, two=2)[1] == (1, 2)


def test_the_process_ends_with_the_one_that_called() -> None:
    script = "from bgetrain.apart import apart; from tests.train.apart_work import sleep; apart(sleep)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, env=environment) as process:
        assert process.stderr is not None
        asleep = int(process.stderr.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 30
    while _runs(asleep):
        assert time.monotonic() < deadline, "it outlives its caller"
        time.sleep(0.02)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # one that has ended and that nobody has asked yet
    status = Path(f"/proc/{process}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_the_command_embeds_apart_survives_a_kill_and_does_without_torch(
    model: Path,
    shards: Path,
    tmp_path: Path,
) -> None:
    flags = ["--model", str(model), "--data", str(shards), "--use_cpu", "--quiet", "--max_relative", "off", "--out"]
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    # here torch is loaded, and so all is done in this process
    assert mine(model, *flags[2:], whole) == 0
    script = (
        "import sys; from bgetrain.__main__ import main; code = main(sys.argv[1:]); "
        "sys.exit(code or 7 * any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    command = [sys.executable, "-c", script, "mine", *flags, str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out.jsonl.work").glob("vectors/queries/*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not out.exists()
    # as if the kill had come while it was written what the folder is of, where nothing else is there yet
    begun = tmp_path / "out.jsonl.work" / "vectors" / "queries" / "begun.json"
    if [file.name for file in begun.parent.iterdir()] == [begun.name]:
        begun.rename(begun.with_name(".begun.json.tmp"))
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert out.read_bytes() == whole.read_bytes()
