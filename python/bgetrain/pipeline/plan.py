"""From the file to steps: one for each combination of `each`, with every `{name}` put in, in the order of the file.

1. Variables are put in, innermost first, so that `{stage1-{seed}}` becomes `{stage1-1}`.
2. What is left in braces names an earlier step: its output is put in, and it is what the step needs. In a list, a name
   with `*` stands for the outputs of all earlier steps that it matches.
3. Flags are held against the command, so that no step can fail for its spelling.
"""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from bgeprep.config import SourceConfig
from bgetrain.errors import ConfigError
from bgetrain.pipeline.mix import ONLY_HERE
from bgetrain.pipeline.verbs import VERBS, check_words, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bgetrain.pipeline.config import PipelineConfig, Size, StepConfig

__all__ = ["Plan", "Step", "make_plan"]

_INNERMOST = re.compile(r"\{([^{}]*)\}")
_BETWEEN = "\0"
_SOURCE_KEYS = (*(one.name for one in fields(SourceConfig)), *ONLY_HERE)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One command of a pipeline, with all of its flags.

    Attributes:
        name: names it and its output.
        run: the command, as `bgetrain train`.
        about: what it is for.
        out: what it makes, a folder or a file.
        config: its settings file; None for none.
        flags: name → value, with places put in.
        described: the same as it is remembered: outputs of steps by the step's name, not by place.
        sources: `[[sources]]` of `bgeprep shard`, with places put in.
        needs: names of the steps whose output it takes.
        size: for the estimates.
    """

    name: str
    run: str
    about: str
    out: Path
    config: Path | None
    flags: dict[str, Any]
    described: dict[str, Any]
    sources: tuple[dict[str, Any], ...]
    needs: tuple[str, ...]
    size: Size

    def words(self) -> list[str]:
        """What follows the command, without what depends on whether it was begun before."""
        config = ["--config", str(self.config)] if self.config else []
        return [*words_of(self.run, self.flags), *config, VERBS[self.run].out, str(self.out)]

    def inputs(self) -> dict[str, list[str]]:
        """Flag → the files and folders it names, outputs of steps among them."""
        verb = VERBS[self.run]
        named = {name: _listed(self.flags[name]) for name in (*verb.inputs, *verb.models) if name in self.flags}
        for number, source in enumerate(self.sources):
            named[f"sources[{number}].path"] = _listed(source.get("path", ()))
        return named


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a pipeline.

    Attributes:
        folder: the output folder.
        steps: by name, in the order of the file.
    """

    folder: Path
    steps: dict[str, Step]

    def chosen(self, only: str | None, first: str | None) -> list[Step]:
        """The steps that are wanted.

        Args:
            only: one step, or all of a pattern with `{…}` left out; None for all.
            first: the step to begin at; None for the first.

        Raises:
            ConfigError: there is no such step.
        """
        names = list(self.steps)
        for flag, name in (("--only", only), ("--from", first)):
            if name is not None and name not in self.steps:
                raise ConfigError(f"{flag} {name}: no such step{_near(name, names)}")
        if only is not None:
            return [self.steps[only]]
        return [self.steps[name] for name in names[names.index(first) if first else 0 :]]


def make_plan(config: PipelineConfig, folder: Path, here: Path, given: Mapping[str, str]) -> Plan:
    """Resolves a pipeline.

    Args:
        config: the file.
        folder: the output folder.
        here: the folder of the file, for `{here}`.
        given: variables that are set otherwise than in the file.

    Raises:
        ConfigError: an unknown name in braces, a name that cannot be one, or a flag the command does not take.
    """
    unknown = next((name for name in given if name not in config.variables), None)
    if unknown is not None:
        raise ConfigError(f"--set {unknown}: no such variable{_near(unknown, list(config.variables))}")
    variables: dict[str, Any] = {"here": here.as_posix()}
    for name, value in config.variables.items():
        wanted: Any = given.get(name, value)
        if name in given and isinstance(value, list | tuple):
            wanted = [one.strip() for one in given[name].split(",") if one.strip()]
        variables[name] = _put(wanted, f"variables.{name}", variables, None)
    steps: dict[str, Step] = {}
    for command in config.defaults:
        if command not in VERBS:
            raise ConfigError(f"defaults.{command}: no such command{_near(command, list(VERBS))}")
    for described in config.steps:
        for values in _combinations(described, variables):
            step = _resolve(described, {**variables, **values}, config.defaults.get(described.run, {}), folder, steps)
            if step.name in steps:
                raise ConfigError(f"steps.{step.name}: two steps have that name; hint: each variable in `name`")
            steps[step.name] = step
    outs = [step.out for step in steps.values()]
    twice = next((one for one in outs if outs.count(one) > 1), None)
    if twice is not None:
        raise ConfigError(f"steps: two steps write to {twice}")
    return Plan(folder, steps)


def _combinations(step: StepConfig, variables: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    lists = {}
    for name, given in step.each.items():
        # "{seeds}" is a variable that holds a list
        values = variables.get(given[1:-1]) if isinstance(given, str) and _INNERMOST.fullmatch(given) else given
        if not isinstance(values, list | tuple) or not values:
            raise ConfigError(f"steps.{step.name}.each.{name}: expected a list of values, found {given!r}")
        lists[name] = values
    for values in itertools.product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _resolve(
    step: StepConfig, variables: dict[str, Any], defaults: dict[str, Any], folder: Path, earlier: dict[str, Step]
) -> Step:
    name = str(_put(step.name, f"steps.{step.name}.name", variables, None))
    where = f"steps.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: expected a name of lower-case letters, digits, '.', '_' and '-'")
    if step.sources and (step.run != "bgeprep shard" or step.config):
        raise ConfigError(f"{where}.sources: only of `bgeprep shard`, and not beside `config`")
    for number, source in enumerate(step.sources):
        if unknown := next((key for key in source if key not in _SOURCE_KEYS), None):
            raise ConfigError(f"{where}.sources[{number}].{unknown}: unknown key{_near(unknown, _SOURCE_KEYS)}")
    needs: dict[str, None] = {}

    def output(wanted: str) -> str:
        if matched := [one for one in earlier if "*" in wanted and fnmatch.fnmatchcase(one, wanted)]:
            needs.update(dict.fromkeys(matched))
            return _BETWEEN.join(str(earlier[one].out) for one in matched)
        if wanted not in earlier:
            known = [*variables, *earlier]
            raise ConfigError(f"{where}: {{{wanted}}} names no variable and no earlier step{_near(wanted, known)}")
        needs[wanted] = None
        return str(earlier[wanted].out)

    flags = {**defaults, **step.flags}
    resolved = {key: _put(value, f"{where}.flags.{key}", variables, output) for key, value in flags.items()}
    config = _put(step.config, f"{where}.config", variables, output)
    sources = _put(list(step.sources), f"{where}.sources", variables, output)
    made = Step(
        name=name,
        run=step.run,
        about=str(_put(step.about, where, variables, None)),
        out=folder / str(_put(step.out or name, f"{where}.out", variables, None)),
        config=folder.__class__(config) if config else None,
        flags=resolved,
        described={key: _put(value, where, variables, lambda wanted: f"{{{wanted}}}") for key, value in flags.items()},
        sources=tuple(sources),
        needs=tuple(needs),
        size=step.size,
    )
    try:
        check_words(made.run, made.words())
    except ConfigError as error:
        raise ConfigError(f"{where}: {made.run}: {error}", hint=error.hint or f"{made.run} --help") from None
    return made


def _put(value: Any, where: str, variables: Mapping[str, Any], output: Callable[[str], str] | None) -> Any:  # noqa: ANN401
    """Puts variables and outputs into a value and what it holds."""
    if isinstance(value, dict):
        return {key: _put(one, f"{where}.{key}", variables, output) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [one for given in value for one in _put_all(given, where, variables, output)]
    if not isinstance(value, str):
        return value
    text = value
    while found := next((one for one in _INNERMOST.finditer(text) if one.group(1) in variables), None):
        text = text[: found.start()] + str(variables[found.group(1)]) + text[found.end() :]
    if output is None:
        if left := _INNERMOST.search(text):
            raise ConfigError(f"{where}: {left.group()} names no variable{_near(left.group(1), list(variables))}")
        return text
    put_in = output
    return _INNERMOST.sub(lambda found: put_in(found.group(1)), text)


def _put_all(given: Any, where: str, variables: Mapping[str, Any], output: Callable[[str], str] | None) -> list[Any]:  # noqa: ANN401
    """An item of a list: one value, or with `{name*}` the outputs of all steps that match."""
    if output is not None and isinstance(given, str) and "*" in given and _INNERMOST.fullmatch(given):
        return str(_put(given, where, variables, output)).split(_BETWEEN)
    return [_put(given, where, variables, output)]


def _listed(value: Any) -> list[str]:  # noqa: ANN401 - a text or a list of them
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _near(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean `{found[0]}`?" if found else ""
