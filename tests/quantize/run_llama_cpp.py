#!/usr/bin/env python3
"""Files that `tenon quantize` wrote, run by llama.cpp and by tenon: both read the same numbers out of the blocks. llama.cpp
rounds activations to eight bits where weights are in blocks, which costs about 1e-3 here whatever the type; a block
that is read in another way costs about 1.

    run_llama_cpp.py TENON
"""
import os
import subprocess
import sys
import tempfile

try:
    import llama_cpp
    import gguf  # noqa: F401
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: llama-cpp-python is not there") or 77)

import mixes
import shapes

F32 = 0  # GGML_TYPE_F32, for the caches
IDS = np.array([[1, 17, 5, 60, 33, 8, 90, 41, 12, 77, 3, 54]], np.int32)


def of_llama(path):
    m = llama_cpp.Llama(path, n_ctx=64, n_batch=64, logits_all=True, verbose=False, n_threads=1, type_k=F32, type_v=F32,
                        flash_attn=False)
    m.eval(IDS[0].tolist())
    out = np.array(m.scores[:IDS.shape[1]], copy=True)
    m.close()
    return out


def of_tenon(tenon, path, tmp):
    np.save(os.path.join(tmp, "ids.npy"), IDS)
    p = subprocess.run([tenon, "run", path, "--entry", "logits", "--input", f"ids={tmp}/ids.npy", "--output-dir", tmp,
                        "--backend", "ref"], capture_output=True, text=True)
    if p.returncode:
        raise SystemExit(p.stderr)
    return np.load(os.path.join(tmp, "logits.npy")).reshape(IDS.shape[1], -1)


def main():
    tenon, failures = sys.argv[1], 0
    with tempfile.TemporaryDirectory() as tmp:
        model = shapes.fill(shapes.llama(os.path.join(tmp, "shape.gguf"), 2, 256, 512, 4, 1, vocab=96))
        data, out = os.path.join(tmp, "importance.gguf"), os.path.join(tmp, "out.gguf")
        mixes.importance_file(data, model)
        for scheme in mixes.SCHEMES:
            p = subprocess.run([tenon, "quantize", model, out, scheme, "--imatrix", data, "--json"], capture_output=True,
                               text=True)
            if p.returncode:
                raise SystemExit(p.stderr)
            a, b = of_llama(out).astype(np.float64), of_tenon(tenon, out, tmp).astype(np.float64)
            nmse = ((a - b) ** 2).sum() / (b ** 2).sum()
            ok = nmse < {"F16": 1e-6, "BF16": 1e-4}.get(scheme, 4e-3)  # it rounds activations to bf16, or to 8 bits
            failures += not ok
            print(f"{'ok  ' if ok else 'FAIL'} {scheme:10} nmse {nmse:.1e}", flush=True)
    print(f"{failures} failures")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
