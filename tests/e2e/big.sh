#!/usr/bin/env bash
# big.sh MAKE_TOY OPEN_ANY PLAIN.o BETTER.o: a library whose weights lie beyond 4 GiB. By hand: it writes 4.4 GB to TMPDIR.
set -euo pipefail
make=$(realpath "$1") open=$(realpath "$2") plain=$(realpath "$3") better=$(realpath "$4")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$make" "$work/libbig.so" big "$plain" "$better"
[ "$(stat -c %s "$work/libbig.so")" -gt 4400000000 ]
time "$open" "$work/libbig.so"
[ "$("$open" "$work/libbig.so")" = "ok 3 1003.25 2003.5 3003.75 1 1001.25 2001.5 3001.75" ]
echo "big: passed"
