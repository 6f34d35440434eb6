"""The batch rules as DESIGN states them, checked row against row on texts: slow, and with nothing borrowed.

Texts are compared after NFKC, full case folding and collapsing of white space. A set's keys are never looked at, so
a wrong key is found as well as a wrong plan.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def normalise(text: str) -> str:
    """NFKC, full case folding, white space collapsed and trimmed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def known_positives(rows: Sequence[Row], tasks: Mapping[str, str]) -> list[set[str]]:
    """For each row, the positives of every row of the set with its query, normalised.

    In a `symmetric` source either text of a pair is the query of the other.
    """
    by_query: dict[str, set[str]] = {}
    for row in rows:
        query, positives = normalise(row["query"]), [normalise(text) for text in row["pos"]]
        by_query.setdefault(query, set()).update(positives)
        if tasks[row["source"]] == "symmetric":
            for positive in positives:
                by_query.setdefault(positive, set()).add(query)
    return [by_query[normalise(row["query"])] for row in rows]


def violations(
    rows: Sequence[Row], known: Sequence[set[str]], batch: Mapping[str, Any], tasks: Mapping[str, str]
) -> list[str]:
    """What is wrong with one global batch of `BatchLoader.plan()`, as sentences; empty if nothing is.

    Args:
        rows: all rows of the set, by row id.
        known: their `known_positives`.
        batch: `rows`, `positives` and `negatives` of the batch.
        tasks: the task of each source.
    """
    queries = [normalise(rows[row]["query"]) for row in batch["rows"]]
    documents = [
        [normalise(rows[row]["pos"][positive]), *(normalise(rows[row]["neg"][place]) for place in negatives)]
        for row, positive, negatives in zip(batch["rows"], batch["positives"], batch["negatives"], strict=True)
    ]
    found = []
    for one, row in enumerate(batch["rows"]):
        own = documents[one]
        if len(set(own)) != len(own):
            found.append(f"row {row} has one document twice")
        if any(document in known[row] or document == queries[one] for document in own[1:]):
            found.append(f"row {row} has a false negative of its own")
        for other, second in enumerate(batch["rows"]):
            if one == other:
                continue
            if queries[one] == queries[other]:
                found.append(f"rows {row} and {second} have one query")
            task = tasks[rows[second]["source"]]
            if "classification" in (task, tasks[rows[row]["source"]]):
                continue
            if any(document in known[row] or document == queries[one] for document in documents[other]):
                found.append(f"a document of row {second} is a false negative of row {row}")
            if task == "symmetric" and queries[other] in known[row]:
                found.append(f"the query of row {second} is a positive of row {row}")
    return found


def times_used(rows: int, batches: Iterable[Mapping[str, Any]], unplaced: Iterable[int] = ()) -> list[int]:
    """How often each row comes in the batches or among the unplaced."""
    times = [0] * rows
    for batch in batches:
        for row in batch["rows"]:
            times[row] += 1
    for row in unplaced:
        times[row] += 1
    return times
