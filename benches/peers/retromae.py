"""A step of RetroMAE beside the published algorithm written plainly in PyTorch: one model, one file, one run.

python -m benches.peers.retromae --rounds 3

A random BERT of 4 layers and width 256 with BERT's vocabulary of 30,522 takes batches of texts, AdamW included, on the
CPU. Texts have 30 to 350 words, or, with `--long`, all about as many as fit into 512 tokens. The plain one makes its
masks in Python: inside the clock (as its data loader does, with one worker), or before it. Peak memory is that of the
whole process, which begins with importing torch and transformers (the first row). Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

from benches.peers.corpus import TEXTS, read_sentences
from benches.peers.loader import JOBS, Tool, take_turns
from benches.peers.measure import run
from benches.peers.report import machine, table
from bgetrain.model_folder import installed_demo_model

_MODEL = """
import sys
import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM
torch.manual_seed(42)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
size = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **size)).save_pretrained(sys.argv[2])
tokenizer.model_max_length = 512
tokenizer.save_pretrained(sys.argv[2])
"""
_IMPORTS = "import json, torch, transformers.models.bert.modeling_bert as _; print(json.dumps({}))"


def write_texts(path: Path, rows: int, seed: int, *, long: bool) -> None:
    """Texts of real English sentences."""
    sentences = read_sentences(TEXTS).english
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            wanted, words = (330 if long else draw.randint(30, 350)), 0
            chosen = []
            while words < wanted:
                chosen.append(draw.choice(sentences))
                words += len(chosen[-1].split())
            file.write(json.dumps({"text": " ".join(chosen)}, ensure_ascii=False) + "\n")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--steps", type=int, default=3, help="steps of a run that are timed (3)")
    parser.add_argument("--batch-size", type=int, default=32, help="texts a batch (32)")
    parser.add_argument("--long", action="store_true", help="texts of about 512 tokens")
    parser.add_argument("--one-chunk", action="store_true", help="the whole batch at once, in ours as in the plain one")
    parser.add_argument("--work", type=Path, help="folder for the corpus and the outputs (a temporary one)")
    arguments = parser.parse_args()
    base = installed_demo_model()
    if base is None:
        parser.error("the demo's model is not installed, whose tokenizer is used")
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bgetrain-peers-") as folder:
        source, shards, model = (Path(folder) / name for name in ("texts.jsonl", "shards", "model"))
        write_texts(source, arguments.batch_size * (arguments.steps + 2), 42, long=arguments.long)
        command = str(Path(sys.executable).parent / "bgeprep")
        run([command, "shard", "--in", str(source), "--out", str(shards), "--dedup", "none", "--quiet"])
        run([sys.executable, "-c", _MODEL, str(base), str(model)])
        flags = ["--model", str(model), "--cache", f"{folder}/cache", "--batch-size", str(arguments.batch_size)]
        flags += ["--steps", str(arguments.steps), "--passage-max-len", "512"]
        chunk = ["--chunk", str(1 << 30) if arguments.one_chunk else "0"]
        ours = [sys.executable, str(JOBS / "retromae_bgetrain.py"), "--source", str(shards), *flags, *chunk]
        plain = [sys.executable, str(JOBS / "retromae_plain.py"), "--source", str(source), *flags]
        tools = [
            Tool("bgetrain", ours),
            Tool("plain PyTorch on transformers, batches made before", [*plain, "--variant", "prepared"]),
            Tool("plain PyTorch on transformers, batches made inside", [*plain, "--variant", "collated"]),
        ]
        bare = run([sys.executable, "-c", _IMPORTS]).peak
        take_turns(tools, arguments.rounds)
        rows = [["import torch and transformers", "", f"{bare / 1e6:,.0f}", "", ""]]
        for tool in tools:
            peak, first = (max(one.peak for one in which.runs) for which in (tool, tools[0]))
            ratios = [f"{tools[0].rate / tool.rate:.2f}", f"{(first - bare) / (peak - bare):.2f}"]
            rows.append([tool.versioned, f"{tool.rate:,.0f}", f"{peak / 1e6:,.0f}", *ratios])
        heads = ["training", "tokens/s, median", "peak MB", "the first's tokens/s ÷ its", "the first's memory ÷ its"]
        length = "about 512" if arguments.long else "up to 512"
        sys.stdout.write(
            f"{machine()}\n\nBERT 4 x 256, {arguments.batch_size} texts of {length} tokens; "
            f"{arguments.steps} steps timed, {arguments.rounds} interleaved rounds.\n\n{table(heads, rows)}\n"
        )


if __name__ == "__main__":
    main()
