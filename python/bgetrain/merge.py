"""The weighted average of models: the command `bgetrain merge`.

1. One model after the other is read, held against the first, and let go.
2. A running average moves towards each by its share of the weights so far, tensor by tensor in fp32. Where all models
   agree there is nothing to move, so a model averaged with itself is itself, bit for bit, with any weights.
3. The average is written as a model of its own, with a card that says what it was made from.

Two models are in memory at a time, however many there are.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgetrain.errors import ConfigError, LaunchError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bgetrain.encode import Encoder

__all__ = ["TEACHING", "Merged", "add_arguments", "merge", "run"]

TEACHING = """\
Average the weights of models of one architecture, as the published BGE models end: fine-tuned models, or a
fine-tuned model and the one it started from, become one model that keeps what each is good at
(LM-Cocktail, Xiao et al. 2023, arXiv 2311.13534). It costs no training and no time when encoding.

  bgetrain merge output/with-instruction output/without --out output/merged
  bgetrain merge output/mine BAAI/bge-small-en-v1.5 --weights 0.7 0.3 --out output/merged
  bgetrain evaluate --model output/mine output/merged --data collections/

What fine-tuning made worse elsewhere comes back with more weight on the model it started from. Models that did
not start from the same weights do not average into anything useful, though it can be computed."""

# what a config.json says that changes no vector, or only what training would do
_NO_MATTER = {
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "problem_type",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
_HALF = {"float16", "bfloat16"}


@dataclass(frozen=True, slots=True)
class Merged:
    """What `merge` made.

    Attributes:
        out: the folder.
        shares: model → its share of the average, in the order given; shares add up to 1.
        tensors: averaged.
        parameters: numbers in them.
    """

    out: Path
    shares: tuple[tuple[str, float], ...]
    tensors: int
    parameters: int


def merge(
    models: Sequence[str | Path],
    out: str | Path,
    *,
    weights: Sequence[float] | None = None,
    query_instruction: str | None = None,
    overwrite: bool = False,
) -> Merged:
    """Writes the weighted average of models to a folder that opens in sentence-transformers.

    Args:
        models: at least two folders or hub names; checkpoints of a run are such folders.
        out: the folder to make; it is there whole or not at all.
        weights: one a model, above 0; they are divided by their sum. None weighs all alike.
        query_instruction: text before queries; None takes the models' own, which must be the same then.
        overwrite: replace a model that is in `out`.

    Raises:
        ConfigError: weights and models do not match.
        LaunchError: `out` holds something and is not to be replaced.
        ModelError: a model cannot be read, or differs from the first; the message names the tensor or the setting.
        OSError: `out` cannot be written.
    """
    names = [str(model) for model in models]
    shares = _shares(names, weights)
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise LaunchError(f"{target}: is not empty", path=str(target), hint="--overwrite replaces the model in it")

    import torch

    from bgetrain.export import save_pretrained

    result = _read(names[0])
    average = result.backbone.state_dict()
    _check_finite(names[0], average)
    recipes, dtypes, total = [_recipe(result)], {_dtype(result)}, shares[0]
    for name, share in zip(names[1:], shares[1:], strict=True):
        total += share
        recipe, dtype = _add(names[0], result, average, name, share / total, instructions=query_instruction is None)
        recipes.append(recipe)
        dtypes.add(dtype)
    if query_instruction is not None:
        result.query_instruction = query_instruction
    stored = dtypes.pop() if len(dtypes) == 1 else "float32"
    if stored in _HALF:
        result.backbone.to(getattr(torch, stored))
    save_pretrained(result, target, recipe=_merged_recipe(names, shares, recipes))
    return Merged(
        target,
        tuple(zip(names, shares, strict=True)),
        len(average),
        sum(value.numel() for value in average.values()),
    )


def _shares(names: list[str], weights: Sequence[float] | None) -> list[float]:
    if len(names) < 2:
        raise ConfigError(f"{len(names)} model: expected at least two to average")
    given = [1.0] * len(names) if weights is None else [float(weight) for weight in weights]
    if len(given) != len(names):
        raise ConfigError(f"--weights: expected {len(names)} numbers, one a model, found {len(given)}")
    for weight in given:
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(
                f"--weights {weight:g}: expected above 0", hint="leave out a model that is to count nothing"
            )
    return [weight / math.fsum(given) for weight in given]


def _read(name: str) -> Encoder:
    """Reads a model in fp32; tensors that are absent and that no vector needs are drawn alike each time."""
    import torch

    from bgetrain.encode import Encoder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Encoder.load(name)


def _add(
    first: str, result: Encoder, average: dict[str, Tensor], name: str, share: float, *, instructions: bool
) -> tuple[dict[str, Any], str]:
    """Moves the average towards one more model, which is let go at the end; gives its recipe and dtype."""
    import torch

    other = _read(name)
    _check_settings(first, result, name, other, instructions=instructions)
    tensors = other.backbone.state_dict()
    _check_tensors(first, average, name, tensors)
    with torch.no_grad():
        for key, value in average.items():
            if value.is_floating_point():
                value.lerp_(tensors[key], share)
    result.max_seq_length = min(result.max_seq_length, other.max_seq_length)
    return _recipe(other), _dtype(other)


def _check_settings(first: str, one: Encoder, name: str, other: Encoder, *, instructions: bool) -> None:
    """Holds architecture, pooling, normalisation, vocabulary and, where wanted, the instruction against the first."""
    ours, theirs = _config(one), _config(other)
    pairs = [(f"config.json `{key}`", ours.get(key), theirs.get(key)) for key in sorted(ours.keys() | theirs.keys())]
    # the class first: two architectures differ in everything
    pairs.insert(0, ("the architecture", type(one.backbone).__name__, type(other.backbone).__name__))
    pairs += [
        ("the pooling", one.pooling, other.pooling),
        ("the normalisation", one.normalize, other.normalize),
    ]
    for what, mine, found in pairs:
        if mine != found:
            raise ModelError(f"{name}: {what} is {_show(found)}, of {first} {_show(mine)}", path=name)
    ids, other_ids = one.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    different = sorted(token for token in ids.keys() | other_ids.keys() if ids.get(token) != other_ids.get(token))
    if different:
        token = different[0]
        raise ModelError(
            f"{name}: the vocabulary differs in {len(different)} tokens: {token!r} is {other_ids.get(token)}, "
            f"of {first} {ids.get(token)}",
            path=name,
        )
    if instructions and one.query_instruction != other.query_instruction:
        raise ModelError(
            f"{name}: the query instruction is {_show(other.query_instruction)}, of {first} "
            f"{_show(one.query_instruction)}",
            path=name,
            hint='--query_instruction_for_retrieval TEXT says which the average has; "" for none',
        )


def _show(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _config(encoder: Encoder) -> dict[str, Any]:
    """What config.json says of the function the model computes, with the defaults of what it leaves out."""
    backbone: Any = encoder.backbone
    stored: dict[str, Any] = backbone.config.to_dict()
    return {key: value for key, value in stored.items() if key not in _NO_MATTER and "dropout" not in key}


def _check_tensors(first: str, ours: dict[str, Tensor], name: str, theirs: dict[str, Tensor]) -> None:
    import torch

    for key in sorted(ours.keys() ^ theirs.keys()):
        has, lacks = (first, name) if key in ours else (name, first)
        raise ModelError(f"{name}: tensor {key} is in {has} and not in {lacks}", path=name)
    for key, value in ours.items():
        found = theirs[key]
        if value.shape != found.shape:
            raise ModelError(
                f"{name}: tensor {key} has the shape {list(found.shape)}, in {first} {list(value.shape)}", path=name
            )
        if not value.is_floating_point() and not torch.equal(value, found):
            raise ModelError(
                f"{name}: tensor {key} holds whole numbers, which have no average, and differs from that in {first}",
                path=name,
            )
    _check_finite(name, theirs)


def _check_finite(name: str, tensors: dict[str, Tensor]) -> None:
    import torch

    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"{name}: tensor {key} holds what is not a number", path=name)


def _dtype(encoder: Encoder) -> str:
    """How the folder stores its weights, by its config.json."""
    file = encoder.folder / "config.json" if encoder.folder else None
    config = json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def _recipe(encoder: Encoder) -> dict[str, Any]:
    """How a model was trained, where its folder says so."""
    file = encoder.folder / "recipe.json" if encoder.folder else None
    try:
        recipe = json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}
    except ValueError:
        return {}
    return recipe if isinstance(recipe, dict) else {}


def _merged_recipe(names: list[str], shares: list[float], recipes: list[dict[str, Any]]) -> dict[str, Any]:
    """What the card says: what was averaged, and the facts that all or any of the models share."""
    bases = {recipe.get("base_model") for recipe in recipes}
    licences = {recipe.get("license") for recipe in recipes}
    parts = {
        str(place): {"model": name, "share": share} | ({"steps": recipe["steps"]} if "steps" in recipe else {})
        for place, (name, share, recipe) in enumerate(zip(names, shares, recipes, strict=True), 1)
    }
    recipe = {
        "base_model": bases.pop() if len(bases) == 1 else None,
        "datasets": sorted({item for recipe in recipes for item in recipe.get("datasets") or []}),
        "languages": sorted({item for recipe in recipes for item in recipe.get("languages") or []}),
        "license": licences.pop() if len(licences) == 1 else None,
        "tags": ["merge"],
        "method": "weighted average of the weights, in fp32",
        "merged": parts,
    }
    return {key: value for key, value in recipe.items() if value}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bgetrain merge`."""
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="model folders, checkpoints or hub names; at least two")
    add("--weights", nargs="+", type=float, metavar="X", help="one a model, divided by their sum (default: all alike)")
    add("--out", "--output_dir", required=True, type=Path, metavar="DIR", help="the folder to make")
    add(
        "--query_instruction_for_retrieval",
        metavar="TEXT",
        help='text before queries; needed where the models differ in it; "" for none (default: the models\' own)',
    )
    add("--overwrite", action="store_true", help="replace a model that is in --out")
    add("--json", action="store_true", help="print what was made as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command and says what it made.

    Returns:
        0; what goes wrong is raised, and `bgetrain.main.report` turns it into a line and an exit code.

    Raises:
        BgetrainError: a model or a flag cannot be used.
        OSError: the folder cannot be written.
    """
    made = merge(
        args.models,
        args.out,
        weights=args.weights,
        query_instruction=args.query_instruction_for_retrieval,
        overwrite=args.overwrite,
    )
    if args.json:
        models = [{"model": name, "share": share} for name, share in made.shares]
        facts = {"out": str(made.out), "models": models, "tensors": made.tensors, "parameters": made.parameters}
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return 0
    for name, share in made.shares:
        print(f"{share:7.2%}  {name}")
    print(f"{made.tensors} tensors, {made.parameters / 1e6:.1f}M weights: {made.out}")
    return 0
