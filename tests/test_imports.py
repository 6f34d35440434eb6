"""The import wall: a machine that prepares data needs neither torch nor anything of the trainer.

Each check runs in a fresh interpreter: this one has imported torch already.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

# What data preparation must never pull in.
WALL = ["torch", "transformers", "tokenizers", "sentence_transformers", "faiss", "tensorboard", "bgetrain"]

ALL_MODULES = """
import importlib, json, pkgutil, sys
import bgeprep
names = ["bgeprep"] + [module.name for module in pkgutil.walk_packages(bgeprep.__path__, "bgeprep.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps({"imported": names, "loaded": sorted(sys.modules)}))
"""

# A finder in front of all others that refuses what is behind the wall, as on a machine that has none of it.
WITHOUT = f"""
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {WALL!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None
sys.meta_path.insert(0, Wall())
"""


def fresh(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


def test_no_module_of_bgeprep_imports_torch() -> None:
    done = fresh(ALL_MODULES)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert {"bgeprep._native", "bgeprep.cli"} <= set(seen["imported"])
    assert "numpy" in seen["loaded"], "the check looks at the wrong interpreter"
    assert not set(WALL) & set(seen["loaded"])


def test_the_check_sees_a_module_that_imports_torch() -> None:
    """The control: the same look at `bgetrain`, which may import it, finds it."""
    done = fresh("import sys, bgetrain.encode; print('torch' in sys.modules)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"


def test_the_command_works_where_torch_is_absent() -> None:
    done = fresh(WITHOUT + "sys.argv = ['bgeprep', '--help']\nfrom bgeprep.cli import main\nsys.exit(main())")
    assert done.returncode == 0, done.stderr
    assert "shard" in done.stdout


def test_one_version_for_the_crates_and_the_packages() -> None:
    done = fresh("import bgeprep, bgeprep._native as native; print(bgeprep.__version__, native.__version__)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [version("bgeprep")] * 2
