"""Searches a collection with a model, on one process or shared by many with the same result to the last bit.

1. Queries are encoded in pieces, dealt to the ranks in turn; every rank gets the vectors of all.
2. Documents are encoded in pieces, dealt to the ranks in turn; a rank keeps the best of its pieces for every query.
3. The best lists of all ranks are merged, a block of queries at a time; a rank keeps its share of the queries.

A piece goes through the encoder and through the search in the same shapes whoever takes it, and a merge of packed
scores does not depend on their order (`search`): that is why the number of ranks decides nothing. All that travels
goes by the CPU. Ranks meet after each round of pieces, so that none runs ahead by more than a piece.

Vectors that are kept on disk (`embedding_cache`) take the place of 1 and of the encoder in 2.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bgetrain.errors import ModelError
from bgetrain.gather import Ranks, exchange, gather_rows
from bgetrain.search import TopK, id_places, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from bgetrain.collection import Collection
    from bgetrain.embedding_cache import EmbeddingCache
    from bgetrain.evaluate import TextEncoder
    from bgetrain.vectors import Vectors

__all__ = [
    "DOCUMENT_PIECE",
    "QUERY_PIECE",
    "Stopped",
    "check_finite",
    "encode_shared",
    "gather_scores",
    "own_share",
    "retrieve",
]

DOCUMENT_PIECE = 512
"""Documents encoded and searched at a time: many chunks of the encoder, and few enough to be dealt evenly."""

QUERY_PIECE = 256
"""Queries encoded at a time."""

_MERGED_SCORES = 1 << 22
"""Most scores that are gathered at once, 8 bytes each."""


class Stopped(Exception):
    """Some rank was asked to stop, and all ranks have left the search."""


def own_share(count: int, ranks: Ranks) -> range:
    """The queries of this rank when `count` are divided."""
    bounds = [count * rank // ranks.world_size for rank in range(ranks.world_size + 1)]
    return range(bounds[ranks.rank], bounds[ranks.rank + 1])


def retrieve(
    encoder: TextEncoder,
    collection: Collection,
    instructions: Sequence[str],
    *,
    top_k: int,
    query_max_len: int | None,
    passage_max_len: int | None,
    batch_tokens: int | None,
    device: Any,  # noqa: ANN401 - as `TextEncoder.encode`
    ranks: Ranks,
    stop_wanted: Callable[[], bool],
    progress: Callable[[str], None],
    cache: EmbeddingCache | None = None,
    all_on_main: bool = False,
) -> list[dict[str, list[tuple[str, float]]]]:
    """Finds the best documents of this rank's share of the queries; every rank must call it.

    Args:
        encoder: the model.
        collection: what to search.
        instructions: what is put before the queries, one search each.
        top_k: documents kept for a query.
        query_max_len: tokens a query is cut to; None for the encoder's own limit.
        passage_max_len: the same for documents.
        batch_tokens: most tokens computed at once, padding included.
        device: where to compute; None stays where the encoder is.
        ranks: the place of this process.
        stop_wanted: whether this process was asked to stop.
        progress: called with a line of text as the work goes on.
        cache: where vectors are kept, or looked for.
        all_on_main: give the first rank what was found for all queries.

    Returns:
        For each instruction: query id → (document id, score), in trec_eval's order.

    Raises:
        CollectionError: the collection cannot be read.
        ModelError: the model gives vectors that are not finite.
        Stopped: a rank was asked to stop.
    """
    options: dict[str, Any] = {"batch_tokens": batch_tokens, "device": device}
    texts = list(collection.queries.values())
    searches = []
    for instruction in instructions:
        vectors = cache.queries(collection, instruction, query_max_len) if cache else None
        if vectors is None:
            vectors = encode_shared(encoder, texts, ranks, instruction=instruction, max_length=query_max_len, **options)
        check_finite(vectors, f"{collection.name}: queries")
        searches.append(TopK(vectors, top_k, device or "cpu"))
    stored = cache.documents(collection, passage_max_len) if cache else None
    encode = partial(encoder.encode, max_length=passage_max_len, **options)
    places = id_places(collection.document_ids)
    last = -(-len(places) // DOCUMENT_PIECE) - 1
    done = 0
    for number, (size, vectors_of_piece) in enumerate(_pieces(collection, stored, encode)):
        if number % ranks.world_size == ranks.rank:
            vectors = vectors_of_piece()
            check_finite(vectors, f"{collection.name}: documents {done + 1} to {done + size}")
            for search in searches:
                search.add(vectors, places[done : done + size])
        done += size
        if number == last or (number + 1) % ranks.world_size == 0:
            if any(wish for (wish,) in exchange([int(stop_wanted())], ranks)):
                raise Stopped
            if stored is None:
                progress(f"{collection.name}: {done:,} of {len(places):,} documents encoded")

    id_at = np.empty(len(places), dtype=object)
    id_at[places] = collection.document_ids
    names = list(collection.queries)
    found = []
    for search in searches:
        share = range(len(names)) if all_on_main and ranks.is_main else own_share(len(names), ranks)
        scores, at = unpack(_merge(search, min(top_k, len(places)), share, ranks))
        found.append(
            {
                names[query]: list(zip(id_at[row].tolist(), values.tolist(), strict=True))
                for query, row, values in zip(share, at, scores, strict=True)
            }
        )
    return found


def gather_scores(values: NDArray[np.float64], total: int, ranks: Ranks) -> NDArray[np.float64]:
    """The scores of all queries from the shares of the ranks, float64 [total, M]."""
    counts = [len(own_share(total, Ranks(rank=rank, world_size=ranks.world_size))) for rank in range(ranks.world_size)]
    return gather_rows(torch.from_numpy(values), counts, ranks).numpy()


def _pieces(
    collection: Collection, stored: Vectors | None, encode: Callable[[list[str]], NDArray[np.float32]]
) -> Iterator[tuple[int, Callable[[], NDArray[np.float32]]]]:
    """The number of documents of each piece, and how its vectors are had, which is called for some pieces only."""
    if stored is None:
        for piece in collection.documents(DOCUMENT_PIECE):
            yield len(piece), partial(encode, piece)
        return
    for start in range(0, len(stored), DOCUMENT_PIECE):
        rows = np.arange(start, min(start + DOCUMENT_PIECE, len(stored)))
        yield len(rows), partial(stored.rows_at, rows)


def encode_shared(
    encoder: TextEncoder,
    texts: Sequence[str],
    ranks: Ranks,
    **options: Any,  # noqa: ANN401 - of `TextEncoder.encode`
) -> NDArray[np.float32]:
    """Vectors of all texts on every rank, each encoded by one; every rank must call it.

    Args:
        encoder: the model.
        texts: at least one, the same on every rank.
        ranks: the place of this process.
        options: what `TextEncoder.encode` takes besides the texts.

    Returns:
        float32 [N, D].
    """
    pieces = [texts[start : start + QUERY_PIECE] for start in range(0, len(texts), QUERY_PIECE)]
    owned = [pieces[rank :: ranks.world_size] for rank in range(ranks.world_size)]
    mine = [encoder.encode(piece, **options) for piece in owned[ranks.rank]]
    if ranks.world_size == 1:
        return np.concatenate(mine)
    # the width of a vector, for ranks without a piece
    width = max(size for (size,) in exchange([mine[0].shape[1] if mine else 0], ranks))
    vectors = torch.from_numpy(np.concatenate([np.zeros((0, width), dtype=np.float32), *mine]))
    counts = [sum(map(len, part)) for part in owned]
    by_rank = [
        list(torch.split(part, [len(piece) for piece in pieces_of])) if pieces_of else []
        for part, pieces_of in zip(torch.split(gather_rows(vectors, counts, ranks), counts), owned, strict=True)
    ]
    ordered = [by_rank[number % ranks.world_size][number // ranks.world_size] for number in range(len(pieces))]
    return torch.cat(ordered).numpy()


def _merge(search: TopK, width: int, share: range, ranks: Ranks) -> Tensor:
    """The best `width` of all ranks for the queries of this rank, packed int64 [share, width]."""
    packed = search.packed(width)
    if ranks.world_size == 1:
        return packed
    block = max(1, _MERGED_SCORES // (ranks.world_size * width))
    kept = [packed[:0]]
    for top in range(0, len(packed), block):
        part = packed[top : top + block]
        gathered = gather_rows(part, [len(part)] * ranks.world_size, ranks).view(ranks.world_size, len(part), width)
        best = gathered.permute(1, 0, 2).flatten(1).topk(width, dim=1, sorted=True).values
        kept.append(best[max(0, share.start - top) : max(0, share.stop - top)])
    return torch.cat(kept)


def check_finite(vectors: NDArray[np.float32], what: str) -> None:
    """Raises a ModelError where vectors [N, D] are not finite; `what` says whose they are."""
    bad = int((~np.isfinite(vectors)).any(axis=1).sum())
    if bad:
        raise ModelError(f"{what}: {bad} of {len(vectors)} vectors are not finite; the weights are damaged")
