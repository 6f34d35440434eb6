"""The Pile: 825 GiB of English text from 22 sources."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Recipe
from bgeprep.recipes.json_lines import objects, text_fields
from bgeprep.recipes.lines import place
from bgeprep.recipes.stream import Stream, Tally, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import TextRow

__all__ = ["RECIPE"]


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `pile`."""
    files = raw.matching(r"\.jsonl(\.zst|\.gz)?$", expected="NN.jsonl.zst, val.jsonl.zst or test.jsonl.zst")
    sets = frozenset(filter(None, raw.options.get("sets", "").split(",")))
    return {"pile": texts(partial(_rows, files, sets), "en")}


def _rows(files: list[RawFile], sets: frozenset[str], tally: Tally) -> Iterator[TextRow]:
    for file in files:
        for number, value in objects(file, tally):
            meta = value.get("meta")
            part = meta.get("pile_set_name") if isinstance(meta, dict) else None
            if sets and part not in sets:
                tally.pass_over("other_set", f"{place(file, number)}: {part}")
            elif found := text_fields(value, ["text"], tally, place(file, number)):
                yield "", found[0], file.origin, number


RECIPE = Recipe(
    name="pile",
    kind="text",
    stages=("pre-training",),
    languages=("en",),
    about="The Pile: English text from 22 sources",
    where="withdrawn by its host; copies of the 30 files 00.jsonl.zst … 29.jsonl.zst, val.jsonl.zst, test.jsonl.zst "
    "(https://pile.eleuther.ai describes them)",
    licence="MIT for the collection; its parts have their own, not all of them clear",
    raw='JSON lines under zstandard: {"text": text, "meta": {"pile_set_name": name}}; 825 GiB unpacked',
    makes="one document a line, text alone. Passed over: missing_field, no_text, empty_text, no_object, no_json, "
    "other_set (where sets are asked for)",
    citation="Gao et al. 2020, The Pile: An 800GB Dataset of Diverse Text for Language Modeling, arXiv 2101.00027",
    unchecked="number and names of the training files; that their zstd windows are at most 128 MiB",
    options={"sets": "take these parts alone, by pile_set_name, as Wikipedia (en),PubMed Abstracts"},
    read=read,
)
