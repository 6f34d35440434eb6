"""What a thing on disk is, as a short text: equal where it would make no difference to who reads it.

A shard set, vectors and scores are their manifest, a model is its weights, config and tokenizer, anything else is the
names, sizes and times of its files, as for raw data that is too large to read twice.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["hash_of", "identify", "listing"]

_MODEL = ("config.json", "tokenizer.json", "vocab.txt", "modules.json", "config_sentence_transformers.json")


def hash_of(value: Any) -> str:  # noqa: ANN401 - anything that JSON can say
    """The hash of a value, the same for any order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def identify(path: Path) -> str | None:
    """What a file or folder holds.

    Args:
        path: the output of a step, or raw data.

    Returns:
        A text that begins with the kind of what is there; None where nothing is, or nothing that is complete.
    """
    if (path / "manifest.json").is_file():
        return f"set {_content([path / 'manifest.json'])}"
    if (path / "config.json").is_file():
        weights = sorted(path.glob("*.safetensors"))
        return f"model {_content([*weights, *(path / name for name in _MODEL)])}"
    if (path / "scores.json").is_file():
        return f"scores {_content([path / 'scores.json'])}"
    found = listing(path)
    return f"files {hash_of(found)}" if found else None


def listing(path: Path) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change (ns) of a file, or of all files below a folder; hidden ones are left out."""
    if path.is_file():
        files = [path]
    else:
        files = [one for one in sorted(path.rglob("*")) if one.is_file() and not _hidden(one, path)]
    listed = []
    for file in files:
        found = file.stat()
        name = file.relative_to(path).as_posix() if file != path else path.name
        listed.append((name, found.st_size, found.st_mtime_ns))
    return listed


def _hidden(file: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(below).parts)


def _content(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if not file.is_file():
            continue
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        with file.open("rb") as opened:
            while piece := opened.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()
