"""Work that is done part by part, by any number of ranks, and gone on with after a kill.

```
begun.json       what the parts are of, written before the first of them
part files       each written under a temporary name, flushed and renamed
manifest.json    written last: what the parts are of, and the bytes of each file; begun.json goes
```

A folder belongs to one piece of work. Who comes again with the same finds it done, or goes on with it; with something
else it is an error, never a mixture.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bgetrain.errors import BgetrainError, LaunchError

if TYPE_CHECKING:
    from bgetrain.gather import Ranks

__all__ = ["PartsError", "check_shared", "read_manifest", "shared_parts", "wait_for_all", "write_whole"]

_FORMAT = 1
_MANIFEST = "manifest.json"
_BEGUN = "begun.json"
_LOCK = ".lock"
_SEEN = ".seen-"

_UNTIL_SEEN = 5.0
"""Seconds that a file may take to appear on another machine."""


class PartsError(BgetrainError, ValueError):
    """A folder of parts that is absent, incomplete, damaged, or of something else than asked for."""


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file that is there whole or not at all.

    Args:
        path: the file.
        write: called with a file to write into.

    Raises:
        OSError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_manifest(folder: Path, kind: str, verb: str) -> dict[str, Any]:
    """The manifest of a folder whose files are all there in their sizes.

    Args:
        folder: where the parts are.
        kind: what they are, as `vectors`.
        verb: the command that makes them.

    Raises:
        PartsError: there are no such parts, they are not complete, or a file is absent or of another size.
    """
    manifest = _read_json(folder / _MANIFEST)
    if manifest is None:
        begun = (folder / _BEGUN).is_file()
        raise PartsError(
            f"{folder}: {f'its {kind} are not complete' if begun else f'holds no {kind}'}",
            path=str(folder),
            hint="the command that began them goes on with them" if begun else f"`bgetrain {verb}` makes them",
        )
    if manifest.get("kind") != kind or manifest.get("format") != _FORMAT:
        raise PartsError(f"{folder / _MANIFEST}: not of {kind}, format {_FORMAT}", path=str(folder))
    for name, expected in manifest["files"].items():
        file = folder / name
        size = file.stat().st_size if file.is_file() else None
        if size != expected:
            found = "no such file" if size is None else f"{size} bytes"
            raise PartsError(
                f"{file}: expected {expected} bytes, found {found}",
                path=str(file),
                hint="remove manifest.json beside it, and the command that made the folder makes what is missing",
            )
    return manifest


@contextlib.contextmanager
def shared_parts(
    folder: Path,
    kind: str,
    work: Mapping[str, Any],
    files: Sequence[Sequence[str]],
    *,
    ranks: Ranks | None,
    overwrite: bool,
) -> Iterator[list[int]]:
    """Deals the parts that are still to be made; every rank must enter, and make its own before it leaves.

    Args:
        folder: where the parts go.
        kind: what they are, as `vectors`.
        work: what decides them; JSON-able.
        files: names of the files of each part; the last one is written last.
        ranks: the processes that share the work; None is one process alone, which then needs no torch.
        overwrite: replace what is of other work.

    Yields:
        Numbers of the parts that this process has to make, ascending. None is left when the folder is complete.

    Raises:
        PartsError: the folder holds something else, or another run is writing there.
        LaunchError: the first process raised an error, or the folder is not one that all processes see.
        OSError: the folder cannot be written.
    """
    described = {"format": _FORMAT, "kind": kind, **work}
    is_main = ranks is None or ranks.is_main
    with contextlib.ExitStack() as held:

        def begin() -> str:
            return json.dumps(_begin(folder, described, files, held, overwrite=overwrite))

        missing = json.loads(_by_main(begin, ranks))
        if missing:
            check_shared(folder, ranks)
        try:
            yield missing if ranks is None else missing[ranks.rank :: ranks.world_size]
        except KeyboardInterrupt:
            if is_main:
                sys.stderr.write("\nstopped; the same command goes on\n")
            raise
        wait_for_all(ranks)
        if is_main and not (folder / _MANIFEST).is_file():
            _finish(folder, described, files)
        wait_for_all(ranks)


def wait_for_all(ranks: Ranks | None) -> None:
    """Returns when every process has come here; None is one alone.

    Raises:
        RuntimeError: another process has ended (`bgetrain.gather.joined` tells).
    """
    if ranks is not None and ranks.world_size > 1:
        from bgetrain.gather import exchange

        exchange([0], ranks)


def check_shared(folder: Path, ranks: Ranks | None) -> None:
    """Makes a folder and sees that it is the same for all processes, on whatever machine; every rank must call it.

    Args:
        folder: where they are to work together.
        ranks: the place of this process; None is one process alone.

    Raises:
        LaunchError: some do not see what the first process wrote there; the same on every rank.
        OSError: the folder cannot be written, in the first process.
    """
    if ranks is None or ranks.world_size == 1:
        return
    from bgetrain.gather import exchange

    def leave() -> str:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{_SEEN}{secrets.token_hex(8)}"
        (folder / name).touch()
        return name

    file = folder / _by_main(leave, ranks)
    seen = exchange([int(_appears(file))], ranks)
    if ranks.is_main:
        file.unlink(missing_ok=True)
    blind = [str(rank) for rank, (found,) in enumerate(seen) if not found]
    if blind:
        raise LaunchError(
            f"{folder}: rank{'s' if len(blind) > 1 else ''} {', '.join(blind)} of {ranks.world_size} cannot see what "
            "rank 0 wrote there",
            path=str(folder),
            hint="it has to be a folder that all machines share, under the same name on each",
        )


def _appears(file: Path) -> bool:
    deadline = time.monotonic() + _UNTIL_SEEN
    while not file.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _by_main(work: Callable[[], str], ranks: Ranks | None) -> str:
    if ranks is None or ranks.world_size == 1:
        return work()
    from bgetrain.gather import from_main

    return from_main(work, ranks)


def _begin(
    folder: Path, work: dict[str, Any], files: Sequence[Sequence[str]], held: contextlib.ExitStack, *, overwrite: bool
) -> list[int]:
    """Takes the folder for this run; returns the parts that are missing."""
    kind = work["kind"]
    done = _read_json(folder / _MANIFEST) if folder.is_dir() else None
    if done is not None and _without_files(done) == work:
        read_manifest(folder, kind, "")
        return []
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder, kind, held)
    begun = _read_json(folder / _BEGUN)
    before = done or begun
    # a kill may have left the beginning half written
    left = {_LOCK, f".{_BEGUN}.tmp"}
    if before is None and any(path.name not in left and not path.name.startswith(_SEEN) for path in folder.iterdir()):
        raise PartsError(
            f"{folder}: is not empty and holds no {kind}", path=str(folder), hint="give a folder that is empty or new"
        )
    if before is not None and _without_files(before) != work:
        if before.get("kind") != kind:
            raise PartsError(f"{folder}: holds {before.get('kind')}, no {kind}", path=str(folder))
        if not overwrite:
            raise PartsError(_difference(folder, before, work), path=str(folder), hint="--overwrite makes them anew")
        # what makes the folder complete goes first, so that a kill leaves no mixture
        (folder / _MANIFEST).unlink(missing_ok=True)
        (folder / _BEGUN).unlink(missing_ok=True)
        for path in [*folder.glob("part-*"), *folder.glob(".part-*.tmp")]:
            path.unlink()
    write_whole(folder / _BEGUN, lambda file: file.write(_json(work)))
    return [number for number, names in enumerate(files) if not all((folder / name).is_file() for name in names)]


def _lock(folder: Path, kind: str, held: contextlib.ExitStack) -> None:
    file = held.enter_context((folder / _LOCK).open("a"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PartsError(f"{folder}: another run is making {kind} there", path=str(folder)) from None
    held.callback((folder / _LOCK).unlink, missing_ok=True)


def _finish(folder: Path, work: dict[str, Any], files: Sequence[Sequence[str]]) -> None:
    sizes = {}
    for names in files:
        for name in names:
            file = folder / name
            if not file.is_file():
                raise LaunchError(
                    f"{file}: no such file, though some process wrote it",
                    path=str(file),
                    hint="the folder has to be one that all machines share",
                )
            sizes[name] = file.stat().st_size
    for path in folder.glob(".part-*.tmp"):
        path.unlink()
    write_whole(folder / _MANIFEST, lambda file: file.write(_json({**work, "files": sizes})))
    (folder / _BEGUN).unlink(missing_ok=True)


def _difference(folder: Path, before: dict[str, Any], work: dict[str, Any]) -> str:
    keys = [key for key in work if before.get(key) != work[key]]
    # what follows from another model or other texts is no difference of its own
    told = [key for key in keys if key not in {"dim", "rows", "part_rows"}] or keys
    shown = "; ".join(f"{key} {_short(before.get(key))}, not {_short(work[key])}" for key in told)
    return f"{folder}: holds {work['kind']} of something else: {shown}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _without_files(manifest: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key != "files"}


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "surrogatepass")


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise PartsError(f"{path}: damaged: {error}", path=str(path)) from error
    if not isinstance(found, dict):
        raise PartsError(f"{path}: damaged: expected an object", path=str(path))
    return found
