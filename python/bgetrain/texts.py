"""Where texts come from that are to be embedded: each with its key, in an order that is always the same.

```
a shard set      queries, or passages (positives and negatives), each once by exact key    key: uint64
a BEIR folder    queries.jsonl or corpus.jsonl, title before text                          key: its id
a file           .jsonl, .txt (a text a line), each also gzipped; .parquet                 key: its id, else its number
```

No source holds its texts. Of a shard set the keys alone are read at once, to find where each text stands first.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bgetrain.collection import CollectionError, read_lines
from bgetrain.errors import BgetrainError

__all__ = ["Key", "Role", "ShardTexts", "TextList", "Texts", "TextsError", "open_texts", "roles_of"]

Key = int | str
Role = Literal["queries", "passages"]

_ROWS_AT_ONCE = 4096
"""Rows of a Parquet file, or places in a shard set, that are held at a time."""


class TextsError(BgetrainError, ValueError):
    """Texts that are absent or cannot be read; the message names the file and the line."""


class Texts(ABC):
    """Texts with their keys, in a fixed order.

    Attributes:
        name: what they are called to a person.
        fingerprint: differs where keys, texts or order differ; where the files lie does not matter.
    """

    name: str
    fingerprint: str

    @abstractmethod
    def __len__(self) -> int:
        """The number of texts."""

    @abstractmethod
    def read(self, ranges: Sequence[range]) -> Iterator[tuple[Key, str]]:
        """Yields key and text of the places in `ranges`, which are ascending and do not overlap.

        Raises:
            TextsError: a text cannot be read.
            ShardError: a part of the shard set is damaged.
        """

    def __iter__(self) -> Iterator[tuple[Key, str]]:
        """All keys and texts."""
        return self.read([range(len(self))])


class TextList(Texts):
    """Texts in memory; their keys are their places from 0 where none are given."""

    def __init__(self, texts: Sequence[str], keys: Sequence[Key] | None = None, *, name: str = "texts") -> None:
        """Keeps the lists as they are.

        Raises:
            ValueError: there are not as many keys as texts.
        """
        self._texts = texts
        self._keys: Sequence[Key] = range(len(texts)) if keys is None else keys
        if len(self._keys) != len(texts):
            raise ValueError(f"{len(self._keys)} keys for {len(texts)} texts")
        self.name = name
        digest = hashlib.sha256()
        for key, text in zip(self._keys, texts, strict=True):
            digest.update(f"{key!r} {len(text)} {text}\n".encode("utf-8", "surrogatepass"))
        self.fingerprint = f"list {digest.hexdigest()}"

    def __len__(self) -> int:
        """The number of texts."""
        return len(self._texts)

    def read(self, ranges: Sequence[range]) -> Iterator[tuple[Key, str]]:
        """See `Texts.read`."""
        for places in ranges:
            for place in places:
                yield self._keys[place], self._texts[place]


class ShardTexts(Texts):
    """The queries or the passages of a shard set, each where it stands first.

    Attributes:
        keys: exact keys, uint64 [texts], in the order of the texts.
    """

    def __init__(self, path: str | Path, role: Role) -> None:
        """Opens the set and reads its keys: 8 bytes an occurrence, three times that for a moment.

        Raises:
            TextsError: the set has no such texts.
            ShardError: there is no complete set.
        """
        from bgeprep.shardset import ShardSet

        self._rows = ShardSet.open(path)
        self._role = role
        self._kind = self._rows.kind
        self.name = f"{path}: {role}"
        self.fingerprint = f"shards {self._rows.hash} {role}"
        if not len(self._rows):
            raise TextsError(f"{path}: the shard set has no row", path=str(path))
        if self._kind == "text" and role == "queries":
            raise TextsError(f"{path}: a set of texts has no queries", path=str(path), hint="it has passages")
        keys, self._starts = self._read_keys()
        # the place where each key stands first, in the order of these places
        self._first = np.sort(np.unique(keys, return_index=True)[1])
        self.keys: NDArray[np.uint64] = keys[self._first]

    def _read_keys(self) -> tuple[NDArray[np.uint64], NDArray[np.int64] | None]:
        """Keys of all occurrences, and the occurrence each row begins with, int64 [rows + 1]; None for one a row."""
        scan = self._rows.scan()
        if self._role == "queries" or self._kind == "text":
            column = "query_exact_key" if self._kind == "pairs" else "text_exact_key"
            return scan.select(column).collect()[column].to_numpy(), None
        lists = scan.select(keys=pl.concat_list("pos_exact_keys", "neg_exact_keys")).collect()["keys"]
        counts = lists.list.len().to_numpy().astype(np.int64)
        # a row without passages would explode to a null
        keys = lists.filter(lists.list.len() > 0).explode().to_numpy()
        return keys, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])

    def __len__(self) -> int:
        """The number of distinct texts."""
        return len(self._first)

    def read(self, ranges: Sequence[range]) -> Iterator[tuple[Key, str]]:
        """See `Texts.read`."""
        row, held = -1, [""]
        for places in ranges:
            for start in range(places.start, places.stop, _ROWS_AT_ONCE):
                here = slice(start, min(start + _ROWS_AT_ONCE, places.stop))
                rows = items = self._first[here]
                if self._starts is None:
                    items = np.zeros_like(rows)
                else:
                    rows = np.searchsorted(self._starts, rows, side="right") - 1
                    items = items - self._starts[rows]
                for key, wanted, item in zip(self.keys[here].tolist(), rows.tolist(), items.tolist(), strict=True):
                    if wanted != row:
                        row, held = wanted, self._texts_of(self._rows[wanted])
                    yield key, held[item]

    def _texts_of(self, row: dict[str, Any]) -> list[str]:
        if self._kind == "text":
            return [f"{row['title']} {row['text']}".strip()]
        return [row["query"]] if self._role == "queries" else [*row["pos"], *row["neg"]]


class LineTexts(Texts):
    """A file with a text a line: JSON objects with `text` (and `title`, `_id` or `id`), JSON strings, or plain text.

    Blank lines are no texts. Keys are ids where the first row has one, else line numbers from 1.
    """

    def __init__(self, path: str | Path, *, plain: bool) -> None:
        """Reads the file once, for its number of texts and its fingerprint.

        Args:
            path: the file, plain or gzipped.
            plain: lines are texts, not JSON.

        Raises:
            TextsError: the file holds no text, or is not readable as text.
        """
        self._path = Path(path)
        self._plain = plain
        self.name = str(path)
        self._count = 0
        digest = hashlib.sha256(b"plain\n" if plain else b"json\n")
        for _, text in self._lines():
            self._count += 1
            digest.update(text.encode())
        if not self._count:
            raise TextsError(f"{path}: no texts", path=str(path))
        self.fingerprint = f"lines {digest.hexdigest()}"

    def _lines(self) -> Iterator[tuple[int, str]]:
        try:
            for line, text in read_lines(self._path):
                if text.strip():
                    yield line, text
        except CollectionError as error:
            raise TextsError(str(error), path=error.path) from error

    def __len__(self) -> int:
        """The number of lines that are not blank."""
        return self._count

    def read(self, ranges: Sequence[range]) -> Iterator[tuple[Key, str]]:
        """See `Texts.read`."""
        by_id: bool | None = None
        wanted = iter(ranges)
        places = next(wanted, range(0))
        seen = 0
        for place, (line, text) in enumerate(self._lines()):
            seen += 1
            row = None
            if by_id is None:
                row = self._row(line, text)
                by_id = row[0] is not None
            while place >= places.stop:
                following = next(wanted, None)
                if following is None:
                    return
                places = following
            if place not in places:
                continue
            key, content = row or self._row(line, text)
            if (key is not None) != by_id:
                found, before = ("no id", "ids") if by_id else ("an id", "none")
                raise self._wrong(line, f"found {found}, where the first text has {before}")
            yield line if key is None else key, content
        if seen != self._count:
            raise TextsError(f"{self._path}: the file changed while it was read", path=str(self._path))

    def _row(self, line: int, text: str) -> tuple[str | None, str]:
        """Id, or None, and text of a line."""
        if self._plain:
            return None, text.rstrip("\r\n")
        try:
            row = json.loads(text)
        except ValueError as error:
            raise self._wrong(line, f"not valid JSON: {error}") from error
        if isinstance(row, str):
            row = {"text": row}
        content = row.get("text") if isinstance(row, dict) else None
        title = (row.get("title") or "") if isinstance(row, dict) else ""
        if not isinstance(content, str) or not isinstance(title, str):
            raise self._wrong(line, 'expected {"text": "…"}, with a title and an _id or id if there are any')
        name = row.get("_id", row.get("id"))
        # as `collection` joins them
        joined = f"{title} {content}".strip()
        if "\\ud" in text or "\\uD" in text:
            try:
                joined.encode()
            except UnicodeEncodeError as error:
                raise self._wrong(line, f"half a surrogate pair: {error}") from error
        return None if name is None else str(name), joined

    def _wrong(self, line: int, what: str) -> TextsError:
        return TextsError(f"{self._path}:{line}: {what}", path=str(self._path))


class ParquetTexts(Texts):
    """A Parquet file: column `text`, or its only column of text; `title`, and `_id` or `id` where there are such."""

    def __init__(self, path: str | Path) -> None:
        """Reads the schema, and the file's bytes for the fingerprint.

        Raises:
            TextsError: it is no Parquet file, or none of texts.
        """
        self._path = Path(path)
        self.name = str(path)
        try:
            self._scan = pl.scan_parquet(self._path, glob=False)
            schema = self._scan.collect_schema()
            self._count = int(self._scan.select(pl.len()).collect().item())
        except pl.exceptions.PolarsError as error:
            raise TextsError(f"{path}: not readable as Parquet: {error}", path=str(path)) from error
        named = [name for name, kind in schema.items() if kind == pl.String and name not in {"_id", "id", "title"}]
        if "text" not in named and len(named) != 1:
            found = ", ".join(f"{name} ({kind})" for name, kind in schema.items())
            raise TextsError(f"{path}: expected a column `text`, found {found or 'no column'}", path=str(path))
        if not self._count:
            raise TextsError(f"{path}: no texts", path=str(path))
        self._text = "text" if "text" in named else named[0]
        self._id = next((name for name in ("_id", "id") if name in schema), None)
        self._title = "title" if schema.get("title") == pl.String else None
        with self._path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        self.fingerprint = f"parquet {digest.hexdigest()}"

    def __len__(self) -> int:
        """The number of rows."""
        return self._count

    def read(self, ranges: Sequence[range]) -> Iterator[tuple[Key, str]]:
        """See `Texts.read`."""
        columns = [pl.col(self._text).alias("text")]
        columns.append((pl.col(self._title) if self._title else pl.lit("")).fill_null("").alias("title"))
        if self._id:
            columns.append(pl.col(self._id).cast(pl.String).alias("id"))
        for places in ranges:
            for start in range(places.start, places.stop, _ROWS_AT_ONCE):
                size = min(_ROWS_AT_ONCE, places.stop - start)
                frame = self._scan.select(columns).slice(start, size).collect()
                for number, row in enumerate(frame.iter_rows(named=True), start=start + 1):
                    key = row["id"] if self._id else number
                    if row["text"] is None or key is None:
                        raise TextsError(f"{self._path}: row {number} has no text, or no id", path=str(self._path))
                    yield key, f"{row['title']} {row['text']}".strip() if row["title"] else row["text"]


def roles_of(path: str | Path) -> list[Role]:
    """What can be read from a path: queries, passages or both; a file is taken for passages.

    Raises:
        TextsError: it is neither a shard set, a BEIR folder nor a file.
        ShardError: there is no complete set.
    """
    place = Path(path)
    if place.is_file():
        return ["passages"]
    if (place / "manifest.json").is_file():
        from bgeprep.shardset import ShardSet

        return ["passages"] if ShardSet.open(place).kind == "text" else ["queries", "passages"]
    roles: list[Role] = ["queries", "passages"]
    found = [role for role in roles if _beir_file(place, role)]
    if not found:
        what = "no such file or folder" if not place.exists() else "neither a shard set nor a folder with corpus.jsonl"
        raise TextsError(
            f"{place}: {what}",
            path=str(place),
            hint="expected a shard set, a folder in the BEIR layout, or a .jsonl, .txt or .parquet file",
        )
    return found


def open_texts(path: str | Path, role: Role) -> Texts:
    """The queries or the passages that lie at a path.

    Args:
        path: a shard set, a BEIR folder, or a file: .parquet, .txt or .txt.gz, anything else is read as JSON lines.
        role: which texts of a folder; of a file there is one kind.

    Raises:
        TextsError: there are no such texts.
        ShardError: there is no complete set.
    """
    place = Path(path)
    if place.is_file():
        name = place.name.lower().removesuffix(".gz")
        return ParquetTexts(place) if name.endswith(".parquet") else LineTexts(place, plain=name.endswith(".txt"))
    if role not in roles_of(place):
        raise TextsError(f"{place}: has no {role}", path=str(place))
    file = _beir_file(place, role)
    if file is not None and not (place / "manifest.json").is_file():
        return LineTexts(file, plain=False)
    return ShardTexts(place, role)


def _beir_file(folder: Path, role: Role) -> Path | None:
    stem = "queries" if role == "queries" else "corpus"
    return next((file for end in ("", ".gz") if (file := folder / f"{stem}.jsonl{end}").is_file()), None)
