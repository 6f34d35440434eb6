"""T2Ranking: questions that people asked Sogou, 2.3 million passages, judgements, negatives of two searches."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bgeprep.errors import ConfigError
from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.collection import Collection
from bgeprep.recipes.join import Chosen, id_rows, joined, known_pairs
from bgeprep.recipes.stream import Stream, pair_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import Tally

__all__ = ["RECIPE"]

_NEGATIVES = ("mined", "bm25", "none")


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `t2ranking`."""
    asked, ranks = raw.chosen("negatives", _NEGATIVES), raw.options.get("ranks", "")
    window = re.fullmatch(r"(\d{1,9})-(\d{1,9})", ranks or "0-999999999")
    if not window:
        raise ConfigError(f"options.ranks: expected as 10-210, found {ranks!r}")
    limit, seed = raw.number("num_negatives", 15), raw.number("seed", 1)
    names = {"passages": "collection", "queries": "queries.train", "positives": "qrels.retrieval.train"}
    if asked != "none":
        names["negatives"] = f"train.{asked}"
    files = {use: raw.named(rf"(^|/){re.escape(name)}\.tsv", expected=f"{name}.tsv")[0] for use, name in names.items()}
    if judgements := raw.named(r"(^|/)qrels\.train\.tsv"):
        files["judgements"] = judgements[0]
    choice = (limit, seed, int(window[1]), int(window[2]))
    frames = partial(_frames, files, choice, tidy_of(raw))
    return {"t2ranking": Stream(pair_schema(), frames, Purpose("retrieval", "zh"))}


def _frames(
    files: dict[str, RawFile], choice: tuple[int, int, int, int], tidy: Callable[[str], str], tally: Tally
) -> Iterator[pl.DataFrame]:
    import polars as pl

    limit, seed, first, last = choice
    passages, queries = Collection(files["passages"], tally), Collection(files["queries"], tally)
    numbers = passages.numbered and queries.numbered

    def add(chosen: Chosen, use: str, columns: tuple[str, ...], keep: pl.Expr) -> None:
        for rows in id_rows(files[use], columns, tally, numbers=numbers) if use in files else ():
            chosen.add(known_pairs(rows.filter(keep), ("qid", queries), ("pid", passages), files[use], tally))

    relevant, known, negatives = Chosen(len(queries)), Chosen(len(queries)), np.empty(0, np.uint64)
    add(relevant, "positives", ("qid", "pid"), pl.lit(True))
    known.add(relevant.pairs())
    # what is judged a little relevant (1 of 0 to 3) is no positive, and no negative either
    add(known, "judgements", ("qid", "_", "pid", "grade"), pl.col("grade") >= 1)
    if "negatives" in files:
        found = Chosen(len(queries), limit=limit, seed=seed, but=known.pairs())
        add(found, "negatives", ("qid", "pid", "rank"), pl.col("rank").is_between(first, last))
        negatives = found.pairs()
    yield from joined(queries, passages, relevant.pairs(), negatives, tally, tidy)


RECIPE = Recipe(
    name="t2ranking",
    kind="pairs",
    stages=("stage 2",),
    languages=("zh",),
    about="T2Ranking: Chinese question → relevant passages of the web, negatives of BM25 or a dense search",
    where="https://huggingface.co/datasets/THUIR/T2Ranking: of data/ collection.tsv, queries.train.tsv, "
    "qrels.retrieval.train.tsv, qrels.train.tsv, and train.mined.tsv or train.bm25.tsv; unpacked",
    licence="Apache-2.0",
    raw="tab-separated ids and texts: pid, passage (2,303,643); qid, query (258,042); qrels.retrieval qid, pid; qrels "
    "qid, 0, pid, grade 0 to 3; negatives qid, pid, rank[, score] (200 M lines); a header is known, quotes mean "
    "nothing",
    makes="one record a query: its passages of grade 2 and 3 as qrels.retrieval lists them, and some of the passages "
    "found for it, chosen by the seed, without those of grade 1 or better. Memory holds the ids, not the texts. Passed "
    "over: no_positive, half_row, unknown_query, unknown_passage, repeated_id, wrong_encoding",
    citation="Xie et al. 2023, T2Ranking: A large-scale Chinese Benchmark for Passage Ranking, SIGIR",
    unchecked="headers of the files, and that rank counts from the best on; grades and columns were read in files of "
    "the "
    "repository",
    options={
        "negatives": "mined, bm25 or none: the file that negatives are of (mined)",
        "num_negatives": "most negatives of a query (15)",
        "ranks": "take negatives from these ranks, as 10-210 (all)",
        "seed": "another seed, other negatives (1)",
        **CHINESE_OPTIONS,
    },
    read=read,
)
