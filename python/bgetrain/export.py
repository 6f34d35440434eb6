"""Writes a trained encoder as a sentence-transformers folder.

The folder opens as it is in sentence-transformers (3, 5 and 6), in FlagEmbedding's `FlagModel` and in
mteb, and holds no pickle. Layout, as sentence-transformers wrote it from version 3 on:

```
config.json model.safetensors          the backbone, by transformers
tokenizer.json tokenizer_config.json   the tokenizer, without stored truncation or padding
modules.json                           Transformer → Pooling (→ Normalize), by their classic names
sentence_bert_config.json              max_seq_length
config_sentence_transformers.json      prompts {"query": instruction, "document": ""}, no default prompt
1_Pooling/config.json 2_Normalize/     pooling mode; normalisation where the encoder normalises
recipe.json scores.json README.md      how it was trained, what it scored, the model card made from both
```
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from bgetrain.errors import ModelError
from bgetrain.model_card import Scores, model_card

__all__ = ["POOLING_MODES", "ExportableEncoder", "save_pretrained", "write_scores"]

POOLING_MODES = ("cls", "mean")
"""The pooling modes that this package trains, and so the only ones it writes."""

# The classic paths: version 6 moved the classes and maps these names, versions 3 and 5 know no others.
_TRANSFORMER = "sentence_transformers.models.Transformer"
_POOLING = "sentence_transformers.models.Pooling"
_NORMALIZE = "sentence_transformers.models.Normalize"

# The release whose layout this is (`prompts` 2.4, `similarity_fn_name` 3.0). A reader warns when the
# folder names a release newer than itself, so the oldest true answer is the right one.
_LAYOUT_VERSION = "3.0.0"

# What makes a folder a model: taken out first and put in last, so that a broken save is no model.
_MARKERS = ("config.json", "modules.json")


class ExportableEncoder(Protocol):
    """What an export needs to know of an encoder; `bgetrain.encode.Encoder` has it all."""

    @property
    def backbone(self) -> Any:  # noqa: ANN401 - any transformers model: save_pretrained, config.hidden_size
        """A transformers model."""

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401 - transformers has no typed base class of fast tokenizers
        """A fast transformers tokenizer."""

    @property
    def pooling(self) -> str:
        """One of `POOLING_MODES`."""

    @property
    def normalize(self) -> bool:
        """Whether embeddings are scaled to length 1."""

    @property
    def query_instruction(self) -> str:
        """Text put before every query, empty for none."""

    @property
    def max_seq_length(self) -> int:
        """Longest input in tokens, special tokens included."""


def save_pretrained(
    encoder: ExportableEncoder,
    path: str | Path,
    *,
    recipe: dict[str, Any],
    scores: Scores | None = None,
    transformer: Any = None,  # noqa: ANN401 - any transformers model
) -> Path:
    """Writes `encoder` to `path` so that `SentenceTransformer(path)` gives the same embeddings.

    Everything is written to a temporary folder beside `path`, flushed, and renamed. A `path` that exists
    (a training output with logs and checkpoints) keeps its other files: the model's files replace those
    of the same name, and `config.json` and `modules.json` come last, so that an interrupted save is
    refused by every loader instead of giving a mixture.

    Args:
        encoder: the encoder; weights are written in the dtype they have.
        path: the folder to make or to complete.
        recipe: how the model was trained, JSON-able. The keys `base_model`, `datasets`, `languages`,
            `license` and `tags` also go to the front matter of the model card.
        scores: run name → collection → metric → value, for the table of the model card.
        transformer: a transformers model around the backbone, e.g. with a masked-LM head, to write in its place;
            whoever wants the backbone alone can read it out of that.

    Returns:
        The folder, as a path.

    Raises:
        ModelError: the encoder's pooling mode is none that sentence-transformers could repeat.
        OSError: the folder cannot be written; nothing is left behind.
    """
    if encoder.pooling not in POOLING_MODES:
        message = f"cannot export pooling {encoder.pooling!r}: expected one of {', '.join(POOLING_MODES)}"
        raise ModelError(message)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        _write_model(encoder, staging, transformer or encoder.backbone)
        _write_json(staging / "recipe.json", recipe)
        if scores:
            _write_json(staging / "scores.json", scores)
        (staging / "README.md").write_text(model_card(target.name, _facts(encoder), recipe, scores), encoding="utf-8")
        for file in sorted(staging.rglob("*")):
            if file.is_file():
                _flush(file)
        # mkdtemp makes private folders; an export has the rights any new folder has.
        staging.chmod(0o777 & ~_umask())
        if target.exists():
            _replace_into(staging, target)
        else:
            staging.rename(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def write_scores(path: str | Path, scores: Scores) -> None:
    """Puts `scores` into the card of a model that `save_pretrained` wrote, in place of earlier ones.

    Args:
        path: the model's folder.
        scores: run name → collection → metric → value.

    Raises:
        ModelError: the folder was not written by `save_pretrained`, so there is no recipe to keep.
        OSError: the folder cannot be read or written.
    """
    folder = Path(path)
    recipe_file = folder / "recipe.json"
    if not recipe_file.is_file():
        message = f"{folder}: no recipe.json, so this is no model exported by bgetrain; its card is left as it is"
        raise ModelError(message, path=str(folder))
    recipe = json.loads(recipe_file.read_text(encoding="utf-8"))
    card = model_card(folder.resolve().name, _facts_of_folder(folder), recipe, scores)
    for name, text in (("scores.json", _json_text(scores)), ("README.md", card)):
        temporary = folder / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        _flush(temporary)
        temporary.replace(folder / name)


def _write_model(encoder: ExportableEncoder, folder: Path, transformer: Any) -> None:  # noqa: ANN401 - any transformers model
    """The backbone, the tokenizer and the five small files that tell a loader how to use them."""
    transformer.save_pretrained(folder)
    tokenizer = copy.deepcopy(encoder.tokenizer)
    # The tokenizer of a training run remembers the last truncation and padding it was asked for; stored,
    # they would cut the inputs of whoever loads tokenizer.json without knowing.
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    tokenizer.model_max_length = encoder.max_seq_length
    tokenizer.save_pretrained(folder)

    modules = [("", _TRANSFORMER), ("1_Pooling", _POOLING)]
    if encoder.normalize:
        modules.append(("2_Normalize", _NORMALIZE))
        (folder / "2_Normalize").mkdir()
    entries = [{"idx": i, "name": str(i), "path": where, "type": kind} for i, (where, kind) in enumerate(modules)]
    _write_json(folder / "modules.json", entries)
    # `do_lower_case` would lower the text a second time, before the tokenizer's own normaliser.
    _write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": encoder.max_seq_length, "do_lower_case": False}
    )
    pooling = folder / "1_Pooling"
    pooling.mkdir()
    _write_json(
        pooling / "config.json",
        {
            "word_embedding_dimension": encoder.backbone.config.hidden_size,
            "pooling_mode_cls_token": encoder.pooling == "cls",
            "pooling_mode_mean_tokens": encoder.pooling == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
            "pooling_mode_weightedmean_tokens": False,
            "pooling_mode_lasttoken": False,
            "include_prompt": True,
        },
    )
    _write_json(
        folder / "config_sentence_transformers.json",
        {
            "__version__": {
                "sentence_transformers": _LAYOUT_VERSION,
                "transformers": version("transformers"),
                "pytorch": version("torch"),
            },
            "model_type": "SentenceTransformer",
            "prompts": {"query": encoder.query_instruction, "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine" if encoder.normalize else "dot",
        },
    )


def _facts(encoder: ExportableEncoder) -> dict[str, Any]:
    """What the card says of the model itself."""
    return {
        "architecture": type(encoder.backbone).__name__,
        "dimension": encoder.backbone.config.hidden_size,
        "max_seq_length": encoder.max_seq_length,
        "pooling": encoder.pooling,
        "normalize": encoder.normalize,
        "query_instruction": encoder.query_instruction,
    }


def _facts_of_folder(folder: Path) -> dict[str, Any]:
    """The same as `_facts`, read back from an exported folder."""

    def read(name: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        return value

    config, pooling, prompts = (
        read("config.json"),
        read("1_Pooling/config.json"),
        read("config_sentence_transformers.json"),
    )
    return {
        "architecture": (config.get("architectures") or [config.get("model_type", "")])[0],
        "dimension": pooling["word_embedding_dimension"],
        "max_seq_length": read("sentence_bert_config.json")["max_seq_length"],
        "pooling": "cls" if pooling["pooling_mode_cls_token"] else "mean",
        "normalize": _NORMALIZE in (folder / "modules.json").read_text(encoding="utf-8"),
        "query_instruction": prompts["prompts"]["query"],
    }


def _replace_into(staging: Path, target: Path) -> None:
    """Moves the files of `staging` over those of an existing folder, the marking files last."""
    # A smaller model leaves fewer weight files, a model without Normalize one folder less: old ones would
    # be loaded beside the new.
    stale = [*target.glob("model*.safetensors*"), target / "1_Pooling" / "config.json", target / "scores.json"]
    for name in _MARKERS:
        (target / name).unlink(missing_ok=True)
    for file in stale:
        file.unlink(missing_ok=True)
    files = [file.relative_to(staging) for file in sorted(staging.rglob("*")) if file.is_file()]
    for folder in (folder.relative_to(staging) for folder in sorted(staging.rglob("*")) if folder.is_dir()):
        (target / folder).mkdir(exist_ok=True)
    for file in sorted(files, key=lambda file: (str(file) in _MARKERS, str(file) == "modules.json", str(file))):
        (staging / file).replace(target / file)
    _flush(target)


def _json_text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def _write_json(path: Path, value: object) -> None:
    path.write_text(_json_text(value), encoding="utf-8")


def _flush(path: Path) -> None:
    """Makes sure that `path`, a file or a folder, is on the disk before anything names it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
