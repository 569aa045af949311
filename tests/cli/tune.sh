#!/usr/bin/env bash
# tune.sh TENON SOURCE: tuning files: what --tune writes is read back to the same bytes; numbers change the code and not the
# result, for every number and target that runs here; a bad file is one clear error.
set -euo pipefail
tenon=$(realpath "$1") source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TENON_CACHE_DIR=$work/cache
passed=0
fail() { echo "FAILED: $*" >&2; exit 1; }
ok() { passed=$((passed + 1)); }
cd "$work"

# A decoder whose products are deep enough to be taken in chunks, with weights that are made here.
mkdir model
python3 - <<'PY'
import array, json, random, struct
h, f, v, heads = 320, 640, 96, 5
d = h // heads
json.dump(dict(architectures=['LlamaForCausalLM'], model_type='llama', hidden_size=h, intermediate_size=f, vocab_size=v,
               num_attention_heads=heads, num_key_value_heads=heads, num_hidden_layers=1, head_dim=d, hidden_act='silu',
               max_position_embeddings=600, rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=False),
          open('model/config.json', 'w'))
shapes = {'model.embed_tokens.weight': [v, h], 'model.norm.weight': [h], 'lm_head.weight': [v, h]}
for name, shape in dict(input_layernorm=[h], post_attention_layernorm=[h], **{'mlp.gate_proj': [f, h], 'mlp.up_proj': [f, h],
                        'mlp.down_proj': [h, f], 'self_attn.q_proj': [h, h], 'self_attn.k_proj': [h, h],
                        'self_attn.v_proj': [h, h], 'self_attn.o_proj': [h, h]}).items():
    shapes[f'model.layers.0.{name}.weight'] = shape
header, at, data, pick = {}, 0, [], random.Random(7)
for name, shape in shapes.items():
    n = shape[0] * (shape[1] if len(shape) > 1 else 1)
    scale = 2 * (3 / shape[1]) ** .5 if len(shape) > 1 else 0
    data.append(array.array('f', [(pick.random() - .5) * scale if scale else 1.0 for _ in range(n)]).tobytes())
    header[name] = dict(dtype='F32', shape=shape, data_offsets=[at, at + 4 * n])
    at += 4 * n
text = json.dumps(header).encode()
open('model/model.safetensors', 'wb').write(struct.pack('<Q', len(text)) + text + b''.join(data))
PY
library() { mkdir -p "$1"; "$tenon" compile model -o "$1/libm.so" "${@:2}" > "$1/out"; }

library plain
library tuned --tune tuning.json
grep -q "kernels got numbers for" tuned/out || fail "what was tuned: $(cat tuned/out)"; ok
python3 - <<'PY' || fail "the file"
import json, re
d = json.load(open('tuning.json'))
assert set(d) == {'tenon_tuning', 'targets'} and d['tenon_tuning'] == 1 and len(d['targets']) == 1, d
(kernels,) = d['targets'].values()
assert len(kernels) >= 5
for key, k in kernels.items():
    assert re.fullmatch('[0-9a-f]{16}', key) and k['kernel'].startswith('matmul '), (key, k)
    assert set(k) <= {'kernel', 'rows', 'depth', 'panels', 'ahead'} and all(type(k[n]) is int for n in k if n != 'kernel'), k
PY
ok
library again --tuning tuning.json
cmp tuned/libm.so again/libm.so || fail "the file that --tune wrote gives other bytes"; ok
TENON_CACHE_DIR=$work/none library uncached --tuning tuning.json
cmp again/libm.so uncached/libm.so || fail "the object cache changes the bytes"; ok

# Every number, in all kernels, one by one and together, also of targets that the file did not have.
for target in avx2 avx512; do
  "$tenon" compile model -o here.so --isa $target > /dev/null
  "$tenon" inspect here.so > /dev/null 2>&1 || continue # not on this machine
  library "$target" --isa $target
  for numbers in "rows=2" "rows=112" "depth=256" "depth=512" "panels=2" "panels=6" "panels=8" "ahead=64" "ahead=8192" \
                 "rows=28 depth=256 panels=8 ahead=1024"; do
    python3 - "$target" "$numbers" <<'PY'
import json, sys
(kernels,) = json.load(open('tuning.json'))['targets'].values()
numbers = {n: int(x) for n, x in (w.split('=') for w in sys.argv[2].split())}
json.dump({'tenon_tuning': 1, 'targets': {sys.argv[1]: {key: numbers for key in kernels}}}, open('one.json', 'w'))
PY
    library one --isa $target --tuning one.json
    case $numbers in panels=[26] | rows=112) ;; *) # what a kernel does anyway may be among them
      cmp -s one/libm.so $target/libm.so && fail "$target $numbers changes nothing" ;;
    esac
    "$tenon" verify model@O0,ref one/libm.so > verified || fail "$target $numbers: $(cat verified)"; ok
  done
done

# The library of another target is not touched; the commands that compile take the file.
python3 - <<'PY'
import json
(kernels,) = json.load(open('tuning.json'))['targets'].values()
json.dump({'tenon_tuning': 1, 'targets': {'other': {key: {'rows': 56} for key in kernels}, 'avx2': {'00ff': {'rows': 56}}}}, open('other.json', 'w'))
PY
library other --tuning other.json
cmp plain/libm.so other/libm.so || fail "numbers of other targets and kernels change the bytes"; ok
"$tenon" bench model --tuning one.json --prompt-tokens 8 -n 2 -r 1 > /dev/null || fail "bench --tuning"; ok
"$tenon" run model --ids 1,2,3 -n 2 --tuning one.json --json > /dev/null || fail "run --tuning"; ok

# --tune keeps what a file says of other targets.
cp other.json grown.json
library grown --tune grown.json
python3 -c '
import json
d, o = json.load(open("grown.json"))["targets"], json.load(open("other.json"))["targets"]
assert d["other"] == o["other"] and d["avx2"]["00ff"] == o["avx2"]["00ff"] and len(d) >= 2' || fail "--tune lost what was there"; ok

bad() { # TEXT-OF-FILE WORDS-OF-THE-ERROR
  printf '%s' "$1" > bad.json
  "$tenon" compile model -o bad.so --tuning bad.json > /dev/null 2> err && fail "took $1"
  [ "$(wc -l < err)" = 1 ] && grep -q -- "$2" err || fail "$1: $(cat err)"
  [ ! -e bad.so ] || fail "$1: a library"
  ok
}
target=$(python3 -c 'import json; print(*json.load(open("tuning.json"))["targets"])')
key=$(python3 -c 'import json; (k,) = json.load(open("tuning.json"))["targets"].values(); print(list(k)[0])')
row() { printf '{"tenon_tuning": 1, "targets": {"%s": {"%s": %s}}}' "$target" "$key" "$1"; }
bad '' 'bad.json'
bad '{' 'bad.json'
bad '[]' 'is a list, wants an object'
bad '{}' "no key 'tenon_tuning'"
bad '{"tenon_tuning": 1}' "no key 'targets'"
bad '{"tenon_tuning": 2, "targets": {}}' 'another version than 1'
bad '{"tenon_tuning": 1, "targets": {}, "also": 1}' "unknown key 'also'"
bad '{"tenon_tuning": 1, "targets": []}' 'targets: .*is a list'
bad '{"tenon_tuning": 1, "targets": {"avx2": 3}}' 'avx2: .*is an integer'
bad '{"tenon_tuning": 1, "targets": {"avx2": {"a b": {"rows": 56}}}}' "is not a kernel's key"
bad "$(row 7)" 'is an integer, wants an object'
bad "$(row '{"rows": "56"}')" 'rows: .*is a string, wants an integer'
bad "$(row '{"rows": 5.5}')" 'wants an integer'
bad "$(row '{"Rows": 56}')" "'Rows' is not the name"
bad "$(row '{"rowz": 56}')" "there is no number 'rowz'"
bad "$(row '{"rows": 0}')" 'rows is 0, wants a multiple of 2 from 2 to 1024'
bad "$(row '{"rows": 4096}')" 'rows is 4096, wants'
bad "$(row '{"depth": 300}')" 'depth is 300, wants a multiple of 256'
bad "$(row '{"panels": 3}')" 'panels is 3, wants'
bad "$(row '{"ahead": -64}')" 'ahead is -64, wants'
bad "$(row '{"kernel": 3}')" 'kernel: .*wants a text'
"$tenon" compile model -o bad.so --tuning absent.json > /dev/null 2> err && fail "an absent file"
grep -q "absent.json" err || fail "absent: $(cat err)"; ok
status=0; "$tenon" compile model -o bad.so --tune a.json --tuning tuning.json > /dev/null 2> err || status=$?
[ $status = 2 ] && grep -q "give one of them" err || fail "both: $(cat err)"; ok
status=0; "$tenon" compile model --emit kernels --tune a.json > /dev/null 2> err || status=$?
[ $status = 2 ] && grep -q -- "--tune needs a library" err || fail "--emit with --tune: $(cat err)"; ok
echo "$passed passed, 0 failed"
