"""Text becomes token ids.

```
Tokenizer(path)                    a tokenizer.json, or a model folder
├── encode(texts)          → ids with special tokens, offsets
├── encode_words(texts)    → the same, and which tokens begin a word or are special
├── encode_offsets(texts)  → ids without special tokens, and the characters each stands for
└── engine, why_not        what does the work, and why not the fast one
```

A BERT tokenizer (BertNormalizer, BertPreTokenizer, WordPiece, `[CLS] … [SEP]`) is this package's own and fast. Every
other file is given to the `tokenizers` crate. Ids, places and words are the same as those of `tokenizers` in any case.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bgeprep._native import TextTokenizer

__all__ = ["SPECIAL", "WORD_START", "Tokenizer"]

WORD_START = 1
"""Flag of a token that begins a word."""
SPECIAL = 2
"""Flag of a token that the tokenizer's file calls special, or that stands around every text."""

_NO_LIMIT = 2**63 - 1


class Tokenizer:
    """Tokenises lists of texts into flat numpy arrays.

    The texts' tokens lie one after another: text `i` owns `ids[offsets[i]:offsets[i + 1]]`. Nothing is padded. The GIL
    is released while tokenising, Ctrl-C ends it, and an object may be used by several threads.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens a tokenizer. Truncation and padding that its file may carry are put aside.

        Args:
            path: a `tokenizer.json`, or a model folder that holds one.

        Raises:
            TokenizerError: the file is missing or not a fast tokenizer.
        """
        self._native = TextTokenizer(Path(path))

    @property
    def path(self) -> Path:
        """The file in use."""
        return self._native.path

    @property
    def engine(self) -> str:
        """What does the work: `wordpiece`, which is fast, or `tokenizers`, the crate of that name."""
        return self._native.engine

    @property
    def why_not(self) -> str | None:
        """The first thing in the file that keeps `wordpiece` from doing the work; None where it does it."""
        return self._native.why_not

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: rows of a table that every id is to index."""
        return self._native.vocab_size

    @property
    def special_tokens(self) -> int:
        """Tokens that `encode` puts around every text."""
        return self._native.special_tokens

    @property
    def special_ids(self) -> dict[str, int | None]:
        """Ids by role: `cls`, `sep`, `pad`, `mask`, `unk`; None where the tokenizer has none."""
        return dict(zip(("cls", "sep", "pad", "mask", "unk"), self._native.special_ids(), strict=True))

    def id_of(self, token: str) -> int | None:
        """The id of a token as it stands in the vocabulary, as `[MASK]` or `##ing`; None where it is not there."""
        return self._native.id_of(token)

    def is_special(self, id: int) -> bool:
        """Whether the file calls an id special, or it stands around every text."""
        return self._native.is_special(id)

    def encode(
        self, texts: Sequence[str], max_length: int | None = None, *, threads: int = 1
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Ids with special tokens.

        Args:
            texts: the texts.
            max_length: tokens of a text with its special ones, at most; longer texts are cut at the end, and the
                special tokens stay. None for no limit.
            threads: threads that share the texts.

        Returns:
            `(ids, offsets)`: int32[tokens] and int64[len(texts) + 1].

        Raises:
            TypeError: `texts` is one text, or holds something else than texts.
            ValueError: a text holds half a surrogate pair, `max_length` is negative, or `threads` is below 1.
            TokenizerError: the tokenizer refuses a text, as one without an unknown token may.
        """
        return self._native.encode(_checked(texts), _limit(max_length), _count(threads))

    def encode_words(
        self, texts: Sequence[str], max_length: int | None = None, *, threads: int = 1
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Ids with special tokens, and what whole-word masks have to know; arguments and errors as of `encode`.

        Returns:
            `(ids, flags, offsets)`: int32[tokens], uint8[tokens], int64[len(texts) + 1]. A flag is the sum of
            `WORD_START` (1) where the token begins a word, and `SPECIAL` (2) where its id is special. The tokens that
            follow without either flag belong to that word. A special token that stands in a text has both flags, as
            has the unknown token where the file calls it special.
        """
        return self._native.encode_words(_checked(texts), _limit(max_length), _count(threads))

    def encode_offsets(
        self, texts: Sequence[str], *, threads: int = 1
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """All ids without special tokens, and where they come from; errors as of `encode`.

        Returns:
            `(ids, spans, offsets)`: int32[tokens], uint32[tokens, 2], int64[len(texts) + 1]. Token `k` of text `i`
            stands for the characters `texts[i][spans[k, 0]:spans[k, 1]]`.
        """
        return self._native.encode_offsets(_checked(texts), _count(threads))


def _checked(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):
        raise TypeError("expected a list of texts, found one text")
    return texts if isinstance(texts, list | tuple) else list(texts)


def _limit(max_length: int | None) -> int:
    if max_length is None:
        return _NO_LIMIT
    if max_length < 0:
        raise ValueError(f"max_length: expected 0 or more, found {max_length}")
    return max_length


def _count(threads: int) -> int:
    if threads < 1:
        raise ValueError(f"threads: expected at least 1, found {threads}")
    return threads
