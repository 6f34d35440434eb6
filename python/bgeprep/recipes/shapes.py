"""The values of sentence-transformers' training files → pairs.

| line | record |
|---|---|
| `["a", "b"]` | query a, positive b |
| `["a", "b", "n"]` | query a, positive b, negative n |
| `{"set": ["a", "b", "c"]}` | query a, positives b and c: all pairs of a long set would be far too many |
| `{"query", "pos"}`, `{"query", "pos", "neg"}` | as they are; a list or one text |

The shape is that of the first value of a file; what has another one is passed over as `other_shape`.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from bgeprep.recipes.html_text import tidy_text
from bgeprep.recipes.json_lines import json_lines
from bgeprep.recipes.lines import place, shown
from bgeprep.recipes.stream import pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bgeprep.recipes.purpose import Purpose
    from bgeprep.recipes.raw import RawFile
    from bgeprep.recipes.stream import PairRow, Stream, Tally

__all__ = ["HOME", "PASSED_OVER", "shape_of", "shaped_pairs", "shaped_stream"]

HOME = "https://huggingface.co/datasets/sentence-transformers/embedding-training-data"
"""Where sentence-transformers publishes its files."""

PASSED_OVER = "Passed over: other_shape, no_text, empty_text, no_json, wrong_encoding"

Parts = tuple[Any, Any, Any]
"""Query, positives, negatives as they stand in the file."""


def shaped_stream(files: list[RawFile], purpose: Purpose) -> Stream:
    """A source of files in the shapes of sentence-transformers, entities of HTML resolved."""
    return pairs(partial(shaped_pairs, files), purpose)


def shaped_pairs(
    files: Iterable[RawFile], tally: Tally, *, tidy: Callable[[str], str] = tidy_text
) -> Iterator[PairRow]:
    """The pairs of files in the shapes of sentence-transformers.

    Empty texts among several positives or negatives go; a value without query or positive is passed over as
    `empty_text`, one with something else than texts as `no_text`.

    Args:
        files: the files, each of one shape.
        tally: what is passed over.
        tidy: what is done to each text.
    """
    for file in files:
        first = None
        for number, value in json_lines(file, tally):
            where = f"{place(file, number)}: {shown(json.dumps(value, ensure_ascii=False))}"
            shape, (query, pos, neg) = shape_of(value)
            first = first or shape
            if not shape or shape != first:
                tally.pass_over("other_shape", where)
                continue
            positives, negatives = _texts(pos, tidy), _texts(neg, tidy)
            if not isinstance(query, str) or positives is None or negatives is None:
                tally.pass_over("no_text", where)
            elif (query := tidy(query)) and positives:
                yield query, positives, negatives, file.origin, number
            else:
                tally.pass_over("empty_text", where)


def shape_of(value: object) -> tuple[str, Parts]:
    """The name of a value's shape, empty if it has none of the five, and its parts."""
    if isinstance(value, list):
        if len(value) == 2:
            return "pair", (value[0], value[1], [])
        if len(value) == 3:
            return "triplet", (value[0], value[1], value[2])
    elif isinstance(value, dict):
        members = value.get("set")
        if isinstance(members, list) and members:
            return "set", (members[0], members[1:], [])
        if "query" in value and "pos" in value:
            return ("triplets" if "neg" in value else "positives"), (value["query"], value["pos"], value.get("neg", []))
    return "", (None, None, None)


def _texts(value: object, tidy: Callable[[str], str]) -> list[str] | None:
    """One text or a list of them, without empty ones; None where there is something else."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        return None
    return [text for one in values if (text := tidy(one))]
