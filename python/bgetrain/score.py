"""Scores of the pairs of a shard set by another model, for the filter of `bgeprep`: the command `bgetrain score`.

1. Pair files become a shard set first, since a score belongs to the cleaned texts that stand there.
2. Runs of rows are scored part by part, by any number of ranks, and a killed run goes on (`resumable`).
3. From the parts comes a page that shows what each threshold would keep (`report.scores`).

BGE filtered its pairs so (C-Pack, Xiao et al. 2023, arXiv 2309.07597, section 3.2): cosine by text2vec, at least 0.43.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bgetrain.errors import ConfigError, ModelError
from bgetrain.extras import need
from bgetrain.flags import add_computing, positive
from bgetrain.progress import Bar
from bgetrain.resumable import check_shared, shared_parts, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bgeprep.shardset import ShardSet
    from bgetrain.gather import Ranks
    from bgetrain.scorers import Scorer

__all__ = ["TEACHING", "add_arguments", "run", "score_pairs"]

TEACHING = """\
Score each (query, positive) with another model, so that pairs that do not fit can be left out.

  bgetrain score --data shards/ --model shibing624/text2vec-base-chinese --out scores/
  (open scores/scores.html, choose a threshold)
  bgeprep shard --in shards/ --scores scores/ --min-score 0.43 --out filtered/

--model takes an embedding model; a score is the cosine of query and positive. BGE filtered its Chinese pairs so, by
text2vec-base-chinese at 0.43. --reranker takes a cross-encoder (a folder for sequence classification with one output,
as BAAI/bge-reranker-base); it costs many times more, and a score is between 0 and 1. Scores of another model mean
something else: look at the page before you choose.

--data is a shard set, or files or folders of pairs; of these a shard set is made first, beside --out (OUT.shards),
and it is that set that goes into `bgeprep shard --in`. Scores belong to texts, not to rows: they fit the set in any
order, and any other set of the same texts that was cleaned alike.

A run that was stopped is gone on with by the same command. Several processes: torchrun … -m bgetrain score …"""

_FEWEST_ROWS, _MOST_ROWS, _PARTS_WANTED = 1024, 8192, 256


def score_pairs(
    rows: ShardSet,
    out: str | Path,
    scorer: Scorer,
    *,
    ranks: Ranks | None = None,
    part_rows: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Scores all positives of a shard set into Parquet files, or finds them scored.

    Args:
        rows: the set, of pairs.
        out: the folder to make, to complete or to find complete.
        scorer: the model.
        ranks: share the work with these processes, which must all call it; None is one process alone.
        part_rows: rows of a part; None chooses by the number of rows.
        overwrite: replace scores of something else that are in `out`.
        progress: called with the rows done and those to do, of this process.

    Returns:
        The files, in order: `query_hash`, `pos_hash` (fixed-size binary, 16), `score` (float32), and for
        information `row` (uint64) and `pos` (uint32), the place of the positive in the row.

    Raises:
        ConfigError: the set has no pairs.
        PartsError: the folder holds something else, or another run is writing there.
        ModelError: the model gives what is not a number.
        OSError: the folder cannot be written.
    """
    from bgetrain.gather import Ranks

    if rows.kind != "pairs" or not len(rows):
        raise ConfigError(f"{rows.path}: expected a set of pairs, found {len(rows)} rows of kind {rows.kind}")
    ranks = ranks or Ranks()
    folder = Path(out)
    wanted = 1 << max(0, -(-len(rows) // _PARTS_WANTED) - 1).bit_length()
    size = part_rows or min(max(wanted, _FEWEST_ROWS), _MOST_ROWS)
    bounds = [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    names = [f"part-{number:05d}.parquet" for number in range(len(bounds))]
    work = {"shards": rows.hash, **scorer.work, "rows": len(rows), "part_rows": size}
    with shared_parts(folder, "scores", work, [(name,) for name in names], ranks=ranks, overwrite=overwrite) as own:
        scorer.to(ranks.device)
        total, done = sum(len(bounds[number]) for number in own), 0
        progress(done, total)
        for number in own:
            table = _scored(rows, bounds[number], scorer)
            write_whole(folder / names[number], partial(_write_parquet, table))
            done += len(bounds[number])
            progress(done, total)
    return [folder / name for name in names]


def _scored(rows: ShardSet, places: range, scorer: Scorer) -> Any:  # noqa: ANN401 - pyarrow has no types
    """The table of some rows."""
    import numpy as np
    import pyarrow as pa

    from bgeprep.scores import text_hash

    pairs: list[tuple[str, str]] = []
    row_of: list[int] = []
    item_of: list[int] = []
    for place in places:
        row = rows[place]
        for item, text in enumerate(row["pos"]):
            pairs.append((row["query"], text))
            row_of.append(place)
            item_of.append(item)
    scores = scorer.score(pairs)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ModelError(
            f"{rows.path}: {len(bad)} of the scores of rows {places.start} to {places.stop - 1} are not finite, first "
            f"that of row {row_of[bad[0]]}",
            hint="the weights are damaged",
        )
    hashes = [pa.array([text_hash(pair[side]) for pair in pairs], pa.binary(16)) for side in (0, 1)]
    return pa.table(
        {
            "query_hash": hashes[0],
            "pos_hash": hashes[1],
            "score": pa.array(scores, pa.float32()),
            "row": pa.array(row_of, pa.uint64()),
            "pos": pa.array(item_of, pa.uint32()),
        }
    )


def _write_parquet(table: Any, file: IO[bytes]) -> None:  # noqa: ANN401 - pyarrow has no types
    import pyarrow.parquet as pq

    pq.write_table(table, file, compression="zstd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bgetrain score`."""
    add = parser.add_argument
    add("--data", required=True, nargs="+", type=Path, metavar="PATH", help="a shard set, or files or folders of pairs")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", "--model_name_or_path", metavar="M", help="an embedding model: folder or hub name")
    model.add_argument("--reranker", metavar="M", help="a cross-encoder: folder or hub name")
    add("--out", "--output_dir", required=True, type=Path, metavar="DIR", help="the folder to make")
    add(
        "--query_instruction_for_retrieval",
        metavar="TEXT",
        help='text put before queries; default: what the model says; "" for none; not for --reranker',
    )
    add("--pooling", choices=("cls", "mean"), help="default: what the model says, else cls")
    add("--query_max_len", type=positive, metavar="N", help="tokens of a query (default: the model's limit)")
    add("--passage_max_len", type=positive, metavar="N", help="tokens of a positive (default: the model's limit)")
    add("--max_len", type=positive, metavar="N", help="tokens a reranker reads (default: its limit)")
    add("--threshold", type=float, metavar="X", help="a threshold that the page marks, as 0.43")
    add_computing(parser)
    add("--overwrite", action="store_true", help="replace scores of another model or other pairs that are in --out")
    add("--json", action="store_true", help="print what each threshold keeps as JSON")
    add("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Runs the command, writes the page and prints what each threshold would keep.

    Returns:
        0; what goes wrong is raised, and `bgetrain.main.report` turns it into a line and an exit code.

    Raises:
        BgetrainError: the model, the folder or a flag cannot be used.
        bgeprep.errors.BgeprepError: the pairs or the shard set cannot be used.
        OSError: a file cannot be read or written.
    """
    need("pyarrow", wanted_by="bgetrain score", extra="score")
    _check_flags(args)

    from bgeprep.shardset import ShardSet
    from bgetrain.gather import from_main, joined

    with joined(use_cpu=args.use_cpu) as ranks:
        check_shared(args.out.parent, ranks)
        path = from_main(lambda: _shards(args.data, args.out, quiet=args.quiet), ranks)
        rows = ShardSet.open(path)
        scorer = _scorer(args, ranks)
        bar = Bar("scored", "rows", quiet=args.quiet or not ranks.is_main)
        files = score_pairs(rows, args.out, scorer, ranks=ranks, overwrite=args.overwrite, progress=bar)
    if not ranks.is_main:
        return 0

    from bgetrain.report.scores import collect, render

    figures = collect(files, rows, lowest=scorer.lowest, threshold=args.threshold)
    model = args.model or args.reranker
    # `model` and `final` alone say nothing of which model it is
    label = "/".join(Path(model).resolve().parts[-2:]) if Path(model).is_dir() else model
    page = render(figures, label, args.out)
    write_whole(args.out / "scores.html", lambda file: file.write(page.encode("utf-8", "replace")))
    if args.json:
        said = {key: figures[key] for key in ("pairs", "rows", "mean", "median", "kept")}
        print(json.dumps({"out": str(args.out), "shards": path, **said}, ensure_ascii=False, indent=2))
        return 0
    print(f"{'at least':>8}  {'pairs kept':>19}  {'rows kept':>19}")
    for line in figures["kept"]:
        shares = line["pairs"] / figures["pairs"], line["rows"] / figures["rows"]
        print(f"{line['threshold']:>8g}  {line['pairs']:>12,} {shares[0]:>6.1%}  {line['rows']:>12,} {shares[1]:>6.1%}")
    print(f"look at {args.out / 'scores.html'}, choose X, then:")
    print(f"bgeprep shard --in {path} --scores {args.out} --min-score X --out filtered/")
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    """A flag that the chosen kind of model would ignore is a mistake."""
    others = ("query_instruction_for_retrieval", "pooling", "query_max_len", "passage_max_len")
    for name in others if args.reranker else ("max_len",):
        if getattr(args, name) is not None:
            kind, right = ("--model", "--max_len") if args.reranker else ("--reranker", "--query_max_len")
            raise ConfigError(f"--{name}: only with {kind}", hint=f"{right} says how long texts are" * ("len" in name))


def _shards(data: Sequence[Path], out: Path, *, quiet: bool) -> str:
    """The shard set to score: the one given, or one that is made of the pairs."""
    if len(data) == 1 and (data[0] / "manifest.json").is_file():
        return str(data[0])
    import bgeprep
    from bgeprep.progress import Progress

    made = out.with_name(f"{out.name}.shards")
    report = None if quiet else Progress()
    try:
        bgeprep.shard(list(data), made, report=report)
    finally:
        if report is not None:
            report.close()
    return str(made)


def _scorer(args: argparse.Namespace, ranks: Ranks) -> Scorer:
    from bgetrain.scorers import Cosine, Reranker

    options: dict[str, Any] = {"precision": args.precision, "batch_tokens": args.batch_tokens}
    if args.reranker:
        return Reranker(args.reranker, max_length=args.max_len, **options)

    from bgetrain.encode import Encoder
    from bgetrain.encode_texts import pack_if_possible

    encoder = Encoder.load(args.model, pooling=args.pooling, query_instruction=args.query_instruction_for_retrieval)
    pack_if_possible(encoder, args.precision, ranks)
    return Cosine(
        encoder,
        query_prompt=encoder.query_instruction,
        query_max_length=args.query_max_len,
        passage_max_length=args.passage_max_len,
        **options,
    )
