"""The file that describes a pipeline: steps, what they share, and the table at the end.

```toml
output_dir = "output/mine"

[variables]                              # {NAME} in any text below; --set NAME=VALUE changes it
raw = "raw"

[defaults."bgetrain train"]              # flags of every step with this command
report_to = "none"

[[steps]]
name = "stage1-{seed}"                   # the folder of its output, below output_dir
each = { seed = [1, 2] }                 # one step for each value
run = "bgetrain train"
config = "{here}/stage1.toml"            # {here} is the folder of this file
flags = { data = "{pairs}", seed = "{seed}" }        # {pairs}: the output of an earlier step
size = { rows = 1_000_000, tokens_per_row = 100 }    # for --dry-run

[summary]
step = "evaluate"
columns = ["stage 1"]
rows = [{ name = "mine", models = ["stage1-*"] }]
```

Unknown keys are errors, here as in every flag of every step.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bgeprep.config import from_dict
from bgeprep.errors import ConfigError as PrepConfigError
from bgetrain.errors import ConfigError
from bgetrain.ranking import METRICS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["PipelineConfig", "Size", "StepConfig", "SummaryConfig", "SummaryRow", "read_pipeline"]

Run = Literal[
    "bgeprep convert",
    "bgeprep shard",
    "bgeprep export",
    "bgetrain vocab",
    "bgetrain train",
    "bgetrain encode",
    "bgetrain cluster",
    "bgetrain score",
    "bgetrain mine",
    "bgetrain merge",
    "bgetrain evaluate",
]


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a step is made of, for the estimates of `--dry-run`; 0 where a figure says nothing.

    Attributes:
        rows: pairs or documents that go in; of `bgeprep shard` the sum over its sources where none is given.
        bytes_per_row: of the text of a row.
        tokens_per_row: tokens of a row that the encoder takes, all its texts together.
        weights: weights that multiply a token, embedding tables left out.
        stored: weights in the model's file, embedding tables included; `weights` where none is given.
        dimensions: of the vectors that are stored.
        epochs: passes over the rows.
    """

    rows: int = 0
    bytes_per_row: int = 0
    tokens_per_row: int = 0
    weights: int = 0
    stored: int = 0
    dimensions: int = 0
    epochs: int = 1


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """One command, or one for each combination of `each`.

    Attributes:
        name: names its output; lower-case words with dashes, `{variable}` inside.
        run: the command.
        about: what it is for, in a few words.
        config: a settings file of that command.
        out: the name of its output where it is not `name`.
        flags: its flags without the dashes; true is a flag without a value, false none.
        sources: of `bgeprep shard`: `[[sources]]` as in its own file, each with `rows` besides for the estimates.
        each: variable → its values.
        size: for the estimates.
    """

    name: str
    run: Run
    about: str = ""
    config: str = ""
    out: str = ""
    flags: dict[str, Any] = field(default_factory=dict)
    sources: tuple[dict[str, Any], ...] = ()
    each: dict[str, Any] = field(default_factory=dict)
    size: Size = field(default_factory=Size)


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """A row of the last table: for each column a pattern of model names, over which the mean is taken."""

    name: str
    models: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SummaryConfig:
    """The last table: of which step's scores, in which columns."""

    step: str
    metric: str = "ndcg@10"
    columns: tuple[str, ...]
    rows: tuple[SummaryRow, ...]

    def __post_init__(self) -> None:
        """Refuses what cannot be shown."""
        if self.metric not in METRICS:
            raise ConfigError(f"summary.metric: expected one of {', '.join(METRICS)}, found {self.metric!r}")
        for row in self.rows:
            if len(row.models) != len(self.columns):
                raise ConfigError(
                    f"summary.rows: {row.name!r} has {len(row.models)} patterns for {len(self.columns)} columns"
                )


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """A whole file.

    Attributes:
        output_dir: holds the output of every step, and what the pipeline remembers.
        about: what the pipeline makes.
        variables: name → text or number, put where `{name}` stands.
        defaults: command → flags of all its steps.
        steps: in an order in which they can run.
        summary: the table at the end; None for none.
    """

    output_dir: str
    about: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: tuple[StepConfig, ...]
    summary: SummaryConfig | None = None


def read_pipeline(path: Path) -> PipelineConfig:
    """Reads a pipeline's file.

    Raises:
        ConfigError: no TOML, an unknown key, or a value of another type; the message begins with the file.
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return from_dict(PipelineConfig, tomllib.load(file))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, found: {error}", path=str(path)) from None
    except (PrepConfigError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}", path=str(path)) from None
