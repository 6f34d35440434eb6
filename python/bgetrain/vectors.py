"""Embeddings of many texts on disk, made once: read as memory-mapped parts, made part by part on any number of ranks.

```
part-00000.parquet …    column `key`: what the texts of that part are called (uint64, or text)
part-00000.npy …        float16 or float32 [rows, dim], as numpy writes it; rows in the order of the texts
manifest.json           written last: what the vectors are of (`resumable`)
```

1. A part is a run of texts. It is tokenised, sorted by length and embedded in chunks of a token budget. One part's
   token ids are held, never the texts of all.
2. Parts are dealt to ranks in turn. Where a part begins depends on the number of texts and the length they are cut to
   alone, so neither the number of ranks nor a kill decides a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bgetrain.errors import ModelError
from bgetrain.resumable import PartsError, read_manifest, shared_parts, write_whole

if TYPE_CHECKING:
    from bgetrain.embed import Precision, TextTokens
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks
    from bgetrain.padding import TokenRows
    from bgetrain.texts import Key, Texts

__all__ = ["PART_ROWS", "Vectors", "encode_texts", "open_vectors"]

PART_ROWS = 65_536
"""Most rows of a part."""

_FEWEST_ROWS = 1024
"""A part of so many texts loses little to padding; a smaller one loses little when a run is killed."""

_PARTS_WANTED = 256
"""Parts there are to be before they grow to `PART_ROWS`, so that many ranks get work."""

_PART_TOKENS = 1 << 25
"""Most tokens of a part: 128 MiB of ids."""


class Vectors:
    """Embeddings on disk, read only.

    Attributes:
        path: their folder.
        rows: number of vectors.
        dim: length of a vector.
        manifest: what they are of: `model`, `texts`, `prompt`, `max_length`, `dtype`, `precision`.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        """Keeps a manifest whose files are known to be there; use `open_vectors`."""
        self.path = path
        self.manifest = manifest
        self.rows = int(manifest["rows"])
        self.dim = int(manifest["dim"])
        self._part_rows = int(manifest["part_rows"])
        self._part_count = -(-self.rows // self._part_rows)
        self._mapped: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        """The number of vectors."""
        return self.rows

    def parts(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yields the first row and the memory-mapped vectors, float16 or float32 [rows, dim], of each part in order.

        Raises:
            PartsError: a part is damaged.
        """
        for number in range(self._part_count):
            yield number * self._part_rows, self._part(number)

    def rows_at(self, places: NDArray[np.integer]) -> NDArray[np.float32]:
        """The vectors of some rows.

        Args:
            places: rows from 0, in any order, [n].

        Returns:
            float32 [n, dim], a copy.

        Raises:
            IndexError: there is no such row.
            PartsError: a part is damaged.
        """
        places = np.asarray(places, dtype=np.int64)
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < self.rows:
            raise IndexError(f"expected rows 0 to {self.rows - 1}, found {places.min()} to {places.max()}")
        found = np.empty((len(places), self.dim), dtype=np.float32)
        numbers = places // self._part_rows
        for number in np.unique(numbers).tolist():
            here = numbers == number
            found[here] = self._part(number)[places[here] - number * self._part_rows]
        return found

    def keys(self) -> NDArray[Any]:
        """What the texts are called, in the order of the rows: uint64 [rows], or object [rows] of text.

        Raises:
            PartsError: a file of keys is damaged.
        """
        files = [self.path / _names(number)[0] for number in range(self._part_count)]
        try:
            found = pl.concat([pl.read_parquet(file, columns=["key"]) for file in files])["key"].to_numpy()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise PartsError(f"{self.path}: its keys cannot be read: {error}", path=str(self.path)) from error
        if len(found) != self.rows:
            raise PartsError(f"{self.path}: {len(found)} keys for {self.rows} vectors", path=str(self.path))
        return found

    def places_of_keys(self, wanted: pl.Series) -> pl.DataFrame:
        """Where the texts of some keys stand; the keys of all are never in memory.

        Args:
            wanted: keys, of the type that `keys` has; those of no text are passed over.

        Returns:
            Columns `key` and `place` (int64), in the order of the places.

        Raises:
            PartsError: a file of keys is damaged.
        """
        found = [pl.DataFrame(schema={"key": wanted.dtype, "place": pl.Int64})]
        for number in range(self._part_count):
            file = self.path / _names(number)[0]
            try:
                keys = pl.read_parquet(file, columns=["key"]).with_row_index("place", number * self._part_rows)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise PartsError(f"{file}: its keys cannot be read: {error}", path=str(file)) from error
            if keys["key"].dtype == wanted.dtype:
                kept = keys.filter(pl.col("key").is_in(wanted.implode()))
                found.append(kept.select("key", pl.col("place").cast(pl.Int64)))
        return pl.concat(found)

    def _part(self, number: int) -> NDArray[Any]:
        if number not in self._mapped:
            file = self.path / _names(number)[1]
            expected = (min(self._part_rows, self.rows - number * self._part_rows), self.dim)
            kind = self.manifest["dtype"]
            try:
                part: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise PartsError(f"{file}: cannot be read: {error}", path=str(file)) from error
            if part.shape != expected or part.dtype != np.dtype(kind):
                raise PartsError(
                    f"{file}: expected {kind} {list(expected)}, found {part.dtype} {list(part.shape)}", path=str(file)
                )
            self._mapped[number] = part
        return self._mapped[number]


def open_vectors(path: str | Path) -> Vectors:
    """Opens what `encode_texts` made.

    Raises:
        PartsError: there are no vectors, they are not complete, or a file is absent or of another size.
    """
    folder = Path(path)
    return Vectors(folder, read_manifest(folder, "vectors", "encode"))


def encode_texts(
    encoder: Encoder,
    texts: Texts,
    folder: str | Path,
    *,
    prompt: str = "",
    max_length: int | None = None,
    dtype: Literal["float16", "float32"] = "float32",
    precision: Precision = "fp32",
    batch_tokens: int | None = None,
    ranks: Ranks | None = None,
    part_rows: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Vectors:
    """Embeds texts into a folder, or finds them embedded there; a run that was killed is gone on with by the same call.

    Args:
        encoder: the model; it is moved to the device of `ranks`.
        texts: what to embed; a text without tokens gets the zero vector.
        folder: to make, to complete or to find complete.
        prompt: put before every text; truncation keeps it.
        max_length: tokens a text is cut to, special tokens included; None for the encoder's own limit.
        dtype: of the stored vectors; float16 takes half the room and moves a cosine by less than 0.001.
        precision: of the transformer's products; pooling and normalisation are always fp32.
        batch_tokens: most tokens computed at once, padding included; None for `tokens_at_once`.
        ranks: share the work with these processes, which must all call it; None is one process alone, on the device
            where the encoder is.
        part_rows: rows of a part; None chooses by the number of texts, at most `PART_ROWS`.
        overwrite: replace vectors of something else that are in `folder`.
        progress: called with the texts done and those to do, of this process.

    Returns:
        The vectors, open.

    Raises:
        PartsError: the folder holds something else, or another run is writing there.
        TextsError: a text cannot be read.
        ModelError: the model gives vectors that are not finite.
        OSError: the folder cannot be written.
    """
    from bgetrain.ahead import ahead
    from bgetrain.embed import TextTokens, embed_rows, model_hash
    from bgetrain.gather import Ranks

    ranks = ranks or Ranks(device=encoder.device)
    place = Path(folder)
    length = min(max_length or encoder.max_seq_length, encoder.position_limit)
    size = part_rows or _rows_of_a_part(len(texts), length)
    bounds = [range(start, min(start + size, len(texts))) for start in range(0, len(texts), size)]
    work = {
        "model": model_hash(encoder),
        "texts": texts.fingerprint,
        "prompt": prompt,
        "max_length": length,
        "dtype": dtype,
        "precision": precision,
        "rows": len(texts),
        "dim": encoder.dimension,
        "part_rows": size,
    }
    files = [_names(number) for number in range(len(bounds))]
    with shared_parts(place, "vectors", work, files, ranks=ranks, overwrite=overwrite) as own:
        encoder.to(ranks.device)
        total, done = sum(len(bounds[number]) for number in own), 0
        progress(done, total)
        tokens = TextTokens(encoder, prompt=prompt, max_length=length)
        stream = _tokenised(tokens, texts, [bounds[number] for number in own])
        # on a processor the same cores would do both
        stream = ahead(stream) if ranks.device.type == "cuda" else stream
        for number, (keys, rows) in zip(own, stream, strict=True):
            vectors = embed_rows(encoder, rows, precision=precision, batch_tokens=batch_tokens)
            stored = _stored(vectors, dtype, f"{texts.name}: texts {bounds[number].start} to {bounds[number].stop - 1}")
            _write_part(place, number, stored, keys)
            done += len(rows)
            progress(done, total)
    return open_vectors(place)


def _rows_of_a_part(count: int, max_length: int) -> int:
    """A power of two, so that parts of one count and length are always the same."""
    wanted = 1 << max(0, -(-count // _PARTS_WANTED) - 1).bit_length()
    most = 1 << (max(1, _PART_TOKENS // max(1, max_length)).bit_length() - 1)
    return min(max(wanted, _FEWEST_ROWS), most, PART_ROWS)


def _names(number: int) -> tuple[str, str]:
    """The files of a part, the vectors last."""
    return f"part-{number:05d}.parquet", f"part-{number:05d}.npy"


def _tokenised(tokens: TextTokens, texts: Texts, bounds: Sequence[range]) -> Iterator[tuple[list[Key], TokenRows]]:
    """Keys and token ids of each run of texts; the source is read once, forward."""
    stream = texts.read(bounds)
    for places in bounds:
        keys: list[Key] = []

        def contents(count: int = len(places), keys: list[Key] = keys) -> Iterator[str]:
            for _ in range(count):
                key, text = next(stream)
                keys.append(key)
                yield text

        yield keys, tokens.rows(contents())


def _stored(vectors: NDArray[np.float32], dtype: str, what: str) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        stored: NDArray[Any] = vectors.astype(dtype)
    bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if len(bad):
        overflow = bool(np.isfinite(vectors).all())
        raise ModelError(
            f"{what}: {len(bad)} of {len(vectors)} vectors are not finite, first that of text {bad[0]} of these",
            hint="--dtype float32 holds larger numbers" if overflow else "the weights are damaged",
        )
    return stored


def _write_part(folder: Path, number: int, vectors: NDArray[Any], keys: list[Key]) -> None:
    names = _names(number)
    kind = pl.String if keys and isinstance(keys[0], str) else pl.UInt64
    frame = pl.DataFrame({"key": pl.Series(keys, dtype=kind)})
    write_whole(folder / names[0], lambda file: frame.write_parquet(file))
    write_whole(folder / names[1], lambda file: np.save(file, vectors, allow_pickle=False))
