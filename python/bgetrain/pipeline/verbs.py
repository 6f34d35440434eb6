"""What the pipeline knows of each command: how its output is named, how it goes on, and whether its flags are right.

Flags are held against the commands' own parsers before the first step runs: a slip of the pen in the last step should
not come to light after two weeks of pre-training.
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from bgetrain.__main__ import MODULES
from bgetrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["VERBS", "Verb", "check_words", "words_of"]


@dataclass(frozen=True, slots=True)
class Verb:
    """A command as the pipeline sees it.

    Attributes:
        out: its flag for the output.
        inputs: flags that name files, folders or the outputs of other steps.
        models: flags that may name a model of the hub, or a task, instead.
        positional: the flag that is written without its name.
        overwrite: flag that replaces what is there, for an output that no longer fits.
        anew: whether that flag is given always, since the command does not go on by itself.
        gpu: whether it computes with a model.
    """

    out: str
    inputs: tuple[str, ...] = ("in", "data")
    models: tuple[str, ...] = ()
    positional: str = ""
    overwrite: str = "--overwrite"
    anew: bool = False
    gpu: bool = False


_MODEL = ("model", "model_name_or_path", "embedder_name_or_path", "reranker")
VERBS = {
    "bgeprep convert": Verb("--out", anew=True),
    "bgeprep shard": Verb("--out", ("in", "against", "exclude", "scores")),
    "bgeprep export": Verb("--out", positional="in", overwrite=""),
    "bgetrain vocab": Verb("--output_dir", anew=True),
    "bgetrain train": Verb(
        "--output_dir",
        ("data", "train_data", "eval_data", "clusters"),
        ("model_name_or_path", "guide_model"),
        overwrite="--overwrite_output_dir",
        gpu=True,
    ),
    "bgetrain encode": Verb("--out", models=_MODEL, gpu=True),
    "bgetrain cluster": Verb("--out", ("data", "vectors"), models=_MODEL, gpu=True),
    "bgetrain score": Verb("--out", models=_MODEL, gpu=True),
    "bgetrain mine": Verb("--out", ("data", "from", "pool"), _MODEL, gpu=True),
    "bgetrain merge": Verb("--out", models=("models",), positional="models", anew=True),
    # a task of mteb is a name or a folder
    "bgetrain evaluate": Verb(
        "--output_dir", ("data", "sts", "pairs", "embeddings"), (*_MODEL, "mteb"), overwrite="", gpu=True
    ),
}


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving the program."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


@cache
def _parser(run: str) -> _Parser:
    program, verb = run.split()
    if program == "bgetrain":
        module = importlib.import_module(MODULES[verb])
        parser = _Parser(prog=run, add_help=False, allow_abbrev=False)
        module.add_arguments(parser)
        return parser
    parser = _Parser(prog=program, add_help=False, allow_abbrev=False)
    subject = importlib.import_module(f"bgeprep.cli.{verb}")
    subject.add(parser.add_subparsers(parser_class=_Parser))
    return parser


def check_words(run: str, words: Sequence[str]) -> None:
    """Holds the words of a command against its own parser.

    Args:
        run: the command, as `bgetrain train`.
        words: all that follows it.

    Raises:
        ConfigError: an unknown flag, a missing one, or a value that cannot be; as the command would say it.
    """
    if run == "bgetrain train":
        from bgetrain.settings import build, parse_flags

        build(parse_flags(words)[1])
        return
    verb = [] if run.startswith("bgetrain") else [run.split()[1]]
    _parser(run).parse_args([*verb, *words])


def words_of(run: str, flags: Mapping[str, Any]) -> list[str]:
    """Flags as they are typed.

    Args:
        run: the command.
        flags: name without dashes → text, number, true (the name alone), false (nothing; for `bgetrain train`, whose
            settings have defaults that are true, `false`), or a list of them.
    """
    verb = VERBS[run]
    words: list[str] = []
    ahead: list[str] = []
    for name, value in flags.items():
        values = [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
        if name == verb.positional:
            ahead += values
        elif value is True:
            words.append(f"--{name}")
        elif value is not False:
            words += [f"--{name}", *values]
        elif run == "bgetrain train":
            words += [f"--{name}", "false"]
    return ahead + words
