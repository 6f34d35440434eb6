"""What a pipeline would cost, against sums done by hand; the script of a dry run; and what a trial makes smaller."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest

from bgeprep.amounts import byte_text
from bgeprep.leading import FEWEST_ROWS
from bgetrain.__main__ import main
from bgetrain.errors import ConfigError
from bgetrain.pipeline.config import read_pipeline
from bgetrain.pipeline.cut import leading_rows
from bgetrain.pipeline.estimate import Machine, estimate, gpu_peak
from bgetrain.pipeline.plan import Plan, make_plan
from bgetrain.pipeline.scale import scaled_plan, scaled_training, train_config

ROOT = Path(__file__).parents[2]
MACHINE = Machine(gpu="x", peak_tflops=100.0, mfu=0.5, gpus=4, nodes=2, prepare_mb_per_second=50.0)

FILE = """
output_dir = "out"
about = "A pipeline of three"
[[steps]]
name = "pairs"
run = "bgeprep shard"
about = "two sources"
sources = [
  { name = "a", path = "/data/a.jsonl", rows = 600_000, bytes_per_row = 500, task = "symmetric" },
  { name = "b", path = "/data/b.jsonl", rows = 400_000, bytes_per_row = 1000 },
]
[[steps]]
name = "stage1"
run = "bgetrain train"
flags = { data = "{pairs}", model_name_or_path = "base", global_batch_size = 1000, gradient_checkpointing = true }
size = { rows = 1_000_000, tokens_per_row = 100, weights = 100_000_000, stored = 120_000_000, dimensions = 768 }
[[steps]]
name = "mined"
run = "bgetrain mine"
flags = { data = "{pairs}", model = "{stage1}" }
size = { tokens_per_row = 100, weights = 100_000_000, dimensions = 768 }
"""

GOLDEN = r"""#!/usr/bin/env bash
#SBATCH --job-name=out
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --exclusive
#SBATCH --time=2-00:00:00
#SBATCH --requeue
#SBATCH --output=out-%j.log
#
# A pipeline of three
#
# On 2 x 4 h100; steps without a size are not counted.
# step    hours  GPU-hours      disk  while it runs  GPU memory
# pairs     0.0             840.0 MB       700.0 MB
# stage1    0.1          1    3.4 GB                     1.9 GB
# mined     0.0          0  840.0 MB         6.1 GB    200.0 MB
# in all    0.1          1   11.2 GB
#
# pairs
#   text: 1,000,000 rows x 700 bytes = 700.0 MB
#   disk: x 1.2 = 840.0 MB, and x 1.0 while it is made
#   time: 700.0 MB / 80 MB/s on one machine = 0.0 h
# stage1
#   updates: 1,000,000 rows / 1,000 a batch = 1,000
#   tokens: 1,000,000 rows x 100 = 0.10 G
#   FLOPs: (6 + 2 GradCache's first forward + 2 checkpointing) x 100 M weights x 0.10 G tokens = 1.00e+17
#   time: 1.00e+17 / (8 h100 x 100 TFLOP/s x MFU 0.5) = 0.07 h = 0.6 GPU-hours
#   GPU memory: 120 M weights x 16 bytes = 1.9 GB; vectors of a batch 27.6 MB; graphs take what is left
#   disk: 2 checkpoints x 12 bytes + the model x 4 = 3.4 GB
# mined
#   FLOPs: 2 x 100 M weights x 0.10 G tokens = 2.00e+16
#   time: 0.01 h = 0.1 GPU-hours, the search besides
#   disk: the set once more 840.0 MB, and vectors 2 x 1,000,000 x 768 x 4 bytes = 6.1 GB while it runs

set -euo pipefail
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
done=out/slurm
mkdir -p "$done" out/mixes

# on every GPU of every machine
gpus() {
    srun --kill-on-bad-exit=1 torchrun --nnodes "$SLURM_NNODES" --nproc_per_node 4 --rdzv_backend c10d \
        --rdzv_id "$SLURM_JOB_ID-$RANDOM" --rdzv_endpoint "$first:29500" -m "$@"
}
# on one machine
one() { srun --nodes 1 --ntasks 1 "$@"; }
# the flag that replaces what an earlier start of this job left: NAME FLAG
again() { if [ -e "$done/$1.begun" ]; then echo "$2"; fi; touch "$done/$1.begun"; }
# the flag that goes on with a training where it was begun: NAME OUTPUT
begun() {
    local anew
    anew=$(again "$1" --overwrite_output_dir)
    if compgen -G "$2/checkpoint-*" >/dev/null; then echo --resume_from_checkpoint last; else echo "$anew"; fi
}
is_done() { [ -e "$done/$1" ]; }

# pairs: two sources
cat >out/mixes/pairs.toml <<'MIX'
[[sources]]
name = "a"
path = "/data/a.jsonl"
task = "symmetric"

[[sources]]
name = "b"
path = "/data/b.jsonl"
MIX
if ! is_done pairs; then
    one bgeprep shard --out out/pairs --config out/mixes/pairs.toml
    touch "$done/pairs"
fi

# stage1
if ! is_done stage1; then
    gpus bgetrain train --data out/pairs --model_name_or_path base --global_batch_size 1000 \
        --gradient_checkpointing --output_dir out/stage1 \
        $(begun stage1 out/stage1)
    touch "$done/stage1"
fi

# mined
if ! is_done mined; then
    gpus bgetrain mine --data out/pairs --model out/stage1 --out out/mined
    touch "$done/mined"
fi
"""


def write(folder: Path, text: str = FILE) -> Path:
    path = folder / "pipeline.toml"
    path.write_text(text, encoding="utf-8")
    return path


def plan_of(folder: Path, text: str = FILE) -> Plan:
    return make_plan(read_pipeline(write(folder, text)), Path("out"), folder, {})


def test_training_costs_what_a_sum_by_hand_says(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    cost = estimate(plan.steps["stage1"], MACHINE, list(plan.steps.values()))
    # 1e6 rows x 100 tokens x 1e8 weights: 6 for training, 2 for GradCache's first pass, 2 for checkpointing
    assert cost.flops == pytest.approx(10 * 1e8 * 1e8)
    # eight GPUs at 100 TFLOP/s, half of it used: 4e14 a second
    assert cost.hours == pytest.approx(1e17 / 4e14 / 3600)
    assert cost.gpu_hours == pytest.approx(8 * cost.hours)
    # weights, gradient, two moments in fp32; vectors of 1,000 queries with 8 documents each
    assert cost.gpu_bytes == pytest.approx(120e6 * 16 + 1000 * 9 * 768 * 4)
    assert cost.disk_bytes == pytest.approx(120e6 * (2 * 12 + 4))


def test_without_a_second_forward_pass_training_costs_six(tmp_path: Path) -> None:
    text = FILE.replace("gradient_checkpointing = true", "grad_cache = false, max_steps = 500")
    step = plan_of(tmp_path, text).steps["stage1"]
    assert estimate(step, MACHINE).flops == pytest.approx(6 * 1e8 * 500 * 1000 * 100)


def test_reading_costs_two_and_rows_come_from_the_sources(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    cost = estimate(plan.steps["mined"], MACHINE, list(plan.steps.values()))
    assert cost.flops == pytest.approx(2 * 1e8 * 1e6 * 100)
    assert cost.work_bytes == pytest.approx(2 * 1e6 * 768 * 4)


def test_preparing_costs_bytes(tmp_path: Path) -> None:
    cost = estimate(plan_of(tmp_path).steps["pairs"], MACHINE)
    text = 600_000 * 500 + 400_000 * 1000
    assert cost.disk_bytes == pytest.approx(1.2 * text)
    assert cost.hours == pytest.approx(text / 50e6 / 3600)
    assert cost.gpu_hours == 0


def test_a_step_without_a_size_costs_nothing_and_says_nothing(tmp_path: Path) -> None:
    step = plan_of(tmp_path, re.sub("(?m)^size = .*", "", FILE)).steps["stage1"]
    assert estimate(step, MACHINE).sums == ()


def test_peaks_of_gpus() -> None:
    assert gpu_peak("a100", None) == 312.0
    assert gpu_peak("what-comes-next", 4000.0) == 4000.0
    with pytest.raises(ConfigError, match="--gpu a1000: its peak is not known"):
        gpu_peak("a1000", None)


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999 bytes"), (1e3, "1.0 KB"), (2.5e12, "2.5 TB"), (4e15, "4,000.0 TB")]
)
def test_bytes_are_told(number: float, text: str) -> None:
    assert byte_text(number) == text


FLAGS = ["--gpu", "h100", "--peak_tflops", "100", "--mfu", "0.5", "--nodes", "2", "--gpus_per_node", "4", "--dry-run"]


def test_a_dry_run_prints_a_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "--config", str(write(tmp_path)), "--output_dir", "out", *FLAGS]) == 0
    said = capsys.readouterr().out
    assert said == GOLDEN
    assert not Path("out").exists(), "nothing is written"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_script_is_one_that_a_shell_takes_and_goes_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With stand-ins for srun and scontrol: a failing step ends it, and the second time only the rest runs."""
    assert main(["pipeline", "--config", str(write(tmp_path)), "--output_dir", str(tmp_path / "out"), *FLAGS]) == 0
    script = tmp_path / "job.sh"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, body in {
        "scontrol": "echo node1; echo node2",
        "srun": 'echo "$@" >>"$SAID"; case "$*" in *" mine "*) [ -e "$SAID.well" ];; esac',
    }.items():
        (tools / name).write_text(f"#!/usr/bin/env bash\n{body}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    said = tmp_path / "said"
    environment = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "SAID": str(said),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "7",
    }

    def go() -> int:
        return subprocess.run(["bash", str(script)], env=environment, check=False, timeout=60).returncode

    assert go() == 1
    (tmp_path / "out" / "stage1" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "said.well").touch()
    assert go() == 0
    lines = said.read_text().splitlines()
    assert [" shard " in line for line in lines] == [True, False, False, False]
    assert [" train " in line for line in lines] == [False, True, False, False]
    assert "--nnodes 2 --nproc_per_node 4" in lines[1]
    assert "--rdzv_endpoint node1:29500 -m bgetrain train --data" in lines[1]
    (tmp_path / "out" / "slurm" / "stage1").unlink()
    assert go() == 0
    assert said.read_text().splitlines()[-1].endswith("--resume_from_checkpoint last")
    # a job that ended before the first checkpoint, or before it could note that a step is done
    (tmp_path / "out" / "stage1" / "checkpoint-5").rmdir()
    (tmp_path / "out" / "slurm" / "stage1").unlink()
    assert go() == 0
    assert said.read_text().splitlines()[-1].endswith("--overwrite_output_dir")


def test_a_script_replaces_what_does_not_go_on_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'output_dir = "out"\n[[steps]]\nname = "words"\nrun = "bgetrain vocab"\nflags = { data = "raw" }\n'
    assert main(["pipeline", "--config", str(write(tmp_path, text)), *FLAGS]) == 0
    assert "        $(again words --overwrite)\n" in capsys.readouterr().out


def test_texts_of_the_file_become_no_lines_of_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = FILE.replace('"A pipeline of three"', '"""Three\nrm -rf one"""').replace(
        '"two sources"', '"two\\nrm -rf sources"'
    )
    assert main(["pipeline", "--config", str(write(tmp_path, text)), "--output_dir", "my out;x", *FLAGS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"# Three", "# rm -rf one", "# pairs: two rm -rf sources"} <= set(lines)
    assert {"#SBATCH --job-name=my_out_x", "#SBATCH --output=my_out_x-%j.log"} <= set(lines)
    assert not any(line.startswith("rm ") for line in lines)


def test_a_trial_has_a_folder_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pipeline", "--config", str(write(tmp_path)), "--json", *FLAGS]
    assert main(words) == 0
    whole = json.loads(capsys.readouterr().out)["output_dir"]
    assert main([*words, "--scale", "0.001"]) == 0
    assert json.loads(capsys.readouterr().out)["output_dir"] == f"{whole}-scale-0.001"
    assert main([*words, "--scale", "0.001", "--output_dir", "mine"]) == 0
    assert json.loads(capsys.readouterr().out)["output_dir"] == "mine"


def test_a_dry_run_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "--config", str(write(tmp_path)), "--json", *FLAGS]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [step["step"] for step in facts["steps"]] == ["pairs", "stage1", "mined"]
    assert facts["steps"][2]["needs"] == ["pairs", "stage1"]
    assert facts["gpu_hours"] == pytest.approx(sum(step["estimate"]["gpu_hours"] for step in facts["steps"]))


def test_a_trial_is_smaller_in_rows_batches_and_updates(tmp_path: Path) -> None:
    whole = plan_of(tmp_path)
    trial = scaled_plan(whole, 0.01, cut=False)
    assert [source["rows"] for source in trial.steps["pairs"].sources] == [6_000, 4_000]
    assert trial.steps["stage1"].size.rows == 10_000
    run = train_config(trial.steps["stage1"]).run
    assert (run.global_batch_size, run.max_steps) == (10, 20)
    assert train_config(trial.steps["stage1"]).run.gradient_checkpointing, "all else stays"
    assert scaled_plan(whole, 1.0, cut=False) == whole


@pytest.mark.parametrize(
    ("flags", "scale", "batch", "steps"),
    [
        ("global_batch_size = 32784, num_train_epochs = 1", 0.001, 33, 20),
        ("per_device_train_batch_size = 64, max_steps = 1000", 0.1, 8, 100),
        ("per_device_train_batch_size = 4, max_steps = 3", 0.1, 4, 1),
        ("max_steps = -1", 0.5, 16, 20),
    ],
)
def test_batch_and_updates_of_a_trial(tmp_path: Path, flags: str, scale: float, batch: int, steps: int) -> None:
    text = FILE.replace("global_batch_size = 1000, gradient_checkpointing = true", flags)
    config = train_config(plan_of(tmp_path, text).steps["stage1"])
    assert scaled_training(config, scale) == {"global_batch_size": batch, "max_steps": steps}


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5])
def test_a_scale_that_is_none_is_refused(tmp_path: Path, scale: float) -> None:
    with pytest.raises(ConfigError, match="expected above 0 and at most 1"):
        scaled_plan(plan_of(tmp_path), scale, cut=False)


def test_raw_files_are_cut_to_their_first_rows(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "deep").mkdir(parents=True)
    lines = [f'{{"text": "row {number} {"x" * (number % 50)}"}}\n' for number in range(20_000)]
    (raw / "plain.jsonl").write_text("".join(lines))
    (raw / "deep" / "packed.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    (raw / "short.txt").write_text("one\ntwo\n")
    (raw / "whole.json").write_text("[1, 2]")
    pl.DataFrame({"n": range(20_000)}).write_parquet(raw / "table.parquet")
    cut = leading_rows(raw, 0.1, tmp_path / "cut")
    plain = (cut / "plain.jsonl").read_text().splitlines(keepends=True)
    assert plain == lines[: len(plain)]
    assert len(plain) == pytest.approx(2_000, rel=0.3)
    packed = gzip.decompress((cut / "deep" / "packed.jsonl.gz").read_bytes()).decode().splitlines(keepends=True)
    assert packed == lines[: len(packed)]
    assert FEWEST_ROWS <= len(packed) < 10_000
    assert (cut / "short.txt").read_text() == "one\ntwo\n"
    assert (cut / "whole.json").read_text() == "[1, 2]"
    assert pl.read_parquet(cut / "table.parquet").height == 2_000
    before = (cut / "plain.jsonl").stat().st_mtime_ns
    assert leading_rows(raw, 0.1, tmp_path / "cut") == cut
    assert (cut / "plain.jsonl").stat().st_mtime_ns == before, "the same cut is made once"
    (raw / "short.txt").write_text("three\n")
    assert leading_rows(raw, 0.1, tmp_path / "cut") != cut
