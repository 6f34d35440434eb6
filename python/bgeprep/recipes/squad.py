"""SQuAD and whatever has its shape: questions on paragraphs, with answers that stand in them.

```
{"data": [{"title", "paragraphs": [{"context", "qas": [{"question", "id", "answers": [{"text", "answer_start"}]}]}]}]}
```
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from bgeprep.errors import CorpusError
from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.choice import chosen_pairs
from bgeprep.recipes.lines import shown
from bgeprep.recipes.opened import opened, read_block
from bgeprep.recipes.stream import Stream, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow, Tally

__all__ = ["KINDS", "PAIRS", "RECIPE", "answer_texts", "json_value", "questions", "questions_on", "squad_streams"]

KINDS = ("context", "answer")
PAIRS = {"pairs": "context: question → paragraph; answer: question → answers; all: both, as two sources (context)"}
"""The option of recipes for this shape."""

Question = tuple[int, str, str, object, bool]
"""Counter from 1 over the file, question, paragraph, answers as they stand there, whether it has none by its label."""


def read(raw: Raw) -> dict[str, Stream]:
    """The sources `squad` and `squad-answers`."""
    files = raw.matching(r"\.json(\.gz|\.bz2)?$", expected="JSON files in the shape of SQuAD")
    return squad_streams("squad", raw, files, questions, Purpose("retrieval", raw.options.get("language", "")))


def squad_streams(
    name: str,
    raw: Raw,
    files: list[RawFile],
    asked: Callable[[RawFile, Tally], Iterator[Question]],
    purpose: Purpose,
    tidy: Callable[[str], str] = str.strip,
) -> dict[str, Stream]:
    """The sources that the option `pairs` asks for: `<name>`, question → paragraph, and `<name>-answers`."""
    kinds = chosen_pairs(raw, KINDS, "context")
    sources = {"context": name, "answer": f"{name}-answers"}
    return {sources[kind]: pairs(partial(_rows, kind, files, asked, tidy), purpose) for kind in kinds}


def _rows(
    kind: str,
    files: Iterable[RawFile],
    asked: Callable[[RawFile, Tally], Iterator[Question]],
    tidy: Callable[[str], str],
    tally: Tally,
) -> Iterator[PairRow]:
    for file in files:
        for number, question, context, answers, impossible in asked(file, tally):
            where = f"{file.origin}, question {number}: {shown(question)}"
            query = tidy(question)
            found = [context] if kind == "context" else answer_texts(answers)
            positives = list(dict.fromkeys(text for one in found if (text := tidy(one))))
            if impossible:
                tally.pass_over("impossible", where)
            elif not query:
                tally.pass_over("empty_text", where)
            elif not positives:
                tally.pass_over("no_answer" if kind == "answer" else "empty_text", where)
            else:
                yield query, positives, [], file.origin, number


def questions(file: RawFile, tally: Tally) -> Iterator[Question]:
    """The questions of a file in the shape of SQuAD.

    Raises:
        CorpusError: no JSON, or no object with a list `data`.
    """
    value = json_value(file)
    articles = value.get("data") if isinstance(value, dict) else None
    if not isinstance(articles, list):
        raise CorpusError(f"{file.path}: expected a JSON object with a list data, as SQuAD has it", str(file.path))
    paragraphs = (paragraph for article in articles for paragraph in _list(article, "paragraphs", file.origin, tally))
    yield from questions_on(paragraphs, ("context", "question"), file, tally)


def questions_on(
    paragraphs: Iterable[object], names: tuple[str, str], file: RawFile, tally: Tally
) -> Iterator[Question]:
    """The questions on some paragraphs, numbered through.

    What has not the shape is passed over as `broken_entry`, what holds half a surrogate pair as `half_character`.

    Args:
        paragraphs: objects with a text and a list `qas`.
        names: of the fields with the text of the paragraph and of a question.
        file: for the examples.
        tally: counts.
    """
    number = 0
    for paragraph in paragraphs:
        context = paragraph.get(names[0]) if isinstance(paragraph, dict) else None
        for entry in _list(paragraph, "qas", f"{file.origin}, after question {number}", tally):
            number += 1
            question = entry.get(names[1]) if isinstance(entry, dict) else None
            if isinstance(question, str) and isinstance(context, str):
                answers = entry.get("answers")
                if _is_text([question, context, *answer_texts(answers)]):
                    yield number, question, context, answers, bool(entry.get("is_impossible"))
                else:
                    tally.pass_over("half_character", f"{file.origin}, question {number}: {shown(question)}")
            else:
                said = shown(json.dumps(entry, ensure_ascii=False))
                tally.pass_over("broken_entry", f"{file.origin}, question {number}: {said}")


def _list(value: object, name: str, where: str, tally: Tally) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    if isinstance(found, list):
        return found
    tally.pass_over("broken_entry", f"{where}: no list {name}")
    return []


def _is_text(texts: list[str]) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def answer_texts(value: object) -> list[str]:
    """The texts of answers: of `[{"text"}]`, `["text"]`, `{"text": ["text"]}` or `"text"`; what is none is left out."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return answer_texts(value.get("text"))
    return [text for one in value for text in answer_texts(one)] if isinstance(value, list) else []


def json_value(file: RawFile) -> Any:  # noqa: ANN401 - any JSON value
    """The one JSON value of a file, held whole.

    Raises:
        CorpusError: another encoding, no JSON, damaged packed data.
        OSError: the file cannot be read.
    """
    with opened(file.path) as raw:
        content = read_block(raw, file.path, -1)
    encoding = "utf-8-sig" if file.encoding == "utf-8" else file.encoding
    try:
        return json.loads(content.decode(encoding))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"{file.path}: line {line}: expected {file.encoding}, found other bytes"
        raise CorpusError(f"{message}; hint: --option encoding=gb18030", str(file.path), line) from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{file.path}: expected one JSON value: {error}", str(file.path)) from None


RECIPE = Recipe(
    name="squad",
    kind="pairs",
    stages=("any",),
    languages=(),
    about="SQuAD 1.1, 2.0 and files of their shape: question → paragraph, question → answer",
    where="https://rajpurkar.github.io/SQuAD-explorer/; also DRCD, XQuAD, SQuADShifts, DuReader-robust, KorQuAD, FQuAD",
    licence="SQuAD: CC BY-SA 4.0; others their own",
    raw='one JSON object a file: {"data": [{"paragraphs": [{"context", "qas": [{"question", "answers": '
    '[{"text"}]}]}]}]}; '
    "answers may also be texts; a file is held in memory",
    makes="one pair a question. Passed over: impossible (SQuAD 2.0), no_answer, empty_text, broken_entry. Many "
    "questions share a paragraph, which the keys of a shard set keep apart in training",
    citation="Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of Text, EMNLP",
    options={**PAIRS, "language": "language tag of the texts"},
    read=read,
)
