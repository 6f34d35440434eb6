"""Topics of the rows of a shard set, for batches of one topic each: the command `bgetrain cluster`.

1. Every row is stood for by the vector of its query, or of its first positive (`vectors`).
2. Within each source spherical k-means finds centroids, from a sample of rows that is large enough for them.
3. Every row goes to its nearest centroid, a window of rows at a time.

Within each source, since a batch is of one source (Merrick 2024, arXiv 2407.18887); topics of queries are those of
TAS-B (Hofstätter et al. 2021, arXiv 2104.06967). Sample and k-means follow the seed: the same vectors, the same file.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bgetrain.errors import ConfigError, LaunchError
from bgetrain.extras import need
from bgetrain.flags import positive
from bgetrain.progress import Bar
from bgetrain.resumable import PartsError
from bgetrain.vectors import open_vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgeprep.shardset import ShardSet
    from bgetrain.texts import Role
    from bgetrain.vectors import Vectors

__all__ = ["TEACHING", "SourceClusters", "add_arguments", "cluster", "run"]

TEACHING = """\
Sort the rows of a shard set into topics, so that batches can be drawn from one topic each and their in-batch
negatives are hard.

  bgetrain encode --model output/stage1 --data shards/ --role queries --out vectors/ --dtype float16
  bgetrain cluster --data shards/ --vectors vectors/ --out topics.parquet
  bgetrain train --data shards/ --batch_by cluster --clusters topics.parquet …

Queries that are all of a few forms ("What is …?", "How is … treated?") are sorted by form: there --by passages sorts
by subject. A topic should hold several batches, so that who meets whom changes from pass to pass: --rows_per_cluster,
ten times the batch or more. Each source has topics of its own, at least one. Memory is that of the sample k-means
learns from: --train_points vectors a topic, of the largest source."""

_WINDOW = 16_384
"""Rows that are sorted at a time."""

_ITERATIONS = 20


@dataclass(frozen=True, slots=True)
class SourceClusters:
    """What became of one source.

    Attributes:
        source: its name.
        rows: in it.
        sizes: rows of each of its clusters, largest first; empty ones are left out.
        cosine: mean cosine of a row's vector with its centroid.
    """

    source: str
    rows: int
    sizes: list[int]
    cosine: float


def cluster(
    shards: str | Path,
    vectors: str | Path,
    out: str | Path,
    *,
    by: Role = "queries",
    rows_per_cluster: int = 10_000,
    train_points: int = 256,
    seed: int = 42,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SourceClusters]:
    """Writes the cluster of each row of a shard set to a Parquet file.

    Args:
        shards: the set.
        vectors: what `bgetrain encode` made of it: the folder, or the folder of its queries or passages.
        out: the file, for `--clusters` of `bgetrain train` and `bgeprep batches`.
        by: what stands for a row: its query, or its first positive.
        rows_per_cluster: a source gets one cluster for each so many rows, at least one.
        train_points: rows that k-means learns from, for each cluster.
        seed: of the sample and of k-means.
        overwrite: replace `out`.
        progress: called with the rows sorted and all rows.

    Returns:
        The sizes, source by source; cluster numbers are those of all sources in a row.

    Raises:
        LaunchError: faiss is not installed, or `out` exists.
        PartsError: there are no complete vectors, or not those of this set.
        ConfigError: the set is not one of pairs.
        ShardError: there is no complete set.
        OSError: the file cannot be written.
    """
    need("faiss", wanted_by="bgetrain cluster", extra="cluster")
    import faiss

    from bgeprep.clusters import write_clusters
    from bgeprep.shardset import ShardSet

    target = Path(out)
    if target.exists() and (target.is_dir() or not overwrite):
        raise LaunchError(f"{target}: exists", path=str(target), hint="--overwrite replaces the file")
    if not target.parent.is_dir():
        raise LaunchError(f"{target}: no such folder as {target.parent}", path=str(target))
    rows = ShardSet.open(shards)
    if rows.kind != "pairs" or not len(rows):
        raise ConfigError(f"{shards}: expected a set of pairs, found {len(rows)} rows of kind {rows.kind}")
    opened = _open_of(rows, Path(vectors), by)
    places = _places(rows, opened, by)
    found = np.zeros(len(rows), dtype=np.uint32)
    told: list[SourceClusters] = []
    first_cluster = 0
    for source in rows.sources:
        first, count = source["first"], source["rows"]
        if not count:
            continue
        own = places[first : first + count]
        number = max(1, round(count / rows_per_cluster))
        centroids = _centroids(faiss, opened, own, number, train_points, seed)
        index = faiss.IndexFlatIP(opened.dim)
        index.add(centroids)
        cosines = 0.0
        for start in range(0, count, _WINDOW):
            window = own[start : start + _WINDOW]
            similarity, nearest = index.search(_unit(opened.rows_at(window)), 1)
            found[first + start : first + start + len(window)] = nearest[:, 0] + first_cluster
            cosines += float(similarity.sum(dtype=np.float64))
            progress(first + start + len(window), len(rows))
        sizes = np.bincount(found[first : first + count] - first_cluster, minlength=number)
        told.append(SourceClusters(source["name"], count, sorted(sizes[sizes > 0].tolist())[::-1], cosines / count))
        first_cluster += number
    write_clusters(target, rows, found)
    return told


def _open_of(rows: ShardSet, folder: Path, by: Role) -> Vectors:
    """The vectors, which must be of this set."""
    below = folder / by
    opened = open_vectors(below if below.is_dir() else folder)
    expected = f"shards {rows.hash} {by}"
    if opened.manifest["texts"] != expected:
        raise PartsError(
            f"{opened.path}: expected vectors of `{expected}`, found those of `{opened.manifest['texts']}`",
            path=str(opened.path),
            hint=f"bgetrain encode --data {rows.path} --role {by} --out …",
        )
    return opened


def _places(rows: ShardSet, opened: Vectors, by: Role) -> NDArray[np.int64]:
    """The vector of each row, int64 [rows]."""
    wanted = pl.col("query_exact_key") if by == "queries" else pl.col("pos_exact_keys").list.first()
    keys = rows.scan().select(key=wanted).collect()["key"].to_numpy()
    known = opened.keys()
    order = np.argsort(known)
    spots = np.minimum(np.searchsorted(known[order], keys), len(known) - 1)
    places: NDArray[np.int64] = order[spots]
    if not np.array_equal(known[places], keys):
        raise PartsError(f"{opened.path}: lacks texts of {rows.path}", path=str(opened.path))
    return places


def _centroids(
    faiss: Any,  # noqa: ANN401 - faiss has no types
    opened: Vectors,
    own: NDArray[np.int64],
    number: int,
    train_points: int,
    seed: int,
) -> NDArray[np.float32]:
    """Float32 [number, dim], of length 1, learned from a sample of the source's rows."""
    wanted = number * train_points
    if len(own) > wanted:
        own = np.sort(np.random.default_rng(seed).choice(own, wanted, replace=False))
    means = faiss.Kmeans(
        opened.dim,
        number,
        niter=_ITERATIONS,
        seed=seed,
        spherical=True,
        # the sample is drawn above; faiss shall neither draw another nor say that there are few points
        max_points_per_centroid=len(own),
        min_points_per_centroid=1,
    )
    means.train(_unit(opened.rows_at(own)))
    centroids: NDArray[np.float32] = means.centroids
    return centroids


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bgetrain cluster`."""
    add = parser.add_argument
    add("--data", required=True, metavar="DIR", help="the shard set")
    add("--vectors", required=True, metavar="DIR", help="what `bgetrain encode` made of it")
    add("--out", required=True, type=Path, metavar="FILE", help="the Parquet file to write")
    add(
        "--by",
        choices=("queries", "passages"),
        default="queries",
        help="what stands for a row: its query (default), or its first positive",
    )
    add(
        "--rows_per_cluster",
        type=positive,
        default=10_000,
        metavar="N",
        help="rows of a topic on average (default: 10000)",
    )
    add(
        "--train_points",
        type=positive,
        default=256,
        metavar="N",
        help="rows that k-means learns from, for each topic (default: 256)",
    )
    add("--seed", type=int, default=42, metavar="N", help="of the sample and of k-means (default: 42)")
    add("--overwrite", action="store_true", help="replace --out")
    add("--json", action="store_true", help="print the sizes as JSON")
    add("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Runs the command and prints how large the clusters are.

    Returns:
        0; what goes wrong is raised, and `bgetrain.main.report` turns it into a line and an exit code.

    Raises:
        BgetrainError: the set, the vectors or a flag cannot be used.
        bgeprep.errors.BgeprepError: there is no complete shard set.
        OSError: the file cannot be written.
    """
    told = cluster(
        args.data,
        args.vectors,
        args.out,
        by=args.by,
        rows_per_cluster=args.rows_per_cluster,
        train_points=args.train_points,
        seed=args.seed,
        overwrite=args.overwrite,
        progress=Bar("sorted", "rows", quiet=args.quiet),
    )
    if args.json:
        print(json.dumps({"out": str(args.out), "sources": [asdict(source) for source in told]}, indent=2))
        return 0
    width = max(len("source"), *(len(source.source) for source in told))
    print(f"{'source':{width}}  {'rows':>12}  {'topics':>7}  {'largest':>9}  {'median':>9}  {'smallest':>9}  cosine")
    for source in told:
        sizes = source.sizes
        print(
            f"{source.source:{width}}  {source.rows:>12,}  {len(sizes):>7,}  {sizes[0]:>9,}  "
            f"{round(median(sizes)):>9,}  {sizes[-1]:>9,}  {source.cosine:>6.3f}"
        )
    print(f"written: {args.out}")
    return 0
