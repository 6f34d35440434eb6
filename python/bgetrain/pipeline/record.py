"""What the pipeline remembers of each step, in `pipeline.json` beside the outputs: how it was made, and what came out.

A step is made of its command, the settings in its files, and the identity of all it reads; all of that is one hash.
Outputs are looked at too: a folder that somebody emptied, or made otherwise, is made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import glob
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgetrain.errors import BgetrainError, ConfigError, LaunchError
from bgetrain.pipeline.identity import hash_of, identify, listing
from bgetrain.pipeline.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgetrain.pipeline.plan import Step

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Entry", "PipelineError", "Record", "opened_record"]

_FILE = "pipeline.json"
_FORMAT = 1
_LOCK_SECONDS = 20.0  # a step whose pipeline was killed has the lock until it has ended


class PipelineError(BgetrainError, RuntimeError):
    """A step that failed, or that cannot begin; the message names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One step as it is remembered.

    Attributes:
        made_of: hash of the command and of all it read.
        state: `begun` or `done`.
        identity: of the output, when it was done.
        files: hash of the names, sizes and times of its files then: where these are the same, nothing is read again.
        seconds: that it took in all, over several starts.
        replaces: whether it took the place of an output of something else, which may still be there until it is done.
    """

    made_of: str
    state: str
    identity: str = ""
    files: str = ""
    seconds: float = 0.0
    replaces: bool = False


class Record:
    """The entries of a pipeline's folder; every change is written at once.

    Attributes:
        lock: descriptors that keep the folder for this run as long as a process has them open.
    """

    def __init__(self, folder: Path, lock: tuple[int, ...] = ()) -> None:
        """Reads what is there.

        Raises:
            PipelineError: the file is damaged.
        """
        self.lock = lock
        self._path = folder / _FILE
        self._entries: dict[str, Entry] = {}
        if not self._path.is_file():
            return
        try:
            found = json.loads(self._path.read_bytes())
            if found["format"] != _FORMAT:
                raise ValueError(f"format {found['format']}")
            self._entries = {name: Entry(**entry) for name, entry in found["steps"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PipelineError(
                f"{self._path}: damaged: {error}",
                path=str(self._path),
                hint="remove it, and the outputs beside it that are to be made again",
            ) from error

    def __getitem__(self, name: str) -> Entry | None:
        """What is remembered of a step; None where it was never begun."""
        return self._entries.get(name)

    def write(self, name: str, entry: Entry) -> None:
        """Remembers a step."""
        from bgetrain.resumable import write_whole

        self._entries[name] = entry
        steps = {step: dataclasses.asdict(one) for step, one in self._entries.items()}
        text = json.dumps({"format": _FORMAT, "steps": steps}, indent=2) + "\n"
        write_whole(self._path, lambda file: file.write(text.encode()))

    def is_done(self, step: Step, made_of: str) -> bool:
        """Whether a step's output is there, whole, and made of what it would be made of now."""
        entry = self[step.name]
        return entry is not None and entry.made_of == made_of and self.identity(step) is not None

    def identity(self, step: Step) -> str | None:
        """The identity of a step's output, where it is as the step left it; else None."""
        entry = self[step.name]
        if entry is None or entry.state != "done":
            return None
        files = hash_of(listing(step.out))
        if files == entry.files:
            return entry.identity
        if identify(step.out) != entry.identity:
            return None
        self.write(step.name, dataclasses.replace(entry, files=files))
        return entry.identity

    def finish(self, step: Step, made_of: str, seconds: float) -> None:
        """Remembers that a step is done.

        Raises:
            PipelineError: there is no output.
        """
        identity = identify(step.out)
        if identity is None:
            raise PipelineError(f"{step.name}: the command ended without an error, and {step.out} holds nothing")
        files = hash_of(listing(step.out))
        self.write(step.name, Entry(made_of=made_of, state="done", identity=identity, files=files, seconds=seconds))

    def stop(self, name: str, seconds: float) -> None:
        """Remembers how long a step ran that is not done."""
        self.write(name, dataclasses.replace(self._entries[name], seconds=seconds))

    def made_of(self, step: Step, steps: dict[str, Step]) -> str:
        """The hash of a step's command and of all it reads.

        Raises:
            ConfigError: an input is not there.
            PipelineError: a step that it needs is not done.
        """
        outputs = {str(steps[name].out): name for name in step.needs}
        read: dict[str, Any] = {}
        for flag, places in (step.inputs() | _inputs_in_settings(step)).items():
            read[flag] = [self._identity_of(step, flag, place, outputs, steps) for place in places]
        described = {name: value for name, value in step.described.items() if name not in read}
        sources = [{key: value for key, value in one.items() if key not in ("path", "rows")} for one in step.sources]
        settings = _settings(step.config, step) if step.config else None
        # `needs` besides: an output may stand in a flag that is no place, as part of a longer text
        needed = {name: self.identity(steps[name]) for name in step.needs}
        return hash_of([step.run, described, sources, settings, read, needed])

    def _identity_of(self, step: Step, flag: str, place: str, outputs: dict[str, str], steps: dict[str, Step]) -> str:
        if place in outputs:
            found = self.identity(steps[outputs[place]])
            if found is None:
                raise PipelineError(
                    f"{step.name}: needs {outputs[place]}, which is not done",
                    hint=f"--from {outputs[place]}, or all steps",
                )
            return found
        found = identify(Path(place)) if "*" not in place and "://" not in place else None
        if found is not None:
            return found
        if flag.rpartition(".")[2] in VERBS[step.run].models or "://" in place:
            return place
        if "*" not in place:
            raise ConfigError(f"{step.name}: --{flag} {place}: no such file or folder, or an empty one")
        return _identity_of_matches(place)


def _identity_of_matches(pattern: str) -> str:
    """Of all files that a pattern matches; of the pattern where it matches none."""
    matched = sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207 - may be absolute
    return hash_of([[str(one), listing(one)] for one in matched] or pattern)


def _inputs_in_settings(step: Step) -> dict[str, list[str]]:
    """What `bgetrain train` reads besides the flags that `inputs` knows: in its file, or by a dotted name."""
    if step.run != "bgetrain train":
        return {}
    from bgetrain.settings import parse_flags, read_toml

    verb = VERBS[step.run]
    known = [place for places in step.inputs().values() for place in places]
    said = (read_toml(step.config) if step.config else {}) | parse_flags(step.words())[1]
    return {
        dotted: [str(value)]
        for dotted, value in said.items()
        if dotted.partition(".")[2] in (*verb.inputs, *verb.models) and value is not None and str(value) not in known
    }


def _settings(path: Path, step: Step) -> object:
    """What a settings file says, and for `bgeprep shard` what its sources hold."""
    try:
        with path.open("rb") as file:
            said = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{step.name}: config {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{step.name}: config {path}: expected TOML, found: {error}") from None
    places = []
    if step.run == "bgeprep shard":
        from bgeprep.config import load_config

        for source in load_config(path).sources:
            places += [
                [place, _identity_of_matches(place) if "*" in place else identify(Path(place))] for place in source.path
            ]
    return [said, [identity for _, identity in places]]


@contextlib.contextmanager
def opened_record(folder: Path) -> Iterator[Record]:
    """The record of a folder, for this run alone.

    Raises:
        LaunchError: another run is at work there, or a step that it left behind.
        PipelineError: what is remembered is damaged.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".pipeline.lock").open("a") as lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                raise LaunchError(
                    f"{folder}: another pipeline is at work there",
                    path=str(folder),
                    hint="where that one was killed, a step of it still saves what it has; try again when it has ended",
                ) from None
        yield Record(folder, (lock.fileno(),))
