"""What negatives are taken from, and what is known of each query: texts, their keys, and the positives of a set.

The exact key of a text says what it is; its batching key is that of its near duplicates, where it lies in a shard set.
Of the set that is mined, 8 bytes a text and a few a known positive are in memory; texts stay on disk.
"""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bgetrain.errors import ConfigError
from bgetrain.resumable import write_whole
from bgetrain.texts import ShardTexts, Texts, TextsError

__all__ = ["KnownPositives", "PositiveTexts", "TextStore", "keys_of", "places_of"]


class PositiveTexts(ShardTexts):
    """The positives of a shard set, each once by exact key."""

    def __init__(self, path: str | Path) -> None:
        """Opens the set; see `ShardTexts`."""
        super().__init__(path, "passages")
        self.fingerprint = self.fingerprint.removesuffix("passages") + "positives"

    def _read_keys(self) -> tuple[NDArray[np.uint64], NDArray[np.int64] | None]:
        lists = self._rows.scan().select("pos_exact_keys").collect()["pos_exact_keys"]
        counts = lists.list.len().to_numpy().astype(np.int64)
        return lists.explode().to_numpy(), np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


class TextStore:
    """Texts on disk, any of them read at once by its place: one file of bytes, and where each text ends.

    Attributes:
        exact_keys: of the texts, uint64 [texts].
    """

    def __init__(self, path: Path) -> None:
        """Opens a store by the path that `make` gave.

        Raises:
            OSError: it is not there.
        """
        bytes_file, ends_file, keys_file = _files(path)
        # as plain arrays over the maps: those are slow to ask for one number
        self._ends: NDArray[np.int64] = np.asarray(np.load(ends_file, mmap_mode="r", allow_pickle=False))
        self.exact_keys: NDArray[np.uint64] = np.asarray(np.load(keys_file, mmap_mode="r", allow_pickle=False))
        with bytes_file.open("rb") as file:
            self._bytes: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._ends[-1] else b""

    @staticmethod
    def make(folder: Path, texts: Texts) -> Path:
        """Makes the store of some texts in `folder`, or finds it there; its path opens it.

        Raises:
            TextsError: a text cannot be read.
            OSError: the folder cannot be written.
        """
        from bgeprep.scores import text_key

        path = folder / hashlib.sha256(texts.fingerprint.encode()).hexdigest()[:16]
        bytes_file, ends_file, keys_file = _files(path)
        if ends_file.is_file():
            return path
        folder.mkdir(parents=True, exist_ok=True)
        ends = np.zeros(len(texts) + 1, dtype=np.int64)
        given = texts.keys if isinstance(texts, ShardTexts) else None
        keys = np.zeros(len(texts), dtype=np.uint64) if given is None else given

        def write(file: Any) -> None:  # noqa: ANN401 - a file
            end = 0
            for place, (_, text) in enumerate(texts):
                end += file.write(text.encode("utf-8", "surrogatepass"))
                ends[place + 1] = end
                if given is None:
                    keys[place] = text_key(text)

        write_whole(bytes_file, write)
        write_whole(keys_file, lambda file: np.save(file, keys))
        write_whole(ends_file, lambda file: np.save(file, ends))
        return path

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.exact_keys)

    def __getitem__(self, place: int) -> str:
        """The text at a place."""
        found: bytes = self._bytes[self._ends[place] : self._ends[place + 1]]
        return found.decode("utf-8", "surrogatepass")


def _files(path: Path) -> tuple[Path, Path, Path]:
    """Texts, ends and keys of a store; the ends are written last."""
    return path.with_suffix(".txt"), path.with_suffix(".npy"), path.with_suffix(".keys.npy")


def keys_of(store: TextStore, path: str | Path) -> NDArray[np.uint64]:
    """The batching key of each text, uint64 [texts]: the exact one, but where a set knows near duplicates.

    Args:
        store: the texts.
        path: where they come from.
    """
    if not (Path(path) / "manifest.json").is_file():
        return store.exact_keys
    from bgeprep.shardset import ShardSet

    rows = ShardSet.open(path)
    columns = [("text", "text_key", "text_exact_key")]
    if rows.kind == "pairs":
        columns = [("pos", "pos_keys", "pos_exact_keys"), ("neg", "neg_keys", "neg_exact_keys")]
    frames = []
    for _, near, exact in columns:
        frame = rows.scan().select(near=pl.col(near), exact=pl.col(exact))
        if rows.kind == "pairs":
            frame = frame.filter(pl.col("near").list.len() > 0).explode("near", "exact")
        frames.append(frame.collect())
    both = pl.concat(frames).unique("exact", keep="first", maintain_order=True).sort("exact")
    places = np.searchsorted(both["exact"].to_numpy(), store.exact_keys)
    found: NDArray[np.uint64] = both["near"].to_numpy()[places]
    return found


class KnownPositives:
    """What a set knows of its queries, in the order of `ShardTexts(path, "queries")`.

    Attributes:
        keys: exact keys of the queries, uint64 [Q].
        offsets: where the positives of each query begin, int64 [Q + 1].
        positives: their exact keys, one query after the other, uint64.
        fingerprint: differs where what is known of the queries differs.
        mined: whether negatives are looked for: not of classification sources, where other texts of a class are none.
    """

    def __init__(
        self,
        path: str | Path,
        queries: ShardTexts,
        judged: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None,
    ) -> None:
        """Reads the keys of the set.

        Args:
            path: the set.
            queries: its queries.
            judged: what is known from elsewhere: exact keys of queries, and for each the exact key of a text that
                answers it, both uint64 [n].

        Raises:
            TextsError: the set has no queries to mine for.
            ShardError: there is no complete set.
        """
        from bgeprep.shardset import ShardSet

        rows = ShardSet.open(path)
        self.keys = queries.keys
        self._order = np.argsort(self.keys)
        self._sorted = self.keys[self._order]
        frame = rows.scan().select(
            "query_exact_key", "query_key", "pos_keys", "pos_exact_keys", "also_pos_keys", "source"
        )
        kept = frame.select("query_exact_key", "query_key", "source").collect()
        numbers = self.number(kept["query_exact_key"].to_numpy())
        spared = [source["name"] for source in rows.sources if source["task"] == "classification"]
        self.mined: NDArray[np.bool_] = np.zeros(len(self.keys), dtype=np.bool_)
        self.mined[numbers[~kept["source"].is_in(spared).to_numpy()]] = True
        if not self.mined.any():
            raise TextsError(f"{path}: has only classification sources, whose texts are no negatives", path=str(path))
        self._groups = np.zeros(len(self.keys), dtype=np.uint64)
        self._groups[numbers] = kept["query_key"].to_numpy()

        own = frame.select("query_exact_key", key="pos_exact_keys").explode("key").unique().collect()
        self.offsets, self.positives = _runs(self.number(own["query_exact_key"].to_numpy()), own["key"].to_numpy(),
                                             len(self.keys))  # fmt: skip
        known = pl.concat(
            [
                *(frame.select("query_key", key=name).explode("key") for name in _POSITIVES),
                frame.select("query_key", key="query_key"),
                frame.select("query_key", key="query_exact_key"),
            ]
        )
        if judged is not None:
            groups = self._groups[self.number(judged[0])]
            known = pl.concat([known, pl.LazyFrame({"query_key": groups, "key": judged[1]})])
        known_keys = known.drop_nulls().unique().collect()
        self._names, group_numbers = np.unique(known_keys["query_key"].to_numpy(), return_inverse=True)
        self._known_offsets, self._known = _runs(group_numbers, known_keys["key"].to_numpy(), len(self._names))
        digest = hashlib.sha256()
        for array in (self._names, self._known_offsets, self._known):
            digest.update(np.ascontiguousarray(array).data)
        self.fingerprint = digest.hexdigest()

    def number(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The numbers of queries by their exact keys, int64 in the shape of `keys`."""
        return np.asarray(self._order[np.searchsorted(self._sorted, keys)], dtype=np.int64)

    def known(self, block: range) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Keys that no negative of these queries may carry, and where those of each query begin, int64 [B + 1].

        They are those of the positives of all rows with the query or a near duplicate of it, and the query's own.
        """
        groups = np.searchsorted(self._names, self._groups[block.start : block.stop])
        starts, counts = self._known_offsets[groups], np.diff(self._known_offsets)[groups]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
        return self._known[places], offsets


_POSITIVES = ("pos_keys", "pos_exact_keys", "also_pos_keys")


def _runs(
    owners: NDArray[np.int64], keys: NDArray[np.uint64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Keys sorted by owner and then by key, and where those of each owner begin."""
    order = np.lexsort((keys, owners))
    sizes = np.bincount(owners, minlength=count)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)]), keys[order]


def places_of(keys: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The places of keys in a list that holds them all.

    Raises:
        ConfigError: one is not there.
    """
    order = np.argsort(among)
    found = np.minimum(np.searchsorted(among, keys, sorter=order), len(among) - 1)
    places = order[found]
    if not np.array_equal(among[places], keys):
        raise ConfigError("a positive of the set is missing among its passages: the set changed while it was read")
    return np.asarray(places, dtype=np.int64)
