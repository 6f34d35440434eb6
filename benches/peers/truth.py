"""How much of what was planted a tool has found, and how much of what it found is true.

python -m benches.peers.truth --corpus corpus.jsonl --truth truth.parquet --found OUTPUT [--rows N]

OUTPUT is a shard set made by bgeprep from the corpus alone, or the folder of one of `jobs/near_*.py`. Prints JSON. The
same measures for all, by side and language:

- **recall**: of the planted near copies whose texts reach the threshold on this side, the share found. Found means that
  the two rows were put into one cluster (for bgeprep: have one batching key, or the copy was dropped for it).
- **precision**: of the distinct texts put into clusters with another text, the share that reaches the threshold with
  one of them. A sample of clusters; similarity by `tests/reference/near.py` from the raw file.

For bgeprep also: of the planted copies that reach the threshold on both sides, the share dropped (either row); of a
sample of the rows dropped as near duplicates, the share whose query *and* passage reach it with those of the row they
were dropped for; and its own estimates from the manifest. Pairs with a row that was cleaned away for another reason are
left out and counted. Run in a process of its own: what it holds must not count as the peak of what is measured.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl

from tests.reference.dedup import normalise
from tests.reference.near import jaccard, passage_shingles, query_shingles

SIDES = {"query": query_shingles, "passage": passage_shingles}
LARGEST = 64  # texts of a cluster that are compared with each other


@dataclass
class Found:
    """What a tool says of lines, counted from 1.

    Attributes:
        clusters: by side, the cluster of each line; a line that is missing was cleaned away.
        dropped: (line, line it was dropped for) of rows dropped as near duplicates.
        own: what the manifest says of near duplicates.
    """

    clusters: dict[str, dict[int, int]]
    dropped: dict[int, int] = field(default_factory=dict)
    own: dict | None = None


@dataclass
class Measure:
    """Counts of one side and language: planted pairs and those found, texts checked and those rightly clustered."""

    side: str
    language: str
    planted: int
    found: int
    left_out: int
    checked: int = 0
    right: int = 0


def read_clusters(path: Path) -> Found:
    """The result of a peer: passages only."""
    roots = array("q")
    roots.frombytes(path.read_bytes())
    return Found({"passage": dict(enumerate(roots, start=1))})


def read_set(folder: Path) -> Found:
    """A shard set of one input file."""
    columns = ["origin_line", "query_key", "pos_keys"]
    query: dict[int, int] = {}
    passage: dict[int, int] = {}
    for part in sorted(folder.glob("*/part-*.arrow")):
        rows = pl.read_ipc(part, columns=columns)
        query.update(zip(rows["origin_line"], rows["query_key"], strict=True))
        passage.update(zip(rows["origin_line"], rows["pos_keys"].list.first(), strict=True))
    rejects = pl.concat(
        pl.scan_parquet(file)
        .filter(pl.col("part") == "row", pl.col("reason").is_in(["duplicate", "near_duplicate"]))
        .select("origin_line", "twin_line", "reason")
        .collect()
        for file in sorted((folder / "rejects").glob("*.parquet"))
    )
    twins = dict(zip(rejects["origin_line"], rejects["twin_line"], strict=True))
    for line in twins:
        kept, steps = line, 0
        while kept in twins and steps < 1000:
            kept, steps = twins[kept], steps + 1
        if kept in query:
            query[line], passage[line] = query[kept], passage[kept]
    near = set(rejects.filter(pl.col("reason") == "near_duplicate")["origin_line"])
    own = json.loads((folder / "manifest.json").read_bytes()).get("near")
    return Found({"query": query, "passage": passage}, {line: twins[line] for line in twins if line in near}, own)


def recall(found: Found, truth: pl.DataFrame, threshold: float) -> list[Measure]:
    """Measures without the precision."""
    measures = []
    for side, clusters in found.clusters.items():
        planted = truth.filter(pl.col("kind") != "exact", pl.col(f"j_{side}").is_between(threshold, 1.0, closed="left"))
        for language in ("en", "zh"):
            pairs = planted.filter(pl.col("language") == language)
            measure = Measure(side, language, 0, 0, 0)
            for a, b in zip(pairs["line_a"], pairs["line_b"], strict=True):
                if a not in clusters or b not in clusters:
                    measure.left_out += 1
                    continue
                measure.planted += 1
                measure.found += clusters[a] == clusters[b] or b in found.dropped or a in found.dropped
            measures.append(measure)
    return measures


def read_lines(corpus: Path, wanted: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Query and passage of some lines."""
    lines = set(wanted)
    texts = {}
    with corpus.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number in lines:
                row = json.loads(line)
                texts[number] = (row["query"], row["pos"][0])
    return texts


def sample_clusters(clusters: dict[int, int], size: int, stream: random.Random) -> list[list[int]]:
    """Lines of some clusters with more than one line."""
    members: dict[int, list[int]] = defaultdict(list)
    for line, cluster in clusters.items():
        members[cluster].append(line)
    several = [sorted(lines) for _, lines in sorted(members.items()) if len(lines) > 1]
    return stream.sample(several, min(size, len(several)))


def language_of(text: str) -> str:
    """`zh` where there are ideographs."""
    return "zh" if any("\u4e00" <= one <= "\u9fff" for one in text) else "en"


def add_precision(measures: list[Measure], side: str, texts: list[set[str]], threshold: float) -> None:
    """Counts the texts of sampled clusters into the measures of a side."""
    by_language = {measure.language: measure for measure in measures if measure.side == side}
    for cluster in texts:
        distinct = {normalise(text): text for text in sorted(cluster)}
        if len(distinct) < 2:
            continue
        shingles = [(text, SIDES[side](text)) for text in list(distinct.values())[:LARGEST]]
        for place, (text, own) in enumerate(shingles):
            measure = by_language[language_of(text)]
            measure.checked += 1
            measure.right += any(
                jaccard(own, other) >= threshold for number, (_, other) in enumerate(shingles) if number != place
            )


def _near(side: str, a: tuple[str, str], b: tuple[str, str], threshold: float) -> bool:
    column, rule = list(SIDES).index(side), SIDES[side]
    return normalise(a[column]) == normalise(b[column]) or jaccard(rule(a[column]), rule(b[column])) >= threshold


def judge(corpus: Path, truth: pl.DataFrame, found: Found, threshold: float, sample: int) -> dict[str, object]:
    """All measures of a tool."""
    measures = recall(found, truth, threshold)
    stream = random.Random(7)
    sampled = {side: sample_clusters(clusters, sample, stream) for side, clusters in found.clusters.items()}
    dropped = stream.sample(sorted(found.dropped.items()), min(sample, len(found.dropped)))
    wanted = [line for clusters in sampled.values() for lines in clusters for line in lines]
    texts = read_lines(corpus, [*wanted, *(line for pair in dropped for line in pair)])
    for side, clusters in sampled.items():
        column = list(SIDES).index(side)
        add_precision(measures, side, [{texts[line][column] for line in lines} for lines in clusters], threshold)
    true_drops = sum(all(_near(side, texts[a], texts[b], threshold) for side in SIDES) for a, b in dropped)
    both = truth.filter(pl.col("kind") == "both", pl.col("j_query") >= threshold, pl.col("j_passage") >= threshold)
    gone = (both["line_b"].is_in(list(found.dropped)) | both["line_a"].is_in(list(found.dropped))).sum()
    drops = {"all": len(found.dropped), "checked": len(dropped), "right": true_drops}
    return {
        "measures": [asdict(measure) for measure in measures],
        "drops": drops | {"planted": both.height, "found": gone},
        "own": found.own,
    }


def main() -> None:
    """Prints the measures of one output as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="the JSONL file the tool has read")
    parser.add_argument("--truth", type=Path, required=True, help="what `benches.peers.planted` wrote beside it")
    parser.add_argument("--found", type=Path, required=True, help="shard set, or folder with clusters.bin")
    parser.add_argument("--rows", type=int, help="the tool has seen only so many rows (all)")
    parser.add_argument("--threshold", type=float, default=0.8, help="similarity that counts as near (0.8)")
    parser.add_argument("--sample", type=int, default=4000, help="clusters and dropped rows to check (4000)")
    arguments = parser.parse_args()
    truth = pl.read_parquet(arguments.truth)
    if arguments.rows:
        truth = truth.filter(pl.col("line_b") <= arguments.rows)
    peer = arguments.found / "clusters.bin"
    found = read_clusters(peer) if peer.exists() else read_set(arguments.found)
    json.dump(judge(arguments.corpus, truth, found, arguments.threshold, arguments.sample), sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
