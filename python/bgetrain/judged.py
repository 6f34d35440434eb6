"""What the judgements of a pool say of the queries that are mined: documents relevant by id, whatever their text.

A pool in the BEIR layout has `qrels/*.tsv` beside its corpus. A row belongs to the judged query whose text in
`queries.jsonl` is its own, or whose id. The text of a judged document may differ from the positive of the row: it was
cut, cleaned, or stands behind a title.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bgeprep.scores import text_key
from bgeprep.shardset import ShardSet
from bgetrain.collection import Qrels, queries_file, read_qrels, read_queries
from bgetrain.vectors import Vectors

__all__ = ["judged_places", "judgements_hash"]


def judged_places(
    pool: str | Path, shards: str | Path, vectors: Vectors
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Queries of a set, and places in the pool of documents judged relevant to them.

    Args:
        pool: where the pool lies; anything but a folder with `qrels/*.tsv` judges nothing.
        shards: the set that is mined.
        vectors: of the pool, whose keys are the ids of its documents.

    Returns:
        Exact keys of queries, uint64 [n], and a place for each, int64 [n].

    Raises:
        CollectionError: a file of judgements or queries is badly formed.
        PartsError: the keys of the vectors cannot be read.
    """
    folder = Path(pool)
    relevant: dict[str, set[str]] = {}
    for file in _judgements(folder):
        for query, documents in _relevant(read_qrels(file)).items():
            relevant.setdefault(query, set()).update(documents)
    if not relevant:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    asked = _queries_by_id(folder, shards, relevant)
    pairs = [(key, document) for key, query in asked for document in sorted(relevant[query])]
    judged = pl.DataFrame(
        {"query": pl.Series([key for key, _ in pairs], dtype=pl.UInt64), "key": [document for _, document in pairs]},
        schema_overrides={"key": pl.String},
    )
    found = judged.join(vectors.places_of_keys(judged["key"].unique()), on="key").unique().sort("query", "place")
    return found["query"].to_numpy(), found["place"].to_numpy()


def judgements_hash(pool: str | Path) -> str:
    """Differs where the judgements of a pool, or the queries they speak of, differ; empty where there are none."""
    folder = Path(pool)
    files = _judgements(folder)
    if not files:
        return ""
    digest = hashlib.sha256()
    for file in [*files, *sorted(folder.glob("queries.jsonl*"))]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _judgements(folder: Path) -> list[Path]:
    return sorted(folder.glob("qrels/*.tsv")) if (folder / "qrels").is_dir() else []


def _relevant(qrels: Qrels) -> dict[str, list[str]]:
    return {query: [one for one, grade in grades.items() if grade > 0] for query, grades in qrels.items()}


def _queries_by_id(folder: Path, shards: str | Path, relevant: dict[str, set[str]]) -> list[tuple[int, str]]:
    """Exact key and id of each judged query that a row of the set asks."""
    rows = ShardSet.open(shards).scan().select("query_exact_key", "id")
    named = rows.filter(pl.col("id").is_in(list(relevant))).unique().collect()
    split = _judgements(folder)[0].stem
    texts = read_queries(queries_file(folder, split)) if any(folder.glob("queries.jsonl*")) else {}
    keys = {query: text_key(text) for query, text in texts.items() if query in relevant}
    wanted = pl.Series(list(keys.values()), dtype=pl.UInt64).implode()
    there = rows.select("query_exact_key").filter(pl.col("query_exact_key").is_in(wanted)).unique().collect()
    asked = set(there["query_exact_key"].to_list())
    return sorted(set(named.iter_rows()) | {(key, query) for query, key in keys.items() if key in asked})
