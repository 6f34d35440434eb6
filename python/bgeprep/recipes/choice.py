"""What a user may choose of a data set: kinds of pairs, and parts (train, dev, test)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bgeprep.errors import ConfigError, CorpusError

if TYPE_CHECKING:
    from bgeprep.recipes.raw import Raw, RawFile

__all__ = ["SPLITS", "chosen_pairs", "split_files"]

SPLITS = {"splits": "parts to read of a folder, by file name, as train,dev; all for every file (train)"}
"""The option of recipes for sets that are published in parts."""


def chosen_pairs(raw: Raw, known: tuple[str, ...], default: str) -> list[str]:
    """The kinds of pairs that the option `pairs` names, as `a,b`, or `all`; in the order of `known`.

    Raises:
        ConfigError: a kind that is not known.
    """
    asked = raw.options.get("pairs", default)
    names = set(known) if asked == "all" else {name.strip() for name in asked.split(",")}
    if unknown := sorted(names - set(known)):
        raise ConfigError(f"options.pairs: expected {', '.join(known)} or all, found {unknown[0]!r}")
    return [name for name in known if name in names]


def split_files(raw: Raw, pattern: str, *, expected: str, default: str = "train") -> list[RawFile]:
    """The files of the parts that the option `splits` names; a file that was named itself is always taken.

    Args:
        raw: the raw files.
        pattern: what the files of a folder are called, a regular expression.
        expected: the same in words, for the error.
        default: the parts where none are asked for.

    Raises:
        CorpusError: there is none.
    """
    asked = raw.options.get("splits", default)
    files = raw.matching(pattern, expected=expected)
    if asked == "all":
        return files
    part = re.compile(rf"(?<![a-z])({'|'.join(re.escape(one.strip()) for one in asked.split(','))})(?![a-z])", re.I)
    found = [file for file in files if file.given or part.search(file.path.name)]
    if not found:
        some = ", ".join(file.origin for file in files[:5])
        message = f"expected files of the parts {asked}, found {some}"
        raise CorpusError(f"{message}; hint: --option splits=all", str(files[0].path))
    return found
