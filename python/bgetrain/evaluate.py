"""One model measured on one collection, or on one file of sentence pairs; `evaluate_models` is the command.

Retrieval:

1. Encode the queries, once as they are and once with the model's instruction where it has one.
2. Encode the corpus piece by piece and keep, for every form of a query, the best documents (`search`).
3. Score the runs (`ranking`), beside BM25 on the same texts (`bm25`).

Sentence pairs: encode each distinct sentence once, without instruction, and score the cosines (`similarity`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bgetrain.bm25 import bm25_run
from bgetrain.collection import Collection, open_collection
from bgetrain.ranking import METRICS, Run, drop_identical_ids, mean_scores, score_run
from bgetrain.similarity import score_similarity

if TYPE_CHECKING:
    from bgetrain.embedding_cache import EmbeddingCache
    from bgetrain.gather import Ranks
    from bgetrain.sentence_pairs import SentencePairs

__all__ = ["TOP_K", "Scores", "TextEncoder", "describe", "evaluate", "evaluate_bm25", "evaluate_similarity"]

TOP_K = 1000
"""Documents kept for each query: the depth of MAP@1000."""

PIECE = 2048
"""Documents read at a time for BM25."""

Progress = Callable[[str], None]

Scores = dict[str, dict[str, float]]
"""query id → metric → value."""


class TextEncoder(Protocol):
    """What evaluation needs of a model; `bgetrain.encode.Encoder` has it."""

    @property
    def query_instruction(self) -> str:
        """Text put before queries, empty for none."""

    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        max_length: int | None = None,
        batch_tokens: int | None = None,
        device: Any = None,  # noqa: ANN401 - a torch device; naming its type would import torch for --help
    ) -> NDArray[np.float32]:
        """float32 [N, D]."""


def evaluate(
    encoder: TextEncoder,
    collection: Collection | str | Path,
    *,
    split: str = "test",
    query_instruction: str | None = None,
    query_max_len: int | None = None,
    passage_max_len: int | None = None,
    batch_tokens: int | None = None,
    ignore_identical_ids: bool = False,
    device: str | None = None,
    runs: dict[str, Run] | None = None,
    by_query: dict[str, Scores] | None = None,
    progress: Progress = lambda _: None,
    both_forms: bool = True,
    ranks: Ranks | None = None,
    stop_wanted: Callable[[], bool] = lambda: False,
    cache: EmbeddingCache | None = None,
) -> dict[str, Any]:
    """Searches a collection with a model and scores what it finds.

    Args:
        encoder: the model.
        collection: an open collection, or its folder.
        split: the judgements to use where a folder is given.
        query_instruction: text put before queries; None takes the encoder's own. Where it is not empty,
            queries are searched with and without it.
        query_max_len: tokens a query is cut to; None for the encoder's own limit.
        passage_max_len: the same for documents.
        batch_tokens: most tokens computed at once, padding included; None for `tokens_at_once`.
        ignore_identical_ids: leave out the document whose id is the query's.
        device: where to compute; None stays where the encoder is.
        runs: filled with the runs found, by `without` and `with` (instruction); with several ranks, the first has
            those of all queries, the others those of their share.
        by_query: filled with the scores of each query, by the same.
        progress: called with a line of text as the work goes on.
        both_forms: search without the instruction too where there is one.
        ranks: share the work with these processes, which must all call it; None is one process alone. Their
            number changes no score.
        stop_wanted: whether this process was asked to stop.
        cache: where vectors are kept, or looked for; made of the same encoder.

    Returns:
        `{"collection", "split", "documents", "queries", "judgements", "missing": {"queries", "documents"},
        "instruction", "without": {metric: value} or None, "with": {…} or None}`.

    Raises:
        CollectionError: the collection cannot be read.
        ModelError: the model gives vectors that are not finite.
        PartsError: the cache is in use, or damaged.
        retrieval.Stopped: a rank was asked to stop.
    """
    # torch is imported where it is first needed, so that the command's help and its errors come at once.
    from bgetrain.gather import Ranks
    from bgetrain.retrieval import gather_scores, own_share, retrieve

    if not isinstance(collection, Collection):
        collection = open_collection(collection, split)
    ranks = ranks or Ranks()
    instruction = encoder.query_instruction if query_instruction is None else query_instruction
    forms = {"without": ""} if both_forms or not instruction else {}
    forms |= {"with": instruction} if instruction else {}
    found = retrieve(
        encoder,
        collection,
        list(forms.values()),
        # one more, so that a document left out for its id does not shorten the list
        top_k=TOP_K + ignore_identical_ids,
        query_max_len=query_max_len,
        passage_max_len=passage_max_len,
        batch_tokens=batch_tokens,
        device=device,
        ranks=ranks,
        stop_wanted=stop_wanted,
        progress=progress,
        cache=cache,
        all_on_main=runs is not None,
    )
    report = describe(collection) | {"instruction": instruction, "without": None, "with": None}
    names = list(collection.queries)
    share = {names[place] for place in own_share(len(names), ranks)}
    for form, found_run in zip(forms, found, strict=True):
        kept = _cut(found_run, ignore_identical_ids)
        own = score_run(kept, {query: collection.qrels[query] for query in kept if query in share})
        values = np.array([[row[metric] for metric in METRICS] for row in own.values()], dtype=np.float64)
        shared = gather_scores(values.reshape(-1, len(METRICS)), len(collection.queries), ranks).tolist()
        scores = dict(zip(names, (dict(zip(METRICS, row, strict=True)) for row in shared), strict=True))
        # in the order of the judgements, since the order decides the last bit of a sum
        report[form] = mean_scores({query: scores[query] for query in collection.qrels})
        if runs is not None:
            runs[form] = kept
        if by_query is not None:
            by_query[form] = scores
    return report


def evaluate_bm25(
    collection: Collection,
    *,
    ignore_identical_ids: bool = False,
    runs: dict[str, Run] | None = None,
    by_query: dict[str, Scores] | None = None,
) -> dict[str, float]:
    """Returns metric → value of BM25 on the collection; see `evaluate` for the arguments."""
    found = bm25_run(_texts(collection), collection.queries, top_k=TOP_K + ignore_identical_ids)
    kept = _cut(found, ignore_identical_ids)
    scores = score_run(kept, collection.qrels)
    if runs is not None:
        runs["bm25"] = kept
    if by_query is not None:
        by_query["bm25"] = scores
    return mean_scores(scores)


def evaluate_similarity(
    encoder: TextEncoder,
    pairs: SentencePairs,
    *,
    max_length: int | None = None,
    batch_tokens: int | None = None,
    device: str | None = None,
    ranks: Ranks | None = None,
    cache: EmbeddingCache | None = None,
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Scores the cosines that a model gives to sentence pairs; sentences never get an instruction.

    Args:
        encoder: the model.
        pairs: the sentences, and what people said of them.
        max_length: tokens a sentence is cut to; None for the encoder's own limit.
        batch_tokens: most tokens computed at once, padding included; None for `tokens_at_once`.
        device: where to compute; None stays where the encoder is.
        ranks: share the work with these processes, which must all call it; their number changes no score.
        cache: where vectors are kept, or looked for.

    Returns:
        metric → value (`similarity.score_similarity`), and the cosines, float64 [N].

    Raises:
        ModelError: the model gives vectors that are not finite.
        PartsError: the cache is in use, or damaged.
    """
    from bgetrain.gather import Ranks
    from bgetrain.retrieval import check_finite, encode_shared

    places: dict[str, int] = {}
    for sentence in (*pairs.first, *pairs.second):
        places.setdefault(sentence, len(places))
    vectors = cache.texts(list(places), pairs.name, max_length=max_length) if cache else None
    if vectors is None:
        options: dict[str, Any] = {"max_length": max_length, "batch_tokens": batch_tokens, "device": device}
        vectors = encode_shared(encoder, list(places), ranks or Ranks(), **options)
    check_finite(vectors, pairs.name)
    exact = vectors.astype(np.float64)
    # the zero vector, of a text without tokens, is like nothing
    exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-30)
    one, other = (exact[[places[sentence] for sentence in side]] for side in (pairs.first, pairs.second))
    cosines: NDArray[np.float64] = (one * other).sum(axis=1)
    return score_similarity(cosines, pairs.labels, pairs.kind), cosines


def describe(collection: Collection) -> dict[str, Any]:
    """What is said of a collection beside its scores."""
    return {
        "collection": collection.name,
        "split": collection.split,
        "documents": len(collection.document_ids),
        "queries": len(collection.queries),
        "judgements": collection.judgements,
        "missing": {"queries": len(collection.missing_queries), "documents": len(collection.missing_documents)},
    }


def _cut(found: Run, ignore_identical_ids: bool) -> Run:
    """A run cut to the depth that the metrics see."""
    if ignore_identical_ids:
        found = drop_identical_ids(found)
    return {query: documents[:TOP_K] for query, documents in found.items()}


def _texts(collection: Collection) -> Iterator[tuple[str, str]]:
    texts = (text for piece in collection.documents(PIECE) for text in piece)
    yield from zip(collection.document_ids, texts, strict=True)
