"""DuReader 2.0: questions that people asked Baidu, each with about five documents and answers written by people."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.choice import SPLITS, chosen_pairs, split_files
from bgeprep.recipes.json_lines import objects
from bgeprep.recipes.lines import place, shown
from bgeprep.recipes.squad import answer_texts
from bgeprep.recipes.stream import Stream, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow, Tally

__all__ = ["RECIPE"]

KINDS = ("paragraph", "answer")


def read(raw: Raw) -> dict[str, Stream]:
    """The sources `dureader`, question → paragraphs, and `dureader-answers`."""
    files = split_files(raw, r"(search|zhidao)\.\w+\.json", expected="search.train.json, zhidao.train.json")
    sources = {"paragraph": "dureader", "answer": "dureader-answers"}
    rows = partial(_rows, files, tidy_of(raw))
    kinds = chosen_pairs(raw, KINDS, "paragraph")
    return {sources[kind]: pairs(partial(rows, kind), Purpose("retrieval", "zh")) for kind in kinds}


def _rows(files: Iterable[RawFile], tidy: Callable[[str], str], kind: str, tally: Tally) -> Iterator[PairRow]:
    for file in files:
        for number, row in objects(file, tally):
            question = row.get("question")
            query = tidy(question) if isinstance(question, str) else ""
            where = f"{place(file, number)}: {shown(query)}"
            if kind == "paragraph":
                positives, negatives = _paragraphs(row, tidy)
            else:
                positives, negatives = [tidy(text) for text in answer_texts(row.get("answers"))], []
            positives = list(dict.fromkeys(filter(None, positives)))
            if not query:
                tally.pass_over("empty_text", where)
            elif not positives:
                tally.pass_over("no_selected_paragraph" if kind == "paragraph" else "no_answer", where)
            else:
                negatives = [text for text in dict.fromkeys(negatives) if text and text not in positives]
                yield query, positives, negatives, file.origin, number


def _paragraphs(row: dict[str, Any], tidy: Callable[[str], str]) -> tuple[list[str], list[str]]:
    """The most related paragraph of each selected document, and of each of the others."""
    positives: list[str] = []
    negatives: list[str] = []
    documents = row.get("documents")
    for document in documents if isinstance(documents, list) else []:
        if not isinstance(document, dict):
            continue
        paragraphs, best = document.get("paragraphs"), document.get("most_related_para")
        if isinstance(paragraphs, list) and isinstance(best, int) and 0 <= best < len(paragraphs):
            text = paragraphs[best]
            if isinstance(text, str):
                (positives if document.get("is_selected") else negatives).append(tidy(text))
    return positives, negatives


RECIPE = Recipe(
    name="dureader",
    kind="pairs",
    stages=("stage 1", "stage 2"),
    languages=("zh",),
    about="DuReader 2.0: Chinese question → most related paragraph of the documents used for its answer",
    where="https://github.com/baidu/DuReader: the preprocessed form (dureader_preprocessed.zip), which alone says "
    "which "
    "paragraph is most related; search.train.json and zhidao.train.json",
    licence="Apache-2.0",
    raw='JSON lines: {"question", "answers": ["text"], "documents": [{"title", "paragraphs": ["text"], "is_selected", '
    '"most_related_para"}]}',
    makes="one record a question: the most related paragraph of each selected document, and as negatives those of the "
    "documents not selected; or, as dureader-answers, its answers. Passed over: no_selected_paragraph, no_answer, "
    "empty_text, no_json, wrong_encoding",
    citation="He et al. 2018, DuReader: a Chinese Machine Reading Comprehension Dataset from Real-world "
    "Applications, ACL",
    unchecked="the name of the archive, and its 300,000 questions",
    options={
        "pairs": "paragraph: question → paragraphs; answer: question → answers; all: both, as two sources (paragraph)",
        **SPLITS,
        **CHINESE_OPTIONS,
    },
    read=read,
)
