#!/usr/bin/env bash
# The link step and the runtime in a library, with a model built by hand: headers, two libraries in one program, what is
# exported and needed, the same bytes twice, weights in three places, damaged and moved files, every linker.
#   toy.sh MAKE_TOY OPEN_ANY PLAIN.o BETTER.o ODD_HEADER
set -euo pipefail
make=$(realpath "$1") open=$(realpath "$2") plain=$(realpath "$3") better=$(realpath "$4") odd=$(realpath "$5")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
cd "$work"
passed=0
fail() { echo "FAILED: $*" >&2; exit 1; }
good() { passed=$((passed + 1)); }
expect="ok 3 1003.25 2003.5 3003.75 1 1001.25 2001.5 3001.75"
works() { local got; got=$("$open" "$@") || fail "open_any $*: $got"; [ "$got" = "$expect" ] || fail "open_any $*: $got"; good; }
says() { local words=$1 got; shift; if got=$("$open" "$@" 2>&1); then fail "open_any $* should fail"; fi
  case $got in *"$words"*) good ;; *) fail "open_any $*: '$got' does not say '$words'" ;; esac; }

"$make" "$work/libwidget.so" embed "$plain" "$better"
"$make" "$work/libgadget.so" external "$plain" "$better"

# Headers and a program with both.
cc -std=c99 -pedantic -Wall -Wextra -Werror -Wshadow "$here/toy_user.c" -o user-c -I. -L. -lwidget -lgadget -Wl,-rpath,"$work"
c++ -std=c++17 -pedantic -Wall -Wextra -Werror -x c++ "$here/toy_user.c" -o user-cxx -I. -L. -lwidget -lgadget -Wl,-rpath,"$work"
for program in user-c user-cxx; do
  for folder in "$work" /; do got=$(cd $folder && "$work/$program") || fail "$program: $got"; good; done
done
for h in widget gadget; do
  [ "$(grep -c '#include' $h.h)" = 2 ] || fail "$h.h includes more than stddef.h and stdint.h"
  if LC_ALL=C grep -n '[^[:print:]]' $h.h; then fail "$h.h has odd characters"; fi
done

# Awkward names: the header still compiles, and the functions that everyone needs keep their names.
"$odd" odd > odd.h
printf '#include "odd.h"\nint main(void) { return ODD_MAX_NEW != 77 || ODD_OPEN__X___OUT_DIM1 != 7; }\n' > odd.c
for compiler in "cc -std=c99 -pedantic" "clang-22 -std=c99 -pedantic" "c++ -std=c++17 -x c++" "c++ -std=c++11 -x c++"; do
  command -v ${compiler%% *} >/dev/null || continue
  $compiler -Wall -Wextra -Werror -Wshadow -fsyntax-only odd.c || fail "odd.h by $compiler"
  good
done
for name in open_ int 8_ball model_ invoke_ open__; do grep -q "odd_[x]*$name(odd_session \*s" odd.h || fail "no function for $name"; done
grep -q evil odd.h && fail "odd.h takes a length that is no number"

# What it needs and shows.
needs=$(readelf -d libwidget.so | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | tr '\n' ' ')
case $needs in "libc.so.6 libm.so.6 " | "ld-linux-x86-64.so.2 libc.so.6 libm.so.6 ") good ;; *) fail "needs $needs" ;; esac
exported=$(nm -D --defined-only libwidget.so | awk '{print $3}' | sort | tr '\n' ' ')
[ "$exported" = "tn_model_query widget_adapter widget_close widget_detokenize widget_error widget_generate widget_generate_batch widget_invoke widget_meta widget_open widget_position widget_query widget_result widget_rewind widget_session_free widget_session_new widget_session_reset widget_token_id widget_token_text widget_tokenize " ] || fail "exports $exported"
readelf -lW libwidget.so | grep -q 'GNU_STACK.*RW ' || fail "executable stack"
[ "$(stat -c %s libwidget.so)" -lt 1200000 ] || fail "$(stat -c %s libwidget.so) bytes, most of it code"
good

# The same input gives the same bytes.
mkdir again
"$make" "$work/again/libwidget.so" embed "$plain" "$better"
cmp libwidget.so again/libwidget.so && cmp widget.h again/widget.h || fail "other bytes the second time"
good

# Found from anywhere, also when the folder has changed since it was loaded.
works ./libwidget.so "" /
works "$work/libwidget.so"
works "$work/libwidget.so" "$work/again/libwidget.so"
mkdir moved
cp libgadget.so libgadget.weights moved/
works moved/libgadget.so
mv moved/libgadget.weights elsewhere.weights
says "libgadget.weights: no such file" moved/libgadget.so
works moved/libgadget.so "$work/elsewhere.weights"
works moved/libgadget.so "$work"
says "neither a model library nor a weight file" moved/libgadget.so "$here/toy.sh"

# In place: the packed rest is in the library, the table in w.bin.
mkdir inplace
"$make" "$work/inplace/libinner.so" inplace "$plain" "$better"
works inplace/libinner.so "$work/inplace"
mv inplace/w.bin w.bin
says "w.bin: no such file" inplace/libinner.so "$work/inplace"
works inplace/libinner.so "$work"

# Damaged files: one clear error each.
cp libwidget.so cut.so && truncate -s -100 cut.so
says "no model behind the code" ./cut.so
strip -o stripped.so libwidget.so
says "was the library stripped" ./stripped.so
"$make" "$work/libother.so" external "$plain" "$better"
says "these are the weights of another model" ./libgadget.so "$work/libother.weights"
size=$(stat -c %s libwidget.so)
program=$(grep -abo tnprog libwidget.so | tail -n 1 | cut -d: -f1)
for at in $((program + 9)) $((program + 200)) $((program + 900)) $((size - 40)) $((size - 200)); do
  cp libwidget.so hurt.so
  printf '\377' | dd of=hurt.so bs=1 seek="$at" conv=notrunc status=none
  if got=$("$open" ./hurt.so 2>&1); then fail "a byte changed at $at: $got"; fi
  [ -n "$got" ] || fail "a byte changed at $at: no words"
  good
done
cp elsewhere.weights hurt.weights
printf '\377' | dd of=hurt.weights bs=1 seek=$(($(stat -c %s hurt.weights) - 200)) conv=notrunc status=none
says "hurt.weights: neither a model library nor a weight file" ./libgadget.so "$work/hurt.weights"
says "holds another model than the code" ./libwidget.so "$work/libgadget.so"

# Every linker that is here, and none.
for linker in ld.lld-22 ld.lld ld cc clang-22; do
  command -v $linker >/dev/null || continue
  mkdir "by-$linker"
  "$make" "$work/by-$linker/libwidget.so" embed "$plain" "$better" $linker
  works "by-$linker/libwidget.so"
  exports=$(nm -D --defined-only "by-$linker/libwidget.so" | awk '{print $3}' | sort | tr '\n' ' ')
  [ "$exports" = "$exported" ] || fail "$linker exports $exports"
done
if got=$("$make" "$work/none.so" embed "$plain" "$better" no-such-linker 2>&1); then fail "linked by nothing"; fi
case $got in *"no-such-linker"*"no such linker"*) good ;; *) fail "$got" ;; esac
if got=$("$make" "$work/none.so" embed "$here/toy.sh" "$better" 2>&1); then fail "linked a script"; fi
case $got in *"not a relocatable x86-64 object"*) good ;; *) fail "$got" ;; esac
if got=$("$make" "$work/none.so" embed "$plain" "$better" false 2>&1); then fail "linked by false"; fi
case $got in *"the linker failed with status 1"*) good ;; *) fail "$got" ;; esac
[ ! -e none.so ] || fail "a failed link left a file"
left=$(find "$TMPDIR" -mindepth 1; find "$work" -type f -name '*.so.??????')
[ -z "$left" ] || fail "temporary files are left: $left"
echo "toy: $passed passed, 0 failed"
