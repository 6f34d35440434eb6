"""Hard negatives for the rows of a shard set, found with a model: the command `bgetrain mine`.

1. Queries, positives and the pool are embedded, each text once (`vectors`).
2. For each query the nearest passages are searched (`neighbours`) and sifted (`negatives`, `mining`).
3. The rows are written again with them: as a shard set, or as FlagEmbedding's JSON lines.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bgetrain.errors import ConfigError, LaunchError
from bgetrain.flags import add_computing, positive
from bgetrain.mining import Chosen, Mining, mine_blocks
from bgetrain.negatives import Rules, mixed
from bgetrain.neighbours import SearchOptions
from bgetrain.pool import KnownPositives, PositiveTexts, TextStore, keys_of, places_of
from bgetrain.progress import Bar
from bgetrain.resumable import write_whole
from bgetrain.texts import ShardTexts, open_texts

if TYPE_CHECKING:
    from bgetrain.gather import Ranks

__all__ = ["TEACHING", "add_arguments", "run"]

TEACHING = """\
Mine hard negatives: passages a model finds close to a query and that do not answer it.

  bgetrain mine --model output/stage1 --data shards/ --out mined/
  bgetrain mine --model output/stage1 --data shards/ --pool corpus.jsonl.gz --out mined/ --index ivf
  bgetrain mine --model output/stage1 --data train.jsonl --out mined.jsonl --range 10-210 --max_relative off
  bgetrain mine --model output/stage2 --from mined/ --out mined2/
  torchrun --nproc_per_node 8 -m bgetrain mine --model output/stage1 --data shards/ --out mined/

Passages come from --pool (a shard set, a folder in the BEIR layout, .jsonl, .txt, .parquet), else from the set
itself, its positives and negatives. What is known to be a positive never becomes a negative: of any row with the query
or a near duplicate of it, as the same text or a near duplicate.

By default the best 15 of the first 200 are taken that score at most 0.95 of the query's lowest-scoring positive
(NV-Retriever's TopK-PercPos). --range 10-210 is FlagEmbedding's window: then 15 are drawn from it at random, still
below that ceiling; --max_relative off lifts it, and then many of them are positives that nobody has marked. Ranks are
counted without known positives.

Negatives that rows have already are replaced, as FlagEmbedding does; --earlier add keeps them beside the new ones, and
--earlier mix, which --from means, takes half from each. Where negatives are replaced, the scores of the old ones go,
and those of the positives with them; --write_scores writes the ones of this model or of --reranker.

Rows of classification sources stay as they are. A run that was stopped is gone on with by the same command, also with
another number of processes, and gives the same negatives."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bgetrain mine`."""
    add = parser.add_argument
    add("--model", "--model_name_or_path", "--embedder_name_or_path", required=True, metavar="M", help="folder or name")
    add("--data", "--input_file", type=Path, metavar="PATH", help="a shard set, or pairs to make one of")
    add("--from", dest="earlier_round", type=Path, metavar="DIR", help="as --data DIR --earlier mix")
    add("--out", "--output_file", type=Path, required=True, metavar="PATH", help="shard set to make, or .jsonl file")
    add("--format", choices=("shards", "jsonl"), help="of --out (default: by its name)")
    add("--pool", "--candidate_pool", type=Path, metavar="PATH", help="where negatives come from (default: the set)")
    add("--negative_number", type=positive, default=15, metavar="N", help="negatives for a query, at most (15)")
    add("--range", "--range_for_sampling", dest="window", metavar="A-B", help="ranks that may be taken (0-200)")
    add("--sampling", choices=("top", "random"), help="the best, or any (default: top, with --range random)")
    add("--max_relative", default="0.95", metavar="F", help="highest share of the positive's score, or off (0.95)")
    add("--margin", type=float, metavar="F", help="least distance below the positive's score")
    add("--max_score", type=float, metavar="F", help="highest score of a negative")
    add("--min_score", type=float, metavar="F", help="lowest score of a negative")
    add(
        "--near",
        default="auto",
        metavar="F",
        help="Jaccard similarity to a positive from which a passage is no negative, or off "
        "(default: 0.5, unless the set's own keys say which texts are near)",
    )
    add("--earlier", choices=("replace", "add", "mix"), help="negatives that are there already (default: replace)")
    add("--reranker", metavar="M", help="a cross-encoder that must also find a negative worse than the positives")
    add("--write_scores", action="store_true", help="write pos_scores and neg_scores: the reranker's, or the model's")
    add("--index", choices=("exact", "ivf", "hnsw"), default="exact", help="exact search, or an approximate one")
    add("--index_lists", type=positive, default=0, metavar="N", help="lists of ivf (4 x the root of the pool's size)")
    add("--index_probes", type=positive, default=0, metavar="N", help="lists looked at by ivf (32), efSearch of hnsw")
    add("--search_engine", choices=("auto", "faiss", "torch"), default="auto", help="faiss where it is installed")
    add("--query_instruction_for_retrieval", metavar="TEXT", help="default: what the model says; a stage-1 model none")
    add("--passage_instruction_for_retrieval", default="", metavar="TEXT", help="put before passages (none, as BGE)")
    add("--pooling", choices=("cls", "mean"), help="default: what the model says, else cls")
    add("--query_max_len", type=positive, metavar="N", help="tokens of a query (default: the model's limit)")
    add("--passage_max_len", type=positive, metavar="N", help="tokens of a passage (default: the model's limit)")
    add("--dtype", choices=("float32", "float16"), default="float32", help="of the stored vectors")
    add("--vectors", type=Path, metavar="DIR", help="keep vectors here (default: with the work files, which go)")
    add_computing(parser)
    add("--seed", type=int, default=42, help="decides what is drawn (42)")
    add("--overwrite", action="store_true", help="replace what is in --out, and work files of another run")
    add("--json", action="store_true", help="print what was done as JSON")
    add("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Runs the command and says what it did.

    Returns:
        0; what goes wrong is raised, and `bgetrain.main.report` turns it into a line and an exit code.

    Raises:
        BgetrainError: the model, the texts, a folder or a flag cannot be used.
        bgeprep.errors.BgeprepError: the shard set cannot be read or written.
        OSError: a file cannot be read or written.
    """
    rules = _rules(args)
    data, earlier = _data(args)
    jsonl = args.format == "jsonl" or (args.format is None and args.out.suffix in {".jsonl", ".json"})
    if data.resolve() == args.out.resolve():
        raise ConfigError(f"--out: {args.out} is what is read", hint="choose another name")
    work = args.out.with_name(f"{args.out.name}.work")

    from bgetrain.encode import Encoder
    from bgetrain.gather import exchange, joined

    with joined(use_cpu=args.use_cpu) as ranks:
        if ranks.is_main and not (data / "manifest.json").is_file():
            _make_shards(data, work / "shards")
        exchange([0], ranks)
        shards = data if (data / "manifest.json").is_file() else work / "shards"
        encoder = Encoder.load(args.model, pooling=args.pooling)
        note = _note(args, encoder, shards, rules, earlier)
        said = args.out.with_name(f"{args.out.name}.mine.json") if jsonl else args.out / "mine.json"
        report = _up_to_date(args.out, said, note, overwrite=args.overwrite)
        if report is None:
            mining, pool_store, known = _embed(args, encoder, shards, rules, work, ranks)
            bar = Bar("mining", "queries", quiet=args.quiet or not ranks.is_main)
            chosen = mine_blocks(mining, work / "chosen", ranks=ranks, overwrite=args.overwrite, progress=bar)
            if ranks.is_main:
                change = _Change(chosen, known, pool_store, rules, earlier, scores=args.write_scores)
                report = _write(args.out, shards, change, jsonl=jsonl, overwrite=args.overwrite)
                report |= {"went": chosen.counts(), "pool": len(pool_store), "queries": len(known.keys)}
                text = json.dumps({"note": note, "report": report}, indent=2) + "\n"
                write_whole(said, lambda file: file.write(text.encode()))
                shutil.rmtree(work, ignore_errors=True)
            exchange([0], ranks)
        if ranks.is_main and report is not None:
            print(json.dumps(report, indent=2) if args.json else _told(args.out, report))
    return 0


def _rules(args: argparse.Namespace) -> Rules:
    first, last = 0, 200
    if args.window is not None:
        ends = args.window.split("-")
        if len(ends) != 2 or not all(end.isdigit() for end in ends):
            raise ConfigError(f"--range: expected two ranks as 10-210, found {args.window!r}")
        first, last = int(ends[0]), int(ends[1])
    return Rules(
        count=args.negative_number,
        first=first,
        last=last,
        sampling=args.sampling or ("top" if args.window is None else "random"),
        max_relative=_number("--max_relative", args.max_relative),
        margin=args.margin,
        max_score=args.max_score,
        min_score=args.min_score,
        seed=args.seed,
    )


def _number(flag: str, text: str) -> float | None:
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{flag}: expected a number or off, found {text!r}") from None


def _data(args: argparse.Namespace) -> tuple[Path, str]:
    if (args.data is None) == (args.earlier_round is None):
        raise ConfigError("--data or --from: expected one of the two")
    data: Path = args.data or args.earlier_round
    if not data.exists():
        raise ConfigError(f"--{'data' if args.data else 'from'}: {data}: no such file or folder")
    return data, args.earlier or ("replace" if args.data else "mix")


def _make_shards(data: Path, folder: Path) -> None:
    import bgeprep

    bgeprep.shard(data, folder, overwrite=True)


def _note(args: argparse.Namespace, encoder: Any, shards: Path, rules: Rules, earlier: str) -> str:  # noqa: ANN401
    """A hash of all that decides what is written."""
    from bgeprep.shardset import ShardSet
    from bgetrain.embed import model_hash

    named = [
        *("format", "near", "reranker", "write_scores", "index", "index_lists", "index_probes", "pooling", "dtype"),
        *("query_instruction_for_retrieval", "passage_instruction_for_retrieval", "precision"),
        *("query_max_len", "passage_max_len"),
    ]
    decided = {name: getattr(args, name) for name in named}
    pool = None if args.pool is None else open_texts(args.pool, "passages").fingerprint
    decided |= {"model": model_hash(encoder), "set": ShardSet.open(shards).hash, "pool": pool, "rules": str(rules)}
    return hashlib.sha256(json.dumps(decided | {"earlier": earlier}, sort_keys=True).encode()).hexdigest()


def _up_to_date(out: Path, said: Path, note: str, *, overwrite: bool) -> dict[str, Any] | None:
    """The report of the same run, where it is done; an error where something else is in the way."""
    if said.is_file() and out.exists():
        try:
            found = json.loads(said.read_text(encoding="utf-8"))
            if found["note"] == note:
                return dict(found["report"], up_to_date=True)
        except (ValueError, KeyError, TypeError):
            pass
    if (out.is_file() or (out / "manifest.json").is_file()) and not overwrite:
        raise LaunchError(f"{out}: is there already, made otherwise", path=str(out), hint="--overwrite replaces it")
    return None


def _embed(
    args: argparse.Namespace,
    encoder: Any,  # noqa: ANN401 - an Encoder; naming it would import torch for --help
    shards: Path,
    rules: Rules,
    work: Path,
    ranks: Ranks,
) -> tuple[Mining, TextStore, KnownPositives]:
    from bgeprep.shardset import ShardSet
    from bgetrain.encode_texts import pack_if_possible
    from bgetrain.gather import exchange
    from bgetrain.vectors import Vectors, encode_texts

    queries = ShardTexts(shards, "queries")
    positive_texts = PositiveTexts(shards)
    pool = open_texts(args.pool or shards, "passages")
    own = args.pool is None
    if own:
        positive_texts = pool  # type: ignore[assignment]
    dedup = ShardSet.open(shards).manifest["config"]["dedup"]["mode"]
    near = (None if own and dedup == "near" else 0.5) if args.near == "auto" else _number("--near", args.near)
    pack_if_possible(encoder, args.precision, ranks)
    given = args.query_instruction_for_retrieval
    made: dict[str, Vectors] = {}
    for role, texts in {"queries": queries, "passages": pool, "positives": positive_texts}.items():
        if role == "positives" and own:
            made[role] = made["passages"]
            continue
        asked = role == "queries"
        made[role] = encode_texts(
            encoder,
            texts,
            (args.vectors or work / "vectors") / role,
            prompt=(encoder.query_instruction if given is None else given)
            if asked
            else args.passage_instruction_for_retrieval,
            max_length=args.query_max_len if asked else args.passage_max_len,
            dtype=args.dtype,
            precision=args.precision,
            batch_tokens=args.batch_tokens,
            ranks=ranks,
            overwrite=args.overwrite,
            progress=Bar(f"embedding {role}", "texts", quiet=args.quiet or not ranks.is_main),
        )
    reranker = None
    if args.reranker:
        from bgetrain.scorers import Reranker

        reranker = Reranker(args.reranker, precision=args.precision, batch_tokens=args.batch_tokens)
        reranker.to(ranks.device)
    # one process writes the stores, and all read them
    for turn in (True, False):
        if ranks.is_main == turn:
            pool_store = TextStore(work / "texts", pool)
            positive_store = pool_store if own else TextStore(work / "texts", positive_texts)
            query_store = TextStore(work / "texts", queries)
        exchange([0], ranks)
    known = KnownPositives(shards, queries)
    if rules.first >= len(pool) and ranks.is_main:
        sys.stderr.write(f"warning: --range begins at {rules.first}, and the pool has {len(pool):,} passages\n")
    mining = Mining(
        queries=made["queries"],
        pool=made["passages"],
        pool_keys=keys_of(pool, pool_store, args.pool or shards),
        exact_keys=np.asarray(pool_store.exact_keys),
        known=known,
        positives=made["positives"],
        positive_places=places_of(known.positives, np.asarray(positive_store.exact_keys)),
        rules=rules,
        search=SearchOptions(
            index=args.index,
            engine=args.search_engine,
            lists=args.index_lists,
            probes=args.index_probes,
            device=str(ranks.device),
        ),
        near=near,
        pool_texts=pool_store,
        positive_texts=positive_store,
        query_texts=query_store,
        reranker=reranker,
    )
    return mining, pool_store, known


class _Change:
    """Gives a row its negatives; counts what it gave."""

    def __init__(
        self, chosen: Chosen, known: KnownPositives, pool: TextStore, rules: Rules, earlier: str, *, scores: bool
    ) -> None:
        self._chosen = chosen
        self._known = known
        self._pool = pool
        self._rules = rules
        self._earlier = earlier
        self._scores = scores
        self.counts = {"rows": 0, "negatives": 0, "kept": 0, "replaced": 0, "rows_without_negatives": 0}

    def __call__(self, _: int, row: dict[str, Any]) -> dict[str, Any]:
        self.counts["rows"] += 1
        query = int(self._known.number(np.array([row["query_exact_key"]], dtype=np.uint64))[0])
        if not self._known.mined[query]:
            return row
        scores, places = self._chosen.of(query)
        mined = [(self._pool[place], score) for place, score in zip(places.tolist(), scores.tolist(), strict=True)]
        kept = self._kept(row, query, {text for text, _ in mined})
        if self._earlier == "mix":
            mined = mined[: max(self._rules.count - len(kept), 0)]
        self.counts["negatives"] += len(mined)
        self.counts["kept"] += len(kept)
        self.counts["replaced"] += len(row["neg"]) - len(kept)
        self.counts["rows_without_negatives"] += not (mined or kept)
        changed = {**row, "neg": kept + [text for text, _ in mined], "neg_scores": []}
        if row["neg_scores"]:
            # a teacher gave both; grades of positives alone are another thing, and stay
            changed["pos_scores"] = []
        if self._scores:
            own = self._known.positives[self._known.offsets[query] : self._known.offsets[query + 1]].tolist()
            given = dict(zip(own, self._chosen.positive_scores(query, self._known.offsets).tolist(), strict=True))
            changed["pos_scores"] = [given[key] for key in row["pos_exact_keys"]]
            changed["neg_scores"] = [None] * len(kept) + [score for _, score in mined]
        return changed

    def _kept(self, row: dict[str, Any], query: int, mined: set[str]) -> list[str]:
        """Negatives that the row had and keeps: all with `add`, a draw of half as many as are wanted with `mix`."""
        if self._earlier == "replace":
            return []
        there = [(text, key) for text, key in zip(row["neg"], row["neg_exact_keys"], strict=True) if text not in mined]
        if self._earlier == "mix" and there:
            seeded = mixed(self._known.keys[query : query + 1], np.uint64(self._rules.seed))
            draw = mixed(np.array([key for _, key in there], dtype=np.uint64), seeded)
            taken = sorted(np.argsort(draw)[: self._rules.count // 2].tolist())
            there = [there[place] for place in taken]
        return [text for text, _ in there]


def _write(out: Path, shards: Path, change: _Change, *, jsonl: bool, overwrite: bool) -> dict[str, Any]:
    if not jsonl:
        from bgeprep.rewrite import rewrite

        made = rewrite(shards, out, change, overwrite=overwrite)
        return {"path": str(out), "hash": made.hash, "rows_kept": made.rows_kept, **change.counts}
    from bgeprep.jsonl import lines
    from bgeprep.shardset import ShardSet

    out.parent.mkdir(parents=True, exist_ok=True)
    written = lines(ShardSet.open(shards), change=change)
    write_whole(out, lambda file: file.writelines(line.encode() for line in written))
    return {"path": str(out), "rows_kept": change.counts["rows"], **change.counts}


def _told(out: Path, report: dict[str, Any]) -> str:
    if report.get("up_to_date"):
        return f"{out}: up to date, {report['rows_kept']:,} rows"
    went = ", ".join(f"{reason} {count:,}" for reason, count in report["went"].items() if count and reason != "short")
    lines = [
        f"{out}: {report['rows_kept']:,} rows, {report['negatives']:,} negatives mined from {report['pool']:,} passages"
        f" for {report['queries']:,} queries; {report['kept']:,} kept, {report['replaced']:,} replaced",
        f"candidates that went: {went or 'none'}",
    ]
    if report["went"]["short"]:
        lines.append(f"{report['went']['short']:,} queries have fewer negatives than asked for")
    if report["rows_without_negatives"]:
        lines.append(f"{report['rows_without_negatives']:,} rows have no negative")
    return "\n".join(lines)
