#!/bin/sh
# programs.sh TENON BACKEND_DEV SOURCE - whole models with their ops shared out between a device and the CPU give what
# the CPU gives alone: encoders, decoders, branches, loops and sizes from data; and what the command line says.
tenon=$1 dev=$2 source=$3
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
models=$source/tests/parity/models checks=0 failed=0
fail() { echo "FAILED: $*"; failed=$((failed + 1)); }
ok() { checks=$((checks + 1)); }

for claim in all odd even not:matmul not:gather,add; do
  for model in bert-cls gpt2 mamba mistral-window; do
    TENON_DEV_CLAIM=$claim "$tenon" verify "$models/$model@cpu" "$models/$model@dev" --plugin "$dev" --device dev:1 \
      > "$work/out" 2> "$work/err" || fail "$model, $claim: $(tail -3 "$work/out" "$work/err")"; ok
  done
  for level in O1 O3; do
    flow=$source/tests/onnx/writer/flow.tir
    TENON_DEV_CLAIM=$claim "$tenon" verify "$flow@$level,cpu" "$flow@$level,dev" --plugin "$dev" \
      > "$work/out" 2> "$work/err" || fail "flow, $claim, $level: $(tail -3 "$work/out" "$work/err")"; ok
  done
  TENON_DEV_CLAIM=$claim "$tenon" verify "$models/bert-cls@O1,cpu" "$models/bert-cls@O1,dev" --per-node --plugin "$dev" \
    > "$work/out" 2> "$work/err" || fail "values of bert-cls, $claim: $(tail -3 "$work/out" "$work/err")"; ok
done

# Weights of adapters are written by the host.
for claim in all odd; do
  TENON_DEV_CLAIM=$claim "$tenon" verify "$models/llama@cpu" "$models/llama@dev" --plugin "$dev" \
    --adapter "$source/tests/lora/data/attention=2" --adapter "$source/tests/lora/data/mlp=-0.5" \
    > "$work/out" 2> "$work/err" || fail "adapters, $claim: $(tail -3 "$work/out" "$work/err")"; ok
done

demo=$source/tools/demo-model/model
"$tenon" run "$demo" -p "In the beginning" -n 24 > "$work/want" 2> "$work/err" || fail "demo: $(cat "$work/err")"; ok
for claim in all odd not:attention; do
  TENON_DEV_CLAIM=$claim "$tenon" run "$demo" -p "In the beginning" -n 24 --plugin "$dev" --device dev:1 \
    > "$work/have" 2> "$work/err" || fail "demo, $claim: $(cat "$work/err")"
  cmp -s "$work/want" "$work/have" || fail "demo, $claim: another text: $(cat "$work/have")"; ok
done

# What is left to the CPU is told, each kind once; --require-target makes it an error.
TENON_DEV_CLAIM=not:gelu "$tenon" check "$models/bert-cls" --backend dev --plugin "$dev" > /dev/null 2>&1 || fail "check"; ok
TENON_DEV_CLAIM=not:gelu "$tenon" compile "$models/bert-cls" --emit kernels --target dev --plugin "$dev" > /dev/null 2> "$work/err"
[ "$(grep -c "gelu: left to the next backend, 'dev' does not take it" "$work/err")" = 1 ] || fail "note: $(cat "$work/err")"; ok
TENON_DEV_CLAIM=not:gelu "$tenon" compile "$models/bert-cls" --emit kernels --target dev --require-target --plugin "$dev" > /dev/null 2> "$work/err" \
  && fail "--require-target let gelu pass"
grep -q "gelu: no backend takes this op" "$work/err" || fail "--require-target: $(cat "$work/err")"; ok

# Targets are named per backend.
"$tenon" compile "$models/gpt2" --target dev:one+two,cpu:avx2 --emit program --plugin "$dev" > "$work/out" 2> "$work/err" \
  || fail "--target: $(cat "$work/err")"
grep -q "^    upload" "$work/out" && grep -q "^    download" "$work/out" || fail "no copies: $(cat "$work/out")"; ok
"$tenon" compile "$models/gpt2" --target dev:three --emit program --plugin "$dev" > /dev/null 2> "$work/err" && fail "dev:three"
grep -q "backend 'dev' has no target 'three'; it has: one, two" "$work/err" || fail "dev:three: $(cat "$work/err")"; ok
"$tenon" compile "$models/gpt2" --target dev,dev:two --emit program --plugin "$dev" > /dev/null 2> "$work/err" && fail "dev twice"
grep -q "named twice" "$work/err" || fail "dev twice: $(cat "$work/err")"; ok
"$tenon" compile "$models/gpt2" --target dev --plugin "$dev" -o "$work/libx.so" > /dev/null 2> "$work/err" && fail "dev in a library"
grep -q "kernels of backend 'dev' cannot go into a shared library" "$work/err" || fail "library: $(cat "$work/err")"; ok
"$tenon" run "$demo" -p x -n 1 --plugin "$dev" --device dev:7 > /dev/null 2> "$work/err" && fail "dev:7"
grep -q "there is no such device" "$work/err" || fail "dev:7: $(cat "$work/err")"; ok

echo "$checks checks, $failed failed"
[ "$checks" -gt 40 ] && [ "$failed" = 0 ]
