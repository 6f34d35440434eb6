"""Embeds the texts of a shard set, a collection or a file: the command `bgetrain encode`.

What is embedded comes from `texts`, how from `embed`, and where it lies is `vectors`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgetrain.flags import add_computing, positive
from bgetrain.progress import Bar
from bgetrain.texts import open_texts, roles_of
from bgetrain.vectors import encode_texts

if TYPE_CHECKING:
    from bgetrain.embed import Precision
    from bgetrain.encode import Encoder
    from bgetrain.gather import Ranks

__all__ = ["TEACHING", "add_arguments", "pack_if_possible", "run"]

TEACHING = """\
Embed texts once, for mining, clustering, search and whatever reads numpy arrays.

  bgetrain encode --model output/stage1 --data shards/ --out vectors/
  bgetrain encode --model BAAI/bge-small-en-v1.5 --data collections/medquad --out vectors/ --dtype float16
  torchrun --nproc_per_node 8 -m bgetrain encode --model output/stage1 --data corpus.jsonl.gz --out vectors/

--data is a shard set (its queries and passages, each text once), a folder in the BEIR layout (queries.jsonl,
corpus.jsonl), or a file: .jsonl with "text" (and "title", "_id"), .txt with a text a line, .parquet; plain or .gz.

--out gets a folder for queries and one for passages: part-00000.npy … (numpy.load(…, mmap_mode="r") opens one without
reading it), beside each part-00000.parquet with the key of each row, and manifest.json, written last. In Python:
`bgetrain.vectors.open_vectors("vectors/passages")`.

A run that was stopped is gone on with by the same command, also with another number of processes. Vectors that are
there already are not made again: they are known by the model's weights, the texts, the instruction and the length.

Vectors have length 1 where the model is compared by cosine, so that their products are what it means by similar: those
of SentenceTransformer.encode, with normalize_embeddings=True where its folder has no Normalize."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bgetrain encode`."""
    add = parser.add_argument
    add("--model", "--model_name_or_path", required=True, metavar="M", help="a model folder or hub name")
    add("--data", required=True, type=Path, metavar="PATH", help="a shard set, a BEIR folder, or a file of texts")
    add("--out", "--output_dir", required=True, type=Path, metavar="DIR", help="the folder to make")
    add(
        "--role",
        nargs="+",
        choices=("queries", "passages"),
        help="what to embed, and for a file what it holds (default: all that is there; a file holds passages)",
    )
    add(
        "--query_instruction_for_retrieval",
        metavar="TEXT",
        help='text put before queries; default: what the model says; "" for none',
    )
    add(
        "--passage_instruction_for_retrieval",
        default="",
        metavar="TEXT",
        help="text put before passages (default: none, as BGE)",
    )
    add("--pooling", choices=("cls", "mean"), help="default: what the model says, else cls")
    add("--query_max_len", type=positive, metavar="N", help="tokens of a query (default: the model's limit)")
    add("--passage_max_len", type=positive, metavar="N", help="tokens of a passage (default: the model's limit)")
    add(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="of the stored vectors; float16 takes half the room and moves a cosine by less than 0.001",
    )
    add_computing(parser)
    add("--overwrite", action="store_true", help="replace vectors of another model or other texts that are in --out")
    add("--json", action="store_true", help="print what was made as JSON")
    add("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Runs the command and says what it made.

    Returns:
        0; what goes wrong is raised, and `bgetrain.main.report` turns it into a line and an exit code.

    Raises:
        BgetrainError: the model, the texts, the folder or a flag cannot be used.
        bgeprep.errors.BgeprepError: the shard set or the tokenizer cannot be used.
        OSError: a file cannot be read or written.
    """
    roles = args.role or roles_of(args.data)
    sources = [(role, open_texts(args.data, role)) for role in dict.fromkeys(roles)]

    from bgetrain.encode import Encoder
    from bgetrain.gather import joined

    made: dict[str, Any] = {}
    with joined(use_cpu=args.use_cpu) as ranks:
        encoder = Encoder.load(args.model, pooling=args.pooling)
        pack_if_possible(encoder, args.precision, ranks)
        given = args.query_instruction_for_retrieval
        prompts = {
            "queries": encoder.query_instruction if given is None else given,
            "passages": args.passage_instruction_for_retrieval,
        }
        for role, texts in sources:
            counted = _Counted(Bar(role, "texts", quiet=args.quiet or not ranks.is_main))
            vectors = encode_texts(
                encoder,
                texts,
                args.out / role,
                prompt=prompts[role],
                max_length=args.query_max_len if role == "queries" else args.passage_max_len,
                dtype=args.dtype,
                precision=args.precision,
                batch_tokens=args.batch_tokens,
                ranks=ranks,
                overwrite=args.overwrite,
                progress=counted,
            )
            made[role] = {
                "path": str(vectors.path),
                "rows": vectors.rows,
                "dim": vectors.dim,
                "dtype": args.dtype,
                "prompt": prompts[role],
                "embedded": sum(count for (count,) in _all(counted.done, ranks)),
            }
        if not ranks.is_main:
            return 0
    if args.json:
        print(json.dumps({"model": args.model, **made}, ensure_ascii=False, indent=2))
        return 0
    for role, facts in made.items():
        new = f"{facts['embedded']:,} embedded now" if facts["embedded"] else "all there already"
        print(f"{role}: {facts['rows']:,} x {facts['dim']} {args.dtype}, {new}: {facts['path']}")
    return 0


class _Counted:
    """Passes progress on and remembers how much was done."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self.done = 0

    def __call__(self, done: int, total: int) -> None:
        self.done = done
        self._bar(done, total)


def _all(count: int, ranks: Ranks) -> list[list[int]]:
    from bgetrain.gather import exchange

    return exchange([count], ranks)


def pack_if_possible(encoder: Encoder, precision: Precision, ranks: Ranks) -> None:
    """Packs texts instead of padding them where the GPU's kernel takes them; vectors are the same to its precision."""
    from bgetrain.errors import ConfigError, ModelError
    from bgetrain.packed import check_kernel, switch_on

    if ranks.device.type != "cuda" or precision != "bf16":
        return
    try:
        check_kernel(encoder, ranks.device, bf16=True)
        switch_on(encoder)
    except (ConfigError, ModelError) as error:
        if ranks.is_main:
            sys.stderr.write(f"texts are padded: {error}\n")
