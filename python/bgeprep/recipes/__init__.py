"""Recipes: published data sets in the form they are published in → records that `bgeprep shard` reads.

```
raw files ─ recipe ─► Stream, one a source ─► shard(recipe.read(path), out)      or, to keep the records:
                                            └► convert(name, path, out) ─► <out>/<source>.jsonl
```

A recipe is a module (or package) of this folder with a `RECIPE` and a function `read`. What it reads must be the same
each time and in the same order; it holds a few batches at once, however large the raw files are.
"""

from __future__ import annotations

import difflib
import pkgutil
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from bgeprep.errors import ConfigError
from bgeprep.recipes.stream import Stream, Tally

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Recipe", "Stream", "Tally", "find", "names"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a recipe makes of what, and what a user has to know before.

    Attributes:
        name: what it is called on the command line; the name of its module.
        kind: `pairs` or `text`, what `bgeprep shard` makes of its records.
        about: one line for the list.
        where: where the raw files come from and which of them to take.
        licence: under which they are published.
        raw: the shape of the raw files.
        makes: what records come out, and what is passed over.
        citation: whom to name.
        read: (paths, processes) → the streams by source name.
    """

    name: str
    kind: Literal["pairs", "text"]
    about: str
    where: str
    licence: str
    raw: str
    makes: str
    citation: str
    read: Callable[[Iterable[str | os.PathLike[str]], int], Mapping[str, Stream]]


def names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(
        found.name
        for found in pkgutil.iter_modules(__path__)
        if hasattr(import_module(f"{__name__}.{found.name}"), "RECIPE")
    )


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
    recipe: Recipe = import_module(f"{__name__}.{name}").RECIPE
    return recipe
