#!/usr/bin/env bash
# chat.sh TENON SOURCE PYTHON: tenon chat with the demo model: where the template comes from, one-shot prompts, pipes, files
# of messages, tokens that are kept between turns, errors; then a terminal (chat_pty.py).
set -euo pipefail
tenon=$1 source=$2 python=$3
demo=$source/tools/demo-model/model
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
fail() { echo "FAILED: $*" >&2; exit 1; }
ok() { passed=$((passed + 1)); }
refuses() { # PATTERN ARGUMENT...: exit status 1, one error, nothing on stdout
  local pattern=$1 status=0
  shift
  "$tenon" chat "$@" > "$work/out" 2> "$work/err" < /dev/null || status=$?
  [ $status = 1 ] && grep -q -- "$pattern" "$work/err" && [ ! -s "$work/out" ] || fail "$*: status $status, $(cat "$work/out" "$work/err")"
  ok
}

refuses "no chat template: give --template FILE, or one of alpaca, chatml" "$demo" -p hi
refuses "did you mean chatml" "$demo" --template chatm1 -p hi
refuses "'nothing' is not NAME=VALUE" "$demo" --template chatml --template-var nothing -p hi
printf 'x\n{{ messages[0].content.nofield.deeper }}' > "$work/broken.jinja"
refuses "broken.jinja:2:32: error: the str has no attribute 'nofield'" "$demo" --template "$work/broken.jinja" -p hi
printf "{{ raise_exception('no such role') }}" > "$work/strict.jinja"
refuses "the template refuses: no such role" "$demo" --template "$work/strict.jinja" -p hi
echo '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}' > "$work/endless.jinja"
refuses "the template [a-z]* more than" "$demo" --template "$work/endless.jinja" -p hi
echo '[{"content": "no role"}]' > "$work/norole.json"
refuses "message 0 has no role" "$demo" --template chatml --messages "$work/norole.json"
refuses "tokens do not fit" "$demo" --template plain -c 8 -p "In the beginning God created the heaven and the earth. And the earth was without form"

"$tenon" chat "$demo" --template chatml --system Brief -p 'a "b"' --print-prompt > "$work/prompt"
printf '<|im_start|>system\nBrief<|im_end|>\n<|im_start|>user\na "b"<|im_end|>\n<|im_start|>assistant\n' | cmp - "$work/prompt" || fail "--print-prompt"; ok
cat > "$work/talk.json" << 'JSON'
{"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "three"}],
 "tools": [{"name": "f"}]}
JSON
printf '{{ bos_token }}{{ tools[0].name }}{{ mode }}{{ n + 1 }}{%% for m in messages %%}|{{ m.role[0] }}{{ m.content }}{%% endfor %%}' > "$work/my.jinja"
[ "$("$tenon" chat "$demo" --template "$work/my.jinja" --messages "$work/talk.json" --template-var mode=fast --template-var n=4 --print-prompt)" = '<s>ffast5|uone|atwo|uthree' ] || fail "variables of the template"; ok

# A second turn gives the tokens that the states lack, and answers as if all were new.
printf 'In the beginning\nAnd then\n' | "$tenon" chat "$demo" --template chatml -n 12 --json > "$work/two.json"
"$python" - "$work/two.json" "$work/again.json" << 'PY' || fail "two turns: $(cat "$work/two.json")"
import json, sys
a, b = json.load(open(sys.argv[1]))
assert a["new_tokens"] == b["new_tokens"] == 12 and a["finish"] == "max tokens", (a, b)
assert a["reused_tokens"] == 0 and a["prompt_tokens"] < b["reused_tokens"] < b["prompt_tokens"], b
m = ["In the beginning", a["answer"], "And then"]
json.dump([{"role": r, "content": c} for r, c in zip(("user", "assistant", "user"), m)], open(sys.argv[2], "w"))
PY
ok
"$tenon" chat "$demo" --template chatml -n 12 --messages "$work/again.json" --json > "$work/fresh.json"
"$python" -c '
import json, sys
kept, fresh = (json.load(open(f))[-1] for f in sys.argv[1:])
assert kept["answer"] == fresh["answer"] and fresh["reused_tokens"] == 0, (kept, fresh)' "$work/two.json" "$work/fresh.json" || fail "kept tokens change the answer"; ok
"$tenon" chat "$demo" --template chatml -n 12 -p 'In the beginning' -p 'And then' > "$work/text"
"$python" -c '
import json, sys
assert open(sys.argv[2]).read() == "".join(x["answer"] + "\n" for x in json.load(open(sys.argv[1])))' "$work/two.json" "$work/text" || fail "-p and pipes differ"; ok
"$tenon" chat "$demo" --template chatml -n 12 -p 'In the beginning' -p 'And then' --repetition-penalty 1.3 --json | "$python" -c '
import json, sys
assert all(x["reused_tokens"] == 0 for x in json.load(sys.stdin))' || fail "penalties need all tokens"; ok
[ -z "$(printf '' | "$tenon" chat "$demo" --template chatml)" ] || fail "nothing to answer"; ok

# The template in the folder, in each of its places, and in what is compiled from it.
for place in chat_template.jinja tokenizer_config.json chat_template.json; do
  rm -rf "$work/model"
  cp -r "$demo" "$work/model"
  chmod -R u+w "$work/model"
  case $place in
    chat_template.jinja) printf '{%% for m in messages %%}<{{ m.content }}>{%% endfor %%}' > "$work/model/$place" ;;
    chat_template.json) echo '{"chat_template": "{% for m in messages %}<{{ m.content }}>{% endfor %}"}' > "$work/model/$place" ;;
    *) echo '{"bos_token": "<s>", "chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "{% for m in messages %}<{{ m.content }}>{% endfor %}"}]}' > "$work/model/$place" ;;
  esac
  [ "$("$tenon" chat "$work/model" -p hi --print-prompt)" = '<hi>' ] || fail "the template in $place"; ok
done
rm "$work/model/chat_template.json"
echo '{"bos_token": "<B>", "eos_token": {"content": "<E>"}, "chat_template": "{{ bos_token + eos_token }}"}' > "$work/model/tokenizer_config.json"
[ "$("$tenon" chat "$work/model" -p hi --print-prompt)" = '<B><E>' ] || fail "bos and eos in a template"; ok
echo '{"chat_template": 5}' > "$work/model/tokenizer_config.json"
refuses "is neither a text nor a list of them" "$work/model" -p hi
echo '{"chat_template": "{% for m in messages %}<{{ m.content }}>{% endfor %}"}' > "$work/model/tokenizer_config.json"
"$tenon" compile "$work/model" -o "$work/libchat.so" > /dev/null
[ "$("$tenon" chat "$work/libchat.so" -p hi --print-prompt)" = '<hi>' ] || fail "the template in a library"; ok
[ "$("$tenon" chat "$work/libchat.so" -p hi -n 5)" = "$("$tenon" chat "$work/model" -p hi -n 5)" ] || fail "library and folder differ"; ok
"$python" "$source/tests/cli/chat_pty.py" "$tenon" "$demo" "$work"; ok
echo "$passed passed, 0 failed"
