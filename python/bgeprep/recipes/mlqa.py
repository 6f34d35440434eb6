"""MLQA: questions on paragraphs of Wikipedia in seven languages; for BGE the Chinese ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bgeprep.errors import ConfigError
from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.chinese import CHINESE_OPTIONS, tidy_of
from bgeprep.recipes.squad import PAIRS, questions, squad_streams

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw
    from bgeprep.recipes.stream import Stream

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The sources `mlqa` and `mlqa-answers`."""
    context, question = (raw.options.get(name, "zh") for name in ("context", "question"))
    if not all(re.fullmatch("[a-z]{2}", one) for one in (context, question)):
        raise ConfigError(f"options: expected languages as zh, found context {context!r}, question {question!r}")
    pattern = rf"(^|/)(dev|test)-context-{context}-question-{question}\.json"
    if context == question:
        pattern += rf"|(^|/){context}_squad-translate-train-\w+-v1\.1\.json"
    files = raw.matching(pattern, expected=f"dev-context-{context}-question-{question}.json and its like")
    language = context if context == question else ""
    return squad_streams("mlqa", raw, files, questions, Purpose("retrieval", language), tidy_of(raw))


RECIPE = Recipe(
    name="mlqa",
    kind="pairs",
    stages=("stage 1",),
    languages=("zh",),
    about="MLQA: Chinese question → paragraph of Wikipedia; other and crossed languages by option",
    where="https://github.com/facebookresearch/MLQA: MLQA_V1.zip, unpacked; and, for the number of pairs of BGE, the "
    "training questions of SQuAD in translation (mlqa-translate-train.tar.gz)",
    licence="data CC BY-SA 3.0, the repository CC BY-NC 4.0",
    raw="the shape of SQuAD; {dev,test}/{dev,test}-context-zh-question-zh.json; "
    "mlqa-translate-train/zh_squad-translate-train-train-v1.1.json",
    makes="one pair a question: zh 504 of dev, 5,137 of test. Passed over: no_answer, empty_text, broken_entry",
    citation="Lewis et al. 2020, MLQA: Evaluating Cross-lingual Extractive Question Answering, ACL",
    unchecked="the licence of the data, names of the translated files, and that BGE's 76,285 pairs are of them",
    options={
        **PAIRS,
        "context": "language of the paragraphs (zh)",
        "question": "language of the questions (zh)",
        **CHINESE_OPTIONS,
    },
    read=read,
)
