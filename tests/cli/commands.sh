#!/usr/bin/env bash
# commands.sh TENON SOURCE: what a person types: help of every command, wrong words, every stage of compile, every way to
# keep weights, inspect and its page, bench and verify; JSON is JSON.
set -euo pipefail
tenon=$1 source=$2
models=$source/tests/parity/models
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
fail() { echo "FAILED: $*" >&2; exit 1; }
ok() { passed=$((passed + 1)); }
is_json() { python3 -c 'import json, sys; json.load(sys.stdin)' || fail "not JSON: $*"; }

for c in compile run chat bench verify check inspect opt export optimize models ops formats plugins; do
  grep -q "usage: tenon $c" <<< "$("$tenon" $c --help)" || fail "$c --help"; ok
  status=0; "$tenon" $c --no-such-option x y > /dev/null 2> "$work/err" || status=$?
  [ $status = 2 ] && [ "$(wc -l < "$work/err")" = 1 ] || fail "$c: a wrong option gives status $status: $(cat "$work/err")"; ok
done
status=0; "$tenon" compil x 2> "$work/err" || status=$?
[ $status = 2 ] && grep -q "did you mean 'compile'" "$work/err" || fail "nearest command"; ok
status=0; "$tenon" run x --tsk y 2> "$work/err" || status=$?
[ $status = 2 ] && grep -q -- "did you mean '--task'" "$work/err" || fail "nearest option"; ok
ldd "$tenon" | grep -qi llvm && fail "the tool links LLVM"; ok

for c in ops models plugins; do "$tenon" $c --json | is_json $c; ok; done
"$tenon" check "$models/bert-cls" --json | is_json check; ok
("$tenon" check "$work/absent" --json 2> /dev/null || true) | is_json "check of nothing"; ok
"$tenon" inspect "$models/bert-cls" --json --tensors | is_json inspect; ok

for emit in ir kernels program; do "$tenon" compile "$models/gpt2" --emit $emit > "$work/$emit" || fail "--emit $emit"; ok; done
grep -q "root = \"attention\"" "$work/kernels" || fail "no attention kernel in gpt2"; ok
"$tenon" compile "$models/gpt2" --emit kernels --require-fusion attention=99 > /dev/null 2> "$work/err" && fail "--require-fusion let 99 pass"; ok

for weights in embed external inplace; do
  "$tenon" compile "$models/bert-model" -o "$work/lib$weights.so" --weights $weights --json | is_json compile
  "$tenon" verify "$models/bert-model@O0,ref" "$work/lib$weights.so" --json | is_json verify; ok
done
rm "$work/libexternal.weights"
"$tenon" inspect "$work/libexternal.so" > /dev/null 2> "$work/err" && fail "a library without its weights opened"
grep -q "weights" "$work/err" || fail "the error does not name the weight file: $(cat "$work/err")"; ok
"$tenon" inspect "$work/libembed.so" --json | is_json "inspect of a library"; ok
"$tenon" inspect "$models/bert-model" --html "$work/page.html" > /dev/null
grep -q "<svg" "$work/page.html" && ! grep -qE '(src|href)="?http' "$work/page.html" || fail "the page is not self-contained"; ok
"$tenon" bench "$work/libembed.so" -b 1,2 --prompt-tokens 8 -r 3 --json | is_json bench; ok
"$tenon" bench "$models/llama" --prompt-tokens 8 -n 4 -r 2 > /dev/null || fail "bench of a causal model"; ok
"$tenon" verify "$models/llama@O0,ref" "$models/llama@O3,cpu" --per-node | grep -q PASSED || fail "verify --per-node"; ok
"$tenon" verify "$models/llama@O3,cpu" "$models/llama-tied@O3,cpu" > /dev/null 2>&1 && fail "verify let two different models pass"; ok

# The tasks: tiny random models with a tokenizer of the tokenizer tests, so only the shape of the answer is looked at.
for m in bert-mlm bert-cls bert-tokens bert-qa; do
  mkdir -p "$work/$m"
  cp "$models/$m"/* "$work/$m/"
  cp "$source/tests/tokenizer/data/wordpiece.json" "$work/$m/tokenizer.json"
done
"$tenon" run "$work/bert-cls" --text "a text" --text "another" --json | python3 -c '
import json, sys
answers = json.load(sys.stdin)
assert [a["text"] for a in answers] == ["a text", "another"]
assert all(abs(sum(s["score"] for s in a["scores"]) - 1) < 1e-4 for a in answers), answers' || fail "text-classification"; ok
"$tenon" run "$work/bert-tokens" --text "a text" --json | python3 -c '
import json, sys
tokens = json.load(sys.stdin)[0]["tokens"]
assert tokens[0]["token"] == "[CLS]" and tokens[-1]["token"] == "[SEP]" and all("label" in t for t in tokens)' || fail "token-classification"; ok
"$tenon" run "$work/bert-qa" --text "what is it" --context "it is a small thing" --json | python3 -c '
import json, sys
answer = json.load(sys.stdin)[0]
assert answer["answer"] and answer["first_token"] <= answer["last_token"]
assert answer["answer"].replace(" ", "") in "itisasmallthing", answer' || fail "question-answering"; ok
"$tenon" run "$work/bert-mlm" --text "the [MASK] of" --top 3 --json | python3 -c '
import json, sys
assert len(json.load(sys.stdin)[0]["scores"]) == 3' || fail "fill-mask"; ok
"$tenon" run "$work/bert-mlm" --text "nothing" > /dev/null 2> "$work/err" && fail "a text without a mask was accepted"
grep -q "has no mask" "$work/err" || fail "no mask: $(cat "$work/err")"; ok
printf 'one\ntwo\n' | "$tenon" run "$work/bert-cls" --text - --json | python3 -c '
import json, sys
assert [a["text"] for a in json.load(sys.stdin)] == ["one", "two"]' || fail "texts from stdin"; ok
"$tenon" run "$source/tools/demo-model/model" -p "In the beginning" -n 12 --json | python3 -c '
import json, sys
assert len(json.load(sys.stdin)[0]["ids"]) == 12' || fail "text-generation"; ok
echo "$passed passed, 0 failed"
