"""The rows of a set once more with mined negatives: as a shard set, or as FlagEmbedding's JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bgeprep.jsonl import lines
from bgeprep.rewrite import rewrite
from bgeprep.shardset import ShardSet
from bgetrain.negatives import mixed
from bgetrain.resumable import write_whole

if TYPE_CHECKING:
    from bgetrain.mining import Chosen
    from bgetrain.negatives import Rules
    from bgetrain.pool import KnownPositives, TextStore

__all__ = ["MinedRows", "write_rows"]


class MinedRows:
    """Gives a row its negatives.

    Attributes:
        counts: `rows` seen, `negatives` given, earlier ones `kept` and `replaced`, `rows_without_negatives`.
    """

    def __init__(
        self, chosen: Chosen, known: KnownPositives, pool: TextStore, rules: Rules, earlier: str, *, scores: bool
    ) -> None:
        """Keeps where to look.

        Args:
            chosen: the negatives of each query.
            known: the queries of the set.
            pool: the texts of the negatives.
            rules: how many there are to be, and the seed of a draw among earlier ones.
            earlier: what becomes of negatives that a row has: `replace`, `add` or `mix`.
            scores: whether to write `pos_scores` and `neg_scores`.
        """
        self._chosen = chosen
        self._known = known
        self._pool = pool
        self._rules = rules
        self._earlier = earlier
        self._scores = scores
        self.counts = {"rows": 0, "negatives": 0, "kept": 0, "replaced": 0, "rows_without_negatives": 0}

    def __call__(self, _: int, row: dict[str, Any]) -> dict[str, Any]:
        """The row with its negatives; a row of a source that is not mined stays as it is."""
        self.counts["rows"] += 1
        query = int(self._known.number(np.array([row["query_exact_key"]], dtype=np.uint64))[0])
        if not self._known.mined[query]:
            return row
        scores, places = self._chosen.of(query)
        mined = [(self._pool[place], score) for place, score in zip(places.tolist(), scores.tolist(), strict=True)]
        kept = self._kept(row, query, {text for text, _ in mined})
        if self._earlier == "mix":
            mined = mined[: max(self._rules.count - len(kept), 0)]
        self.counts["negatives"] += len(mined)
        self.counts["kept"] += len(kept)
        self.counts["replaced"] += len(row["neg"]) - len(kept)
        self.counts["rows_without_negatives"] += not (mined or kept)
        changed = {**row, "neg": kept + [text for text, _ in mined], "neg_scores": []}
        if row["neg_scores"]:
            # a teacher gave both; grades of positives alone are another thing, and stay
            changed["pos_scores"] = []
        if self._scores:
            own = self._known.positives[self._known.offsets[query] : self._known.offsets[query + 1]].tolist()
            given = dict(zip(own, self._chosen.positive_scores(query, self._known.offsets).tolist(), strict=True))
            changed["pos_scores"] = [given[key] for key in row["pos_exact_keys"]]
            changed["neg_scores"] = [None] * len(kept) + [score for _, score in mined]
        return changed

    def _kept(self, row: dict[str, Any], query: int, mined: set[str]) -> list[str]:
        """Negatives that the row had and keeps: all with `add`, a draw of half as many as are wanted with `mix`."""
        if self._earlier == "replace":
            return []
        there = [(text, key) for text, key in zip(row["neg"], row["neg_exact_keys"], strict=True) if text not in mined]
        if self._earlier == "mix" and there:
            seeded = mixed(self._known.keys[query : query + 1], np.uint64(self._rules.seed))
            draw = mixed(np.array([key for _, key in there], dtype=np.uint64), seeded)
            taken = sorted(np.argsort(draw)[: self._rules.count // 2].tolist())
            there = [there[place] for place in taken]
        return [text for text, _ in there]


def write_rows(shards: Path, out: Path, change: MinedRows, *, jsonl: bool, overwrite: bool) -> dict[str, Any]:
    """Writes the rows, whole or not at all.

    Args:
        shards: the set they come from.
        out: the set or the file to make.
        change: gives them their negatives.
        jsonl: a file of JSON lines, not a set.
        overwrite: replace a set that is there.

    Returns:
        What was written, for a report.

    Raises:
        BgeprepError: the set cannot be read or written.
        OSError: the file cannot be written.
    """
    if not jsonl:
        made = rewrite(shards, out, change, overwrite=overwrite)
        return {"path": str(out), "hash": made.hash, "rows_kept": made.rows_kept, **change.counts}
    out.parent.mkdir(parents=True, exist_ok=True)
    written = lines(ShardSet.open(shards), change=change)
    write_whole(out, lambda file: file.writelines(line.encode() for line in written))
    return {"path": str(out), "rows_kept": change.counts["rows"], **change.counts}
