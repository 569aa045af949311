#!/bin/sh
# tests/bench/gpu.sh --pack BUILD DIR     on a machine that has built tenon: collects in DIR all that the other needs
# tests/bench/gpu.sh DIR [OUT]            on a machine with an NVIDIA GPU: runs it, prints one table, leaves results in OUT
#
# The second needs a driver and this folder, but neither LLVM nor a toolkit; PyTorch is measured too where it is there, and
# compute-sanitizer checks the kernels where it is in PATH. Packed are kernels with inputs and the results of the reference
# (tests/cuda/gpu), kernels to be timed, and small models as libraries. With the fake driver of tests/ptx in
# LD_LIBRARY_PATH, `gpu.sh DIR OUT --small` goes through the same steps without the large sizes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
usage() { sed -n 's/^# //p' "$0" >&2; exit 2; }

# One of TENON_GPU_EVERY cases (40): they are many, and each opens a device. TENON_GPU_TESTS: of these tests alone.
pack_cases() { # BUILD DIR TARGET EVERY
  all=$(mktemp -d)
  for test in "$1"/tests/cuda/cuda_test_*; do
    case $(basename "$test") in *_driver | *_run | *_package | *_assemble) continue ;; esac
    case " ${TENON_GPU_TESTS:-${test##*/cuda_test_}} " in *" ${test##*/cuda_test_} "*) ;; *) continue ;; esac
    TENON_CUDA_CASES=$all TENON_TEST_TARGET=$3 "$test" >/dev/null || { echo "$test fails for $3" >&2; exit 1; }
    ls "$all" | awk -v every="$4" 'NR % every == 1' | while read -r name; do mv "$all/$name" "$2/cases/$3-$name"; done
    rm -f "$all"/*.case
  done
  rmdir "$all"
}

pack() { # BUILD DIR
  root=$here/../..
  mkdir -p "$2/cases" "$2/bench" "$2/models"
  cp "$1/tests/cuda/cuda_replay" "$here/gpu_peers.py" "$0" "$2/"
  "$1/tests/cuda/cuda_bench" "$1/plugins/tenon-cuda.so" "$2/bench"
  for target in sm_80 sm_90a; do pack_cases "$1" "$2" "$target" "${TENON_GPU_EVERY:-40}"; done
  for model in bert-model llama llama-bf16 gemma3-q8 mamba; do
    folder=$root/tests/parity/models/$model
    file=$folder
    [ ! -e "$folder/model.gguf" ] || file=$folder/model.gguf
    "$1/tenon" compile "$file" --target cuda:sm_80+sm_90a,cpu -o "$2/models/lib$model.so" >/dev/null
    cp "$folder/goldens.safetensors" "$2/models/$model.safetensors"
  done
  cp "$root/tests/parity/library.py" "$root/tests/parity/golden.py" "$root/tests/parity/manifest.json" "$2/"
  cp "$root/tests/cuda/gpu/models.py" "$2/"
  if [ -n "${TENON_GPU_LARGE:-}" ]; then # a LLaMA of 1.1 billion parameters: of its weight file only the end is kept
    python3 "$root/tests/big/make_llama.py" "$TENON_GPU_LARGE" >/dev/null
    "$1/tenon" compile "$TENON_GPU_LARGE" --target cuda:sm_90a,cpu --precision fast --kv-cache bf16 --weights external \
      -o "$2/models/lib1.1b.so" >/dev/null
    python3 - "$2/models/lib1.1b.weights" "$2/models/lib1.1b.tail" <<'END'
import os, sys
size = os.path.getsize(sys.argv[1])
with open(sys.argv[1], "rb") as f:
    f.seek(size - 248)
    open(sys.argv[2], "wb").write(size.to_bytes(8, "little") + f.read())
os.remove(sys.argv[1])
END
  fi
  echo "$2: $(find "$2" -name '*.case' | wc -l) cases, $(du -sh "$2" | cut -f1)"
}

[ $# -ge 1 ] || usage
if [ "$1" = --pack ]; then
  [ $# -eq 3 ] || usage
  pack "$2" "$3"
  exit
fi
dir=$1
out=${2:-$dir/out}
small=${3:-}
mkdir -p "$out/results"
replay=$dir/cuda_replay
failures=0

section() { printf '\n== %s\n' "$1"; }
section "device"
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader || true

section "kernels against the reference (and their results as golden files)"
find "$dir/cases" -name '*.case' | sort | xargs "$replay" --save "$out/results" >"$out/cases.txt" 2>&1 || failures=$((failures + 1))
grep -v '^[0-9]* cases' "$out/cases.txt" | head -20 || true
awk '/^[0-9]+ cases/ { n += $1; bad += $3; if ($7 > worst) worst = $7 }
     END { printf "%d cases, %d failed, worst error %.2f of what is allowed\n", n, bad, worst }' "$out/cases.txt"

section "compute-sanitizer"
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    find "$dir/cases" -name '*.case' | sort | awk 'NR % 40 == 1' |
      xargs compute-sanitizer --tool $tool --error-exitcode 9 "$replay" >"$out/$tool.txt" 2>&1 &&
      echo "$tool: clean" || { echo "$tool: $(grep -c '=========' "$out/$tool.txt") lines, see $out/$tool.txt"; failures=$((failures + 1)); }
  done
else
  echo "not in PATH"
fi

section "models against transformers' results"
python3 "$dir/models.py" "$dir" >"$out/models.txt" 2>&1 || failures=$((failures + 1))
tail -12 "$out/models.txt"

section "kernels, timed"
if [ -n "$small" ]; then
  echo "left out: --small"
else
  find "$dir/bench" -name '*.case' | sort | xargs "$replay" --time 20 | tee "$out/bench.txt"
  [ ! -e "$dir/models/lib1.1b.so" ] || python3 "$dir/models.py" "$dir" --decode "$dir/models/lib1.1b.so" | tee -a "$out/bench.txt"
fi

section "PyTorch on the same device"
if python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  python3 "$dir/gpu_peers.py" | tee "$out/peers.txt"
elif [ -n "$small" ] && python3 -c 'import torch' 2>/dev/null; then
  python3 "$dir/gpu_peers.py" --device cpu --small --runs 3
else
  echo "not there"
fi
printf '\n%s parts failed; results are in %s\n' "$failures" "$out"
exit $((failures != 0))
