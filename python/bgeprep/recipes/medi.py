"""MEDI: 330 data sets for training INSTRUCTOR, each text with an instruction of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.json_array import array_objects
from bgeprep.recipes.stream import Stream, Tally, pair_schema, rows_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile

__all__ = ["RECIPE"]

_SYMMETRIC, _RETRIEVAL = "symmetric_sts", "normal"


def read(raw: Raw) -> dict[str, Stream]:
    """The one source `medi`; its rows carry FlagEmbedding's `type`, and `prompt` where instructions are kept."""
    import polars as pl

    files = raw.matching(r"(^|/)medi-data\.json", expected="medi-data.json")
    keep = raw.chosen("instructions", ("drop", "keep")) == "keep"
    schema = pair_schema() | {"type": pl.String} | ({"prompt": pl.String} if keep else {})
    return {"medi": rows_stream(schema, partial(_rows, files, keep), Purpose("retrieval", "en"))}


def _rows(files: list[RawFile], keep: bool, tally: Tally) -> Iterator[tuple[Any, ...]]:
    for file in files:
        for number, value in array_objects(file, tally):
            parts = [part for name in ("query", "pos", "neg") if (part := _instructed(value.get(name)))]
            if len(parts) < 3:
                tally.pass_over("other_shape", f"{file.origin}, element {number}: expected [instruction, text] thrice")
                continue
            (instruction, query), (beside, positive), (_, negative) = parts
            if not (query and positive):
                tally.pass_over("empty_text", f"{file.origin}, element {number}")
                continue
            kind = _SYMMETRIC if instruction == beside else _RETRIEVAL
            row = (query, [positive], [negative] if negative else [], file.origin, number, kind)
            yield (*row, instruction + " ") if keep else row


def _instructed(part: object) -> tuple[str, str] | None:
    """Instruction and text of a part, None if it is something else."""
    match part:
        case [str(instruction), str(text)]:
            return instruction.strip(), text.strip()
    return None


RECIPE = Recipe(
    name="medi",
    kind="pairs",
    stages=("stage 2",),
    languages=("en",),
    about="MEDI: 330 tasks with instructions and negatives",
    where="https://github.com/xlang-ai/instructor-embedding links medi-data.zip: medi-data.json, unpacked",
    licence="those of its parts",
    raw='one JSON array of {"query": [instruction, text], "pos": [instruction, text], "neg": [instruction, text], '
    '"task_id": number}, 1 to 2 GB',
    makes="one record an element: query, positive, negative. The instructions go, as BGE has its own, or stay as the "
    "prompt of the row. An element whose query and positive have one instruction is symmetric, others are retrieval "
    "(sub-sources of bgeprep shard). Passed over: other_shape, empty_text, no_object",
    citation="Su et al. 2023, One Embedder, Any Task: Instruction-Finetuned Text Embeddings, Findings of ACL",
    unchecked="some 1.4 million elements; that equal instructions mean a symmetric task is this recipe's own rule",
    options={"instructions": "drop, or keep as the prompt of the row (drop)"},
    read=read,
)
