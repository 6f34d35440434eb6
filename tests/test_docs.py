"""Commands in the pages of docs/ and in the README are commands: each flag is one that its command takes."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from bgeprep.cli import batches, convert, estimate, export, look, report, shard, verify
from bgetrain.errors import ConfigError
from bgetrain.pipeline import command
from bgetrain.pipeline.verbs import VERBS, check_words

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Parser(argparse.ArgumentParser):
    """Raises instead of leaving the program."""

    def error(self, message: str) -> None:
        raise ConfigError(message)


def prep_parser() -> Parser:
    parser = Parser(prog="bgeprep", allow_abbrev=False)
    verbs = parser.add_subparsers(parser_class=Parser)
    for subject in (shard, look, verify, batches, export, report, convert, estimate):
        subject.add(verbs)
    return parser


def pipeline_parser() -> Parser:
    parser = Parser(prog="bgetrain pipeline", allow_abbrev=False)
    command.add_arguments(parser)
    return parser


def commands(page: str) -> list[list[str]]:
    """The words of each command in blocks of shell, from the program on."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            words = shlex.split(line, comments=True)
            if ">" in words:
                words = words[: words.index(">")]
            for place, word in enumerate(words):
                if word in {"bgeprep", "bgetrain", "python/train.py"}:
                    found.append(words[place:])
                    break
    return found


def check(words: list[str]) -> None:
    program, *rest = words
    if program == "python/train.py":
        check_words("bgetrain train", rest)
    elif program == "bgeprep":
        prep_parser().parse_args(rest)
    elif rest[0] == "pipeline":
        pipeline_parser().parse_args(rest[1:])
    elif f"bgetrain {rest[0]}" in VERBS:
        check_words(f"bgetrain {rest[0]}", rest[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_takes_its_flags(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        check(words)


def test_the_check_finds_commands_and_what_is_wrong_with_them() -> None:
    """The control: pages hold commands, and a flag that is none is seen in each kind of them."""
    assert sum(len(commands(page.read_text(encoding="utf-8"))) for page in PAGES) > 40
    for words in (
        "bgeprep shard --in a --out b --no-such-flag",
        "bgetrain mine --model a --data b --out c --no-such-flag",
        "bgetrain pipeline --config a --no-such-flag",
        "python/train.py --no-such-flag",
    ):
        with pytest.raises(ConfigError):
            check(words.split())


def test_links_between_pages_lead_somewhere() -> None:
    links = [
        (page, link) for page in PAGES for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert links
    assert not [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()]
