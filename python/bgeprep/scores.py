"""The filter by scores: which score files a run reads, and what texts are called in them.

A score file is Parquet with `query_hash` and `pos_hash` (FixedSizeBinary(16), `text_hash` of the cleaned texts) and
`score` (Float32), one row a (query, positive) pair; other columns are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bgeprep import _native
from bgeprep.config import ScoresConfig
from bgeprep.errors import ConfigError

__all__ = ["Scores", "find_scores", "text_hash", "text_key"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The filter of a run: its files in natural order, the lowest score that stays, and what goes without a score."""

    path: Path
    files: tuple[Path, ...]
    min_score: float
    missing: str

    def fingerprint(self) -> str:
        """Names, sizes and times of change of the files."""
        found = [(file, file.stat()) for file in self.files]
        return "\0".join(
            f"{file.relative_to(self.path) if file != self.path else file.name}\0{stat.st_size}\0{stat.st_mtime_ns}"
            for file, stat in found
        )


def find_scores(config: ScoresConfig) -> Scores | None:
    """The filter that the config asks for, if it asks for one.

    Raises:
        ConfigError: a threshold without scores or scores without a threshold, or no Parquet file at the path.
    """
    if not config.path:
        if config.min_score is not None:
            raise ConfigError("scores.min_score: given without scores; hint: --scores FOLDER")
        return None
    if config.min_score is None:
        raise ConfigError("scores.min_score: missing; hint: --min-score 0.5, a score of your scorer")
    path = Path(config.path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path] if path.is_file() else []
    if not files:
        raise ConfigError(f"scores.path: expected Parquet files of scores, found none at {path}")
    return Scores(path=path, files=tuple(files), min_score=config.min_score, missing=config.missing)


def text_hash(text: str) -> bytes:
    """What a text is called in score files: 16 bytes, xxh3-128 (seed 0) of its UTF-8, big-endian.

    The text is the cleaned one, as it stands in a shard set: `text_hash(row["query"])`, `text_hash(row["pos"][0])`.
    """
    return _native.text_hash(text)


def text_key(text: str) -> int:
    """The exact key of a text: 64 bits of the hash of its normalised form, as shard sets have it."""
    return _native.text_key(text)
