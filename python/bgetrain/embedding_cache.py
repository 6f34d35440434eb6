"""Vectors of what is measured, kept on disk by what they are of, so that a second look embeds nothing again.

```
<cache_dir>/<model hash>/<name>-<hash of texts, prompt, length, precision>/     as `vectors` lays them out
```

Neither a model's folder nor a collection's name is part of that: two checkpoints in folders of one name never share
vectors, and a model that was moved finds its own. Vectors that `bgetrain encode` made are taken as they are, where
model, texts, prompt and length are the same. A run that was killed goes on with what it had.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bgetrain.collection import corpus_file, queries_file
from bgetrain.resumable import PartsError
from bgetrain.texts import LineTexts, TextList
from bgetrain.trec_run import tag_of
from bgetrain.vectors import Vectors, encode_texts, open_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bgetrain.collection import Collection
    from bgetrain.embed import Precision
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks
    from bgetrain.texts import Texts

__all__ = ["EmbeddingCache", "find_vectors"]


def find_vectors(folders: Sequence[str | Path]) -> list[Vectors]:
    """Opens the vectors in folders that `bgetrain encode` made, and in their folders `queries` and `passages`.

    Raises:
        PartsError: a folder holds none, or vectors in it are damaged.
    """
    found = []
    for folder in folders:
        places = [place for name in (".", "queries", "passages") if (place := Path(folder) / name).is_dir()]
        own = [open_vectors(place) for place in places if (place / "manifest.json").is_file()]
        if not own:
            raise PartsError(f"{folder}: holds no vectors", path=str(folder), hint="`bgetrain encode` makes them")
        found += own
    return found


class EmbeddingCache:
    """The vectors of one model, made where they are not there yet; all ranks ask for the same in the same order."""

    def __init__(
        self,
        encoder: Encoder,
        folder: str | Path | None,
        *,
        ranks: Ranks,
        made: Sequence[Vectors] = (),
        precision: Precision = "fp32",
        batch_tokens: int | None = None,
        progress: Callable[[str, int, int], None] = lambda name, done, total: None,
    ) -> None:
        """Hashes the model; nothing is written yet.

        Args:
            encoder: the model; it is moved to the device of `ranks` when something is to be embedded.
            folder: where vectors are kept, shared by all ranks; None takes those of `made` alone.
            ranks: the processes that share the work.
            made: vectors from elsewhere, taken where they fit whatever precision they have.
            precision: of the transformer's products where vectors are made.
            batch_tokens: most tokens computed at once, padding included; None for `tokens_at_once`.
            progress: called with a name, the texts done and those to do, of this process.
        """
        from bgetrain.embed import model_hash

        self.model = model_hash(encoder)
        self._encoder = encoder
        self._folder = None if folder is None else Path(folder) / self.model[:16]
        self._ranks = ranks
        self._made = [vectors for vectors in made if vectors.manifest.get("model") == self.model]
        self._precision = precision
        self._batch_tokens = batch_tokens
        self._progress = progress

    @property
    def fits(self) -> bool:
        """Whether any of the vectors from elsewhere are of this model."""
        return bool(self._made)

    def queries(
        self, collection: Collection, instruction: str, max_length: int | None = None
    ) -> NDArray[np.float32] | None:
        """Vectors of the judged queries, float32 [Q, D]; see `texts`."""
        names = list(collection.queries)
        judged = TextList(list(collection.queries.values()), names)
        vectors = self._find(judged, instruction, max_length)
        if vectors is None and self._made:
            # `bgetrain encode` embeds all queries of the file
            whole = self._find(LineTexts(queries_file(collection.folder, collection.split), plain=False), instruction,
                               max_length)  # fmt: skip
            if whole is not None:
                rows = {key: row for row, key in enumerate(whole.keys().tolist())}
                return whole.rows_at(np.array([rows[name] for name in names], dtype=np.int64))
        vectors = vectors or self._make(judged, f"{collection.name}: queries", instruction, max_length)
        return None if vectors is None else _all(vectors)

    def documents(self, collection: Collection, max_length: int | None = None) -> Vectors | None:
        """Vectors of the corpus, in its order; see `texts`."""
        texts = LineTexts(corpus_file(collection.folder), plain=False)
        return self._find(texts, "", max_length) or self._make(texts, f"{collection.name}: documents", "", max_length)

    def texts(
        self, texts: Sequence[str], name: str, *, prompt: str = "", max_length: int | None = None
    ) -> NDArray[np.float32] | None:
        """Vectors of some texts, float32 [N, D].

        Args:
            texts: at least one.
            name: what they are called to a person.
            prompt: put before every text.
            max_length: tokens a text is cut to; None for the encoder's own limit.

        Returns:
            The vectors, or None where there are none and no folder to make them in.

        Raises:
            PartsError: another run is writing there, or the folder holds something else.
            ModelError: the model gives vectors that are not finite.
            OSError: the folder cannot be written.
        """
        listed = TextList(texts)
        vectors = self._find(listed, prompt, max_length) or self._make(listed, name, prompt, max_length)
        return None if vectors is None else _all(vectors)

    def _length(self, max_length: int | None) -> int:
        return min(max_length or self._encoder.max_seq_length, self._encoder.position_limit)

    def _find(self, texts: Texts, prompt: str, max_length: int | None) -> Vectors | None:
        """What was made elsewhere of just these texts."""
        wanted: dict[str, Any] = {
            "texts": texts.fingerprint,
            "prompt": prompt,
            "max_length": self._length(max_length),
            "rows": len(texts),
        }
        fitting = (each for each in self._made if wanted.items() <= each.manifest.items())
        return next(fitting, None)

    def _make(self, texts: Texts, name: str, prompt: str, max_length: int | None) -> Vectors | None:
        if self._folder is None:
            return None
        length = self._length(max_length)
        said = f"{texts.fingerprint}\n{length}\n{self._precision}\n{prompt}"
        place = self._folder / f"{tag_of(name)[:60]}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
        return encode_texts(
            self._encoder,
            texts,
            place,
            prompt=prompt,
            max_length=length,
            precision=self._precision,
            batch_tokens=self._batch_tokens,
            ranks=self._ranks,
            progress=lambda done, total: self._progress(name, done, total),
        )


def _all(vectors: Vectors) -> NDArray[np.float32]:
    return vectors.rows_at(np.arange(len(vectors)))
