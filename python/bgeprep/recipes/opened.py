"""Raw files as bytes: plain, gzip or bzip2, told apart by their first bytes; zstd is known, and read by `lines`."""

from __future__ import annotations

import bz2
import gzip
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

from bgeprep.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["is_zstd", "opened", "read_block"]

_BLOCK = 1 << 20
_ZSTD = b"\x28\xb5\x2f\xfd"
_PACKED = {_ZSTD: "zstd", b"7z\xbc\xaf": "7-Zip", b"PK\x03\x04": "zip", b"Rar!": "rar"}


def opened(path: Path) -> IO[bytes]:
    """A file, unpacked while it is read; close it, or use it as a context.

    Raises:
        CorpusError: a zstd file, or an archive of files.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.open(path))
    if magic.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(path))
    for mark, name in _PACKED.items():
        if magic.startswith(mark):
            raise CorpusError(f"{path}: expected a plain, gzip or bzip2 file, found {name}; hint: unpack it", str(path))
    return path.open("rb")


def is_zstd(path: Path) -> bool:
    """Whether a file is packed with zstd."""
    with path.open("rb") as file:
        return file.read(4) == _ZSTD


def read_block(file: IO[bytes], path: Path, size: int = _BLOCK) -> bytes:
    """The next bytes of a file from `opened`, none at its end.

    Raises:
        CorpusError: damaged or truncated packed data.
        OSError: the operating system refused.
    """
    with _damage_told(path):
        return file.read(size)


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"{path}: damaged or truncated: {error}; hint: fetch it again", str(path)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        # bz2 says by a bare OSError that a stream is damaged
        raise CorpusError(f"{path}: damaged: {error}; hint: fetch it again", str(path)) from error
