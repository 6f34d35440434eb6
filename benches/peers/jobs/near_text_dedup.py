"""Near duplicates with text-dedup: the command of its `minhash` module, on all cores.

It reads a column of plain text, so the passages are written as one first. Words are what stands between non-word
characters: a Chinese clause is one word. `min_length` 1 keeps it from dropping short texts.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

from passages import BANDS, PERMUTATIONS, ROWS, THRESHOLD, finish, passages
from text_dedup import minhash

source, target = sys.argv[1:]
with tempfile.TemporaryDirectory(dir=Path(target).parent) as folder:
    os.environ["HF_HOME"] = folder
    texts = Path(folder) / "texts.jsonl"
    with texts.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in passages(source))
    flags = {
        "path": "json",
        "data_files": texts,
        "split": "train",
        "column": "text",
        "cache_dir": f"{folder}/cache",
        "output": f"{folder}/output",
        "threshold": THRESHOLD,
        "num_perm": PERMUTATIONS,
        "b": BANDS,
        "r": ROWS,
        "ngram": 5,
        "min_length": 1,
        "hash_func": "xxh3",
        "num_proc": len(os.sched_getaffinity(0)),
    }
    minhash.main([f"--{name}={value}" for name, value in flags.items()], standalone_mode=False)
    first: dict[int, int] = {}
    with Path(source).open("rb") as rows:
        count = sum(1 for _ in rows)
    roots = [first.setdefault(minhash.uf.find(row), row) for row in range(count)]
finish(source, target, roots.__getitem__, version("text-dedup"))
