"""What the processes of a run leave behind them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WORK = """
import os
import sys
from pathlib import Path

from bgetrain.gather import exchange, joined

with joined(use_cpu=True, timeout_seconds=100) as ranks:
    import torch.distributed as dist
    import torch.distributed.nn.functional  # as transformers does once a model is loaded

    exchange([ranks.rank], ranks)
    kept = dist.group.WORLD if sys.argv[1] == "held" else None
names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
Path(sys.argv[2], str(ranks.rank)).write_text(str(sum("gloo" in name for name in names)))
os._exit(0)  # what is held has the very fault that the test is about
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the threads of a process are listed by Linux")
@pytest.mark.parametrize("group", ["free", "held"])
def test_no_thread_of_a_group_outlives_it(group: str, tmp_path: Path) -> None:
    """A thread that lets go of a tensor while the interpreter ends aborts the process."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *torchrun, "--no-python", sys.executable, "-c", WORK, group, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    threads = [int((tmp_path / str(rank)).read_text()) for rank in range(2)]
    assert all(count == 0 for count in threads) == (group == "free")
