"""`bgeprep`: prepare text pairs for training embedding models."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import bgeprep
from bgeprep.cli import batches, convert, estimate, export, look, report, shard, verify
from bgeprep.errors import BgeprepError, ConfigError

__all__ = ["main"]

_EPILOG = """\
examples:
  bgeprep shard --in pairs/ --out shards/          every file below pairs/, formats detected
  bgeprep shard --in 'nq/*.jsonl.gz' --out shards/ --task retrieval --language en
  bgeprep shard --config mix.toml --out shards/    sources, columns, tasks and weights from a file
  bgeprep shard --in shards/ --scores scores/ --min-score 0.43 --out better/   filter a set, and shard it again
  bgeprep shard --in s3://data/pairs --out s3://data/shards    AWS_ variables hold endpoint and credentials
  bgeprep inspect shards/                          what is in there, and what was dropped and why
  bgeprep show shards/ -n 5                        look at rows
  bgeprep verify shards/                           is every byte as it was written?
  bgeprep verify shards/ --batch-size 32768        and does no batch hold a false negative?
  bgeprep batches shards/ --batch-size 32 --show 3  what shares a batch
  bgeprep export shards/ --out train.jsonl         FlagEmbedding's JSON lines, for other trainers
  bgeprep report shards/ --out report.html         all of that as a page to look at
  bgeprep estimate --rows 1e9 --bytes 400GB --nodes 16    what that would cost, from a sample in pairs/
  bgeprep recipes                                  published data sets that can be converted; show NAME says more
  bgeprep convert --recipe wikipedia --in dump.xml.bz2 --out texts/

exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    """Wrong usage exits with 2 and says where help is."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"error: {message}\nhint: {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bgeprep", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"bgeprep {bgeprep.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for subject in (shard, look, verify, batches, export, report, convert, estimate):
        subject.add(verbs)

    return parser


_VERBS = {
    "shard": shard.run,
    "inspect": look.run_inspect,
    "show": look.run_show,
    "verify": verify.run,
    "batches": batches.run,
    "export": export.run,
    "report": report.run,
    "recipes": convert.run_recipes,
    "convert": convert.run,
    "estimate": estimate.run,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (0 done, 1 failed, 2 wrong usage, 130 interrupted)."""
    try:
        args = _parser().parse_args(argv)
        return _VERBS[args.verb](args)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has seen enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (BgeprepError, OSError) as error:
        print(f"error: {_say(error)}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def _say(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{Path(os.fsdecode(error.filename))}: " if error.filename else ""
        return f"{place}{error.strerror}"
    return str(error)


if __name__ == "__main__":
    raise SystemExit(main())
