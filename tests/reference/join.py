"""The slow, clear join: ids and texts in dictionaries, the choice of negatives made one number at a time."""

from __future__ import annotations

MASK = (1 << 64) - 1


def mixed(number: int) -> int:
    """The finaliser of SplitMix64."""
    number = (number + 0x9E3779B97F4A7C15) & MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)


def chosen(query: int, passages: set[int], limit: int, seed: int) -> list[int]:
    """The `limit` passages (places in their file) of a query (its place) with the smallest hashes, in their order."""
    by_hash = sorted(passages, key=lambda passage: (mixed(((query << 32) | passage) ^ mixed(seed)) >> 32, passage))
    return sorted(by_hash[:limit] if limit else by_hash)


def joined(
    queries: dict[str, str],
    passages: dict[str, str],
    positives: list[tuple[str, str]],
    negatives: list[tuple[str, str]],
    limit: int,
    seed: int,
    never: list[tuple[str, str]] | None = None,
) -> list[tuple[str, list[str], list[str]]]:
    """The records of queries with a positive: texts by id in the order of the file, id pairs in any order."""
    query_at = {key: at for at, key in enumerate(queries)}
    passage_at = {key: at for at, key in enumerate(passages)}
    texts = list(passages.values())

    def by_query(pairs: list[tuple[str, str]]) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for query, passage in pairs:
            if query in query_at and passage in passage_at:
                found.setdefault(query_at[query], set()).add(passage_at[passage])
        return found

    relevant, other = by_query(positives), by_query(negatives)
    banned = by_query([*positives, *(never or [])])
    records = []
    for at, query in enumerate(queries.values()):
        if at in relevant:
            left = chosen(at, other.get(at, set()) - banned.get(at, set()), limit, seed)
            records.append((query, [texts[one] for one in sorted(relevant[at])], [texts[one] for one in left]))
    return records
