#!/usr/bin/env bash
# Libraries used by several threads at once: the toy model, whose kernels are instrumented where everything is, and a
# compiled LLaMA.   sessions.sh TENON MAKE_TOY SESSIONS KERNELS.o MODEL
set -euo pipefail
tenon=$(realpath "$1") make=$(realpath "$2") sessions=$(realpath "$3") kernels=$(realpath "$4") model=$(realpath "$5")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$make" "$work/libtoy.so" embed "$kernels" "$kernels"
"$sessions" toy "$work/libtoy.so"
[ -e "$model/config.json" ] || exit 0
"$tenon" compile "$model" -o "$work/libllama.so" --backend cpu
"$sessions" causal "$work/libllama.so"
