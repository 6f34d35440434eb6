"""Tasks of `mteb`: by name, where their data is on this machine, or built from local folders and files.

mteb searches and scores by its own code; of ours it only takes vectors. So its figures are an independent check of
ours, and a model is measured here as it will be on the leaderboard. Python 3.11 or later (`pip install bgeprep[mteb]`).
"""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bgetrain.collection import CollectionError, open_collection
from bgetrain.errors import BgetrainError, ConfigError, LaunchError
from bgetrain.sentence_pairs import SentencePairs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from bgetrain.collection import Collection
    from bgetrain.embedding_cache import EmbeddingCache
    from bgetrain.evaluate import TextEncoder
    from bgetrain.gather import Ranks

__all__ = ["MtebEncoder", "TaskScore", "local_task", "open_task", "score_task"]

_TEXTS_AT_ONCE = 512
"""Texts that mteb hands over at a time; they are collected and embedded together."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """What mteb says of a model on one task.

    Attributes:
        metric: the task's main score.
        value: its mean over the task's splits and subsets.
        instructed: whether queries got the model's instruction.
        result: all that mteb reports, JSON-able.
    """

    metric: str
    value: float
    instructed: bool
    result: dict[str, Any]


def open_task(name: str, split: str = "test") -> Any:  # noqa: ANN401 - a task of mteb, which need not be installed
    """A task of mteb by its name, or one built from a folder.

    Args:
        name: as `SciFact` or `STSBenchmark`; a collection's folder is taken where there is one.
        split: judgements to use of a folder.

    Raises:
        LaunchError: mteb is not installed.
        ConfigError: it has no task of that name.
        CollectionError: the folder cannot be read.
    """
    mteb = _mteb()
    if Path(name).is_dir():
        return local_task(open_collection(name, split))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mteb.get_task(name)
    except KeyError as error:
        close = re.search(r"Did you mean: '(.+?)'", str(error))
        hint = f"did you mean {close[1]}?" if close else "a task of mteb, or the folder of a collection"
        raise ConfigError(f"--mteb {name}: mteb has no such task", hint=hint) from error


def local_task(data: Collection | SentencePairs, *, ignore_identical_ids: bool = False) -> Any:  # noqa: ANN401 - see `open_task`
    """A task of mteb over a collection or over sentence pairs, whose texts are read into memory.

    Args:
        data: what to measure on.
        ignore_identical_ids: of a collection, leave out the document whose id is the query's.

    Raises:
        LaunchError: mteb is not installed.
    """
    _mteb()
    from datasets import Dataset
    from mteb.abstasks import AbsTaskPairClassification, AbsTaskRetrieval, AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    if isinstance(data, SentencePairs):
        base, kind = (AbsTaskSTS, "STS") if data.kind == "sts" else (AbsTaskPairClassification, "PairClassification")
        main, split = ("cosine_spearman", "test") if data.kind == "sts" else ("cosine_ap", "test")
        label = "score" if data.kind == "sts" else "labels"
        labels = data.labels if data.kind == "sts" else data.labels.astype(int)
        columns = {"sentence1": data.first, "sentence2": data.second, label: labels.tolist()}
        more: dict[str, Any] = {}
        if data.kind == "sts":
            # mteb brings scores to 0 … 1 by these, which moves no correlation
            more = {"min_score": float(data.labels.min()), "max_score": float(data.labels.max())}

        def read() -> dict[str, Any]:
            return {split: Dataset.from_dict(columns)}

    else:
        base, kind, main, split = AbsTaskRetrieval, "Retrieval", "ndcg_at_10", data.split
        more = {"ignore_identical_ids": ignore_identical_ids}

        def read() -> dict[str, Any]:
            texts = [text for piece in data.documents(_TEXTS_AT_ONCE) for text in piece]
            queries = {"id": list(data.queries), "text": list(data.queries.values())}
            return {
                "default": {
                    split: {
                        # titles stand before the texts already
                        "corpus": Dataset.from_dict({"id": data.document_ids, "text": texts}),
                        "queries": Dataset.from_dict(queries),
                        "relevant_docs": {query: dict(data.qrels[query]) for query in data.queries},
                        "top_ranked": None,
                    }
                }
            }

    def load_data(self: Any, *_: object, **__: object) -> None:  # noqa: ANN401 - the task
        if not self.data_loaded:
            self.dataset = read()
            self.data_loaded = True

    metadata = TaskMetadata(
        name=data.name,
        description=f"{data.name}, from a local folder",
        dataset={"path": data.name, "revision": "local"},
        type=kind,
        category="t2t",
        # mteb wants one; it decides nothing here
        eval_langs=["eng-Latn"],
        eval_splits=[split],
        main_score=main,
    )
    # a class of its own, since mteb keeps the metadata there
    return type("LocalTask", (base,), {"metadata": metadata, "load_data": load_data, **more})()


class MtebEncoder:
    """An encoder as mteb calls it: the instruction goes before queries of retrieval and reranking, and nowhere else."""

    def __init__(
        self,
        encoder: TextEncoder,
        name: str,
        *,
        query_instruction: str | None = None,
        query_max_len: int | None = None,
        passage_max_len: int | None = None,
        batch_tokens: int | None = None,
        device: str | None = None,
        ranks: Ranks | None = None,
        cache: EmbeddingCache | None = None,
    ) -> None:
        """Wraps a model; see `bgetrain.evaluate.evaluate` for the arguments.

        Raises:
            LaunchError: mteb is not installed.
        """
        _mteb()
        from mteb.models import ModelMeta

        from bgetrain.gather import Ranks

        self.mteb_model_meta = ModelMeta.create_empty({"name": f"bgetrain/{name}", "revision": "local"})
        self.instructed = False
        self._encoder = encoder
        self._instruction = encoder.query_instruction if query_instruction is None else query_instruction
        self._lengths = {True: query_max_len, False: passage_max_len}
        self._options: dict[str, Any] = {"batch_tokens": batch_tokens, "device": device}
        self._ranks = ranks or Ranks()
        self._cache = cache

    def encode(
        self,
        inputs: Iterable[Any],
        *,
        task_metadata: Any,  # noqa: ANN401 - of mteb
        prompt_type: Any = None,  # noqa: ANN401 - of mteb
        **_: object,
    ) -> NDArray[np.float32]:
        """Vectors of the texts that mteb hands over in batches, float32 [N, D]."""
        from bgetrain.retrieval import check_finite, encode_shared

        texts = [text for batch in inputs for text in batch["text"]]
        asks = str(getattr(prompt_type, "value", prompt_type)) == "query"
        asks = asks and task_metadata.type.endswith(("Retrieval", "Reranking"))
        instruction = self._instruction if asks else ""
        self.instructed |= bool(instruction)
        length = self._lengths[asks]
        cache = self._cache
        vectors = cache.texts(texts, task_metadata.name, prompt=instruction, max_length=length) if cache else None
        if vectors is None:
            vectors = encode_shared(
                self._encoder, texts, self._ranks, instruction=instruction, max_length=length, **self._options
            )
        check_finite(vectors, task_metadata.name)
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401 - arrays or tensors
        """Inner products of all with all, as this package searches; the cosine where vectors have length 1."""
        import torch

        return torch.as_tensor(embeddings1) @ torch.as_tensor(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401 - arrays or tensors
        """Inner products of each with its counterpart."""
        import torch

        return (torch.as_tensor(embeddings1) * torch.as_tensor(embeddings2)).sum(dim=-1)


def score_task(task: Any, encoder: MtebEncoder) -> TaskScore:  # noqa: ANN401 - a task of mteb
    """Lets mteb measure a model on a task.

    Raises:
        CollectionError: the task's data is neither on this machine nor reachable.
        ModelError: the model gives vectors that are not finite.
    """
    mteb = _mteb()
    name = task.metadata.name
    encoder.instructed = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task.load_data()
    except BgetrainError:
        raise
    except Exception as error:
        raise CollectionError(
            f"--mteb {name}: its data cannot be read: {type(error).__name__}: {str(error).splitlines()[0][:200]}",
            hint="offline, mteb's tasks need their data in the local Hugging Face cache; a folder works without",
        ) from error
    with warnings.catch_warnings():
        # of a degenerate curve in figures that are not shown
        warnings.simplefilter("ignore")
        found = mteb.evaluate(
            encoder,
            task,
            cache=None,
            co2_tracker=False,
            encode_kwargs={"batch_size": _TEXTS_AT_ONCE, "show_progress_bar": False},
            show_progress_bar=False,
        )
    (result,) = found.task_results
    values = [scores["main_score"] for split in result.scores.values() for scores in split]
    return TaskScore(
        task.metadata.main_score, float(np.mean(values)), encoder.instructed, result.model_dump(mode="json")
    )


def _mteb() -> Any:  # noqa: ANN401 - a module without types here
    try:
        import mteb
    except ImportError as error:
        message = "mteb is not installed"
        raise LaunchError(message, hint="pip install 'bgeprep[mteb]' (Python 3.11 or later)") from error
    from datasets import disable_progress_bars

    logging.getLogger("mteb").setLevel(logging.ERROR)
    disable_progress_bars()
    return mteb
