"""Benchmarks to exclude: paths → named benchmarks with their files.

A folder that holds `queries.jsonl` or `corpus.jsonl` (or either compressed) is a collection in the BEIR layout, named
after itself; in any other folder, collections below and text files are benchmarks, named by their path in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bgeprep.errors import ConfigError, CorpusError
from bgeprep.inputs import natural_key

__all__ = ["Benchmark", "BenchmarkFile", "find_benchmarks"]

Role = Literal["corpus", "queries", "qrels", "lines", "records"]

_COMPRESSION = re.compile(r"\.(gz|zst|zstd|bz2)$", re.IGNORECASE)
_DOCUMENTATION = re.compile(r"^(readme|licen[cs]e|notice|copying|citation)([._-].*)?$", re.IGNORECASE)
_LAYOUT = "a BEIR collection (queries.jsonl, corpus.jsonl, qrels/*.tsv) or text files (.txt, .jsonl)"


@dataclass(frozen=True)
class BenchmarkFile:
    """One file: where it is, its name in the benchmark, what it holds, its size, its modification time in ns."""

    path: Path
    origin: str
    role: Role
    bytes: int
    modified: int


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: `kind` is `beir` for a collection, `text` for a file whose texts are queries."""

    name: str
    kind: Literal["beir", "text"]
    files: tuple[BenchmarkFile, ...]


def find_benchmarks(paths: Iterable[str | os.PathLike[str]]) -> list[Benchmark]:
    """Finds the benchmarks that some paths hold, in the order of the paths.

    Raises:
        ConfigError: two benchmarks of one name.
        CorpusError: a path that is not there, or holds neither a collection nor text files.
    """
    found: list[Benchmark] = []
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise CorpusError(f"{path}: no such file or folder; hint: --exclude takes {_LAYOUT}", str(path))
        if path.is_dir():
            # A trailing slash or "." still has a name.
            here = list(_within(path, "", path.resolve().name))
        else:
            role = _text_role(path.name)
            here = [_text(path, path.name, role)] if role else []
        if not here:
            raise CorpusError(f"{path}: expected {_LAYOUT}, found neither", str(path))
        found += here
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"exclude.paths: two benchmarks are called {name}; hint: give the folder that holds both, or rename one"
            )
    return found


def _within(folder: Path, prefix: str, name: str) -> Iterator[Benchmark]:
    """The benchmarks of a folder; `prefix` is its path in the folder that was given, with a slash."""
    entries = sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
    entries = [entry for entry in entries if not entry.name.startswith((".", "_"))]
    by_stem = {_plain(entry.name): entry for entry in entries if entry.is_file()}
    if "queries.jsonl" in by_stem or "corpus.jsonl" in by_stem:
        files = [
            _file(by_stem[f"{role}.jsonl"], by_stem[f"{role}.jsonl"].name, role)
            for role in ("corpus", "queries")
            if f"{role}.jsonl" in by_stem
        ]
        for entry in entries:
            if entry.is_dir() and entry.name == "qrels":
                judgements = sorted(entry.iterdir(), key=lambda file: natural_key(file.name))
                files += [_file(one, f"qrels/{one.name}", "qrels") for one in judgements if _is_table(one)]
            elif entry.is_file() and _plain(entry.name) == "qrels.tsv":
                files.append(_file(entry, entry.name, "qrels"))
        yield Benchmark(name, "beir", tuple(files))
        return
    for entry in entries:
        if entry.is_dir():
            yield from _within(entry, f"{prefix}{entry.name}/", f"{prefix}{entry.name}")
        elif entry.is_file() and not _DOCUMENTATION.search(entry.name) and (role := _text_role(entry.name)):
            yield _text(entry, f"{prefix}{entry.name}", role)


def _text(path: Path, name: str, role: Role) -> Benchmark:
    return Benchmark(re.sub(r"\.(txt|jsonl|ndjson)$", "", _plain(name)), "text", (_file(path, path.name, role),))


def _text_role(name: str) -> Role | None:
    suffix = Path(_plain(name)).suffix
    return "lines" if suffix == ".txt" else "records" if suffix in {".jsonl", ".ndjson"} else None


def _is_table(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and _plain(path.name).endswith((".tsv", ".txt"))


def _plain(name: str) -> str:
    """A file name without the suffix of its compression."""
    return _COMPRESSION.sub("", name)


def _file(path: Path, origin: str, role: Role) -> BenchmarkFile:
    found = path.stat()
    return BenchmarkFile(path=path, origin=origin, role=role, bytes=found.st_size, modified=found.st_mtime_ns)
