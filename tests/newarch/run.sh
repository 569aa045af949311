#!/usr/bin/env bash
# run.sh TENON: an architecture that tenon does not ship runs from a page alone, given with --model-page or found in the
# user's folder, and matches plain PyTorch; without the page there is one clear error.
set -euo pipefail
tenon=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

for backend in ref cpu; do
  "$tenon" verify "$here/model@$backend" "$here/goldens.safetensors" --entry logits --model-page "$here/parallel_llama.model" --atol 1e-4 --rtol 1e-3
done

export XDG_DATA_HOME=$work/data
"$tenon" check "$here/model" 2> "$work/err" && fail "an unknown architecture was accepted"
grep -q "ParallelLlamaForCausalLM" "$work/err" || fail "the error does not name the architecture: $(cat "$work/err")"
mkdir -p "$XDG_DATA_HOME/tenon/models"
cp "$here/parallel_llama.model" "$XDG_DATA_HOME/tenon/models/"
"$tenon" check "$here/model" | grep -q "ok" || fail "the page in the user's folder was not found"
"$tenon" compile "$here/model" -o "$work/libparallel.so" > /dev/null
"$tenon" verify "$work/libparallel.so" "$here/goldens.safetensors" --entry logits
echo "newarch: 1 passed, 0 failed"
