#!/usr/bin/env bash
# Installs into a fresh prefix, moves the prefix, builds the example plugins against it alone, and uses them with the
# installed binary.  install.sh SOURCE BUILD
set -euo pipefail
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/moved"
prefix=$work/moved
tenon=$prefix/bin/tenon
unset TENON_PLUGIN_PATH

ldd "$tenon" | grep -qi llvm && fail "the tenon binary links LLVM"
"$tenon" plugins | grep -q org.tenon.cpu || fail "the installed cpu plugin is not listed"
PKG_CONFIG_PATH=$prefix/lib/pkgconfig:$prefix/lib/$(gcc -dumpmachine)/pkgconfig pkg-config --cflags tenon | grep -q "$prefix" || fail "tenon.pc is not relocatable"

for std in c11 c17; do
  for h in plugin ir model; do
    echo "#include <tenon/$h.h>" | cc -std=$std -Wall -Wextra -Werror -pedantic -I"$prefix/include" -fsyntax-only -x c - || fail "$h.h as $std"
    echo "#include <tenon/$h.h>" | c++ -std=c++17 -Wall -Wextra -Werror -I"$prefix/include" -fsyntax-only -x c++ - || fail "$h.h as c++17"
  done
done

cmake -S "$source/plugins/examples" -B "$work/examples" -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$work/examples" >/dev/null

cat > "$work/m.tir" <<'TIR'
module @m {
  dims N
  func @f(%x: f32[N, 4], %y: f32[N, 4]) -> (out: f32[N, 4]) {
    %a = add %x, %y : f32[N, 4]
    %b = mul %a, %y : f32[N, 4]
    %c = sub %b, %x : f32[N, 4]
    return %c
  }
}
TIR
"$tenon" opt "$work/m.tir" --plugin "$work/examples/pass-hello.so" --passes='hello{op=add}' 2>&1 >/dev/null | grep -q 'hello from @f: 1 add' || fail "pass-hello"

python3 - "$work" <<'PY'
import struct, sys
for name, values in (("x", range(8)), ("y", range(2, 10))):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    with open(f"{sys.argv[1]}/{name}.npy", "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + struct.pack("<8f", *values))
PY
"$tenon" run "$work/m.tir" -O0 --plugin "$work/examples/backend-toy.so" --backend toy,ref --entry f --input x="$work/x.npy" --input y="$work/y.npy" --output-dir "$work" >/dev/null
python3 - "$work" <<'PY'
import struct, sys
data = open(f"{sys.argv[1]}/out.npy", "rb").read()
got = struct.unpack("<8f", data[-32:])
want = tuple((x + (x + 2)) * (x + 2) - x for x in range(8))
assert got == want, (got, want)
PY
"$tenon" opt "$work/m.tir" -O0 --plugin "$work/examples/backend-toy.so" --backend toy,ref --no-locs | grep -q 'backend = "toy"' || fail "backend-toy took nothing"
echo "install: 1 passed, 0 failed"
