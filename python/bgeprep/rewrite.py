"""A shard set once more with other negatives or scores: the same rows in the same order, with their origins.

A row's place in the shuffled order hangs on its file and line. So the rows go to work files as JSON lines, each on the
line it was first read from under the name it was read from, blank lines between; and the ordinary run makes the set of
them, by the config that made the first one. Keys of near duplicates are found anew, now with the new negatives among
the texts, and a negative that nearly equals a positive of its query goes on that way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bgeprep.config import CleanConfig, DedupConfig, PrepConfig, ReadConfig, ShardConfig, SourceConfig, from_dict
from bgeprep.errors import ConfigError, ShardError
from bgeprep.inputs import InputFile, Source
from bgeprep.jsonl import record
from bgeprep.shard import Report, ShardResult, make, parse_bytes
from bgeprep.shardset import ShardSet

__all__ = ["rewrite"]

Change = Callable[[int, dict[str, Any]], dict[str, Any]]


def rewrite(
    shards: str | os.PathLike[str],
    out: str | os.PathLike[str],
    change: Change,
    *,
    threads: int | None = None,
    memory: str | int = "256MiB",
    overwrite: bool = False,
    report: Report | None = None,
) -> ShardResult:
    """Makes a shard set of the rows of another, changed one by one.

    Args:
        shards: a set of pairs.
        out: folder of the new set.
        change: gets the place and the row, as `ShardSet` gives it, and returns the row with other `neg`, `neg_scores`,
            `pos_scores`; it is called once a row, in no particular order. Other columns stay as they are.
        threads: worker threads, all cores by default.
        memory: bytes the run may hold.
        overwrite: replace a complete set in `out` that was made from something else.
        report: as that of `bgeprep.shard`.

    Returns:
        What the run did; `rows_read` are the rows of `shards`.

    Raises:
        ConfigError: `out` is the set that is read.
        ShardError: `shards` is no complete set of pairs, or `out` holds another set.
        OSError: the operating system refused.
    """
    rows = ShardSet.open(shards)
    target = Path(out)
    if rows.kind != "pairs":
        raise ShardError(f"{rows.path}: a set of texts has no negatives; expected a set of pairs", rows.path)
    if target.resolve() == Path(shards).resolve():
        raise ConfigError(f"out: {target} is the set that is read; hint: choose another folder")
    spool = target / ".work-rewrite"
    try:
        written = list(_spool(rows, spool, change))
        settings = _settings(rows, near=any(near for _, near in written))
        return make(
            settings,
            [source for source, _ in written],
            target,
            threads=threads,
            memory=parse_bytes(memory),
            overwrite=overwrite,
            report=report,
        )
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def _settings(rows: ShardSet, *, near: bool) -> PrepConfig:
    """What the set was made by; where it kept the near keys of an earlier set, they are found again."""
    config = rows.manifest["config"]
    dedup = from_dict(DedupConfig, config["dedup"])
    if near and dedup.mode != "near":
        dedup = dataclasses.replace(dedup, mode="near")
    return PrepConfig(
        # a row was read before, escapes and all
        read=dataclasses.replace(from_dict(ReadConfig, config["read"]), max_line_bytes=1 << 31),
        clean=from_dict(CleanConfig, config["clean"]),
        dedup=dedup,
        shard=from_dict(ShardConfig, config["shard"]),
    )


def _spool(rows: ShardSet, folder: Path, change: Change) -> Iterator[tuple[Source, bool]]:
    """Each source with its work files, and whether near duplicates share keys in it."""
    cleaned = {one["name"]: one["clean"] for one in rows.manifest["config"]["sources"]}
    frame = rows.scan().select("origin_file", "origin_line").collect()
    for number, source in enumerate(rows.sources):
        own = frame.slice(source["first"], source["rows"])
        order = own.with_row_index("place").sort("origin_file", "origin_line", "place")
        writer = _Writer(rows, folder / f"{number:05d}", change, source)
        places = order["place"].cast(int).to_numpy().astype(np.int64) + source["first"]
        files = writer.write(places, order["origin_file"], order["origin_line"].to_numpy())
        config = SourceConfig(
            name=source["name"],
            path=(str(folder),),
            format="jsonl",
            task=source["task"],
            language=source["language"] or "",
            weight=source["weight"],
            instruction=source["instruction"] or "",
            clean=cleaned.get(source["name"], {}),
        )
        if files:
            rules = config.rules(from_dict(CleanConfig, rows.manifest["config"]["clean"]))
            yield Source(config, tuple(files), number, clean=rules), writer.near


class _Writer:
    """Writes the rows of a source to a work file for each file they were read from."""

    def __init__(self, rows: ShardSet, folder: Path, change: Change, source: dict[str, Any]) -> None:
        self._rows = rows
        self._folder = folder
        self._change = change
        self.near = False

    def write(self, places: Any, origins: Any, lines: Any) -> list[InputFile]:  # noqa: ANN401 - columns
        """The work files of rows that are sorted by file and line."""
        self._folder.mkdir(parents=True, exist_ok=True)
        made: list[InputFile] = []
        waiting = list(zip(places.tolist(), origins, lines.tolist(), strict=True))
        while waiting:
            # sets that were mixed may both have a row of this file and line: it goes to a further file of that name
            twice: list[tuple[int, str, int]] = []
            start = 0
            while start < len(waiting):
                origin = waiting[start][1]
                end = start
                while end < len(waiting) and waiting[end][1] == origin:
                    end += 1
                made.append(self._write_file(origin, waiting[start:end], twice, len(made)))
                start = end
            waiting = twice
        return made

    def _write_file(
        self, origin: str, rows: list[tuple[int, str, int]], twice: list[tuple[int, str, int]], number: int
    ) -> InputFile:
        path = self._folder / f"{number:05d}.jsonl"
        digest = hashlib.sha256()
        at = 0
        with path.open("wb") as file:
            for place, _, line in rows:
                if line == at:
                    twice.append((place, origin, line))
                    continue
                row = self._rows[place]
                self.near = self.near or _is_near(row)
                changed = self._change(place, row)
                scores = {name: changed[name] for name in ("pos_scores", "neg_scores") if changed[name]}
                text = json.dumps(record(changed) | scores, ensure_ascii=False).encode() + b"\n"
                for piece in (b"\n" * (line - at - 1), text):
                    file.write(piece)
                    digest.update(piece)
                at = line
        # the content stands in for the time of change: the same rows again are up to date
        return InputFile(path, origin, path.stat().st_size, int(digest.hexdigest()[:15], 16))


def _is_near(row: dict[str, Any]) -> bool:
    pairs = (("pos_keys", "pos_exact_keys"), ("neg_keys", "neg_exact_keys"))
    return row["query_key"] != row["query_exact_key"] or any(row[near] != row[exact] for near, exact in pairs)
