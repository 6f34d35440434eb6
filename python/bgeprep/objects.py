"""Objects in a store as input: what lies below an `s3://` URL, and what a glob of one matches.

A store knows keys, no folders; what stands before a `/` is taken for one, so that a copied folder gives the same
files under the same names in the same order.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from bgeprep import _native
from bgeprep.errors import CorpusError

__all__ = ["Found", "find_objects", "is_url"]


@dataclass(frozen=True)
class Found:
    """An object: its URL, its name below the match that led to it, its size in bytes, its etag and its version.

    The version is a number that another content under the same key does not have.
    """

    url: str
    name: str
    bytes: int
    etag: str
    version: int


def is_url(text: str) -> bool:
    """Whether `text` names an object or a prefix in a store; a path on this machine is none.

    Raises:
        ConfigError: a URL of another scheme, or one that names no bucket.
    """
    return _native.split_url(text) is not None


def find_objects(pattern: str) -> list[tuple[str, bool, list[Found]]]:
    """What a URL or a glob of one leads to.

    Returns:
        For each match in natural order its last name, whether it is a folder, and its objects: the one itself, or
        all below the folder.

    Raises:
        ConfigError: no URL of a store that can be reached, or AWS_ variables that cannot work.
        CorpusError: nothing is there.
        StoreError: the store refuses or cannot be reached.
    """
    split = _native.split_url(pattern)
    if split is None:
        raise CorpusError(f"{pattern}: expected a URL, found a path", pattern)
    bucket, key = split
    listed = _list(bucket, key)
    entries = {found.name: found for found in listed}
    if key in entries:
        matches = [key]
    elif not key or any(name.startswith(f"{key}/") for name in entries):
        matches = [key] if entries else []
    else:
        matches = _glob(key, entries) if glob.has_magic(key) else []
    if not matches:
        raise CorpusError(f"{pattern}: no such object or prefix; hint: check the URL, quote globs", pattern)
    return [_match(bucket, match, entries) for match in matches]


def _list(bucket: str, key: str) -> list[Found]:
    """The objects that may matter for a key or a glob of keys."""
    magic = re.search(r"[*?[]", key)
    if magic:
        raw = _native.list_objects(bucket, key[: magic.start()])
    else:
        # With the slash first: `pairs` is not to list all of `pairs-of-last-year/`.
        raw = _native.list_objects(bucket, f"{key}/" if key else "")
        raw = raw or (_native.list_objects(bucket, key) if key else [])
    return [
        Found(f"s3://{bucket}/{name}", name, size, etag, _version(etag, modified)) for name, size, etag, modified in raw
    ]


def _version(etag: str, modified: int) -> int:
    """The etag as a number, so that it stands where the modification time of a file does."""
    return int.from_bytes(hashlib.sha256(etag.encode()).digest()[:7], "big") if etag else modified


def _match(bucket: str, key: str, entries: dict[str, Found]) -> tuple[str, bool, list[Found]]:
    last = key.rpartition("/")[2] or bucket
    if key in entries:
        one = entries[key]
        return last, False, [Found(one.url, last, one.bytes, one.etag, one.version)]
    front = f"{key}/" if key else ""
    below = [one for name, one in entries.items() if name.startswith(front)]
    return last, True, [Found(one.url, one.name[len(front) :], one.bytes, one.etag, one.version) for one in below]


def _glob(pattern: str, keys: Iterable[str]) -> list[str]:
    """Keys and folders of keys that match, as `glob.glob(pattern, recursive=True)` finds files and folders."""
    names = set(keys)
    for key in keys:
        while key := key.rpartition("/")[0]:
            names.add(key)
    parts = pattern.split("/")
    return [name for name in sorted(names) if _fits(parts, name.split("/"))]


def _fits(pattern: list[str], names: list[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        shown = next((at for at, name in enumerate(names) if name.startswith(".")), len(names))
        return any(_fits(pattern[1:], names[taken:]) for taken in range(shown + 1))
    if not names or (names[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(names[0], pattern[0]) and _fits(pattern[1:], names[1:])
