"""Topic clusters of the rows of a shard set, as a Parquet file that is bound to the set by its hash."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from bgeprep.errors import ConfigError
from bgeprep.shardset import ShardSet

__all__ = ["read_clusters", "write_clusters"]

_SET = "bgeprep.set"


def write_clusters(
    path: str | os.PathLike[str], shards: str | os.PathLike[str] | ShardSet, clusters: npt.ArrayLike
) -> None:
    """Writes the cluster of each row: columns `row` (uint64) and `cluster` (uint32), and the set's hash as metadata.

    Args:
        path: the Parquet file.
        shards: the set.
        clusters: whole numbers below 2³², one a row of the set, in row order.

    Raises:
        ConfigError: there are not as many clusters as rows, or they are no such numbers.
    """
    rows = shards if isinstance(shards, ShardSet) else ShardSet.open(shards)
    values = np.asarray(clusters)
    if values.shape != (len(rows),) or values.dtype.kind not in "iu":
        raise ConfigError(
            f"clusters: expected one whole number for each of the {len(rows)} rows, found {values.dtype} {values.shape}"
        )
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < 2**32:
        raise ConfigError(f"clusters: expected numbers from 0 to {2**32 - 1}, found {values.min()} to {values.max()}")
    frame = pl.DataFrame({"row": np.arange(len(rows), dtype=np.uint64), "cluster": values.astype(np.uint32)})
    temporary = Path(f"{os.fspath(path)}.tmp")
    frame.write_parquet(temporary, metadata={_SET: rows.hash})
    temporary.replace(path)


def read_clusters(path: str | os.PathLike[str], shards: str | os.PathLike[str] | ShardSet) -> npt.NDArray[np.uint32]:
    """Reads what `write_clusters` wrote; rows may come in any order.

    Args:
        path: the Parquet file.
        shards: the set it must belong to.

    Returns:
        uint32 [rows], the cluster of each row.

    Raises:
        ConfigError: the file is none of that kind, belongs to another set, or lacks rows.
    """
    rows = shards if isinstance(shards, ShardSet) else ShardSet.open(shards)
    name = os.fspath(path)
    try:
        bound = pl.read_parquet_metadata(name).get(_SET)
        frame = pl.read_parquet(name, columns=["row", "cluster"])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConfigError(
            f"{name}: expected a Parquet file with columns row and cluster: {error}; hint: bgeprep.write_clusters"
        ) from error
    if bound != rows.hash:
        raise ConfigError(
            f"{name}: expected clusters of the shard set {rows.hash}, found those of {bound or 'no set'}; "
            "hint: a set that was sharded anew needs clusters of its own"
        )
    places = frame["row"].to_numpy()
    if len(places) != len(rows) or not np.array_equal(np.sort(places), np.arange(len(rows))):
        raise ConfigError(f"{name}: expected each of the rows 0 to {len(rows) - 1} once, found {len(places)} rows")
    clusters = np.empty(len(rows), dtype=np.uint32)
    clusters[places] = frame["cluster"].to_numpy()
    return clusters
