"""Virtual environments of the peers: `.venv-peers/<name>`, one each, made when first needed.

They share nothing with `.venv`, so a peer gets the versions it wants, and nothing of ours can depend on one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / ".venv-peers"

REQUIREMENTS = {
    "polars": ["polars==2.1.0"],
    "duckdb": ["duckdb==2.0.0"],
    "datasets": ["datasets==5.2.0"],
    "rensa": ["rensa==0.5.0"],
    "datasketch": ["datasketch==2.0.0"],
    "text-dedup": ["text-dedup==0.4.0"],
    "datatrove": ["datatrove[io,processing]==0.10.1"],
    "mining": ["sentence-transformers==6.2.0", "datasets==5.2.0", "faiss-cpu==1.15.1"],
    # FlagEmbedding 1.4.2 needs what transformers 5.24 has taken away
    "flagembedding": [
        "FlagEmbedding==1.4.2",
        "sentence-transformers==6.2.0",
        "datasets==5.2.0",
        "transformers==5.23.0",
    ],
}


def interpreter(name: str) -> Path:
    """The Python of a peer's environment; makes or renews the environment where its requirements changed.

    Raises:
        subprocess.CalledProcessError: the environment could not be made, for want of a network for instance.
    """
    folder = ROOT / name
    python = folder / "bin/python"
    stamp = folder / "requirements.txt"
    wanted = "\n".join(REQUIREMENTS[name]) + "\n"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    sys.stderr.write(f"making {folder}\n")
    uv = shutil.which("uv")
    if uv:
        commands = [
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *REQUIREMENTS[name]],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]],
        ]
    for command in commands:
        subprocess.run(command, check=True, stdout=sys.stderr)
    stamp.write_text(wanted, encoding="utf-8")
    return python
