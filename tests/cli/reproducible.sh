#!/usr/bin/env bash
# reproducible.sh TENON SOURCE: the same input and flags give the same bytes: from another folder, at another time, with
# another number of jobs beside it, for every way to keep weights.
set -euo pipefail
tenon=$(realpath "$1") source=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
for model in llama-bf16 bert-tokens gpt2; do
  for weights in embed external; do
    mkdir -p "$work/a" "$work/b/deeper"
    "$tenon" compile "$source/tests/parity/models/$model" -o "$work/a/libx.so" --weights $weights > /dev/null
    (cd "$work/b/deeper" && TZ=Asia/Tokyo "$tenon" compile "$source/tests/parity/models/$model" -o libx.so --weights $weights > /dev/null)
    for f in "$work"/a/*; do
      cmp "$f" "$work/b/deeper/$(basename "$f")" || { echo "FAILED: $model $weights $(basename "$f")"; exit 1; }
      passed=$((passed + 1))
    done
    rm -rf "$work/a" "$work/b"
  done
done
echo "$passed passed, 0 failed"
