"""Memory and time of the joins of ids with texts, on generated files of the shape and size of T2Ranking and mMARCO.

    python -m benches.joins t2ranking 0.05 0.1 0.2        # fractions of the published numbers of lines
    python -m benches.joins mmarco 0.1 0.5 1

A fraction takes that share of the passages, queries and id lines; lengths of texts and passages found for a query stay
as published. Each is converted to JSON lines by a process of its own on one thread, which is looked at twenty times a
second. Printed: lines, MB of raw files and of records, processor seconds, and the largest memory: resident, and of it
what is not a cached file (anonymous).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

_SEED = 9
_CHARACTERS = 3 << 20


@dataclass(frozen=True)
class Shape:
    """What is published of a set: how much, and how long."""

    passages: int
    passage_chars: int
    queries: int
    query_chars: int
    found: int
    positives: int
    files: dict[str, str]


SHAPES = {
    # 3.66 GB of passages and 200,376,001 lines of negatives, by query
    "t2ranking": Shape(
        passages=2_303_643,
        passage_chars=527,
        queries=258_042,
        query_chars=11,
        found=776,
        positives=744_663,
        files={"passages": "collection.tsv", "queries": "queries.train.tsv", "ids": "train.mined.tsv"},
    ),
    # 39,780,811 triples, shuffled, of some 400,000 of the queries
    "mmarco": Shape(
        passages=8_841_823,
        passage_chars=100,
        queries=808_731,
        query_chars=10,
        found=49,
        positives=532_761,
        files={
            "passages": "chinese_collection.tsv",
            "queries": "chinese_queries.train.tsv",
            "ids": "triples.train.ids.small.tsv",
        },
    ),
}


def generate(name: str, fraction: float, folder: Path) -> int:
    """Writes the files; returns the number of id lines."""
    shape, draw = SHAPES[name], np.random.default_rng(_SEED)
    passages, queries = int(shape.passages * fraction), int(shape.queries * fraction)
    _texts(folder / shape.files["passages"], passages, shape.passage_chars, draw)
    _texts(folder / shape.files["queries"], queries, shape.query_chars, draw)
    with (folder / shape.files["ids"]).open("wb") as file:
        if name == "t2ranking":
            positives = draw.integers(0, [queries, passages], (int(shape.positives * fraction), 2))
            table = pl.DataFrame({"qid": positives[:, 0], "pid": positives[:, 1]})
            table.write_csv(folder / "qrels.retrieval.train.tsv", separator="\t")
            rows = queries * shape.found
            for start in range(0, queries, 2000):
                _found(np.arange(start, min(start + 2000, queries)), shape.found, passages, draw).write_csv(
                    file, separator="\t", include_header=False
                )
        else:
            asked = draw.integers(0, queries, int(shape.positives * fraction))
            relevant = draw.integers(0, passages, len(asked))
            rows = 0
            for _ in range(0, 75, 5):
                pick = draw.integers(0, len(asked), len(asked) * 5)
                triples = {"q": asked[pick], "p": relevant[pick], "n": draw.integers(0, passages, len(pick))}
                pl.DataFrame(triples).write_csv(file, separator="\t", include_header=False)
                rows += len(pick)
    return rows


def _texts(path: Path, number: int, chars: int, draw: np.random.Generator) -> None:
    """Lines of an id and a text, whose lengths lie around the mean."""
    characters = draw.integers(0x4E00, 0x9FA5, _CHARACTERS).astype("<u2").tobytes().decode("utf-16-le").encode()
    with path.open("wb") as file:
        for begin in range(0, number, 100_000):
            lengths = draw.integers(chars // 2, chars + chars // 2 + 1, min(100_000, number - begin)) * 3
            starts = draw.integers(0, (len(characters) - 6 * chars) // 3, len(lengths)) * 3
            rows = enumerate(zip(starts.tolist(), lengths.tolist(), strict=True), begin)
            file.write(b"".join(b"%d\t%b\n" % (key, characters[at : at + size]) for key, (at, size) in rows))


def _found(queries: np.ndarray, number: int, passages: int, draw: np.random.Generator) -> pl.DataFrame:
    """What a search found for some queries: id, passage, rank, score."""
    found = draw.integers(0, passages, len(queries) * number)
    ranks = np.tile(np.arange(number), len(queries))
    return pl.DataFrame(
        {"q": np.repeat(queries, number), "p": found, "rank": ranks, "score": np.round(1 - ranks / 999, 5)}
    )


def measured(command: list[str]) -> tuple[float, float, float]:
    """Processor seconds of a command, and the most MB it held: resident, and anonymous."""
    one = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | one)
    anonymous = 0
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        said = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"RssAnon:\s+(\d+)", said)
        anonymous = max(anonymous, int(found[1]) if found else 0)
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, anonymous / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SHAPES)
    parser.add_argument("fractions", nargs="+", type=float)
    parser.add_argument("--folder", help="where the files go while they are needed (the system's)")
    args = parser.parse_args()
    print("| set | fraction | passages | id lines | raw MB | records MB | processor s | resident MB | anonymous MB |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for fraction in args.fractions:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            raw, out = Path(folder) / "raw", Path(folder) / "out"
            raw.mkdir()
            rows = generate(args.set, fraction, raw)
            size = sum(path.stat().st_size for path in raw.iterdir()) / 1e6
            flags = ["--recipe", args.set, "--in", str(raw), "--out", str(out), "--processes", "1", "--quiet"]
            seconds, resident, anonymous = measured([sys.executable, "-m", "bgeprep", "convert", *flags])
            records = sum(path.stat().st_size for path in out.iterdir()) / 1e6
            passages = int(SHAPES[args.set].passages * fraction)
            numbers = f"{passages:,} | {rows:,} | {size:,.0f} | {records:,.0f} | {seconds:.0f} | {resident:.0f}"
            print(f"| {args.set} | {fraction:g} | {numbers} | {anonymous:.0f} |", flush=True)
            shutil.rmtree(out)


if __name__ == "__main__":
    main()
