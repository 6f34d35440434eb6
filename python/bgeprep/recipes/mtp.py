"""BAAI-MTP (C-MTP): pairs of texts from the Chinese and English web, as they trained BGE."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.json_lines import json_lines
from bgeprep.recipes.lines import place, shown
from bgeprep.recipes.shapes import shape_of
from bgeprep.recipes.squad import answer_texts
from bgeprep.recipes.stream import Stream, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow, Tally

__all__ = ["RECIPE"]

QUERIES = ("query", "title", "question", "text1")
POSITIVES = ("pos", "passage", "answer", "context", "content", "body", "text", "text2")

_SUFFIX = re.compile(r"(\.(jsonl|json|gz))+$")
_PART = re.compile(r"[-_.]\d+([-_.]of[-_.]\d+)?$")


def read(raw: Raw) -> dict[str, Stream]:
    """A source for each file, or for files that differ in a part number: `mtp-<name>`."""
    files = raw.matching(r"\.(jsonl|json)(\.gz)?$", expected="JSON lines")
    queries, positives = (
        (raw.options[name],) if raw.options.get(name) else usual
        for name, usual in (("query", QUERIES), ("positive", POSITIVES))
    )
    purpose = Purpose("retrieval", raw.options.get("language", "zh"))
    groups: dict[str, list[RawFile]] = {}
    for file in files:
        stem = _PART.sub("", _SUFFIX.sub("", file.path.name))
        groups.setdefault("mtp-" + re.sub(r"[^A-Za-z0-9._-]+", "_", stem), []).append(file)
    rows = partial(_rows, tidy_of(raw), queries, positives)
    return {name: pairs(partial(rows, group), purpose) for name, group in groups.items()}


def _rows(
    tidy: Callable[[str], str],
    queries: tuple[str, ...],
    positives: tuple[str, ...],
    files: list[RawFile],
    tally: Tally,
) -> Iterator[PairRow]:
    for file in files:
        for number, value in json_lines(file, tally):
            where = f"{place(file, number)}: {shown(json.dumps(value, ensure_ascii=False))}"
            query, found = _pair(value, queries, positives)
            texts = list(dict.fromkeys(text for one in answer_texts(found) if (text := tidy(one))))
            if not isinstance(query, str) or found is None:
                tally.pass_over("missing_field", where)
            elif not (tidy(query) and texts):
                tally.pass_over("empty_text", where)
            else:
                yield tidy(query), texts, [], file.origin, number


def _pair(value: Any, queries: tuple[str, ...], positives: tuple[str, ...]) -> tuple[Any, Any]:  # noqa: ANN401 - JSON
    """The query and what stands for its positives; None where there is none."""
    if not isinstance(value, dict):
        _, (query, found, _) = shape_of(value)
        return query, found
    query = next((value[name] for name in queries if name in value), None)
    return query, next((value[name] for name in positives if name in value), None)


RECIPE = Recipe(
    name="mtp",
    kind="pairs",
    stages=("stage 1",),
    languages=("zh", "en"),
    about="BAAI-MTP / C-MTP: pairs of the Chinese and English web",
    where="https://data.baai.ac.cn (BAAI-MTP), after logging in",
    licence="for research, as BAAI's page says",
    raw="JSON lines, a file or numbered files a source: a pair as a list, or an object with named fields",
    makes="one record a line, a source of each file name: the first of the fields query, title, question, text1 that "
    "is "
    "there → the first of pos, passage, answer, context, content, body, text, text2; or the fields that the options "
    "name. Passed over: missing_field, empty_text, no_json",
    citation="Xiao et al. 2023, C-Pack: Packed Resources For General Chinese Embeddings, arXiv:2309.07597",
    unchecked="names of files and fields; that they hold pairs and no triples is what their users report",
    options={
        "query": "name of the field of the query",
        "positive": "name of the field of the positive",
        "language": "language tag of the texts (zh)",
        **CHINESE_OPTIONS,
    },
    read=read,
)
