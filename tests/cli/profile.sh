#!/usr/bin/env bash
# profile.sh TENON SOURCE: what the machine can do, where the time of a run goes, its trace and its page. Numbers are
# checked against each other and against what the model's shapes say, never against a clock.
set -euo pipefail
tenon=$1 source=$2
models=$source/tests/parity/models
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
fail() { echo "FAILED: $*" >&2; exit 1; }
ok() { passed=$((passed + 1)); }
check() { python3 "$work/check.py" "$@" || fail "$*"; ok; }
cat > "$work/check.py" <<'PY'
import html.parser, json, sys

def only(d, **kinds):
    assert set(d) == set(kinds), (sorted(d), sorted(kinds))
    for key, kind in kinds.items():
        assert isinstance(d[key], kind) and not isinstance(d[key], bool), (key, d[key])

number = (int, float)
def limits(d):
    only(d, threads=int, runs=int, buffer_bytes=int, seconds=number, read=dict, f32=dict, bf16=dict, int8=dict)
    for key in ('read', 'f32', 'bf16', 'int8'):
        only(d[key], best=number, median=number, unit=str, **{'with': str})
        assert d[key]['best'] >= d[key]['median'] >= 0, d[key]
    assert d['read']['best'] > 1e8 and d['seconds'] > 0
    return d

def rows(part, key, **more):
    calls = 0
    for r in part[key]:
        only(r, kernel=str, root=str, at=str, calls=int, ms=dict, share=number, threads=number, operations=number, bytes=number,
             weight_bytes=number, operations_per_second=number, bytes_per_second=number, limit=str, of_limit=number, **more)
        only(r['ms'], total=number, median=number, min=number)
        assert r['calls'] > 0 and 0 <= r['ms']['min'] <= r['ms']['median'], r
        assert r['ms']['min'] * r['calls'] <= r['ms']['total'] * 1.001 + 1e-6 and 0 <= r['weight_bytes'] <= r['bytes'], r
        calls += r['calls']
    assert calls == part['launches'], (calls, part['launches'])
    total = sum(r['ms']['total'] for r in part[key])
    assert abs(total - part['ms']['kernels']) < 1e-3 * part['ms']['kernels'] + 1e-4, (total, part['ms'])

def part(p):
    only(p, what=str, batch=int, tokens=int, calls=int, launches=int, waits=int, ms=dict, operations=number, bytes=number,
         of_limit=number, lost=int, kernels=list, steps=list)
    only(p['ms'], total=number, kernels=number, between=number, outside=number)
    assert p['calls'] > 0 and p['lost'] == 0 and p['ms']['between'] >= -1e-6
    assert abs(p['ms']['kernels'] + p['ms']['between'] + p['ms']['outside'] - p['ms']['total']) < 1e-3
    rows(p, 'kernels', steps=int)
    rows(p, 'steps', function=str, index=int)
    assert sum(k['steps'] for k in p['kernels']) == len(p['steps'])
    return p

def profile(path):
    d = json.load(open(path))
    only(d, model=str, target=str, precision=str, limits=dict, parts=list)
    limits(d['limits'])
    for p in d['parts']: part(p)
    return d

def trace(path, threads, profiles):
    events = json.load(open(path))['traceEvents']
    named = {e['tid'] for e in events if e['ph'] == 'M' and e['name'] == 'thread_name'}
    assert named == set(range(threads)), named
    slices = [e for e in events if e['ph'] == 'X']
    assert {e['tid'] for e in slices} <= named and all(e['dur'] >= 0 and e['pid'] == 1 for e in slices)
    mine = [e for e in slices if e['tid'] == 0]
    for p in profiles['parts']:
        walks = [e for e in mine if e['name'] == p['what'] and 'args' not in e]
        assert len(walks) == p['calls'], (p['what'], len(walks), p['calls'])
    kernels = [e for e in mine if 'args' in e]
    assert len(kernels) == sum(p['launches'] for p in profiles['parts'])
    assert {e['args']['kernel'] for e in kernels} == {k['kernel'] for p in profiles['parts'] for k in p['kernels']}
    # thread 0 does one thing at a time, inside its walks
    at = 0
    for e in sorted(kernels, key=lambda e: e['ts']):
        assert e['ts'] >= at - 0.002, (e, at)
        at = e['ts'] + e['dur']

class Page(html.parser.HTMLParser):
    void = {'meta', 'br', 'hr', 'img', 'link', 'input'}
    def __init__(self):
        super().__init__()
        self.open, self.counts, self.text = [], {}, ''
    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        for key, value in attrs:
            assert key not in ('src', 'href'), (tag, key, value)
            if ('class', 'hot') in attrs: self.counts['hot'] = self.counts.get('hot', 0) + 1
        if tag not in self.void: self.open.append(tag)
    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void: self.open.pop()
    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()
    def handle_data(self, data): self.text += data

def page(path):
    p = Page()
    p.feed(open(path).read())
    assert p.open in ([], ['html']), p.open
    assert 'script' not in p.counts
    return p

what, args = sys.argv[1], sys.argv[2:]
if what == 'limits':
    d = json.load(open(args[0]))
    assert len(d) == 1
    only(d[0], what=str, limits=dict)
    assert limits(d[0]['limits'])['threads'] == int(args[1])
elif what == 'bench':
    d = json.load(open(args[0]))
    assert [r['what'] for r in d] == ['limits', 'prefill', 'decode', 'prefill', 'decode'], [r['what'] for r in d]
    for r in d[1:]:
        p = part(r['profile'])
        assert (p['what'], p['batch']) == (r['what'], 1)
        assert p['tokens'] in (4, 8)
        assert r['bytes'] >= r['weight_bytes'] > 0 and r['launches'] > 1 and r['of_limit'] > 0
    prefill, decode = d[1], d[2]
    assert decode['profile']['calls'] == 3 * 2, decode['profile']['calls']  # runs times the tokens behind the first
    assert prefill['profile']['calls'] == 2
    # The weights of a decode step: the parameters of the model, but of the embedding, which is looked up, one row; the rest of
    # what is packed is padding of panels to 16 columns.
    config = json.load(open(args[1]))
    h, f, v, l = (config[k] for k in ('hidden_size', 'intermediate_size', 'vocab_size', 'num_hidden_layers'))
    d = config.get('head_dim') or h // config['num_attention_heads']
    q, kv = config['num_attention_heads'] * d, config['num_key_value_heads'] * d
    least = 4 * (l * (h * (q + 2 * kv) + q * h + 3 * h * f) + v * h)
    assert least <= decode['weight_bytes'] <= 1.5 * least, (least, decode['weight_bytes'])
    # 2 operations per weight and token in the products, which are most of a step's at a short context
    products = sum(k['operations'] for k in decode['profile']['kernels'] if k['root'] == 'matmul') / decode['profile']['calls']
    assert products == 2 * least / 4, (products, least)
elif what == 'profile':
    d = profile(args[0])
    assert [p['what'] for p in d['parts']] == args[1].split(','), [p['what'] for p in d['parts']]
elif what == 'trace':
    trace(args[0], int(args[1]), profile(args[2]))
elif what == 'page':
    p, d = page(args[0]), profile(args[1])
    for x in d['parts']:
        assert 'time of ' + x['what'] in p.text, x['what']
    assert p.counts['hot'] > sum(len(x['kernels']) for x in d['parts'])
elif what == 'page-alone':
    assert 'time of ' + args[1] in page(args[0]).text
PY

"$tenon" bench --limits --json -t 1 > "$work/limits"; check limits "$work/limits" 1
"$tenon" bench --limits | grep -q "^  f32 .*GFLOP/s" || fail "limits as text"; ok
status=0; "$tenon" bench 2> "$work/err" || status=$?
[ $status = 2 ] && grep -q "needs a model or --limits" "$work/err" || fail "bench of nothing: $(cat "$work/err")"; ok

"$tenon" bench "$models/llama" --prompt-tokens 4,8 -n 4 -r 2 --limits --profile --json -t 2 > "$work/bench"
check bench "$work/bench" "$models/llama/config.json"
"$tenon" bench "$models/llama" --prompt-tokens 8 -n 4 -r 2 -t 2 --profile="$work/p.json" --trace "$work/t.json" > "$work/out" 2> "$work/err"
[ ! -s "$work/err" ] || fail "--profile=FILE also wrote: $(cat "$work/err")"; ok
grep -q "launches" "$work/out" || fail "no column of launches"; ok
check profile "$work/p.json" prefill,decode
check trace "$work/t.json" 2 "$work/p.json"
"$tenon" bench "$models/bert-model" --prompt-tokens 8 -r 2 --profile > /dev/null 2> "$work/err"
grep -q "between kernels" "$work/err" && grep -q "encode, 1 x 8: 2 calls" "$work/err" || fail "the table: $(cat "$work/err")"; ok
"$tenon" bench "$models/bert-model" --prompt-tokens 8 -r 2 --profile -v > /dev/null 2> "$work/all"
[ "$(wc -l < "$work/all")" -gt "$(wc -l < "$work/err")" ] || fail "-v lists no more steps than kernels"; ok

"$tenon" run "$source/tools/demo-model/model" -p "In the" -n 3 --profile="$work/run.json" > /dev/null
check profile "$work/run.json" "$(python3 -c 'import json, sys; print(",".join(p["what"] for p in json.load(open(sys.argv[1]))["parts"]))' "$work/run.json")"
"$tenon" run "$source/tools/demo-model/model" -p "In the" -n 3 --profile --json 2> "$work/run2.json" > "$work/answer"
check profile "$work/run2.json" "$(python3 -c 'import json, sys; print(",".join(p["what"] for p in json.load(open(sys.argv[1]))["parts"]))' "$work/run2.json")"
python3 -c 'import json, sys; assert len(json.load(open(sys.argv[1]))[0]["ids"]) == 3' "$work/answer" || fail "the answer beside a profile"; ok

"$tenon" inspect "$models/llama" --html "$work/page.html" --profile="$work/p.json" > /dev/null
check page "$work/page.html" "$work/p.json"
"$tenon" inspect "$models/bert-model" --html "$work/own.html" --profile > /dev/null
check page-alone "$work/own.html" encode

# What cannot be: a profile of a library, of something that is no profile, without a page.
"$tenon" compile "$models/bert-model" -o "$work/libx.so" > /dev/null
"$tenon" bench "$work/libx.so" --prompt-tokens 8 -r 1 --profile > /dev/null 2> "$work/err" && fail "a library was profiled"
grep -q "a library has no profile" "$work/err" || fail "library: $(cat "$work/err")"; ok
"$tenon" bench "$work/libx.so" --prompt-tokens 8 -r 1 --limits | grep -q "^  read" || fail "limits beside a library"; ok
for bad in '{}' '[1]' '{"parts": [{"what": 3}]}' '{"parts": [{"what": "x", "ms": {}, "kernels": [{}], "steps": []}]}' '{'; do
  echo "$bad" > "$work/bad.json"
  "$tenon" inspect "$models/bert-model" --html "$work/bad.html" --profile="$work/bad.json" > /dev/null 2> "$work/err" && fail "profile $bad"
  [ "$(grep -c error "$work/err")" = 1 ] && grep -q "bad.json" "$work/err" || fail "profile $bad: $(cat "$work/err")"; ok
done
[ ! -e "$work/bad.html" ] || fail "a page of a bad profile"; ok
"$tenon" inspect "$models/bert-model" --profile > /dev/null 2> "$work/err" && fail "a profile without a page"
grep -q -- "--html" "$work/err" || fail "no page: $(cat "$work/err")"; ok
"$tenon" bench "$models/bert-model" --prompt-tokens 8 -r 1 --trace "$work/no/t.json" > /dev/null 2> "$work/err" && fail "a trace into nowhere"
grep -q "no/t.json" "$work/err" || fail "trace: $(cat "$work/err")"; ok
echo "$passed passed, 0 failed"
