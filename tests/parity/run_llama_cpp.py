#!/usr/bin/env python3
"""Are the GGUF twins what llama.cpp means? Writes folders as GGUF files, runs them with llama-cpp-python and compares
with what transformers computed from the folders: NMSE at most 1e-5 (llama.cpp looks GELU up in a table of halves).

    run_llama_cpp.py FOLDER[:CASE]...

Cases are those of the expected outputs: `a` (its first sequence), `b`, `long`. llama.cpp takes no notice of Phi-3's
window (`phi3:b` is shorter), and of longrope's two sets of factors takes one for good, by the size of the context,
which is at least 256 (`phi3-longrope:long` is past the switch).
"""
import os
import sys
import tempfile

try:
    import llama_cpp
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: llama-cpp-python is not there") or 77)

import golden
import make_gguf

HERE = os.path.dirname(os.path.abspath(__file__))
F32 = 0  # GGML_TYPE_F32, for the caches


def logits(path, ids, vocab):
    model = llama_cpp.Llama(path, n_ctx=256, n_batch=256, logits_all=True, verbose=False, n_threads=1, type_k=F32,
                            type_v=F32, flash_attn=False)
    model.eval(ids.tolist())
    out = np.array(model.scores[:len(ids), :vocab], copy=True)
    model.close()
    return out


def check(what):
    name, _, case = what.partition(":")
    golds = golden.load(os.path.join(HERE, "models", name, "goldens.safetensors"))
    if case == "long":
        ids, r = golds["long.ids"][0], golds["long.logits"]
    else:
        ids, r = golds[f"{case or 'a'}.in.ids"][0], golds[f"{case or 'a'}.logits.logits"][0]
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "twin.gguf")
        make_gguf.convert(os.path.join(HERE, "models", name), path)
        d = golden.Difference(logits(path, ids, r.shape[1])[-len(r):], r)
    ok = d.nmse <= 1e-5
    print(f"{'ok  ' if ok else 'FAIL'} {what:20} max abs {d.abs:.2e}  nmse {d.nmse:.1e}", flush=True)
    return ok


if __name__ == "__main__":
    failures = sum(not check(n) for n in sys.argv[1:])
    print(f"{failures} failures")
    sys.exit(failures > 0)
