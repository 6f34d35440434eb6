"""Files and flags into a `TrainConfig`, and back into a file.

Defaults are overridden by the configuration a checkpoint was made with (on resume), that by the TOML
file, that by flags. An unknown key or flag is an error that names the nearest known one.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from dataclasses import Field, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NoReturn, get_args, get_origin, get_type_hints

from bgetrain.arguments import not_ours
from bgetrain.config import TrainConfig
from bgetrain.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Setting", "all_settings", "build", "parse_flags", "read_toml", "to_toml"]

_USAGE = """\
torchrun [--nproc_per_node N] python/train.py [flags]
       python python/train.py [flags]
       bgetrain train [flags]"""

_TEACHING = """\
Fine-tune a text encoder on the batches of a shard set.

  bgeprep shard --in pairs/ --out shards/
  torchrun --nproc_per_node 2 python/train.py --config configs/finetune.toml --data shards/ \\
      --model_name_or_path BAAI/bge-small-en-v1.5 --output_dir output/mine

A batch takes global_batch_size queries, or per_device_train_batch_size x processes; a step takes
gradient_accumulation_steps batches. Each query is trained to score its own positive above all other
documents of the batch, over all processes. The output folder gets config.toml (all settings as used),
metrics.jsonl, report.html (the run as a page), checkpoint-<step>/ and, at the end, the model itself; it
opens in sentence-transformers.

After an interruption: the same command with --resume_from_checkpoint last"""

_EPILOGUE = """\
Flags win over --config, which wins over the defaults shown in brackets. Every flag has a dotted form that
names its section in the file: --temperature is --loss.temperature is `[loss] temperature = 0.02`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One leaf of the tree.

    Attributes:
        section: `model`, `data`, `loss`, `optim`, `eval` or `run`.
        field: the dataclass field, with its help and limits.
        kind: str, int, float, bool, or tuple for several whole numbers.
        optional: whether it may be unset (None).
    """

    section: str
    field: Field[Any]
    kind: type
    optional: bool

    @property
    def dotted(self) -> str:
        """`section.name`."""
        return f"{self.section}.{self.field.name}"

    @property
    def flags(self) -> list[str]:
        """All spellings without the dashes: the plain name, aliases and the dotted name."""
        return [self.field.name, *self.field.metadata["flags"], self.dotted]

    def check(self, value: object, where: str) -> object:
        """Returns a value in the type of the setting.

        Raises:
            ConfigError: another type; the message starts with `where`.
        """
        if self.kind is tuple:
            if not isinstance(value, list) or any(type(item) is not int for item in value):
                raise ConfigError(f"{where}: expected {_KIND_NAMES[tuple]}, found {json.dumps(value, default=str)}")
            return tuple(value)
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str) and value in self.field.metadata["words"]:
            return self.field.metadata["words"][value]
        if type(value) is not self.kind:
            expected = f"expected {_KIND_NAMES[self.kind]}, found {json.dumps(value, default=str)}"
            raise ConfigError(f"{where}: {expected}", hint=self.field.metadata["hint"])
        return value

    def parse(self, text: str | list[str], where: str) -> object:
        """Reads the value of a flag, or its values.

        Raises:
            ConfigError: the text is no value of this setting.
        """
        if isinstance(text, list):
            try:
                return tuple(int(item) for item in text)
            except ValueError:
                raise ConfigError(f"{where} {' '.join(text)}: expected whole numbers with spaces between") from None
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        words |= self.field.metadata["words"]
        try:
            return words[text.lower()] if self.kind is bool else self.kind(text)
        except (KeyError, ValueError):
            expected = f"expected {_KIND_NAMES[self.kind]}"
            raise ConfigError(f"{where} {text}: {expected}", hint=self.field.metadata["hint"]) from None


_ELSEWHERE = "elsewhere."

_KIND_NAMES: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "whole numbers",
}


def all_settings() -> list[Setting]:
    """The leaves of `TrainConfig`, in the order of the file."""
    found = []
    for section in fields(TrainConfig):
        owner = get_type_hints(TrainConfig)[section.name]
        hints = get_type_hints(owner)
        for item in fields(owner):
            kinds = [kind for kind in get_args(hints[item.name]) or (hints[item.name],) if kind is not type(None)]
            kinds = [tuple] if get_origin(hints[item.name]) is tuple else kinds
            optional = type(None) in get_args(hints[item.name])
            found.append(Setting(section.name, item, kinds[0], optional))
    return found


def read_toml(path: Path) -> dict[str, object]:
    """Reads a configuration file.

    Args:
        path: a TOML file of sections (`[loss]`); a key may also stand before all sections.

    Returns:
        Dotted name → value.

    Raises:
        ConfigError: the file is absent or no TOML, or a key is unknown or of another type.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not valid TOML: {error}") from error
    return from_document(document, str(path))


def from_document(document: Mapping[str, object], where: str) -> dict[str, object]:
    """Dotted names and values of a parsed file, checked; see `read_toml`."""
    by_name = {spelling: setting for setting in all_settings() for spelling in setting.flags}
    elsewhere = not_ours(by_name)
    sections = {setting.section for setting in all_settings()}
    values: dict[str, object] = {}
    for key, value in document.items():
        items = {key: value}
        if isinstance(value, dict) and key in sections:
            items = {f"{key}.{name}": item for name, item in value.items()}
        for name, item in items.items():
            if name in elsewhere:
                elsewhere[name].check(str(item).lower() if isinstance(item, bool) else item, f"{where}: {name}")
                continue
            if name not in by_name or isinstance(item, dict):
                raise ConfigError(f"{where}: unknown key `{name}`{_nearest(name, by_name)}")
            setting = by_name[name]
            if setting.dotted in values:
                raise ConfigError(f"{where}: `{setting.dotted}` is given twice")
            values[setting.dotted] = setting.check(item, f"{where}: {name}")
    return values


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def parse_flags(arguments: Sequence[str]) -> tuple[str | None, dict[str, object]]:
    """Reads the command line; `--help` prints and exits.

    Returns:
        The value of `--config`, and dotted name → value of each flag given.

    Raises:
        ConfigError: a flag is unknown or its value cannot be read.
    """
    parser = _Parser(
        prog="bgetrain train",
        usage=_USAGE,
        description=_TEACHING,
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", metavar="FILE", help="settings as TOML, see configs/")
    settings = all_settings()
    for section in fields(TrainConfig):
        group = parser.add_argument_group(f"[{section.name}]")
        for setting in (setting for setting in settings if setting.section == section.name):
            _add_flag(group, setting)
    # names of other trainers are known too: refused with what to use instead, unless they say what is done anyway
    elsewhere = not_ours([spelling for setting in settings for spelling in setting.flags])
    for name in elsewhere:
        parser.add_argument(f"--{name}", dest=f"{_ELSEWHERE}{name}", nargs="*", help=argparse.SUPPRESS)
    known, unknown = parser.parse_known_args(list(arguments))
    for name, words in list(vars(known).items()):
        if name.startswith(_ELSEWHERE):
            elsewhere[name.removeprefix(_ELSEWHERE)].check(
                " ".join(words) if words else "true", f"--{name.partition('.')[2]}"
            )
            delattr(known, name)
    if unknown:
        spellings = ["config", *(spelling for setting in settings for spelling in setting.flags)]
        name = unknown[0].removeprefix("--").partition("=")[0]
        kind = "flag" if unknown[0].startswith("-") else "argument"
        raise ConfigError(f"unknown {kind} {unknown[0]}{_nearest(name, spellings, '--')}")
    given = vars(known)
    config = given.pop("config", None)
    by_dotted = {setting.dotted: setting for setting in settings}
    return config, {name: by_dotted[name].parse(text, f"--{name.partition('.')[2]}") for name, text in given.items()}


def _add_flag(group: argparse._ArgumentGroup, setting: Setting) -> None:
    default = setting.field.default
    shown = (
        "" if default is None or default == () else f" [{str(default).lower() if setting.kind is bool else default}]"
    )
    words: dict[str, Any] = {"dest": setting.dotted, "help": setting.field.metadata["help"].replace("%", "%%") + shown}
    words["metavar"] = {str: "TEXT", int: "N", float: "X", bool: "BOOL", tuple: "N"}[setting.kind]
    if setting.field.metadata["choices"]:
        words["metavar"] = "|".join(setting.field.metadata["choices"])
    if setting.kind is tuple:
        words["nargs"] = "*"
    if setting.kind is bool:
        words |= {"nargs": "?", "const": "true"}
    if setting.field.name == "resume_from_checkpoint":
        words |= {"nargs": "?", "const": "last", "metavar": "DIR|last"}
    group.add_argument(*(f"--{spelling}" for spelling in setting.flags[:-1]), **words)
    group.add_argument(f"--{setting.dotted}", **{**words, "help": argparse.SUPPRESS})


def build(*layers: Mapping[str, object]) -> TrainConfig:
    """A configuration from the defaults and layers of dotted name → value; later layers win.

    Raises:
        ConfigError: a value is out of its limits.
    """
    config = TrainConfig()
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for dotted, value in layer.items():
            section, _, name = dotted.partition(".")
            merged.setdefault(section, {})[name] = value
    sections = {section: replace(getattr(config, section), **values) for section, values in merged.items()}
    return replace(config, **sections)


def to_toml(config: TrainConfig) -> str:
    """The whole configuration as a file that `read_toml` reads back; what is unset is a comment."""
    lines = ["# All settings of this run, as resolved; `--config` takes this file."]
    section = ""
    for setting in all_settings():
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"]
        value = getattr(getattr(config, section), setting.field.name)
        if value is None:
            lines.append(f"# {setting.field.name} is not set")
        else:
            # JSON texts and numbers are TOML, but for DEL, which TOML wants escaped
            shown = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
            lines.append(f"{setting.field.name} = {shown}")
    return "\n".join(lines) + "\n"


def _nearest(name: str, known: Mapping[str, object] | Sequence[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{prefix}{near[0]}`?" if near else "; see --help"
