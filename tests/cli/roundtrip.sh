#!/usr/bin/env bash
# roundtrip.sh TENON SOURCE: for every test file that is legal IR, and for every tiny model before and after all passes,
# printing, parsing and printing again gives the same bytes.
set -euo pipefail
tenon=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 wrong=0
again() { # again NAME: $work/once is canonical text
  "$tenon" opt "$work/once.tir" > "$work/twice.tir" 2> "$work/err" || true
  if cmp -s "$work/once.tir" "$work/twice.tir"; then passed=$((passed + 1)); else echo "differs: $1 $(head -c 300 "$work/err")"; failed=$((failed + 1)); fi
}
while IFS= read -r -d '' f; do
  if grep -q '// error' "$f"; then wrong=$((wrong + 1)); continue; fi
  if "$tenon" opt "$f" > "$work/once.tir" 2> "$work/err"; then again "$f"; else echo "not legal: $f: $(head -c 300 "$work/err")"; failed=$((failed + 1)); fi
done < <(find "$source/tests" -name '*.tir' -print0 | sort -z)
for m in "$source"/tests/parity/models/*/; do
  [ ! -f "$m/model.gguf" ] || m=$m/model.gguf
  for emit in ir kernels; do
    "$tenon" compile "$m" --emit $emit > "$work/once.tir" 2> /dev/null && again "$m $emit" || { echo "no $emit: $m"; failed=$((failed + 1)); }
  done
done
echo "$wrong files of wrong IR left out"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 20 ]
