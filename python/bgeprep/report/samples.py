"""Rows to look at: dropped rows beside the row that stays, dropped rows by reason, kept rows by source.

The choice is a function of the set's bytes: reject lines are ordered by a multiplicative hash of their number,
which spreads the chosen ones evenly over the files, and kept rows are the first of each source.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgeprep.report.figures import as_pair, reject_files, scan_rejects, streamed
from bgeprep.report.reasons import order

if TYPE_CHECKING:
    from bgeprep.shardset import ShardSet

__all__ = ["CHARACTERS", "collect", "spans"]

#: Characters of a text that are shown; what a rejects file keeps of one.
CHARACTERS = 500
#: Reasons that name a row that stays, with how many pairs are shown of each.
PAIRS = {"near_duplicate": 8, "duplicate": 3, "merged": 2, "negative_near_positive": 2, "negative_is_positive": 1}
#: Pairs are chosen among so many candidates, so that no one source has them all; a row that stays, among so many of one
#: origin.
CANDIDATES = 64
EXAMPLES_OF_A_REASON = 3
BENCHMARK_EXAMPLES = 8
KEPT_SOURCES = 30
#: 2^32 / golden ratio: multiples of it, modulo 2^32, fall evenly.
_SPREAD, _SPACE = 2_654_435_769, 1 << 32
_CJK = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|[^\w\s]")


def spans(text: str) -> list[tuple[int, int]]:
    """Where the words, single CJK characters and marks of a text begin and end."""
    return [found.span() for found in _TOKEN.finditer(text)]


def collect(rows: ShardSet) -> dict[str, Any]:
    """`pairs`, `dropped` and `kept`, as lists of dicts that are JSON as they stand.

    Raises:
        ShardError: a part or a rejects file is damaged.
    """
    files, _ = reject_files(rows)
    chosen = _choose(files) if files else []
    paired = [line for line in chosen if line["reason"] in PAIRS]
    alone = [line for line in chosen if line["reason"] not in PAIRS]
    stays = _twins(rows, paired)
    return {
        "pairs": [_pair(line, _likest(line, stays.get(_twin_of(line), []))) for line in paired],
        "dropped": sorted(
            (_rejected(line) for line in alone), key=lambda line: (*order(line["reason"]), line["file"], line["line"])
        ),
        "kept": _kept(rows),
    }


def _choose(files: list[Path]) -> list[dict[str, Any]]:
    """The reject lines to show: pairs with borderline ones first, then examples of every other reason."""
    import polars as pl

    lines, folder = scan_rejects(files), files[0].parent
    present = streamed(lines.group_by("reason").agg(pl.len()).sort("reason"), folder)
    places: list[int] = []
    for name in sorted((line["reason"] for line in present), key=order):
        wanted = BENCHMARK_EXAMPLES if name == "in_benchmark" else PAIRS.get(name, EXAMPLES_OF_A_REASON)
        # Only what names a row that stays can stand beside one.
        of_interest = (pl.col("twin_file") != "") if name in PAIRS else pl.lit(True)
        query = lines.filter(pl.col("reason") == name, of_interest).select("place", "source")
        spread = (pl.col("place").cast(pl.UInt64) * _SPREAD % _SPACE).alias("spread")
        found = streamed(query.with_columns(spread).bottom_k(CANDIDATES, by=["spread", "place"]), folder)
        found.sort(key=lambda line: (line["spread"], line["place"]))
        places += _in_turn(found, wanted)
    shown = streamed(lines.filter(pl.col("place").is_in(places)), folder)
    ranks = {name: rank for rank, name in enumerate(PAIRS)}
    for line in shown:
        if math.isnan(line["similarity"]):
            line["similarity"] = None
    return sorted(
        shown, key=lambda line: (ranks.get(line["reason"], len(ranks)), line["similarity"] or 0.0, line["place"])
    )


def _in_turn(found: Iterable[dict[str, Any]], wanted: int) -> list[int]:
    """Takes one of each source, then a second of each, until there are enough."""
    queues: dict[str, list[int]] = {}
    for line in found:
        queues.setdefault(line["source"], []).append(line["place"])
    taken: list[int] = []
    while len(taken) < wanted and any(queues.values()):
        for queue in queues.values():
            if queue and len(taken) < wanted:
                taken.append(queue.pop(0))
    return taken


def _twin_of(line: dict[str, Any]) -> tuple[str, str, int]:
    return line["twin_source"], line["twin_file"], line["twin_line"]


def _twins(rows: ShardSet, pairs: list[dict[str, Any]]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """The rows that stay, by source, file and line: one scan of two columns of the sources concerned.

    Records that bring their origin along may share one, so that there can be several.
    """
    import polars as pl

    wanted = {_twin_of(line) for line in pairs}
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for source, listed in zip(rows.sources, rows.manifest["sources"], strict=True):
        name, parts = source["name"], [Path(rows.path) / file["path"] for file in listed["files"]]
        places = sorted({line for twin_source, _, line in wanted if twin_source == name})
        if not places or not parts:
            continue
        query = (
            pl.scan_ipc(parts, row_index_name="place")
            .select("place", "origin_file", "origin_line")
            .filter(pl.col("origin_line").is_in(pl.Series(places, dtype=pl.UInt64)))
            .group_by("origin_file", "origin_line")
            .agg(pl.col("place").bottom_k(CANDIDATES).sort())
        )
        for hit in streamed(query, parts[0].parent):
            origin = (name, hit["origin_file"], hit["origin_line"])
            if origin in wanted:
                found[origin] = [as_pair(rows[source["first"] + place]) for place in hit["place"]]
    return found


def _likest(line: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The row that stays for a reject among those of its origin; None if no one of several is like it."""
    if len(rows) < 2:
        return rows[0] if rows else None

    def alike(row: dict[str, Any]) -> tuple[float, float]:
        query = _likeness(row["query"], line["query"])
        text = max((_likeness(text, line["text"]) for text in row["pos"]), default=0.0)
        return max(query, text), query + text

    best = max(rows, key=alike)
    return best if alike(best)[0] >= 0.5 else None


def _rejected(line: dict[str, Any]) -> dict[str, Any]:
    """A reject line as the report gives it."""
    similarity = line["similarity"]
    return {
        "reason": line["reason"],
        "part": line["part"],
        "detail": line["detail"],
        "source": line["source"],
        "file": line["origin_file"],
        "line": line["origin_line"],
        "query": line["query"],
        "text": line["text"],
        "similarity": None if similarity is None else round(similarity, 4),
        "twin_source": line["twin_source"],
        "twin_id": line["twin_id"],
    }


def _pair(line: dict[str, Any], twin: dict[str, Any] | None) -> dict[str, Any]:
    """A reject line and the row that stays; None where that row is not in this set."""
    stays = None
    if twin is not None:
        stays = {
            "source": twin["source"],
            "file": twin["origin_file"],
            "line": twin["origin_line"],
            "query": _cut(twin["query"]),
            "text": _cut(max(twin["pos"], key=lambda text: _likeness(text, line["text"]), default="")),
        }
    return {**_rejected(line), "stays": stays}


def _likeness(text: str, other: str) -> float:
    """How many tokens two texts share, to tell which of several positives is meant."""
    left, right = set(_TOKEN.findall(_cut(text))), set(_TOKEN.findall(other))
    return len(left & right) / max(len(left | right), 1)


def _kept(rows: ShardSet) -> list[dict[str, Any]]:
    """The first rows of the largest sources, in set order."""
    sources = [source for source in rows.sources if source["rows"]]
    largest = sorted(sources, key=lambda source: -source["rows"])[:KEPT_SOURCES]
    each = 2 if len(largest) <= 6 else 1
    shown = []
    for source in sources:
        if source in largest:
            for place in range(source["first"], source["first"] + min(each, source["rows"])):
                row = as_pair(rows[place])
                shown.append(
                    {
                        "source": row["source"],
                        "file": row["origin_file"],
                        "line": row["origin_line"],
                        "query": _cut(row["query"]),
                        "pos": [_cut(text) for text in row["pos"][:2]],
                        "neg": [_cut(text) for text in row["neg"][:2]],
                        "more": {role: max(len(row[role]) - 2, 0) for role in ("pos", "neg")},
                    }
                )
    return shown


def _cut(text: str) -> str:
    return text[:CHARACTERS]
