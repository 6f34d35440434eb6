"""The raw files that a recipe is given."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bgeprep.errors import ConfigError, CorpusError
from bgeprep.inputs import collect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["OPTIONS", "Raw", "RawFile"]

Word = TypeVar("Word", bound=str)

OPTIONS = {
    "encoding": "encoding of the raw text files (utf-8); a line that is not in it is passed over and counted",
}
"""Options that every recipe has."""


@dataclass(frozen=True)
class RawFile:
    """One raw file.

    Attributes:
        path: where it is.
        origin: what records call it: its path below the input folder, with `/`.
        given: it was named itself, not found in a folder.
        encoding: that of its text.
        bytes: its size.
        modified: its modification time in ns.
    """

    path: Path
    origin: str
    given: bool = True
    encoding: str = "utf-8"
    bytes: int = 0
    modified: int = 0


@dataclass(frozen=True)
class Raw:
    """The raw files of a run in natural order, and what else the recipe was told.

    Attributes:
        files: all of them.
        processes: how many may work at once.
        options: what was asked for beside the paths.
    """

    files: tuple[RawFile, ...]
    processes: int
    options: Mapping[str, str]

    @classmethod
    def find(
        cls,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        processes: int = 1,
        options: Mapping[str, str],
    ) -> Raw:
        """The files below some paths, each once.

        Raises:
            ConfigError: an unknown encoding, paths in an object store, or two files of one origin.
            CorpusError: a path that does not exist.
        """
        encoding = options.get("encoding", "utf-8")
        try:
            whole_bytes = "\n".encode(encoding) == b"\n"
        except LookupError:
            whole_bytes = False
        if not whole_bytes:
            message = f"options.encoding: expected one in which a line ends as in ASCII, found {encoding!r}"
            raise ConfigError(f"{message}; hint: utf-8, latin-1, gb18030")
        patterns = [os.fspath(one) for one in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
        files: list[RawFile] = []
        for pattern in patterns:
            found, _ = collect([pattern], prefix=len(patterns) > 1)
            itself = {Path(match) for match in [pattern, *glob.glob(pattern, recursive=True)]}  # noqa: PTH207 - absolute
            before = {file.path.resolve(): at for at, file in enumerate(files)}
            for one in found:
                if isinstance(one.path, str):
                    raise ConfigError(f"{pattern}: recipes read files of this machine; hint: copy them here first")
                given, known = one.path in itself, before.get(one.path.resolve())
                if known is None:
                    files.append(RawFile(one.path, one.origin, given, encoding, one.bytes, one.modified))
                elif given:
                    files[known] = replace(files[known], given=True)
        origin, times = Counter(file.origin for file in files).most_common(1)[0] if files else ("", 0)
        if times > 1:
            raise ConfigError(f"two input files are both called {origin}; hint: give their common folder as --in")
        return cls(tuple(files), processes, options)

    @property
    def fingerprint(self) -> str:
        """A hash of names, sizes and times of change of the files, and of the options."""
        listing = [f"{file.origin}\0{file.bytes}\0{file.modified}" for file in self.files]
        options = [f"{key}={value}" for key, value in sorted(self.options.items())]
        return hashlib.sha256("\0".join([*listing, *options]).encode()).hexdigest()[:32]

    def matching(self, pattern: str, *, expected: str) -> list[RawFile]:
        """The files that were named themselves, and of folders those whose origin the pattern is found in.

        Args:
            pattern: a regular expression, case ignored.
            expected: what the files are called, for the error.

        Raises:
            CorpusError: there is none.
        """
        found = [file for file in self.files if file.given or re.search(pattern, file.origin, re.IGNORECASE)]
        return found or self._none(expected)

    def named(self, pattern: str, *, expected: str = "") -> list[RawFile]:
        """The files whose origin the pattern is found in, however they were given.

        Args:
            pattern: a regular expression, case ignored.
            expected: what the files are called, for the error; empty where there may be none.

        Raises:
            CorpusError: there is none, and there must be.
        """
        found = [file for file in self.files if re.search(pattern, file.origin, re.IGNORECASE)]
        return found or (self._none(expected) if expected else [])

    def number(self, name: str, default: int) -> int:
        """An option that is a whole number above 0.

        Raises:
            ConfigError: it is something else.
        """
        text = self.options.get(name, str(default))
        if not text.isdecimal() or not int(text):
            raise ConfigError(f"options.{name}: expected a whole number above 0, found {text!r}")
        return int(text)

    def chosen(self, name: str, known: Sequence[Word]) -> Word:
        """An option that is one of some words; the first of them where it is not given.

        Raises:
            ConfigError: it is something else.
        """
        text = self.options.get(name, known[0])
        for one in known:
            if one == text:
                return one
        raise ConfigError(f"options.{name}: expected one of {', '.join(known)}, found {text!r}")

    def _none(self, expected: str) -> list[RawFile]:
        some = ", ".join(file.origin for file in self.files[:5]) or "no file"
        raise CorpusError(f"expected {expected}, found {some}", str(self.files[0].path) if self.files else "")
