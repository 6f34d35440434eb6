#!/usr/bin/env bash
# BGE's whole path scaled down, from random weights, English and Chinese at once on a core each. `make pipeline` calls this
# inside .venv; nothing is downloaded. The same call goes on after a stop.
#
#   examples/pipeline/run.sh                  output/pipeline-small-en and -zh, then their tables
#   examples/pipeline/run.sh --set seeds=1,2  more options of `bgetrain pipeline`: two seeds, twice the time
set -euo pipefail
cd "$(dirname "$0")/../.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

start=$SECONDS
started=()
trap 'kill "${started[@]}" 2>/dev/null || true' EXIT
mkdir -p output
for language in en zh; do
    bgetrain pipeline --config "configs/pipeline-small-$language.toml" "$@" \
        >"output/pipeline-small-$language.txt" 2> >(sed -u "s/^/$language  /" >&2) &
    started+=($!)
done
# the first that fails ends both; what is done stays done
wait -n
wait -n

for language in en zh; do
    printf '\n'
    cat "output/pipeline-small-$language.txt"
done
printf '\n%d s in all\n' "$((SECONDS - start))"
