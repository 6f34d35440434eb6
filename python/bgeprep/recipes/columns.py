"""Everything else: pairs in named fields of JSON lines, a JSON array, CSV, TSV or Parquet."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from bgeprep.errors import ConfigError
from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.csv_rows import csv_rows
from bgeprep.recipes.html_text import tidy_text
from bgeprep.recipes.json_array import array_objects, is_array
from bgeprep.recipes.json_lines import objects
from bgeprep.recipes.lines import place, shown, text_lines
from bgeprep.recipes.parquet import is_parquet, parquet_objects
from bgeprep.recipes.purpose import TASKS
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE"]

_ROLES = ("query", "pos", "neg")
_FILES = r"\.(jsonl|json|csv|tsv)(\.gz|\.bz2)?$|\.jsonl\.zst$|\.parquet$"


def read(raw: Raw) -> dict[str, Stream]:
    """The one source of the name that was asked for, `columns` by default."""
    fields = {role: tuple(filter(None, raw.options.get(role, "").split(","))) for role in _ROLES}
    for role in ("query", "pos"):
        if not fields[role]:
            raise ConfigError(
                f"options.{role}: which field is it; hint: --option query=question pos=answer,passages.text"
            )
    name = raw.options.get("name", "columns")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise ConfigError(f"options.name: expected letters, digits, '.', '_' and '-', found {name!r}")
    files = raw.matching(_FILES, expected="files of JSON lines, JSON, CSV, TSV or Parquet")
    purpose = Purpose(raw.chosen("task", TASKS), raw.options.get("language", ""))
    return {name: pairs(partial(_rows, files, fields), purpose)}


def _rows(files: list[RawFile], fields: dict[str, tuple[str, ...]], tally: Tally) -> Iterator[PairRow]:
    for file in files:
        for number, value in _objects(file, fields, tally):
            query, positives, negatives = (
                [text for path in fields[role] for text in _texts(value, path.split("."))] for role in _ROLES
            )
            if query and positives:
                yield query[0], positives, negatives, file.origin, number
            else:
                missing = fields["pos"] if query else fields["query"]
                tally.pass_over("missing_field", f"{file.origin}, {number}: {', '.join(missing)}")


def _texts(value: Any, path: list[str]) -> list[str]:  # noqa: ANN401 - whatever stands there
    """The texts under a path of fields, through lists on the way; numbers and what is empty are no texts."""
    if isinstance(value, list):
        return [text for one in value for text in _texts(one, path)]
    if path:
        return _texts(value.get(path[0]), path[1:]) if isinstance(value, dict) else []
    return [text] if isinstance(value, str) and (text := tidy_text(value)) else []


def _objects(file: RawFile, fields: dict[str, tuple[str, ...]], tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a file as objects, each with its line, element or row."""
    if is_parquet(file):
        return parquet_objects(file, sorted({path.split(".")[0] for paths in fields.values() for path in paths}))
    if re.search(r"\.csv(\.|$)", file.origin, re.IGNORECASE):
        return _headed(file, csv_rows(file, tally), tally)
    if re.search(r"\.tsv(\.|$)", file.origin, re.IGNORECASE):
        return _headed(file, ((number, line.split("\t")) for number, line in text_lines(file, tally)), tally)
    return array_objects(file, tally) if is_array(file) else objects(file, tally)


def _headed(file: RawFile, rows: Iterator[tuple[int, list[str]]], tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows by the names in the first of them."""
    _, header = next(rows, (0, []))
    for number, cells in rows:
        if len(cells) == len(header):
            yield number, dict(zip(header, cells, strict=True))
        else:
            reason = "half_row" if len(cells) < len(header) else "too_many_columns"
            tally.pass_over(reason, f"{place(file, number)}: {shown(' '.join(cells))}")


RECIPE = Recipe(
    name="columns",
    kind="pairs",
    stages=("any",),
    languages=(),
    about="pairs in fields that you name, of JSON, CSV, TSV or Parquet",
    where="anywhere. Where the names are usual ones, or a source of a config file maps them (columns = …), bgeprep "
    "shard "
    "reads such files itself, and faster; this recipe also looks into objects and lists",
    licence="that of the data",
    raw="JSON lines, one JSON array, CSV and TSV with a header, Parquet; gzip and bzip2 too (JSON lines: zstd)",
    makes="one record an entry: the first text under query, all texts under pos and neg. A field within an object is "
    "named object.field; lists on the way are gone through. Passed over: missing_field (no query, or no positive), "
    "half_row, too_many_columns, broken_row, no_object, no_json, half_character, wrong_encoding",
    citation="that of the data",
    options={
        "query": "the field of the query; of several, as a,b, the first that holds a text",
        "pos": "fields of positives, as answer,passages.text",
        "neg": "fields of negatives (none)",
        "name": "name of the source (columns)",
        "task": "retrieval, symmetric or classification (retrieval)",
        "language": "language tag of the texts",
    },
    read=read,
)
