"""XL-Sum: news of the BBC in Chinese, each with its title and a summary that its authors wrote."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, passages, tidy_of
from bgeprep.recipes.choice import SPLITS, chosen_pairs, split_files
from bgeprep.recipes.field_pairs import field_pairs
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]

SOURCES = {
    "title-text": ("xlsum", "title", "text"),
    "summary-text": ("xlsum-summary", "summary", "text"),
    "title-summary": ("xlsum-headline", "title", "summary"),
}


def read(raw: Raw) -> dict[str, Stream]:
    """The sources `xlsum` (title → text), `xlsum-summary` (summary → text), `xlsum-headline` (title → summary)."""
    files = split_files(raw, r"chinese_\w+_(train|val|test)\.jsonl", expected="chinese_simplified_train.jsonl")
    tidy = tidy_of(raw)
    longest = raw.number("passage_chars", 1) if "passage_chars" in raw.options else 0

    def cut(text: str) -> str:
        return next(iter(passages(text, longest)), "") if longest else text

    def rows(query: str, positive: str, tally: Tally) -> Iterator[PairRow]:
        return field_pairs(files, query, positive, tally, tidy=tidy, cut=cut)

    chosen = [SOURCES[kind] for kind in chosen_pairs(raw, tuple(SOURCES), "title-text,summary-text")]
    return {name: pairs(partial(rows, query, text), Purpose("retrieval", "zh")) for name, query, text in chosen}


RECIPE = Recipe(
    name="xlsum",
    kind="pairs",
    stages=("stage 1",),
    languages=("zh",),
    about="XL-Sum: title → text and summary → text of Chinese news of the BBC",
    where="https://github.com/csebuetnlp/xl-sum: chinese_simplified (and chinese_traditional), unpacked",
    licence="CC BY-NC-SA 4.0",
    raw='JSON lines: {"id", "url", "title", "summary", "text"}; simplified 37,362 / 4,670 / 4,670 of train, val, test',
    makes="one pair an article in each of the sources xlsum and xlsum-summary; BGE's 93,404 pairs are twice the 46,702 "
    "articles of all parts (--option splits=all). Passed over: missing_field, no_text, empty_text, no_json",
    citation="Hasan et al. 2021, XL-Sum: Large-Scale Multilingual Abstractive Summarization for 44 Languages, ACL "
    "Findings",
    unchecked="the names of the files, and which two pairs of an article BGE took",
    options={
        "pairs": "title-text, summary-text, title-summary, or all, each a source (title-text,summary-text)",
        "passage_chars": "cut a text between sentences to its first passage of at most so many characters (whole)",
        **SPLITS,
        **CHINESE_OPTIONS,
    },
    read=read,
)
