"""Pairs → shard set: the preparation run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from bgeprep import _native, reshard
from bgeprep.config import CleanConfig, PrepConfig, SourceConfig, from_dict, load_config
from bgeprep.errors import ConfigError, ShardError
from bgeprep.exclude import Benchmark, find_benchmarks
from bgeprep.executors.run import Cluster, Executor, chosen
from bgeprep.executors.run import make as on_cluster
from bgeprep.executors.tasks import Limits
from bgeprep.inputs import Source
from bgeprep.objects import is_url
from bgeprep.scores import Scores, find_scores
from bgeprep.staging import staged
from bgeprep.streams import passed_over, spool_recipes, spool_streams

__all__ = ["RunOptions", "ShardResult", "make", "parse_bytes", "shard"]

Report = Callable[[str, int, int, int, int, int, int, int], None]
Inputs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Any]

_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What changes how a run goes, but no byte of what it writes."""

    threads: int
    memory: int
    out: Path | str
    work: Path
    fingerprint: str
    log: str


class Made(TypedDict):
    """What the compiled half says of a run."""

    hash: str
    rows_read: int
    rows_kept: int
    empty_files: list[str]
    warnings: list[str]
    resumed: bool
    discarded: bool


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """What a run did.

    Attributes:
        path: folder of the shard set; a URL for one in an object store.
        hash: identifies the set.
        rows_read: rows read from the input.
        rows_kept: rows in the set.
        up_to_date: nothing was done, the set was already there for this input and config.
        resumed: an earlier run that was killed was gone on with.
        discarded: work files of another input or config were thrown away.
        empty_files: input files without a single record.
        skipped_files: files of the input folder that hold no data by their name.
        sources: names of the sources found.
        warnings: what is odd about the benchmarks to exclude.
        passed_over: by source, how many entries of raw files its recipe made no record of, by reason.
    """

    path: Path | str
    hash: str
    rows_read: int
    rows_kept: int
    up_to_date: bool = False
    resumed: bool = False
    discarded: bool = False
    empty_files: tuple[str, ...] = ()
    skipped_files: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    passed_over: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def parse_bytes(text: str | int) -> int:
    """`"2GiB"`, `"500MB"`, `"64k"` or a plain number → bytes.

    Raises:
        ConfigError: no such size.
    """
    if isinstance(text, int):
        return text
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if not found or (found[3] and not found[2]):
        raise ConfigError(f"memory: expected a size such as 512MiB or 2GB, found {text!r}")
    unit = _BINARY[found[2]] if found[3] else _UNITS[found[2]]
    return int(float(found[1]) * unit)


def shard(
    inputs: Inputs = (),
    out: str | os.PathLike[str] = "shards",
    *,
    config: PrepConfig | str | os.PathLike[str] | None = None,
    source_overrides: Mapping[str, Any] | None = None,
    only_sources: Sequence[str] = (),
    drop_sources: Sequence[str] = (),
    threads: int | None = None,
    memory: str | int = "256MiB",
    tmp: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    report: Report | None = None,
    executor: Executor = "threads",
    address: str | None = None,
    task_bytes: str | int = "256MiB",
) -> ShardResult:
    """Reads pairs, cleans and deduplicates them, and writes a shuffled shard set.

    The same input and config give the same bytes for any `threads` and `memory`; the same call
    after a killed run goes on where that stopped.

    Args:
        inputs: a file, folder or glob, as a path or an `s3://` URL, or a list of them, shard sets among them; or a
            mapping of source names to Arrow streams (anything with `__arrow_c_stream__`, a polars DataFrame or
            LazyFrame). Records with the columns `origin_file` (a text) and `origin_line` (a whole number from 1) have
            these for their origin, in the set and its rejects, in place of their own file and line; where one is
            missing or cannot be used, the record keeps its own. Records that name the same origin stand next to each
            other in the shuffled order, in the order of the input.
        out: folder of the shard set, or an `s3://` URL: then the set is made on this machine and sent, its manifest
            last.
        config: a `PrepConfig`, or the path of a TOML file.
        source_overrides: settings of every source, by the names of `SourceConfig`, above the config.
        only_sources: names of the sources to keep, all by default.
        drop_sources: names of sources to leave out.
        threads: worker threads, all cores by default. On Ray: threads and CPUs of a task, 1 by default.
        memory: bytes the run may hold, as a number or such as `"2GiB"`; at least 64 MiB. On Ray: of each task.
        tmp: folder for work files, `<out>/.work` by default, the user's cache folder where `out` is a URL. On Ray:
            folder for files of one task on whichever machine does it, the one for temporary files by default.
        overwrite: replace a complete set in `out` that other input or another config made.
        report: called about ten times a second with (stage, input bytes done, input bytes in all,
            rows read, rows kept, rows dropped, parts done, parts in all).
        executor: `threads` of this process, or `ray`: tasks on a Ray cluster, whose machines all see the input and
            `out` under the same paths or URLs. Both write the same bytes.
        address: of the cluster, as `ray.init` takes it: `auto` for the one that this machine belongs to. By default
            the cluster that this process is connected to, else one of this machine alone.
        task_bytes: bytes of input text that a Ray task works on, about.

    Raises:
        ConfigError: a setting that cannot work, or a cluster that is too small.
        ExecutorError: a Ray task that could not be done, however often it was begun.
        CorpusError: input that cannot be used at all, too many unreadable rows, or pairs without a score.
        ShardError: `out` holds another complete set, or another run is writing there; or a set that is read is damaged.
        StoreError: an object store that refuses or cannot be reached.
        OSError: the operating system refused (no space, no permission, a vanished file).
    """
    url = os.fspath(out).rstrip("/") if is_url(os.fspath(out)) else None
    settings = config if isinstance(config, PrepConfig) else load_config(config) if config else PrepConfig()
    if threads is None:
        threads = 1 if executor == "ray" else len(os.sched_getaffinity(0))
    if threads < 1:
        raise ConfigError(f"threads: expected at least 1, found {threads}")
    limits = Limits(task_bytes=parse_bytes(task_bytes), memory=parse_bytes(memory), threads=threads)
    cluster = chosen(executor, address, limits, tmp)
    streams = inputs if isinstance(inputs, Mapping) else {}
    paths: list[str | os.PathLike[str]] = []
    if not isinstance(inputs, Mapping):
        paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    if not (streams or paths or settings.sources):
        raise ConfigError("in: no input given; hint: --in FOLDER, or sources in a config file")
    sources = reshard.find_all(paths, settings)
    with staged(url, tmp) if url else nullcontext(Path(out)) as folder:
        target = _Target(folder, url, None if url or cluster else tmp, overwrite, cluster)
        try:
            sources += spool_streams(streams, target.spool, len(sources))
            sources = reshard.unite([_override(source, source_overrides or {}, settings.clean) for source in sources])
            sources = reshard.choose(sources, only_sources, drop_sources)
            settings = reshard.settle_dedup(settings, sources)
            sources += reshard.against(settings.against)
            return _run(settings, sources, target, threads, parse_bytes(memory), report)
        finally:
            if target.spool.exists():
                shutil.rmtree(target.spool, ignore_errors=True)


def make(
    settings: PrepConfig,
    sources: list[Source],
    out: Path,
    *,
    threads: int | None,
    memory: int,
    overwrite: bool,
    report: Report | None,
) -> ShardResult:
    """The run of `shard` on sources that are found already, in a folder."""
    threads = threads if threads is not None else len(os.sched_getaffinity(0))
    return _run(settings, sources, _Target(out, None, None, overwrite), threads, memory, report)


def _override(source: Source, overrides: Mapping[str, Any], clean: CleanConfig) -> Source:
    merged = {**dataclasses.asdict(source.config), **overrides}
    config = from_dict(SourceConfig, merged, "sources.")
    return dataclasses.replace(source, config=config, clean=config.rules(clean))


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a set goes: a folder, from which it is sent on where there is a URL."""

    out: Path
    url: str | None
    tmp: str | os.PathLike[str] | None
    overwrite: bool
    cluster: Cluster | None = None

    @property
    def spool(self) -> Path:
        """Where streams are written down before they are read: beside the work files, a folder for each set."""
        if not self.tmp:
            return self.out / ".work-streams"
        return Path(self.tmp) / f"bgeprep-streams-{hashlib.sha256(os.fsencode(self.out.resolve())).hexdigest()[:16]}"


def _run(
    settings: PrepConfig,
    sources: list[Source],
    target: _Target,
    threads: int,
    memory: int,
    report: Report | None,
) -> ShardResult:
    out, url, overwrite = target.out, target.url, target.overwrite
    _refuse_own_input(out, sources)
    benchmarks, scores = find_benchmarks(settings.exclude.paths), find_scores(settings.scores)
    resolved = json.dumps(_resolved(settings, sources, benchmarks), sort_keys=True, ensure_ascii=False)
    fingerprint = _fingerprint(resolved, sources, benchmarks, scores)
    names = tuple(source.config.name for source in sources if not source.against)
    skipped = tuple(name for source in sources for name in source.skipped)
    work = Path(target.tmp) / f"bgeprep-{fingerprint[:16]}" if target.tmp else out / ".work"
    found = _complete_set(url or out, fingerprint, overwrite)
    if found:
        # A run killed behind its last step leaves work files beside a whole set.
        for folder in {work, out / ".work"}:
            if os.access(folder, os.W_OK):
                _native.sweep(folder)
        return dataclasses.replace(found, sources=names, skipped_files=skipped)
    unsent = _complete_set(out, fingerprint, overwrite=True) if url else None
    if url and unsent:
        # An earlier run was killed while it sent this very set.
        _native.publish(out, url, report)
        return dataclasses.replace(
            unsent, path=url, up_to_date=False, resumed=True, sources=names, skipped_files=skipped
        )
    # Named once: a log of ten thousand files would be longer than the manifest.
    folders = sorted({folder for source in sources for folder in _folders(source)})
    sources = spool_recipes(sources, target.spool)
    passed = passed_over(sources)
    log = {"threads": threads, "memory": memory, "inputs": folders[:100], "started": round(time.time(), 3)}
    log |= {"passed_over": passed} if passed else {}
    log |= {"executor": "ray"} if target.cluster else {}
    options = RunOptions(
        threads=threads, memory=memory, out=out, work=work, fingerprint=fingerprint, log=json.dumps(log)
    )
    out.mkdir(parents=True, exist_ok=True)
    if not work.exists():
        _check_space({out, work.parent}, sources)
    if target.cluster:
        if url and target.spool.exists():
            message = "streams and recipes are written down on this machine, where a cluster does not see them"
            raise ConfigError(f"in: {message}; hint: --out on a shared file system")
        filters = (benchmarks, scores)
        made = on_cluster(
            target.cluster, settings, sources, filters, resolved, url or str(out), fingerprint, options.log, report
        )
    else:
        made = _native.shard(settings, sources, (benchmarks, scores), resolved, options, report)
        if url:
            _native.publish(out, url, report)
    return ShardResult(
        path=url or out,
        hash=made["hash"],
        rows_read=made["rows_read"],
        rows_kept=made["rows_kept"],
        resumed=made["resumed"],
        discarded=made["discarded"],
        empty_files=tuple(made["empty_files"]),
        skipped_files=skipped,
        sources=names,
        warnings=tuple(made["warnings"]),
        passed_over=passed,
    )


def _folders(source: Source) -> set[str]:
    """Where the files of a source lie; the raw files of a recipe as they are named."""
    if source.stream:
        return {os.path.abspath(path) for path in source.config.path}  # noqa: PTH100 - a glob stays one
    paths = (file.path for file in source.files)
    return {path.rpartition("/")[0] if isinstance(path, str) else str(path.resolve().parent) for path in paths}


def _complete_set(out: Path | str, fingerprint: str, overwrite: bool) -> ShardResult | None:
    """The set in `out`, a folder or a URL, if this very run made it; an error if another did and must not go."""
    text = _native.published_log(out) if isinstance(out, str) else _log_of_set(out)
    if text is None:
        return None
    try:
        log = json.loads(text)
    except ValueError:
        log = {}
    if isinstance(log, dict) and log.get("fingerprint") == fingerprint:
        return ShardResult(
            path=out, hash=log["hash"], rows_read=log["rows_read"], rows_kept=log["rows_kept"], up_to_date=True
        )
    if overwrite:
        return None
    raise ShardError(
        f"{out}: already holds a shard set, made from other input or another config; "
        "hint: choose another --out, or give --overwrite",
        str(out),
    )


def _log_of_set(out: Path) -> str | None:
    """The text of `run.json` of the set in a folder, empty if there is none; None if there is no set."""
    if out.exists() and not out.is_dir():
        raise ShardError(f"{out}: expected a folder, found a file; hint: choose another --out", str(out))
    if not (out / "manifest.json").exists():
        return None
    try:
        return (out / "run.json").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _resolved(settings: PrepConfig, sources: list[Source], benchmarks: list[Benchmark]) -> dict[str, Any]:
    """The config as it decides bytes: sources and benchmarks by name, no absolute path."""
    plain = dataclasses.asdict(settings)
    del plain["exclude"]["paths"]
    plain["exclude"]["benchmarks"] = [{"name": one.name, "kind": one.kind} for one in benchmarks]
    plain["scores"] = {key: value for key, value in plain["scores"].items() if key != "path"}
    plain["against"] = reshard.set_hashes(source for source in sources if source.against)
    plain["sources"] = []
    for source in sources:
        if source.against:
            continue
        entry = dataclasses.asdict(source.config)
        del entry["path"]
        # named only where there is one: a set that was made without recipes keeps its hash
        entry = {key: value for key, value in entry.items() if value or key not in ("recipe", "options")}
        entry["priority"] = source.priority
        plain["sources"].append(entry)
    return plain


def _check_space(folders: set[Path], sources: list[Source]) -> None:
    """An early error where a disk cannot hold the run. Half the input is less than any run has taken that kept rows."""
    needed = sum(file.bytes for source in sources for file in source.files)
    for folder in sorted(folders):
        free = shutil.disk_usage(folder).free if folder.exists() else needed
        if free < needed // 2:
            raise ShardError(
                f"{folder}: {free >> 20} MiB are free, the run needs about {needed >> 20} MiB for work files and as "
                "much for the set; hint: make space, or put the work files on another disk with --tmp",
                str(folder),
            )


def _refuse_own_input(out: Path, sources: list[Source]) -> None:
    if out.resolve() in {file.set.resolve() for source in sources for file in source.files if file.set}:
        raise ConfigError(f"out: {out} is one of the sets that are read; hint: choose another --out")


def _fingerprint(resolved: str, sources: list[Source], benchmarks: list[Benchmark], scores: Scores | None) -> str:
    digest = hashlib.sha256(resolved.encode())
    digest.update(scores.fingerprint().encode() if scores else b"")
    digest.update(_native.__version__.encode())
    for source in sources:
        for file in source.files:
            digest.update(f"\0{source.config.name}\0{file.origin}\0{file.bytes}\0{file.modified}".encode())
    for benchmark in benchmarks:
        for one in benchmark.files:
            digest.update(f"\0{benchmark.name}\0{one.role}\0{one.origin}\0{one.bytes}\0{one.modified}".encode())
    return digest.hexdigest()
