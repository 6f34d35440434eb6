"""`bgetrain` and `python -m bgetrain`: one verb a job."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MODULES", "main"]

_HELP = """\
usage: bgetrain {vocab,train,encode,cluster,score,mine,evaluate,report,merge,pipeline} ...

  vocab      train a WordPiece vocabulary on shard sets, to start a model from scratch
  train      pre-train or fine-tune an encoder on a shard set  (the same as `torchrun python/train.py`)
  encode     embed the texts of a shard set, a corpus or a file, once
  cluster    sort the rows of a shard set into topics     (for `bgeprep batches --clusters`, `bgetrain train`)
  score      score pairs with another model               (for `bgeprep shard --scores`)
  mine       hard negatives for the pairs of a shard set
  evaluate   measure models on retrieval, sentence pairs and mteb, and compare them
  report     make the page of a run again, finished or not (report.html)
  merge      average the weights of models
  pipeline   all of it: raw texts to a measured model, each step only where it has to

`bgetrain VERB --help` says more. Data is prepared by `bgeprep`.
"""

_VERBS = ("vocab", "train", "encode", "cluster", "score", "mine", "evaluate", "report", "merge", "pipeline")
MODULES = {
    "vocab": "bgetrain.vocab",
    "encode": "bgetrain.encode_texts",
    "evaluate": "bgetrain.evaluate_models",
    "cluster": "bgetrain.cluster",
    "score": "bgetrain.score",
    "mine": "bgetrain.mine",
    "merge": "bgetrain.merge",
    "pipeline": "bgetrain.pipeline.command",
}
"""Verb → the module with its `TEACHING`, `add_arguments` and `run`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        arguments: the verb and its flags; None takes those of the process.

    Returns:
        0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = words[0] if words else "--help"
    if verb in {"-h", "--help"}:
        sys.stdout.write(_HELP)
        return 0 if words else 2
    if verb == "train":
        from bgetrain.main import main as train

        return train(words[1:])
    if verb == "report":
        return _report(words[1:])
    if verb in MODULES:
        return _other(verb, words[1:])
    sys.stderr.write(f"error: unknown verb {verb}: expected one of {', '.join(_VERBS)}\n")
    return 2


def _other(verb: str, words: list[str]) -> int:
    """A verb whose module says what it teaches, takes and does."""
    from bgetrain.main import report

    module = importlib.import_module(MODULES[verb])
    parser = argparse.ArgumentParser(
        prog=f"bgetrain {verb}", description=module.TEACHING, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    return report(lambda: module.run(parser.parse_args(words)))


def _report(words: list[str]) -> int:
    from bgetrain.main import report
    from bgetrain.report import write_report

    parser = argparse.ArgumentParser(
        prog="bgetrain report",
        description="Writes one HTML file about a training run; it loads nothing: open it in a browser, or send it.",
    )
    parser.add_argument("output_dir", help="the run's folder, which holds metrics.jsonl and config.toml")
    parser.add_argument("--out", help="the page to write (report.html in that folder)")
    parser.add_argument("--title", help="what the page calls the run (the folder's name)")
    given = parser.parse_args(words)
    return report(lambda: print(write_report(given.output_dir, given.out, title=given.title)))


if __name__ == "__main__":
    sys.exit(main())
