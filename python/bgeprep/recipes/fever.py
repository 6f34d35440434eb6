"""FEVER: claims, with the pages of Wikipedia that support or refute them."""

from __future__ import annotations

import re
import unicodedata
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.gather import as_ids, gathered, num_parts
from bgeprep.recipes.json_lines import objects, text_fields
from bgeprep.recipes.lines import place
from bgeprep.recipes.shapes import HOME, shaped_stream
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]

_LABELS = ("SUPPORTS", "REFUTES")
_BRACKETS = {"LRB": "(", "RRB": ")", "LSB": "[", "RSB": "]", "LCB": "{", "RCB": "}", "COLON": ":"}
_ESCAPED = re.compile(rf"-({'|'.join(_BRACKETS)})-")
_SPACES = re.compile(r"(?<=[(\[{]) | (?=[)\]},.;:!?])|(?<=``) | (?='')")


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `fever`, of the claims and pages as published, or of the file of sentence-transformers."""
    if made := raw.named(r"(^|/)fever_train\.jsonl"):
        return {"fever": shaped_stream(made, Purpose("retrieval", "en"))}
    claims = raw.named(
        r"(^|/)train\.jsonl", expected="fever_train.jsonl.gz, or train.jsonl and wiki-pages/wiki-*.jsonl"
    )
    pages = raw.named(r"(^|/)wiki-\d+\.jsonl", expected="wiki-pages/wiki-001.jsonl … beside train.jsonl")
    labels = _LABELS[: 1 if raw.chosen("labels", ("supports", "both")) == "supports" else 2]
    return {"fever": pairs(partial(_rows, claims, pages, labels), Purpose("retrieval", "en"))}


def _rows(claims: list[RawFile], pages: list[RawFile], labels: tuple[str, ...], tally: Tally) -> Iterator[PairRow]:
    parts = num_parts(sum(file.bytes for file in pages))
    for file in claims:
        taken = list(_claims(file, labels, tally))
        ids = as_ids(page for _, _, named in taken for page in named)
        records = np.repeat(np.arange(len(taken)), [len(named) for _, _, named in taken])
        found = dict.fromkeys(range(len(taken)), False)
        for record, texts in gathered(ids, records, _pages(pages, tally), parts):
            number, claim, named = taken[record]
            found[record] = True
            yield claim, [texts[page] for page in named if page in texts], [], file.origin, number
        for record, known in found.items():
            if not known:
                tally.pass_over("page_gone", f"{place(file, taken[record][0])}: {', '.join(taken[record][2])}")


def _claims(file: RawFile, labels: tuple[str, ...], tally: Tally) -> Iterator[tuple[int, str, list[str]]]:
    """Line, claim and the pages that its evidence names, each once."""
    for number, value in objects(file, tally):
        where = place(file, number)
        if not (found := text_fields(value, ["claim", "label"], tally, where)):
            continue
        claim, label = found
        if label not in labels:
            tally.pass_over("other_label", f"{where}: {label}")
        elif pages := _evidence(value.get("evidence")):
            yield number, claim, pages
        else:
            tally.pass_over("no_evidence", f"{where}: {claim}")


def _evidence(groups: Any) -> list[str]:  # noqa: ANN401 - whatever stands there
    """The pages of `[[[annotation, evidence, page, sentence], …], …]` in their order, each once."""
    found: dict[str, None] = {}
    for group in groups if isinstance(groups, list) else []:
        for one in group if isinstance(group, list) else []:
            if isinstance(one, list) and len(one) == 4 and isinstance(one[2], str):
                found[_page_id(one[2])] = None
    return list(found)


def _pages(files: list[RawFile], tally: Tally) -> Iterator[tuple[str, str]]:
    """Id and text of the pages, title in front; the first of each file is empty."""
    for file in files:
        for _, value in objects(file, tally):
            page, text = value.get("id"), value.get("text")
            if isinstance(page, str) and isinstance(text, str) and page.strip() and text.strip():
                yield _page_id(page), f"{_plain(page.replace('_', ' '))} {_plain(text)}"


def _page_id(page: str) -> str:
    """Claims and pages do not always compose accents alike."""
    return unicodedata.normalize("NFC", page)


def _plain(text: str) -> str:
    """A text without the escapes of the Penn Treebank and the blanks they stand in."""
    text = _SPACES.sub("", _ESCAPED.sub(lambda found: _BRACKETS[found[1]], text))
    return text.replace("``", '"').replace("''", '"').strip()


RECIPE = Recipe(
    name="fever",
    kind="pairs",
    stages=("stage 2",),
    languages=("en",),
    about="FEVER: claim → pages of Wikipedia that support it",
    where="https://fever.ai/dataset/fever.html: train.jsonl, and wiki-pages.zip unpacked (wiki-001.jsonl … "
    f"wiki-109.jsonl); or {HOME}: fever_train.jsonl.gz (91 MB)",
    licence="CC BY-SA 3.0, and the terms of Wikipedia",
    raw='JSON lines: {"id","verifiable","label","claim","evidence":[[[annotation, evidence, page, sentence]]]} and '
    '{"id","text","lines"}; or a shape of sentence-transformers',
    makes="one record a claim that is supported: claim → the beginnings of the pages its evidence names, title in "
    "front "
    "and without the escapes of the Penn Treebank. Passed over: other_label (NOT ENOUGH INFO, and REFUTES unless "
    "both are "
    "asked for), no_evidence, page_gone, missing_field, no_text, empty_text, no_json",
    citation="Thorne et al. 2018, FEVER: a Large-scale Dataset for Fact Extraction and VERification, NAACL",
    unchecked="the fields, 145,449 claims, 5.4 million pages; the shape of fever_train.jsonl.gz, which is told "
    "from its "
    "first line",
    options={"labels": "supports, or both: refuted claims find their pages too, as in BEIR (supports)"},
    read=read,
)
