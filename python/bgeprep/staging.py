"""A shard set for an object store is made on this machine and then sent.

Objects cannot be renamed, so a set that grew in its place would for hours look like one that is broken. The folder
it is made in is the same for every run to the same URL: a killed run is gone on with, in its making and in its
sending.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bgeprep.errors import ShardError

__all__ = ["staged"]


@contextmanager
def staged(url: str, tmp: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder in which the set for `url` is made, for this run alone; it goes when the run comes to its end.

    Args:
        url: where the set is to lie.
        tmp: folder to make it in; by default `bgeprep` in the user's cache folder.

    Raises:
        ShardError: another run on this machine makes a set for the same URL.
        OSError: the folder cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bgeprep"
    parent = Path(tmp) if tmp else cache
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"bgeprep-out-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    # Beside the folder, not in it: the folder goes while the lock is held.
    lock = folder.with_suffix(".lock")
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{url}: another run is writing there; hint: wait for it to end, or choose another --out"
            raise ShardError(message, url) from None
        begun = folder.exists()
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except BaseException:
            # What a run that never began left behind is of no use to the next.
            if not begun and not any(folder.iterdir()):
                folder.rmdir()
            raise
        shutil.rmtree(folder)
