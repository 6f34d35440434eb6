"""Hard negatives of all queries of a set, block by block: searched, sifted, checked, and kept on disk.

```
part-00000.counts.npy      candidates that went, by reason (`REASONS`), and queries with too few
part-00000.positives.npy   float32, a score for each positive of the block's queries (`KnownPositives.positives`)
part-00000.scores.npy      float32 [block, count], not a number where there is no negative
part-00000.places.npy      int64 [block, count], places in the pool, best first, -1 where there is none
```

A block is a file, dealt to ranks in turn (`resumable`): a killed run goes on behind the last of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bgetrain.ahead import ahead
from bgetrain.negatives import Rules, ceilings, choose, known_candidates
from bgetrain.neighbours import QUERY_BLOCK, Neighbours, SearchOptions
from bgetrain.overlap import nearly_equal, shingles
from bgetrain.resumable import read_manifest, shared_parts, wait_for_all, write_whole

if TYPE_CHECKING:
    from bgetrain.gather import Ranks
    from bgetrain.pool import KnownPositives, TextStore
    from bgetrain.scorers import Scorer
    from bgetrain.vectors import Vectors

__all__ = ["REASONS", "Chosen", "Mining", "mine_blocks"]

REASONS = ("known", "window", "ceiling", "floor", "duplicate", "near", "reranker", "short")
"""What the counts are of; `short` are queries with fewer negatives than asked for."""

_SLACK = 32
"""Candidates searched beyond the window, to stand in for known positives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mining:
    """All that choosing looks at.

    Attributes:
        queries: vectors of the queries, in the order of `known`.
        pool: vectors of what negatives are taken from.
        pool_keys: batching keys of the pool, uint64 [P].
        exact_keys: exact keys of the pool, uint64 [P].
        known: what the set knows of its queries.
        positives: vectors that hold those of the positives.
        positive_places: where those of `known.positives` stand among them, int64.
        rules: what may be a negative.
        search: how to search.
        near: least Jaccard similarity to a positive at which a candidate goes; None where keys say it all.
        pool_texts: needed for `near` and `reranker`, as are the next two.
        positive_texts: texts of `positives`.
        query_texts: texts of the queries.
        reranker: a second opinion: what it scores above `rules.max_relative` of the positive's score goes.
    """

    queries: Vectors
    pool: Vectors
    pool_keys: NDArray[np.uint64]
    exact_keys: NDArray[np.uint64]
    known: KnownPositives
    positives: Vectors
    positive_places: NDArray[np.int64]
    rules: Rules
    search: SearchOptions
    near: float | None = None
    pool_texts: TextStore | None = None
    positive_texts: TextStore | None = None
    query_texts: TextStore | None = None
    reranker: Scorer | None = None


def mine_blocks(
    mining: Mining,
    folder: Path,
    *,
    ranks: Ranks | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Chosen:
    """Chooses the negatives of all queries, or finds them chosen; every rank must call it.

    Args:
        mining: what to look at.
        folder: where the blocks go.
        ranks: share the work with these processes; their number decides nothing. None is one process alone.
        overwrite: replace negatives of other work that are in `folder`.
        progress: called with the queries done and those to do, of this process.

    Raises:
        PartsError: the folder holds something else, or another run is writing there.
        ModelError: a vector is not finite.
        OSError: the folder cannot be written.
    """
    count = mining.queries.rows
    blocks = [range(start, min(start + QUERY_BLOCK, count)) for start in range(0, count, QUERY_BLOCK)]
    work: dict[str, Any] = {
        "queries": _said(mining.queries),
        "pool": _said(mining.pool),
        "positives": _said(mining.positives),
        "known": mining.known.fingerprint,
        "rules": asdict(mining.rules),
        "search": {name: getattr(mining.search, name) for name in ("index", "lists", "probes")},
        "near": mining.near,
        "reranker": None if mining.reranker is None else mining.reranker.work,
    }
    neighbours = Neighbours(mining.pool, mining.search, folder=folder.with_name(f"{folder.name}.index"))
    files = [_names(number) for number in range(len(blocks))]
    with shared_parts(folder, "negatives", work, files, ranks=ranks, overwrite=overwrite) as own:
        total, done = sum(len(blocks[number]) for number in own), 0
        if own and (ranks is None or ranks.is_main):
            # one for all: two that are made at once need not be the same
            neighbours.make_index()
        wait_for_all(ranks)
        progress(0, total)
        # the next block is searched while this one is sifted: one is faiss, the other numpy
        for number, found in zip(
            own, ahead(_search(mining, neighbours, blocks[number]) for number in own), strict=True
        ):
            for name, array in zip(files[number], _block(mining, blocks[number], *found), strict=True):
                write_whole(folder / name, lambda file, array=array: np.save(file, array))  # type: ignore[misc]
            done += len(blocks[number])
            progress(done, total)
    return Chosen(folder)


class Chosen:
    """What `mine_blocks` chose, read block by block as it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Opens a complete folder.

        Raises:
            PartsError: it is not complete.
        """
        manifest = read_manifest(folder, "negatives", "mine")
        self._folder = folder
        self._blocks = len([name for name in manifest["files"] if name.endswith(".places.npy")])
        self._open: dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]] = {}
        self._positives: dict[int, NDArray[np.float32]] = {}

    def of(self, query: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and places of the negatives of a query, best first."""
        number, row = divmod(query, QUERY_BLOCK)
        if number not in self._open:
            names = _names(number)
            self._open[number] = (self._load(names[2]), self._load(names[3]))
        scores, places = self._open[number]
        kept = places[row] >= 0
        return scores[row][kept], places[row][kept]

    def positive_scores(self, query: int, offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of the positives of a query; `offsets` are those of `KnownPositives`."""
        number = query // QUERY_BLOCK
        if number not in self._positives:
            self._positives[number] = self._load(_names(number)[1])
        first = offsets[number * QUERY_BLOCK]
        return self._positives[number][offsets[query] - first : offsets[query + 1] - first]

    def counts(self) -> dict[str, int]:
        """What went, by reason."""
        totals = sum((self._load(_names(number)[0]) for number in range(self._blocks)), np.zeros(len(REASONS), int))
        return dict(zip(REASONS, totals.tolist(), strict=True))

    def _load(self, name: str) -> Any:  # noqa: ANN401 - of the file's type
        # as plain arrays over the maps: those are slow to ask for one row
        return np.asarray(np.load(self._folder / name, mmap_mode="r", allow_pickle=False))


def _names(number: int) -> tuple[str, str, str, str]:
    return tuple(f"part-{number:05d}.{what}.npy" for what in ("counts", "positives", "scores", "places"))  # type: ignore[return-value]


def _said(vectors: Vectors) -> dict[str, Any]:
    return {name: vectors.manifest[name] for name in ("model", "texts", "prompt", "max_length", "dtype", "precision")}


def _search(mining: Mining, neighbours: Neighbours, block: range) -> tuple[NDArray[Any], ...]:
    """Vectors of the queries of a block, and `_candidates` of them."""
    queries = mining.queries.rows_at(np.arange(block.start, block.stop))
    return queries, *_candidates(mining, neighbours, queries, block)


def _block(
    mining: Mining,
    block: range,
    queries: NDArray[np.float32],
    scores: NDArray[np.float32],
    places: NDArray[np.int64],
    is_known: NDArray[np.bool_],
) -> tuple[NDArray[Any], ...]:
    """Counts, positive scores, scores and places of one block."""
    rules, known = mining.rules, mining.known
    bounds = known.offsets[block.start : block.stop + 1]
    offsets = bounds - bounds[0]
    positive_places = mining.positive_places[bounds[0] : bounds[-1]]
    positive_scores = _positive_scores(queries, offsets, mining.positives, positive_places)
    highest = ceilings(positive_scores, offsets, rules)
    highest[~known.mined[block.start : block.stop]] = -np.inf

    checked = mining.near is not None or mining.reranker is not None
    choice = choose(
        scores,
        mining.pool_keys[places],
        is_known,
        highest,
        known.keys[block.start : block.stop],
        rules,
        spare=rules.count if checked else 0,
    )
    dropped = dict.fromkeys(REASONS, 0) | choice.dropped
    columns = choice.columns
    if mining.near is not None:
        columns = _unlike(mining, columns, places, offsets, positive_places, dropped)
    given = scores
    if mining.reranker is not None:
        columns, given, positive_scores = _reranked(
            mining, columns, places, (block, offsets, positive_places), scores, dropped
        )
    columns = _packed(columns, rules.count)
    none = columns < 0
    # the draw decided who is taken; ranks decide the order in which they stand
    columns = np.sort(np.where(none, scores.shape[1], columns), axis=1)
    columns = np.where(columns == scores.shape[1], -1, columns)
    none = columns < 0
    chosen = np.where(none, -1, np.take_along_axis(places, np.maximum(columns, 0), axis=1))
    said = np.where(none, np.nan, np.take_along_axis(given, np.maximum(columns, 0), axis=1))
    dropped["short"] = int((none.any(axis=1) & known.mined[block.start : block.stop]).sum())
    counts = np.array([dropped[reason] for reason in REASONS], dtype=np.int64)
    return counts, positive_scores.astype(np.float32), said.astype(np.float32), chosen.astype(np.int64)


def _candidates(
    mining: Mining, neighbours: Neighbours, queries: NDArray[np.float32], block: range
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Scores, places and who is known, deep enough that the window is full without those."""
    depth = mining.rules.last + _SLACK
    names, offsets = mining.known.known(block)
    while True:
        scores, places = neighbours.search(queries, depth)
        # what an index did not find has no score, whatever its keys say
        safe = np.maximum(places, 0)
        is_known = known_candidates(mining.exact_keys[safe], names, offsets)
        if mining.pool_keys is not mining.exact_keys:
            is_known |= known_candidates(mining.pool_keys[safe], names, offsets)
        found = (~is_known).sum(axis=1)
        if depth >= mining.pool.rows or found.min(initial=mining.rules.last) >= mining.rules.last:
            return scores, safe, is_known
        depth *= 2


def _positive_scores(
    queries: NDArray[np.float32], offsets: NDArray[np.int64], positives: Vectors, places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The product of each query with each of its positives, float32 [Σ positives]."""
    owners = np.repeat(np.arange(len(queries)), np.diff(offsets))
    found = np.zeros(len(places), dtype=np.float32)
    for start in range(0, len(places), QUERY_BLOCK):
        part = slice(start, start + QUERY_BLOCK)
        found[part] = np.einsum("nd,nd->n", queries[owners[part]], positives.rows_at(places[part]))
    return found


def _unlike(
    mining: Mining,
    columns: NDArray[np.int64],
    places: NDArray[np.int64],
    offsets: NDArray[np.int64],
    positive_places: NDArray[np.int64],
    dropped: dict[str, int],
) -> NDArray[np.int64]:
    """The columns without those whose text nearly equals a positive of the query."""
    assert mining.pool_texts is not None
    assert mining.positive_texts is not None
    assert mining.near is not None
    kept = columns.copy()
    for row, candidates in enumerate(columns):
        own = [
            shingles(mining.positive_texts[int(place)]) for place in positive_places[offsets[row] : offsets[row + 1]]
        ]
        enough = 0
        for column, candidate in enumerate(candidates):
            if candidate < 0 or (enough == mining.rules.count and mining.reranker is None):
                break
            if nearly_equal(mining.pool_texts[int(places[row, candidate])], own, mining.near):
                kept[row, column] = -1
                dropped["near"] += 1
            else:
                enough += 1
    return kept


def _reranked(
    mining: Mining,
    columns: NDArray[np.int64],
    places: NDArray[np.int64],
    asked: tuple[range, NDArray[np.int64], NDArray[np.int64]],
    scores: NDArray[np.float32],
    dropped: dict[str, int],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Columns that the cross-encoder lets pass, its scores of the candidates, and of the positives."""
    assert mining.pool_texts is not None
    assert mining.positive_texts is not None
    assert mining.query_texts is not None
    assert mining.reranker is not None
    block, offsets, positive_places = asked
    rows, numbers = np.nonzero(columns >= 0)
    texts = [mining.query_texts[query] for query in block]
    owners = np.repeat(np.arange(len(block)), np.diff(offsets))
    positive_scores = mining.reranker.score(
        [(texts[owner], mining.positive_texts[int(at)]) for owner, at in zip(owners, positive_places, strict=True)]
    )
    candidates = columns[rows, numbers]
    said = mining.reranker.score(
        [
            (texts[row], mining.pool_texts[int(at)])
            for row, at in zip(rows, places[rows, candidates], strict=True)
        ]
    )  # fmt: skip
    given = np.full(scores.shape, np.nan, dtype=np.float32)
    given[rows, candidates] = said
    # a second opinion on the same question: is it too close to the positive?
    limits = ceilings(positive_scores, offsets, Rules(max_relative=mining.rules.max_relative or 1.0))
    wrong = said > limits[rows]
    kept = columns.copy()
    kept[rows[wrong], numbers[wrong]] = -1
    dropped["reranker"] += int(wrong.sum())
    return kept, given, positive_scores


def _packed(columns: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The first `count` columns that are there, in their order."""
    order = np.argsort(columns < 0, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)[:, :count]
