"""The layout of BEIR: documents, queries, and judgements of which document answers which query."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bgeprep.errors import ConfigError, CorpusError
from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.gather import as_ids, gathered, num_parts
from bgeprep.recipes.json_lines import objects
from bgeprep.recipes.lines import place, shown, text_lines
from bgeprep.recipes.purpose import TASKS
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]

_CORPUS = r"(^|/)corpus\.jsonl(\.gz)?$"
_HEADERS = frozenset({"query-id", "query_id", "qid", "query"})

Judged = dict[str, dict[str, float]]
"""Query id → document id → grade."""


def read(raw: Raw) -> dict[str, Stream]:
    """A source a collection, named after its folder."""
    corpora = raw.named(_CORPUS, expected="corpus.jsonl, queries.jsonl and qrels/train.tsv")
    split, least = raw.options.get("split", "train"), raw.number("least_grade", 1)
    purpose = Purpose(raw.chosen("task", TASKS), raw.options.get("language", "en"))
    found: dict[str, Stream] = {}
    for corpus in corpora:
        folder = re.escape(corpus.origin[: corpus.origin.rfind("/") + 1])
        queries = raw.named(rf"^{folder}queries\.jsonl(\.gz)?$")
        judgements = raw.named(rf"^{folder}qrels/{re.escape(split)}\.tsv$")
        if not queries or not judgements:
            wanted = f"qrels/{split}.tsv" if queries else "queries.jsonl"
            hint = "--option split=test" if queries else "the layout of BEIR"
            raise CorpusError(f"{corpus.path}: expected {wanted} beside it; hint: {hint}", str(corpus.path))
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", corpus.path.resolve().parent.name).strip(".") or "beir"
        if name in found:
            raise ConfigError(f"recipe beir: two collections are called {name}; hint: convert them one by one")
        found[name] = pairs(partial(_rows, corpus, queries[0], judgements[0], least), purpose)
    return found


def _rows(corpus: RawFile, queries: RawFile, judgements: RawFile, least: int, tally: Tally) -> Iterator[PairRow]:
    """The queries in their order, each with the documents of a high grade as positives, of a low one as negatives."""
    judged = _judgements(judgements, tally)
    asked: list[tuple[int, str, dict[str, float]]] = []
    for number, value in objects(queries, tally):
        key, query = _id(value), value.get("text")
        if not key or not isinstance(query, str) or not query.strip():
            tally.pass_over("missing_field", place(queries, number))
        elif grades := judged.pop(key, None):
            if max(grades.values()) >= least:
                asked.append((number, query.strip(), grades))
            else:
                tally.pass_over("no_positive", f"{place(queries, number)}: {shown(query)}")
        else:
            tally.pass_over("not_judged", f"{place(queries, number)}: {shown(query)}")
    for key in judged:
        tally.pass_over("unknown_query", f"{judgements.origin}: {key}")
    ids = as_ids(key for _, _, grades in asked for key in grades)
    records = np.repeat(np.arange(len(asked)), [len(grades) for _, _, grades in asked])
    at = 0
    for record, texts in gathered(ids, records, _documents(corpus, tally), num_parts(corpus.bytes)):
        _without(asked[at:record], queries, tally)
        at = record + 1
        number, query, grades = asked[record]
        gone = [key for key in grades if key not in texts]
        tally.pass_over("unknown_document", f"{judgements.origin}: {', '.join(gone)}", len(gone))
        positives = [texts[key] for key, grade in grades.items() if grade >= least and key in texts]
        if positives:
            negatives = [texts[key] for key, grade in grades.items() if grade < least and key in texts]
            yield query, positives, negatives, queries.origin, number
        else:
            tally.pass_over("no_positive", f"{place(queries, number)}: {shown(query)}")
    _without(asked[at:], queries, tally)


def _without(asked: list[tuple[int, str, dict[str, float]]], queries: RawFile, tally: Tally) -> None:
    """Counts queries none of whose documents is in the corpus."""
    for number, query, grades in asked:
        tally.pass_over("unknown_document", f"{place(queries, number)}: {', '.join(grades)}", len(grades))
        tally.pass_over("no_positive", f"{place(queries, number)}: {shown(query)}")


def _documents(corpus: RawFile, tally: Tally) -> Iterator[tuple[str, str]]:
    """Id and text of the documents, title in front."""
    for number, value in objects(corpus, tally):
        key, title, text = _id(value), value.get("title"), value.get("text")
        whole = f"{title.strip() if isinstance(title, str) else ''} {text.strip() if isinstance(text, str) else ''}"
        if key and whole.strip():
            yield key, whole.strip()
        else:
            tally.pass_over("missing_field", place(corpus, number))


def _id(value: dict[str, object]) -> str:
    """The id of a line, a number or a text."""
    key = value.get("_id", value.get("id"))
    return str(key) if isinstance(key, (str, int)) else ""


def _judgements(file: RawFile, tally: Tally) -> Judged:
    """The grades: `query document [grade]`, or `query 0 document grade` as trec has them; a header is left out."""
    judged: Judged = {}
    for number, line in text_lines(file, tally):
        cells = line.split("\t") if "\t" in line else line.split()
        if number == 1 and cells[0].strip().casefold() in _HEADERS:
            continue
        document, grade = (cells[2], cells[3]) if len(cells) == 4 else (*cells[1:], "1", "")[:2]
        try:
            judged.setdefault(cells[0].strip(), {})[document.strip()] = float(grade)
        except ValueError:
            tally.pass_over("half_row", f"{place(file, number)}: {shown(line)}")
    return judged


RECIPE = Recipe(
    name="beir",
    kind="pairs",
    stages=("any",),
    languages=(),
    about="collections in the layout of BEIR: query → documents by judgement",
    where="https://github.com/beir-cellar/beir lists collections; a folder each, unpacked",
    licence="that of each collection",
    raw='corpus.jsonl {"_id","title","text"}, queries.jsonl {"_id","text"}, qrels/<split>.tsv of query, document and '
    "grade, with a header or without; gzip too. Judgements as trec has them (query, 0, document, grade) are read "
    "as well",
    makes="one record a judged query: query → its documents, title in front; those of a grade below the least are "
    "negatives. A source a collection, named after its folder. Passed over: not_judged, no_positive, unknown_query and "
    "unknown_document (judgements of what is not there), half_row, missing_field",
    citation="Thakur et al. 2021, BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information Retrieval "
    "Models, NeurIPS Datasets and Benchmarks",
    options={
        "split": "which judgements (train)",
        "least_grade": "lowest grade of a positive (1)",
        "language": "language tag of the texts (en)",
        "task": "retrieval, or symmetric where queries and documents are alike, or classification (retrieval)",
    },
    read=read,
)
