#!/usr/bin/env bash
# A library with code for CUDA: a C program that links it runs with the driver of tests/ptx, on either device, and says
# without any driver, or with an older device, what is missing.
#   cuda.sh TENON MODEL FAKE_DRIVER_FOLDER CC
set -euo pipefail
tenon=$(realpath "$1") model=$(realpath "$2") driver=$(realpath "$3") cc=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
passed=0
fail() { echo "FAILED: $*" >&2; exit 1; }
good() { passed=$((passed + 1)); }

"$tenon" compile "$model" --target cuda:sm_80+sm_90a -v -o libgpu.so > said || fail "compile"
grep -q "^steps: cuda [0-9]" said || fail "no count of steps: $(cat said)"; good
"$tenon" compile "$model" -o libhere.so --isa avx2 > /dev/null || fail "compile for the CPU"
if readelf -d libgpu.so | grep -i cuda; then fail "the library needs a driver to load"; fi; good
$cc -std=c99 -pedantic -Wall -Wextra -Werror "$here/cuda_user.c" -o user -I. -L. -lgpu -lhere -lm -Wl,-rpath,"$work"

says() { local words=$1 got; shift; if got=$(env "$@" 2>&1); then fail "$* should fail: $got"; fi
  case $got in *"$words"*) good ;; *) fail "$*: '$got' does not say '$words'" ;; esac; }
works() { local got; got=$(env "$@" 2>&1) || fail "$*: $got"; [ "$got" = ok ] || fail "$*: $got"; good; }
fake() { echo "LD_LIBRARY_PATH=$driver TENON_FAKE_CUDA=devices=2,check=races+unwritten,seed=3,$1"; }

works $(fake sm=90) ./user
works $(fake sm=90) ./user cuda:1
works $(fake sm=80) ./user cuda:0
works $(fake sm=120) ./user # the PTX of sm_80 is for all newer ones
says "session: " $(fake sm=75) ./user
says "sm_80" $(fake sm=75) ./user
says "session: " $(fake sm=90) ./user cuda:7
if ! ldconfig -p | grep -q 'libcuda\.so\.1'; then
  says "libcuda.so.1" LD_LIBRARY_PATH= ./user
  says "no NVIDIA driver" LD_LIBRARY_PATH= ./user
fi

# The tools open it, too; what they print is what the library says.
works_tool() { env $(fake sm=90) "$tenon" verify "$model@cpu" "$work/libgpu.so" > out 2>&1 || fail "verify: $(cat out)"; good; }
works_tool

# Code as text.
"$tenon" compile "$model" --target cuda:sm_80 --emit ptx -o x.ptx && grep -q "^\.target sm_80" x.ptx || fail "--emit ptx"; good
echo "$passed checks"
