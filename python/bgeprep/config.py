"""What a preparation run is told: frozen dataclasses, the one home of defaults.

A config file is TOML with the same names; unknown keys are errors:

```toml
[clean]
min_query_chars = 3

[dedup]
mode = "exact"

[exclude]
paths = ["beir/scifact", "held-out.txt"]   # as the paths below

[[sources]]
name = "nq"
path = "nq/*.jsonl.gz"           # relative to the config file; a file, a folder, a glob or a list of them
task = "retrieval"
language = "en"
instruction = "Represent this sentence for searching relevant passages: "
columns = { query = "question", pos = ["answer"] }
clean = { expected_language = "source", min_query_chars = 8 }      # rules of this source alone

[[sources]]
name = "quora"
recipe = "quora"                 # raw files of a published data set; task, language and instruction come with it
path = "raw/quora/"
options = { encoding = "latin-1" }
```
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from bgeprep.errors import ConfigError
from bgeprep.objects import is_url

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "CleanConfig",
    "DedupConfig",
    "ExcludeConfig",
    "PrepConfig",
    "ReadConfig",
    "ScoresConfig",
    "ShardConfig",
    "SourceConfig",
    "load_config",
]

Task = Literal["retrieval", "symmetric", "classification"]
Format = Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "arrow", "txt"]
Cut = Literal["paragraph", "document", "line"]


@dataclass(frozen=True, kw_only=True)
class ReadConfig:
    """How files are read."""

    max_line_bytes: int = field(default=8 << 20, metadata={"help": "longest line in bytes; a longer one is a reject"})
    max_bad: float = field(default=0.05, metadata={"help": "largest share of rows that may be unreadable (0 to 1)"})


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """The cleaning rules. A bound of 0 (for shares: above 1) switches its rule off.

    The `clean` table of a source overrides single rules for that source.

    Query, positives and negatives are judged one by one: a query that breaks a rule takes its row along, a positive or
    negative goes alone unless it was the last. Three rules are off unless asked for; the shares of good texts that they
    take are of 90,000 texts of published English, Chinese and German sets:

    - `expected_language`: a text goes only where it is sure that it is in another language: by its script, or by
      trigrams that still say so when the two languages alone are compared. Loses 0.1 % of English and 0.02 % of Chinese
      texts (mostly names), finds 97 % of German texts among English ones. Not for cross-lingual sources.
    - `max_repeated_phrase_share`: phrases of five words or ten ideographs, in the manner of the duplicate n-grams of
      Gopher (Rae et al. 2021, table A1). 0.5 takes 0.01 % of texts, 0.3 takes 0.14 %: templates, worked sums, abstracts
      of papers first.
    - `boilerplate`: phrases are compared in normalised form (case, width and white space do not matter). The built-in
      list names cookie notices, pages that ask for JavaScript, error pages and filler text, and takes none.
    """

    nfc: bool = field(default=True, metadata={"help": "compose characters to Unicode NFC"})
    strip_control: bool = field(default=True, metadata={"help": "remove control characters"})
    collapse_whitespace: bool = field(default=True, metadata={"help": "runs of white space become one space"})
    newlines: Literal["space", "keep"] = field(default="space", metadata={"help": "line breaks: space or keep"})
    min_query_chars: int = field(default=2, metadata={"help": "fewest characters of a query"})
    max_query_chars: int = field(default=16_384, metadata={"help": "most characters of a query; 0 = no bound"})
    min_passage_chars: int = field(default=2, metadata={"help": "fewest characters of a positive or negative"})
    max_passage_chars: int = field(default=131_072, metadata={"help": "most characters of a passage; 0 = no bound"})
    query_equals_positive: bool = field(default=True, metadata={"help": "drop positives that equal their query"})
    max_repeated_share: float = field(
        default=0.6, metadata={"help": "largest share of characters that repeat the one before; 2 = no bound"}
    )
    max_symbol_share: float = field(
        default=0.8,
        metadata={"help": "largest share of characters that are no letters, digits or spaces; 2 = no bound"},
    )
    noise_min_chars: int = field(default=10, metadata={"help": "shorter texts are never called noise"})
    expected_language: str = field(
        default="",
        metadata={"help": "drop texts in another language: a tag as en or zh, source = the source's own, empty = off"},
    )
    language_min_confidence: float = field(
        default=0.95, metadata={"help": "how sure it has to be that a text is in another language (0 to 1)"}
    )
    language_min_letters: int = field(
        default=30,
        metadata={"help": "texts of fewer letters are in no language; an ideograph or syllable counts as three"},
    )
    max_repeated_phrase_share: float = field(
        default=2.0,
        metadata={"help": "largest share of characters in phrases that stood in the text before; 2 = no bound"},
    )
    boilerplate: tuple[str, ...] = field(
        default=(),
        metadata={"help": "drop texts that hold one of these phrases; built-in = the built-in list; as a,b"},
    )

    def check(self, where: str) -> None:
        """Refuses values that cannot work; `where` stands before the name of the setting.

        Raises:
            ConfigError: a value out of its range.
        """
        ranges: dict[str, tuple[float, float]] = {
            "min_query_chars": (0, 1 << 31),
            "max_query_chars": (0, 1 << 31),
            "min_passage_chars": (0, 1 << 31),
            "max_passage_chars": (0, 1 << 31),
            "max_repeated_share": (0.0, 100.0),
            "max_symbol_share": (0.0, 100.0),
            "noise_min_chars": (0, 1 << 31),
            "language_min_confidence": (0.0, 1.0),
            "language_min_letters": (1, 1 << 31),
            "max_repeated_phrase_share": (0.0, 100.0),
        }
        for name, (least, most) in ranges.items():
            _check_range(f"{where}{name}", getattr(self, name), least, most)


@dataclass(frozen=True, kw_only=True)
class DedupConfig:
    """How duplicates are treated."""

    mode: Literal["auto", "none", "exact", "near"] = field(
        default="auto",
        metadata={
            "help": "none; exact: equal (query, positive) pairs; near: nearly equal ones too; "
            "auto: near, but none if the input is one shard set"
        },
    )
    near_threshold: float = field(
        default=0.8, metadata={"help": "Jaccard similarity of shingles from which two texts are near duplicates"}
    )
    permutations: int = field(default=128, metadata={"help": "MinHash permutations; bands follow from the threshold"})
    max_cluster: int = field(
        default=32, metadata={"help": "most texts of a cluster that are all compared with each other"}
    )


@dataclass(frozen=True, kw_only=True)
class ExcludeConfig:
    """Benchmarks that the set must not give away; near is what `dedup.near_threshold` says."""

    paths: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "benchmarks in the BEIR layout, text files, or folders of them: rows whose query equals or nearly "
            "equals one of their queries are dropped"
        },
    )
    corpus: bool = field(
        default=False,
        metadata={"help": "drop positives that equal or nearly equal any passage of their corpora, too"},
    )
    containment: bool = field(
        default=True,
        metadata={
            "help": "drop rows whose query or positive holds a benchmark query or judged passage of at least 13 words "
            "or 25 CJK characters"
        },
    )


@dataclass(frozen=True, kw_only=True)
class ScoresConfig:
    """The filter by what a scorer said of (query, positive) pairs."""

    path: str = field(default="", metadata={"help": "Parquet file or folder of scores: query_hash, pos_hash, score"})
    min_score: float | None = field(
        default=None, metadata={"help": "the lowest score that stays (the BGE recipe: 0.43, of its own scorer)"}
    )
    missing: Literal["error", "keep", "drop"] = field(
        default="error", metadata={"help": "pairs without a score: error, keep or drop"}
    )


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How shards are written."""

    seed: int = field(default=42, metadata={"help": "keys the shuffle"})
    part_bytes: int = field(default=64 << 20, metadata={"help": "bytes of input text a part should hold"})


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One named set of files of one task.

    `columns` maps roles (query, pos, neg, pos_scores, neg_scores, label, score, id, prompt, type) to
    column names; `labels` maps label values to "positive", "negative" or "drop"; `clean` overrides rules of
    `CleanConfig` by name. `cut` says what of plain text (format `txt`) is one document: the lines between blank lines,
    the whole file, or each line; a `.txt` file is then never taken for another format. None takes the first, and asks
    where many lines come without a blank one. `recipe` names the recipe that reads the files, `options` what is asked
    of it; its task, language and instruction hold where none is given here. Of a recipe that makes several sources, the
    one of this name is taken.
    """

    name: str
    path: tuple[str, ...]
    recipe: str = ""
    options: dict[str, str] = field(default_factory=dict)
    format: Format = "auto"
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    header: bool | None = None
    delimiter: str | None = None
    quoting: bool | None = None
    cut: Cut | None = None
    task: Task = "retrieval"
    language: str = ""
    weight: float | None = None
    instruction: str = ""
    priority: int | None = None
    merge_positives: bool = False
    clean: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses unknown rules and values that cannot work."""
        self.rules(CleanConfig())

    def rules(self, general: CleanConfig) -> CleanConfig:
        """The cleaning rules of this source: its own above the general ones.

        Raises:
            ConfigError: an unknown rule, or a value that cannot work.
        """
        where = f"sources.{self.name}.clean."
        rules = from_dict(CleanConfig, {**dataclasses.asdict(general), **self.clean}, where)
        rules.check(where)
        return rules


@dataclass(frozen=True, kw_only=True)
class PrepConfig:
    """Everything that decides the bytes of a shard set, but for the input itself."""

    read: ReadConfig = field(default_factory=ReadConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)
    exclude: ExcludeConfig = field(default_factory=ExcludeConfig)
    scores: ScoresConfig = field(default_factory=ScoresConfig)
    shard: ShardConfig = field(default_factory=ShardConfig)
    against: tuple[str, ...] = ()
    sources: tuple[SourceConfig, ...] = ()

    def __post_init__(self) -> None:
        """Refuses values that cannot work, by the name of the setting."""
        self.clean.check("clean.")
        checks = [
            ("read.max_line_bytes", self.read.max_line_bytes, 1 << 10, 1 << 31),
            ("read.max_bad", self.read.max_bad, 0.0, 1.0),
            ("dedup.near_threshold", self.dedup.near_threshold, 0.3, 1.0),
            ("dedup.permutations", self.dedup.permutations, 16, 1024),
            ("dedup.max_cluster", self.dedup.max_cluster, 2, 1024),
            ("shard.seed", self.shard.seed, 0, (1 << 64) - 1),
            ("shard.part_bytes", self.shard.part_bytes, 1 << 10, 1 << 40),
        ]
        for key, value, least, most in checks:
            _check_range(key, value, least, most)


def _check_range(key: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{key}: expected {least} to {most}, found {value}")


Config = TypeVar("Config")


def load_config(path: str | os.PathLike[str]) -> PrepConfig:
    """Reads a TOML config file; paths in it become relative to the file's folder, URLs stay.

    Raises:
        ConfigError: not TOML, an unknown key, or a value of the wrong type.
        OSError: the file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            raw = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: expected TOML, found: {error}") from None
    try:
        config = from_dict(PrepConfig, raw)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    sources = [
        dataclasses.replace(source, path=tuple(one if is_url(one) else str(path.parent / one) for one in source.path))
        for source in config.sources
    ]
    exclude = dataclasses.replace(config.exclude, paths=tuple(str(path.parent / one) for one in config.exclude.paths))
    scores = config.scores
    if scores.path:
        scores = dataclasses.replace(scores, path=str(path.parent / scores.path))
    against = tuple(str(path.parent / one) for one in config.against)
    return dataclasses.replace(config, sources=tuple(sources), exclude=exclude, scores=scores, against=against)


def from_dict(kind: type[Config], raw: dict[str, Any], where: str = "") -> Config:
    """Builds a config dataclass from plain data; strict about names and types.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"; hint: did you mean {where}{near[0]}" if near else f"; known keys: {', '.join(hints)}"
            raise ConfigError(f"{where}{key}: unknown key{hint}")
        values[key] = convert(value, hints[key], f"{where}{key}")
    required = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]  # type: ignore[arg-type]
    for name in required:
        if name not in values:
            raise ConfigError(f"{where}{name}: missing key")
    return kind(**values)


def convert(value: object, hint: Any, where: str) -> Any:  # noqa: ANN401 - a hint is any form of type
    """Checks a plain value against a type hint and returns it in the hint's form.

    Raises:
        ConfigError: the value does not fit.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        if isinstance(value, dict):
            return from_dict(typing.cast("type[Any]", hint), value, f"{where}.")
    elif origin is Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{where}: expected one of {', '.join(map(str, arguments))}, found {value!r}")
    elif origin in (types.UnionType, typing.Union):
        inner = [one for one in arguments if one is not type(None)]
        return None if value is None else convert(value, inner[0], where)
    elif origin is tuple:
        items = [value] if isinstance(value, (str, dict)) else value
        if isinstance(items, (list, tuple)):
            return tuple(convert(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(items))
    elif origin is dict:
        if isinstance(value, dict):
            return {str(key): convert(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{where}: expected {wanted}, found {value!r}")
