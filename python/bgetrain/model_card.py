"""The README of an exported model: front matter, how to use it, the recipe, the scores.

A pure function of its arguments, so that the card can be made again when scores arrive after training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Scores", "flatten", "markdown_table", "model_card"]

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""run name (`before`, `after`, `BM25`, …) → collection → metric → value between 0 and 1."""

_LISTED = ("language", "datasets", "tags")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def model_card(name: str, facts: Mapping[str, Any], recipe: Mapping[str, Any], scores: Scores | None) -> str:
    """Returns the card as Markdown with YAML front matter.

    Args:
        name: the model's name, its folder.
        facts: architecture, dimension, max_seq_length, pooling, normalize, query_instruction.
        recipe: how the model was trained; nested mappings are shown with dotted names.
        scores: run → collection → metric → value, or None where nothing was measured.

    Returns:
        The text of README.md, ending in a line feed.
    """
    parts = [
        _front_matter(recipe),
        f"# {name}\n",
        _description(facts),
        _usage(name, facts),
        "## Recipe\n\n" + markdown_table(("setting", "value"), flatten(_public(recipe))),
        _score_section(scores),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns the leaves of nested mappings as (dotted name, value as text), in the given order."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows.extend(flatten(value, f"{name}."))
        elif isinstance(value, str):
            rows.append((name, value))
        else:
            rows.append((name, json.dumps(value, ensure_ascii=False, default=str)))
    return rows


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table; bars and line breaks inside cells are escaped."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    header = list(header)
    return "\n".join([line(header), line(["---"] * len(header)), *(line(row) for row in rows)]) + "\n"


def _front_matter(recipe: Mapping[str, Any]) -> str:
    """The YAML block that model hubs read; values are JSON, which YAML contains."""
    fields: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "license": recipe.get("license"),
        "language": recipe.get("languages"),
        "base_model": _hub_name(recipe.get("base_model")),
        "datasets": recipe.get("datasets"),
        "tags": ["sentence-transformers", "feature-extraction", "sentence-similarity", *recipe.get("tags", [])],
    }
    lines = ["---"]
    for key, value in fields.items():
        if not value:
            continue
        if key in _LISTED:
            lines.append(f"{key}:")
            lines.extend(f"- {_scalar(item)}" for item in ([value] if isinstance(value, str) else value))
        else:
            lines.append(f"{key}: {_scalar(value)}")
    return "\n".join([*lines, "---", ""])


def _scalar(value: object) -> str:
    """A YAML scalar: bare where the text is a plain word, else a JSON string."""
    text = str(value)
    # Hubs read `no` (Norwegian) and the like as booleans unless they are quoted.
    plain = _HUB_NAME.fullmatch(text) and text.lower() not in {"no", "yes", "on", "off", "true", "false", "null"}
    return text if plain and not re.fullmatch(r"[\d.]+", text) else json.dumps(text, ensure_ascii=False)


def _hub_name(base_model: object) -> str | None:
    """The base model where it is a name on a hub; a path of this machine means nothing elsewhere."""
    text = str(base_model or "")
    return text if _HUB_NAME.fullmatch(text) else None


def _public(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without this machine's folders: of an absolute path the last two names remain."""

    def strip(value: object) -> object:
        if isinstance(value, Mapping):
            return _public(value)
        if isinstance(value, str) and value.startswith("/"):
            return "/".join(value.rstrip("/").split("/")[-2:])
        return value

    return {key: strip(value) for key, value in recipe.items()}


def _description(facts: Mapping[str, Any]) -> str:
    pooling = {"cls": "the [CLS] vector", "mean": "the mean of the token vectors"}[facts["pooling"]]
    scaled = "scaled to length 1" if facts["normalize"] else "not normalised"
    instruction = facts["query_instruction"]
    prompt = (
        f"Queries take the instruction `{instruction}` before their text; documents take none.\n"
        if instruction
        else "Queries and documents are encoded as they are, without an instruction.\n"
    )
    return (
        f"A text embedding model ({facts['architecture']}): {facts['dimension']} dimensions, {pooling}, {scaled}, "
        f"inputs of up to {facts['max_seq_length']} tokens.\n{prompt}"
    )


def _usage(name: str, facts: Mapping[str, Any]) -> str:
    prompt = ', prompt_name="query"' if facts["query_instruction"] else ""
    return (
        "## Use\n\n```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        f"model = SentenceTransformer({json.dumps(name, ensure_ascii=False)})\n"
        f'queries = model.encode(["a question"]{prompt})\n'
        'documents = model.encode(["a passage"])\n'
        "print(model.similarity(queries, documents))\n```\n"
    )


def _score_section(scores: Scores | None) -> str:
    if not scores:
        return "## Scores\n\nNot measured yet: `bgetrain evaluate --update_model_card` fills this in.\n"
    metrics = list(dict.fromkeys(m for run in scores.values() for row in run.values() for m in row))
    collections = list(dict.fromkeys(c for run in scores.values() for c in run))
    rows = [
        [collection, run, *(_cell(scores[run][collection].get(metric)) for metric in metrics)]
        for collection in collections
        for run in scores
        if collection in scores[run]
    ]
    return "## Scores\n\n" + markdown_table(("collection", "run", *metrics), rows)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
