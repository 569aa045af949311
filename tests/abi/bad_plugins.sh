#!/usr/bin/env bash
# bad_plugins.sh TENON FOLDER: each wrong plugin and each wrong manifest is refused with one error that says why.
set -euo pipefail
tenon=$1 bad=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_DATA_HOME=$work/none
passed=0
fail() { echo "FAILED: $*" >&2; exit 1; }

# refused WORDS ARGS...: exit status 1, one error line with the words
refused() {
  local words=$1 status=0; shift
  "$tenon" "$@" > "$work/out" 2> "$work/err" || status=$?
  [ "$status" = 1 ] || fail "status $status, not 1: $* : $(cat "$work/err")"
  [ "$(grep -c 'error:' "$work/err")" = 1 ] || fail "not one error: $(cat "$work/err")"
  grep -q "$words" "$work/err" || fail "'$words' is not in: $(cat "$work/err")"
  passed=$((passed + 1))
}

refused "no symbol tn_plugin_query" plugins --plugin "$bad/bad-SYMBOL.so"
refused "plugin ABI 7.1, this host has" plugins --plugin "$bad/bad-MAJOR.so"
refused "no id" plugins --plugin "$bad/bad-ID.so"
refused "did not start (status 14)" plugins --plugin "$bad/bad-INIT.so"
refused "wants another host" plugins --plugin "$bad/bad-REFUSES.so"
refused "cannot load the plugin" plugins --plugin "$work/absent.so"
"$tenon" plugins --plugin "$bad/bad-SHORT.so" | grep -q "backend:short" || fail "an old plugin was refused"
passed=$((passed + 1))

export TENON_PLUGIN_PATH=$work/manifests
mkdir -p "$TENON_PLUGIN_PATH"
m=$TENON_PLUGIN_PATH/x.tnplug
good=$'id = org.example.x\nversion = 1\nabi = 0.1\nlibrary = x.so\nprovides = backend:x\n'
echo 'id org.example.x' > "$m"; refused "x.tnplug:1.*expected KEY = VALUE" plugins
printf '%s' "$good" | sed 's/^id.*/id = a\nid = b/' > "$m"; refused "appears twice" plugins
printf '%s' "$good" | grep -v '^abi' > "$m"; refused "key 'abi' is missing" plugins
printf '%s' "$good" | sed 's/^library.*/library = ..\/x.so/' > "$m"; refused "not a plain file name" plugins
printf '%s' "$good" | sed 's/^abi.*/abi = new/' > "$m"; refused "not MAJOR.MINOR" plugins
printf '%ssize = 3\n' "$good" > "$m"; refused "unknown key 'size'" plugins
printf '%s' "$good" > "$m"
"$tenon" plugins | grep -q org.example.x || fail "a good manifest is not listed"
echo "module @m { func @f() -> () { return } }" > "$work/m.tir"
refused "cannot load the plugin" compile "$work/m.tir" --backend x -o "$work/libx.so"
rm "$m"
refused "no plugin has a backend 'x'" compile "$work/m.tir" --backend x -o "$work/libx.so"
echo "$passed passed, 0 failed"
