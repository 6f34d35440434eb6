"""Near duplicates with datatrove: its four MinHash steps, run by the local executor on all cores.

Work is spread by file, so the input is cut into one file a core first. Words are what stands between spaces (its spaCy
words are four times as slow): a Chinese sentence is one word. Workers are forked, which spares them
the imports. The last step writes what stays.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.word_tokenizers import WordTokenizer
from loguru import logger
from passages import BANDS, ROWS, finish


class SpaceTokenizer(WordTokenizer):
    """Words between spaces; the steps used here ask for nothing else."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """The whole text."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """The whole text."""
        return [(0, len(text))]


def first_positive(_: JsonlReader, row: dict, path: str, place: int | str) -> dict:
    """A row as datatrove's document."""
    return {"text": row["pos"][0], "id": f"{path}/{place}", "metadata": {"query": row["query"]}}


def cut(source: str, folder: Path, parts: int) -> list[int]:
    """Cuts a file into parts of neighbouring rows; rows of each."""
    size = Path(source).stat().st_size
    rows = [0] * parts
    folder.mkdir()
    with Path(source).open("rb") as file:
        for part in range(parts):
            with (folder / f"{part:05d}.jsonl").open("wb") as out:
                while file.tell() < size * (part + 1) // parts:
                    out.write(file.readline())
                    rows[part] += 1
    return rows


def clusters(folder: Path, rows: list[int]) -> list[int]:
    """The first row of the cluster of each row, from the ids that the third step has written."""
    roots = list(range(sum(rows)))
    first: dict[int, int] = {}
    for part in range(len(rows)):
        path = folder / f"{part:06d}.clusters"
        for row, cluster in struct.iter_unpack("<2I", path.read_bytes() if path.exists() else b""):
            number = sum(rows[:part]) + row
            roots[number] = first.setdefault(cluster, number)
    return roots


def main() -> None:
    source, target = sys.argv[1:]
    cores = len(os.sched_getaffinity(0))
    config = MinhashConfig(n_grams=5, num_buckets=BANDS, hashes_per_bucket=ROWS)
    Path(target).mkdir()
    with tempfile.TemporaryDirectory(dir=Path(target).parent) as folder:
        rows = cut(source, Path(folder) / "input", cores)

        def reader() -> JsonlReader:
            return JsonlReader(f"{folder}/input", adapter=first_positive)

        writer = JsonlWriter(f"{target}/documents", compression=None)

        steps = [
            ([reader(), MinhashDedupSignature(f"{folder}/signatures", config, SpaceTokenizer())], cores),
            ([MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/buckets", config=config)], BANDS),
            ([MinhashDedupCluster(f"{folder}/buckets", f"{folder}/remove", config, save_cluster_id=True)], 1),
            ([reader(), MinhashDedupFilter(f"{folder}/remove"), writer], cores),
        ]
        for number, (pipeline, tasks) in enumerate(steps):
            LocalPipelineExecutor(
                pipeline, tasks, min(tasks, cores), f"{folder}/logs/{number}", start_method="fork"
            ).run()
        roots = clusters(Path(folder) / "remove", rows)
    finish(source, target, roots.__getitem__, version("datatrove"))


if __name__ == "__main__":
    logger.remove()
    main()
