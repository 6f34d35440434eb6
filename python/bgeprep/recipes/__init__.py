"""Recipes: published data sets in the form they are published in → records that `bgeprep shard` reads.

```
raw files ─ recipe ─► Stream, one a source ─► shard(recipes.read(name, raw), out)     or as a source of a config file,
                                            └► convert(name, raw, out) ─► <out>/<source>.jsonl + mix.toml
```

A recipe is a module (or package) of this folder with a `RECIPE`. What it reads must be the same each time and in the
same order; it holds a few batches at once, however large the raw files are. The readers it is put together from have a
module each, named after what they read: `opened` (packed files), `json_lines`, `json_array`, `tab_separated`, `shapes`
(the values of sentence-transformers' files).
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from bgeprep.errors import ConfigError
from bgeprep.recipes.purpose import Purpose
from bgeprep.recipes.raw import OPTIONS, Raw, RawFile
from bgeprep.recipes.stream import Stream, Tally

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

__all__ = [
    "OPTIONS",
    "Purpose",
    "Raw",
    "RawFile",
    "Recipe",
    "Stage",
    "Stream",
    "Tally",
    "find",
    "names",
    "open_raw",
    "read",
]

Stage = Literal["pre-training", "stage 1", "stage 2", "any"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a recipe makes of what, and what a user has to know before.

    Attributes:
        name: what it is called on the command line; the name of its module, with hyphens.
        kind: `pairs` or `text`, what `bgeprep shard` makes of its records.
        stages: the stages of BGE's training that use it; `any` for layouts that many sets have.
        languages: language tags of its texts; empty where the raw files decide.
        about: one line for the list.
        where: where the raw files come from and which of them to take.
        licence: under which they are published.
        raw: the shape of the raw files.
        makes: what records come out, and what is passed over.
        citation: whom to name.
        unchecked: what is said here from memory and was not held against the real files; empty where nothing is.
        options: what can be asked of it beside the paths: name → what it does.
        read: the raw files → the streams by source name.
    """

    name: str
    kind: Literal["pairs", "text"]
    stages: tuple[Stage, ...]
    languages: tuple[str, ...]
    about: str
    where: str
    licence: str
    raw: str
    makes: str
    citation: str
    unchecked: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[Raw], Mapping[str, Stream]]


def names() -> list[str]:
    """The names of all recipes, sorted."""
    modules = (import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return sorted(module.RECIPE.name for module in modules if hasattr(module, "RECIPE"))


def find(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: there is none.
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}" if near else f"known recipes: {', '.join(known)}"
        raise ConfigError(f"recipe: no recipe is called {name!r}; hint: {hint}")
    recipe: Recipe = import_module(f"{__name__}.{name.replace('-', '_')}").RECIPE
    return recipe


def read(
    name: str,
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    processes: int = 1,
    options: Mapping[str, str] | None = None,
) -> dict[str, Stream]:
    """The records that a recipe makes of raw files, by source, as `bgeprep.shard` takes them.

    Args:
        name: the recipe, as `bgeprep recipes` lists it.
        paths: raw files, folders of them, or globs.
        processes: how many work at once, where the recipe can; decides no byte. Above 1, a script that calls this
            needs the usual `if __name__ == "__main__"`.
        options: what else is asked of the recipe, as `bgeprep recipes show NAME` says.

    Raises:
        ConfigError: no such recipe or option, or `processes` below 1.
        CorpusError: paths without what the recipe reads; while a stream is read, a damaged file.
    """
    recipe = find(name)
    return dict(recipe.read(open_raw(recipe, paths, processes=processes, options=options)))


def open_raw(
    recipe: Recipe,
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    processes: int = 1,
    options: Mapping[str, str] | None = None,
) -> Raw:
    """The raw files for a recipe, once its options and the paths are known to be good; raises as `read`."""
    if processes < 1:
        raise ConfigError(f"processes: expected at least 1, found {processes}")
    known = {**recipe.options, **OPTIONS}
    for key in options or {}:
        if key not in known:
            raise ConfigError(
                f"options.{key}: recipe {recipe.name} has no such option; hint: it has {', '.join(known)}"
            )
    return Raw.find(paths, processes=processes, options=options or {})
