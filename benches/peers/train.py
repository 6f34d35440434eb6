"""A training step beside sentence-transformers and FlagEmbedding: one model, one file, one run.

python -m benches.peers.train --rounds 3

A random BERT of 4 layers and width 128 with dropout takes batches of pairs, AdamW included, on the CPU. All texts are
cut at 64 tokens, or, with `--passage-max-len 256`, keep lengths of their own; the peers take 64 texts at once. Peak
memory is that of the whole process, which for every tool begins with importing torch and transformers (the first row).
Tools take turns in every round. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benches.peers.corpus import TEXTS, make_corpus
from benches.peers.environments import interpreter
from benches.peers.loader import JOBS, PEERS, Tool, take_turns
from benches.peers.measure import run
from benches.peers.report import machine, table
from bgetrain.model_folder import installed_demo_model

_MODEL = """
import sys
from pathlib import Path
import torch
from transformers import AutoTokenizer, BertConfig, BertModel
torch.manual_seed(42)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
size = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 512}
BertModel(BertConfig(vocab_size=len(tokenizer), **size)).save_pretrained(sys.argv[2])
tokenizer.save_pretrained(sys.argv[2])
"""
_IMPORTS = "import json, torch, transformers.models.bert.modeling_bert as _; print(json.dumps({}))"


def render(tools: list[Tool], bare: int) -> str:
    """Table of pairs a second and memory."""
    rows = [
        [
            tool.versioned,
            f"{tool.rate:,.0f}",
            f"{statistics.median(one.cpu for one in tool.runs):.0f}",
            f"{max(one.peak for one in tool.runs) / 1e6:,.0f}",
            f"{tools[0].rate / tool.rate:.2f}",
        ]
        for tool in tools
    ]
    rows.insert(0, ["import torch and transformers", "", "", f"{bare / 1e6:,.0f}", ""])
    return table(["training", "pairs/s, median", "CPU s", "peak MB", "the first's pairs/s ÷ its"], rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the file (20000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each tool (3)")
    parser.add_argument("--steps", type=int, default=3, help="steps of a run that are timed (3)")
    parser.add_argument("--batch-size", type=int, default=1024, help="pairs a batch (1024)")
    parser.add_argument("--passage-max-len", type=int, default=64, help="tokens of a passage (64)")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="folder the sentences come from (the demo's data)")
    parser.add_argument("--seed", type=int, default=42, help="decides the corpus (42)")
    parser.add_argument("--work", type=Path, help="folder for the corpus and the outputs (a temporary one)")
    choices = ["cached", "kept", "quarter", "fits", "st-cached", "st-plain", "fe-sub", "fe-plain"]
    parser.add_argument("--only", nargs="*", default=choices, choices=choices, help="what to measure (all)")
    arguments = parser.parse_args()
    base = installed_demo_model()
    if base is None:
        parser.error("the demo's model is not installed, whose tokenizer is used")

    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bgetrain-peers-") as folder:
        source, shards, model = (Path(folder) / name for name in ("corpus.jsonl", "shards", "model"))
        make_corpus(source, arguments.rows, arguments.seed, arguments.texts)
        command = str(Path(sys.executable).parent / "bgeprep")
        run([command, "shard", "--in", str(source), "--out", str(shards), "--dedup", "exact", "--quiet"])
        run([sys.executable, "-c", _MODEL, str(base), str(model)])
        flags = ["--model", str(model), "--cache", f"{folder}/cache", "--batch-size", str(arguments.batch_size)]
        flags += ["--steps", str(arguments.steps), "--passage-max-len", str(arguments.passage_max_len)]
        tools = []
        for variant in ("cached", "quarter", "fits", "kept"):
            if variant in arguments.only:
                job = [sys.executable, str(JOBS / "training_bgetrain.py"), "--source", str(shards), *flags]
                tools.append(Tool(f"bgetrain, {_SAID[variant]}", [*job, "--variant", variant]))
        python = str(interpreter(PEERS))
        for name, library, more in (
            ("st-cached", "sentence-transformers, cached, mini-batches of 64", ["--variant", "cached"]),
            ("st-plain", "sentence-transformers, plain", ["--variant", "plain"]),
            ("fe-sub", "FlagEmbedding, sub-batches of 64", []),
            ("fe-plain", "FlagEmbedding, plain", ["--chunk", "0"]),
        ):
            if name in arguments.only:
                job = JOBS / f"training_{'sentence_transformers' if name.startswith('st') else 'flagembedding'}.py"
                tools.append(Tool(library, [python, str(job), "--source", str(source), *flags, *more]))
        bare = run([sys.executable, "-c", _IMPORTS]).peak
        take_turns(tools, arguments.rounds)
        sys.stdout.write(
            f"{machine()}\n\nBERT 4 x 128, batches of {arguments.batch_size:,}, queries of at most 64 tokens and "
            f"passages of {arguments.passage_max_len}; {arguments.steps} steps timed, {arguments.rounds} interleaved "
            f"rounds.\n\n{render(tools, bare)}\n"
        )


_SAID = {
    "cached": "everything computed twice (grad_cache)",
    "quarter": "graphs in 1/4 GiB, the rest twice",
    "fits": "graphs in 1 GiB, the rest twice",
    "kept": "all graphs kept",
}

if __name__ == "__main__":
    main()
