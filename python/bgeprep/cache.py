"""Shard sets of an object store on this machine's disk: fetched once, verified, and no more than a limit.

```
cache/
  <hash of a set>/       its parts, each with its name only when it is whole; manifest.json last
  <hash of a set>.lock   locked by every process that uses the set, so that nobody removes it
  lock                   locked by the one that fetches, or makes room
```

Whole sets are what is fetched, not parts ahead of a plan: the order of a pass is a permutation of all rows of a source,
so that a batch of some hundred rows takes them from all parts (docs/many-nodes.md has the figures). What the cache
saves is the second fetch: the processes of a machine share a set, and so do runs one after the other.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bgeprep import _native
from bgeprep.amounts import byte_text
from bgeprep.errors import ConfigError, ShardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["default_folder", "held_set"]

AT_ONCE = 8
"""Parts that are fetched at one time."""


def default_folder() -> Path:
    """Where sets are kept if nothing else is said: `bgeprep/sets` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bgeprep" / "sets"


@contextmanager
def held_set(
    url: str,
    *,
    folder: Path | None = None,
    limit: int | None = None,
    threads: int = AT_ONCE,
    report: Callable[..., None] | None = None,
) -> Iterator[Path]:
    """A set of a store as a folder of this machine, which stays while the `with` block runs.

    Any number of processes may ask for it at once: one fetches, the others wait for it. A fetch that was killed is
    gone on with. Sets that nobody uses go, those used longest ago first, where the limit asks for it.

    Args:
        url: of the set, `s3://bucket/key`.
        folder: the cache; `default_folder` where none is given.
        limit: bytes that sets may take there; as much as the disk has where none is given.
        threads: parts fetched at once.
        report: called as by `bgeprep.shard`, with the stage `fetch`.

    Yields:
        The folder of the set: its parts and its manifest, without the rejects.

    Raises:
        ConfigError: the set is larger than the limit, or a URL that is none.
        ShardError: no complete set there, a part that is damaged, or no room on the disk or below the limit.
        StoreError: the store refuses or cannot be reached.
        OSError: the cache cannot be written.
    """
    text = _native.published(url)
    manifest = json.loads(text)
    needed = len(text.encode()) + sum(part["bytes"] for part in _parts(manifest))
    if limit is not None and needed > limit:
        raise ConfigError(
            f"cache_limit: {url} takes {byte_text(needed)}, the limit is {byte_text(limit)}: each machine that trains "
            "needs all of it, since every batch takes rows from all parts; hint: a higher limit"
        )
    cache = folder if folder is not None else default_folder()
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / manifest["hash"]
    lock = target.with_suffix(".lock")
    with lock.open("a") as used:
        # before anything else: what is locked is removed by nobody
        fcntl.flock(used, fcntl.LOCK_SH)
        os.utime(lock)
        if not (target / "manifest.json").exists():
            with (cache / "lock").open("a") as alone:
                fcntl.flock(alone, fcntl.LOCK_EX)
                if not (target / "manifest.json").exists():
                    target.mkdir(exist_ok=True)
                    _make_room(cache, target, needed, limit)
                    _native.fetch(url, target, threads, report)
        yield target


def _parts(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for source in manifest["sources"] for part in source["files"]]


def _make_room(cache: Path, target: Path, needed: int, limit: int | None) -> None:
    """Removes sets that nobody uses until the wanted one has room below the limit, and on the disk."""
    # nothing but what has the name of a set is ours, whatever folder somebody took for a cache
    sets = [lock for lock in cache.glob("*.lock") if re.fullmatch("[0-9a-f]{32}", lock.stem)]
    others = sorted((lock for lock in sets if lock.stem != target.name), key=_last_used)
    sizes = {lock: _bytes(cache / lock.stem) for lock in others}
    missing = needed - _bytes(target)

    def lacks_room() -> bool:
        return shutil.disk_usage(cache).free < missing or (limit is not None and sum(sizes.values()) + needed > limit)

    for lock in others:
        if not lacks_room():
            return
        with lock.open("a") as file:
            if _taken(file):
                shutil.rmtree(cache / lock.stem, ignore_errors=True)
                sizes[lock] = _bytes(cache / lock.stem)
    if not lacks_room():
        return
    free = shutil.disk_usage(cache).free
    if free < missing:
        raise ShardError(
            f"{cache}: {byte_text(free)} are free, the set needs {byte_text(missing)} more; "
            "hint: make space, or another --cache_dir",
            str(cache),
        )
    raise ShardError(
        f"{cache}: {byte_text(sum(sizes.values()))} are sets that other processes use, and {byte_text(needed)} more "
        f"would be above the limit of {byte_text(limit or 0)}; hint: a higher --cache_limit, or another --cache_dir",
        str(cache),
    )


def _taken(file: IO[str]) -> bool:
    """Locks a set for oneself alone, if nobody uses it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_used(lock: Path) -> tuple[int, str]:
    return lock.stat().st_mtime_ns, lock.name


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
