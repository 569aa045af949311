#!/usr/bin/env python3
"""Perplexity of a GGUF model, by tenon and by llama.cpp on the same tokens and chunks. By hand: needs llama-cpp-python.

    perplexity.py TENON MODEL.gguf TEXT [-c 512] [--chunks N] [--types F16,Q8_0,Q4_K_M] [-t THREADS]

--types: besides the file itself, what llama.cpp's quantizer makes of it (first everything as F16, then from that). llama.cpp
rounds activations to eight bits before it multiplies them with block formats, tenon does not: "exact" is llama.cpp on the
same weights written as F32, and what tenon must come within 0.5 % of.
"""
import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time

import llama_cpp
import numpy as np

@llama_cpp.llama_log_callback
def quiet(level, text, user):
    """The quantizer speaks of every tensor."""


llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
FTYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_S": 14, "Q4_K_M": 15, "Q6_K": 18, "BF16": 32}


def quantize(source, target, name):
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype = FTYPES[name]
    p.allow_requantize = True
    p.nthread = 2
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(p)):
        sys.exit(f"llama.cpp cannot make {name} of {source}")


def llama_perplexity(path, text, context, chunks, threads):
    """What llama-perplexity computes: chunks of `context`, the first token replaced by BOS, the second half scored."""
    m = llama_cpp.Llama(path, n_ctx=context, n_batch=context, logits_all=True, verbose=False, n_threads=threads,
                        n_threads_batch=threads)
    ids = m.tokenize(text, add_bos=True, special=False)
    adds = bool(llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(m.model)))
    if not adds:
        ids = m.tokenize(text, add_bos=False, special=False)
    total, count = 0.0, 0
    n = min(chunks or len(ids), len(ids) // context)
    for i in range(n):
        window = ids[i * context:(i + 1) * context]
        targets = list(window)
        if adds:
            window = [m.token_bos()] + window[1:]
        m.reset()
        m.eval(window)
        rows = np.asarray(m.scores[context // 2:context - 1], dtype=np.float64)
        rows -= rows.max(-1, keepdims=True)
        logp = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
        total -= logp[np.arange(len(rows)), targets[context // 2 + 1:context]].sum()
        count += len(rows)
    return float(np.exp(total / count)), len(ids), count


def tenon_perplexity(tenon, path, text_path, context, chunks, threads):
    cmd = [tenon, "perplexity", path, text_path, "-c", str(context), "-t", str(threads), "--json"]
    if chunks:
        cmd += ["--chunks", str(chunks)]
    r = subprocess.run(cmd, capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    return json.loads(r.stdout)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("tenon"), p.add_argument("model"), p.add_argument("text")
    p.add_argument("-c", type=int, default=512)
    p.add_argument("--chunks", type=int, default=0)
    p.add_argument("--types", default="")
    p.add_argument("-t", type=int, default=1)
    a = p.parse_args()
    text = open(a.text, "rb").read()
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        files = [("as it is", a.model)]
        if a.types:
            full = os.path.join(tmp, "f16.gguf")
            quantize(a.model, full, "F16")
            for name in a.types.split(","):
                path = os.path.join(tmp, f"{name.lower()}.gguf")
                if name != "F16":
                    quantize(full, path, name)
                files.append((name, full if name == "F16" else path))
        print(f"{'type':10} {'llama.cpp':>10} {'exact':>10} {'tenon':>10} {'off llama.cpp':>14} {'off exact':>10} "
              f"{'tokens':>7} {'seconds':>16}")
        for name, path in files:
            plain, begin = os.path.join(tmp, "plain.gguf"), time.time()
            want, nids, count = llama_perplexity(path, text, a.c, a.chunks, a.t)
            middle = time.time()
            got = tenon_perplexity(a.tenon, path, a.text, a.c, a.chunks, a.t)
            end = time.time()
            quantize(path, plain, "F32")
            exact = llama_perplexity(plain, text, a.c, a.chunks, a.t)[0]
            off = [100 * (got["perplexity"] / x - 1) for x in (want, exact)]
            ok = abs(off[1]) <= 0.5 and got["tokens"] == nids and got["scored"] == count
            bad += not ok
            print(f"{name:10} {want:10.4f} {exact:10.4f} {got['perplexity']:10.4f} {off[0]:12.3f} % {off[1]:8.3f} % "
                  f"{got['scored']:7} {middle - begin:7.1f} {end - middle:8.1f} {'' if ok else 'FAIL'}", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
