"""mMARCO: MS MARCO's passages and questions in translation; for BGE the Chinese ones."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from bgeprep.errors import ConfigError
from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.collection import Collection
from bgeprep.recipes.join import Chosen, id_rows, joined, known_pairs
from bgeprep.recipes.stream import Stream, Tally, pair_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from bgeprep.recipes.raw import Raw, RawFile

__all__ = ["RECIPE"]

_COLUMNS = ("qid", "posid", "negid")


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `mmarco`."""
    language = raw.options.get("language", "chinese")
    if not re.fullmatch("[a-z]+", language):
        raise ConfigError(f"options.language: expected a name as chinese, found {language!r}")
    names = {
        "passages": f"{language}_collection",
        "queries": f"{language}_queries.train",
        "triples": "triples.train.ids.small",
    }
    files = {use: raw.named(rf"(^|/){re.escape(name)}\.tsv", expected=f"{name}.tsv")[0] for use, name in names.items()}
    limit = raw.number("num_negatives", 15) if raw.chosen("negatives", ("bm25", "none")) == "bm25" else 0
    choice = (limit, raw.number("seed", 1))
    frames = partial(_frames, files, choice, tidy_of(raw))
    return {"mmarco": Stream(pair_schema(), frames, Purpose("retrieval", "zh" if language == "chinese" else ""))}


def _frames(
    files: dict[str, RawFile], choice: tuple[int, int], tidy: Callable[[str], str], tally: Tally
) -> Iterator[pl.DataFrame]:
    passages, queries = Collection(files["passages"], tally), Collection(files["queries"], tally)
    numbers = passages.numbered and queries.numbered
    limit, seed = choice

    def add(chosen: Chosen, column: str, counts: Tally) -> None:
        for rows in id_rows(files["triples"], _COLUMNS, counts, numbers=numbers):
            chosen.add(known_pairs(rows, ("qid", queries), (column, passages), files["triples"], counts))

    # the triples are shuffled: what is a positive is known when all of them were read, so they are read twice
    relevant = Chosen(len(queries))
    add(relevant, "posid", tally)
    found = Chosen(len(queries), limit=limit, seed=seed, but=relevant.pairs())
    if limit:
        add(found, "negid", Tally())
    yield from joined(queries, passages, relevant.pairs(), found.pairs(), tally, tidy)


RECIPE = Recipe(
    name="mmarco",
    kind="pairs",
    stages=("stage 2",),
    languages=("zh",),
    about="mMARCO: Chinese question → passage of MS MARCO in translation, negatives of BM25",
    where="https://huggingface.co/datasets/unicamp-dl/mmarco: data/google/collections/chinese_collection.tsv, "
    "data/google/queries/train/chinese_queries.train.tsv, data/triples.train.ids.small.tsv",
    licence="Apache-2.0; MS MARCO itself is for non-commercial research",
    raw="tab-separated, no header: id, text; triples of ids: query, positive, negative (39.8 M lines, shuffled)",
    makes="one record a query of the triples: all its positives, and some of its negatives, chosen by the seed. Memory "
    "holds the ids, not the texts. Passed over: no_positive (queries without a triple), half_row, unknown_query, "
    "unknown_passage (of positives), repeated_id, wrong_encoding",
    citation="Bonifacio et al. 2021, mMARCO: A Multilingual Version of the MS MARCO Passage Ranking Dataset",
    unchecked="8.84 M passages, 808,000 queries",
    options={
        "language": "name of the language, as the files are called (chinese)",
        "negatives": "bm25, those of the triples, or none (bm25)",
        "num_negatives": "most negatives of a query (15)",
        "seed": "another seed, other negatives (1)",
        **CHINESE_OPTIONS,
    },
    read=read,
)
