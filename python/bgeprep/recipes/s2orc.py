"""S2ORC: papers, as (title, abstract), and as papers of which one cites the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.shapes import HOME, PASSED_OVER, shaped_stream

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw
    from bgeprep.recipes.stream import Stream

__all__ = ["RECIPE"]

_SOURCES = {
    "s2orc-title-abstract": ("S2ORC_title_abstract", Purpose("retrieval", "en")),
    "s2orc-citation-titles": ("S2ORC_citations_titles", Purpose("symmetric", "en")),
    "s2orc-citation-abstracts": ("S2ORC_citations_abstracts", Purpose("symmetric", "en")),
    "s2orc-citation-pairs": ("S2ORC_citation_pairs", Purpose("symmetric", "en")),
}


def read(raw: Raw) -> dict[str, Stream]:
    """A source a file."""
    raw.named(r"(^|/)S2ORC_", expected="S2ORC_title_abstract.jsonl.gz or S2ORC_citations_*.jsonl.gz")
    found = {name: raw.named(rf"(^|/){stem}\.jsonl") for name, (stem, _) in _SOURCES.items()}
    return {name: shaped_stream(files, _SOURCES[name][1]) for name, files in found.items() if files}


RECIPE = Recipe(
    name="s2orc",
    kind="pairs",
    stages=("stage 1", "stage 2"),
    languages=("en",),
    about="S2ORC: title → abstract of papers; titles and abstracts of papers that cite each other",
    where=f"{HOME}: S2ORC_title_abstract.jsonl.gz (11.4 GB), S2ORC_citations_titles.jsonl.gz, "
    "S2ORC_citations_abstracts.jsonl.gz. (The link of BGE's README leads to the data of reddit: a slip there)",
    licence="ODC-By, CC BY-NC 2.0",
    raw='JSON lines: ["title", "abstract"]; ["title", "title"]; ["abstract", "abstract"]',
    makes="one pair a line, a source a file: s2orc-title-abstract (retrieval), s2orc-citation-titles, "
    f"s2orc-citation-abstracts, s2orc-citation-pairs (symmetric). {PASSED_OVER}",
    citation="Lo et al. 2020, S2ORC: The Semantic Scholar Open Research Corpus, ACL",
    unchecked="41,769,185, 51,030,086 and 39,567,485 lines; names of the citation files",
    read=read,
)
