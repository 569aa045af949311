#!/usr/bin/env bash
# defects.sh TENON FOLDER: the plugin without a defect passes, and each planted defect fails the tests that are about it.
set -euo pipefail
tenon=$1 plugins=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
fail() { echo "FAILED: $*" >&2; exit 1; }

"$tenon" conform "$plugins/conform_NONE.so" > "$work/out" || fail "the right plugin: $(grep -v '^pass' "$work/out")"

# found DEFECT TEST OUTCOME: that test of the plugin has that outcome, and the exit status is 1
found() {
  local status=0
  "$tenon" conform "$plugins/conform_$1.so" --only "$2" > "$work/out" 2> "$work/err" || status=$?
  [ "$status" = 1 ] || fail "$1: status $status: $(cat "$work/out" "$work/err")"
  grep -q "^$3 *$2" "$work/out" || fail "$1: $2 is no $3: $(cat "$work/out")"
  passed=$((passed + 1))
}
found CRASH_CLAIM claim.answers crash
found WRONG_SUM numerics.equal_shapes fail
found OVERRUN numerics.equal_shapes crash
found THREADS numerics.equal_shapes fail
found PRINTS load.silent fail
found SILENT errors.unknown_target fail
found ANY_TARGET errors.unknown_target fail
found IGNORES_SINK errors.kernel_refused fail
found TAKES_ANY_IMAGE artefacts.cut fail
found TAKES_ANY_IMAGE artefacts.garbage fail
found READS_BEYOND artefacts.cut crash
found FINDS_ALL artefacts.whole fail
found RANDOM_IMAGE compile.same_bytes fail
found NO_MEMORY_CHECK memory.compile crash
found NO_MEMORY_CHECK memory.load crash
found KEEPS_HOST claim.answers crash
found OLD_HOST_ONLY versions.newer_minor fail
found BREAKS_MODULE pass.cases fail
found FICKLE claim.answers fail

# a file of expectations: a known failure is none, one that passes is
echo "numerics.equal_shapes # known" > "$work/expected"
"$tenon" conform "$plugins/conform_WRONG_SUM.so" --only numerics.equal_shapes --expected "$work/expected" > "$work/out" || fail "a known failure fails"
grep -q '^xfail *numerics.equal_shapes' "$work/out" || fail "no xfail: $(cat "$work/out")"
"$tenon" conform "$plugins/conform_NONE.so" --only numerics.equal_shapes --expected "$work/expected" > "$work/out" && fail "an unexpected pass passes"
grep -q '^xpass *numerics.equal_shapes' "$work/out" || fail "no xpass: $(cat "$work/out")"
"$tenon" conform "$plugins/conform_WRONG_SUM.so" --only numerics.equal_shapes --json > "$work/json" && fail "--json hides a failure"
python3 - "$work/json" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
(test,) = [t for t in report["tests"] if t["name"] == "numerics.equal_shapes"]
assert test["outcome"] == "fail" and "wants" in test["words"], test
assert report["counts"]["fail"] == 1, report["counts"]
PY
"$tenon" conform "$work/absent.so" --only load.symbol > "$work/out" && fail "a plugin that is not there passes"
grep -q "cannot load the plugin" "$work/out" || fail "no words: $(cat "$work/out")"
echo "$passed defects found"
