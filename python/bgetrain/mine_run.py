"""One run of `bgetrain mine`: what needs the model, and what comes after it from files alone.

`embed` leaves vectors on disk; `mine` searches, sifts and writes, and imports neither torch nor transformers where
faiss searches and no cross-encoder is asked for. So the first may run in a process of its own (`apart`), and the memory
of the second is that of a piece of the pool.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bgeprep
from bgeprep.shardset import ShardSet
from bgetrain.errors import LaunchError
from bgetrain.judged import judged_places, judgements_hash
from bgetrain.mined_rows import MinedRows, write_rows
from bgetrain.mining import Mining, mine_blocks
from bgetrain.negatives import Rules
from bgetrain.neighbours import SearchOptions
from bgetrain.pool import KnownPositives, PositiveTexts, TextStore, keys_of, places_of
from bgetrain.progress import Bar
from bgetrain.resumable import check_shared, wait_for_all, write_whole
from bgetrain.texts import ShardTexts, open_texts
from bgetrain.vectors import open_vectors

if TYPE_CHECKING:
    import torch

    from bgetrain.gather import Ranks
    from bgetrain.scorers import Scorer
    from bgetrain.texts import Texts

__all__ = ["Embedded", "Work", "embed", "mine"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What the flags say, read.

    Attributes:
        args: the flags.
        rules: what may be a negative.
        data: what is read, a set or pairs.
        earlier: what becomes of negatives that are there: `replace`, `add` or `mix`.
        jsonl: whether a file of JSON lines is made, not a set.
        folder: for the work files.
        near: what `--near` says, None for `off`; nothing where it says `auto`.
    """

    args: argparse.Namespace
    rules: Rules
    data: Path
    earlier: str
    jsonl: bool
    folder: Path
    near: float | None

    @property
    def shards(self) -> Path:
        """The set that is mined, which `embed` makes where pairs are given."""
        return self.data if (self.data / "manifest.json").is_file() else self.folder / "shards"

    @property
    def said(self) -> Path:
        """The report, beside a file and in a set."""
        out: Path = self.args.out
        return out.with_name(f"{out.name}.mine.json") if self.jsonl else out / "mine.json"

    @property
    def writing(self) -> Path:
        """Holds the note of the run from the moment it begins to write its result."""
        return self.folder / "writing"

    def search(self, device: str = "cpu") -> SearchOptions:
        """How to search; `device` is where torch computes."""
        args = self.args
        return SearchOptions(
            index=args.index,
            engine=args.search_engine,
            lists=args.index_lists,
            probes=args.index_probes,
            device=device,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedded:
    """What the model leaves behind.

    Attributes:
        note: a hash of all that decides what is written.
        vectors: folders of the vectors of `queries`, `passages` and, of a pool of its own, `positives`; none where the
            run is up to date.
        stores: paths of the texts (`TextStore`), by the same names.
        report: that of the same run, where it was done before.
        device: where a search by torch computes.
    """

    note: str
    vectors: dict[str, Path] = field(default_factory=dict)
    stores: dict[str, Path] = field(default_factory=dict)
    report: dict[str, Any] | None = None
    device: str = "cpu"


def embed(work: Work, ranks: Ranks | None = None) -> Embedded:
    """Embeds queries, pool and positives, each once: all that needs the model.

    Args:
        work: what is asked for.
        ranks: share the work with these processes; None joins those that torchrun has started.

    Raises:
        BgetrainError: model, texts or a folder cannot be used, or something else lies where the result goes.
        BgeprepError: the set cannot be read, or made of the pairs.
        OSError: a file cannot be read or written.
    """
    from bgetrain.encode import Encoder
    from bgetrain.encode_texts import pack_if_possible
    from bgetrain.gather import from_main, joined
    from bgetrain.vectors import encode_texts

    args = work.args
    if ranks is None:
        with joined(use_cpu=args.use_cpu) as ranks:
            return embed(work, ranks)
    check_shared(work.folder, ranks)
    if ranks.is_main and work.shards != work.data:
        bgeprep.shard(work.data, work.shards, overwrite=True)
    wait_for_all(ranks)
    encoder = Encoder.load(args.model, pooling=args.pooling)
    note = _note(work, encoder)
    report = json.loads(from_main(lambda: json.dumps(_up_to_date(work, note)), ranks))
    if report is not None:
        return Embedded(note=note, report=report)
    pack_if_possible(encoder, args.precision, ranks)
    given = args.query_instruction_for_retrieval
    made: dict[str, Path] = {}
    sources = _texts(work)
    for role, texts in sources.items():
        asked = role == "queries"
        made[role] = encode_texts(
            encoder,
            texts,
            (args.vectors or work.folder / "vectors") / role,
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
        ).path
    # one process writes the stores, and all read them
    if not ranks.is_main:
        wait_for_all(ranks)
    stores = {role: TextStore.make(work.folder / "texts", texts) for role, texts in sources.items()}
    if ranks.is_main:
        wait_for_all(ranks)
    return Embedded(note=note, vectors=made, stores=stores, device=str(ranks.device))


def _texts(work: Work) -> dict[str, Texts]:
    """Queries, pool, and positives where the pool is not the set's own."""
    found: dict[str, Texts] = {
        "queries": ShardTexts(work.shards, "queries"),
        "passages": open_texts(work.args.pool or work.shards, "passages"),
    }
    return found if work.args.pool is None else found | {"positives": PositiveTexts(work.shards)}


def _note(work: Work, encoder: Any) -> str:  # noqa: ANN401 - an Encoder; naming it would import torch for --help
    """A hash of all that decides what is written."""
    from bgetrain.embed import model_hash

    named = [
        *("format", "near", "write_scores", "index", "index_lists", "index_probes", "pooling", "dtype"),
        *("query_instruction_for_retrieval", "passage_instruction_for_retrieval", "precision"),
        *("query_max_len", "passage_max_len"),
    ]
    decided = {name: getattr(work.args, name) for name in named}
    pool = None if work.args.pool is None else open_texts(work.args.pool, "passages").fingerprint
    decided |= {"model": model_hash(encoder), "set": ShardSet.open(work.shards).hash, "pool": pool}
    decided |= {"rules": str(work.rules), "earlier": work.earlier}
    reranker = _reranker(work.args)
    decided["reranker"] = None if reranker is None else reranker.work
    decided["judged"] = judgements_hash(work.args.pool or work.shards)
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()


def _up_to_date(work: Work, note: str) -> dict[str, Any] | None:
    """The report of the same run, where it is done; an error where something else is in the way."""
    out: Path = work.args.out
    if work.said.is_file() and out.exists():
        try:
            found = json.loads(work.said.read_text(encoding="utf-8"))
            if found["note"] == note:
                return dict(found["report"], up_to_date=True)
        except (ValueError, KeyError, TypeError):
            pass
    # what is there may be of this run, stopped before it could say so
    begun = work.writing.is_file() and work.writing.read_text(encoding="utf-8") == note
    if (out.is_file() or (out / "manifest.json").is_file()) and not (work.args.overwrite or begun):
        raise LaunchError(f"{out}: is there already, made otherwise", path=str(out), hint="--overwrite replaces it")
    return None


def mine(work: Work, embedded: Embedded, ranks: Ranks | None = None) -> dict[str, Any]:
    """Searches, chooses and writes, from what lies on disk.

    Args:
        work: what is asked for.
        embedded: what `embed` left.
        ranks: share the work with these processes; None is one process alone, without a cross-encoder.

    Returns:
        What was done, in the main process; nothing in the others.

    Raises:
        BgetrainError: vectors, texts or judgements cannot be read, or the cross-encoder.
        BgeprepError: the set cannot be read or written.
        OSError: a file cannot be read or written.
    """
    args, rules = work.args, work.rules
    if embedded.report is not None:
        return embedded.report
    is_main = ranks is None or ranks.is_main
    quiet = args.quiet or not is_main
    vectors = {role: open_vectors(folder) for role, folder in embedded.vectors.items()}
    stores = {role: TextStore(path) for role, path in embedded.stores.items()}
    own = args.pool is None
    pool, positives = stores["passages"], stores["passages" if own else "positives"]
    asked, judged = judged_places(args.pool or work.shards, work.shards, vectors["passages"])
    known = KnownPositives(work.shards, ShardTexts(work.shards, "queries"), (asked, pool.exact_keys[judged]))
    if rules.first >= len(pool) and is_main:
        sys.stderr.write(f"warning: --range begins at {rules.first}, and the pool has {len(pool):,} passages\n")
    mining = Mining(
        queries=vectors["queries"],
        pool=vectors["passages"],
        pool_keys=keys_of(pool, args.pool or work.shards),
        exact_keys=pool.exact_keys,
        known=known,
        positives=vectors["passages" if own else "positives"],
        positive_places=places_of(known.positives, positives.exact_keys),
        rules=rules,
        search=work.search(embedded.device),
        near=_near(work),
        pool_texts=pool,
        positive_texts=positives,
        query_texts=stores["queries"],
        reranker=None if ranks is None else _reranker(args, ranks.device),
    )
    bar = Bar("mining", "queries", quiet=quiet)
    chosen = mine_blocks(mining, work.folder / "chosen", ranks=ranks, overwrite=args.overwrite, progress=bar)
    report: dict[str, Any] = {}
    if is_main:
        write_whole(work.writing, lambda file: file.write(embedded.note.encode()))
        change = MinedRows(chosen, known, pool, rules, work.earlier, scores=args.write_scores)
        report = write_rows(work.shards, args.out, change, jsonl=work.jsonl, overwrite=args.overwrite)
        report |= {"went": chosen.counts(), "pool": len(pool), "queries": len(known.keys)}
        text = json.dumps({"note": embedded.note, "report": report}, indent=2) + "\n"
        write_whole(work.said, lambda file: file.write(text.encode()))
        shutil.rmtree(work.folder, ignore_errors=True)
    wait_for_all(ranks)
    return report


def _near(work: Work) -> float | None:
    """From which similarity to a positive a passage is no negative; None where the set's own keys say it all."""
    if work.args.near != "auto":
        return work.near
    mode = ShardSet.open(work.shards).manifest["config"]["dedup"]["mode"]
    return None if work.args.pool is None and mode == "near" else 0.5


def _reranker(args: argparse.Namespace, device: torch.device | None = None) -> Scorer | None:
    if not args.reranker:
        return None
    from bgetrain.scorers import Reranker

    reranker = Reranker(args.reranker, precision=args.precision, batch_tokens=args.batch_tokens)
    if device is not None:
        reranker.to(device)
    return reranker
