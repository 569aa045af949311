#!/usr/bin/env python3
"""Does llama.cpp read what tenon export gguf writes, and compute the same? Tiny folders of tests/parity against what
transformers computed from them: NMSE at most 1e-5 (llama.cpp looks GELU up in a table of halves).

    run_llama_cpp.py TENON FOLDER[:CASE]...

Encoders are compared by their last hidden states, decoders by logits. Files are in f32: where weights are bf16,
llama.cpp rounds activations, too.
"""
import os
import sys
import tempfile

try:
    import llama_cpp
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: llama-cpp-python is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = os.path.join(os.path.dirname(HERE), "parity")
sys.path.insert(0, PARITY)
import golden
import run_llama_cpp as twins

ENCODERS = ("bert", "sentence", "modernbert", "distilbert", "roberta", "xlm")


def hidden(path, ids):
    """Hidden states of every token of one sequence."""
    model = llama_cpp.Llama(path, n_ctx=256, n_batch=256, embedding=True, verbose=False, n_threads=1,
                            pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE, flash_attn=False)
    ctx, n, d = model._ctx.ctx, len(ids), model.n_embd()
    batch = llama_cpp.llama_batch_init(n, 0, 1)
    batch.n_tokens = n
    for i, t in enumerate(ids.tolist()):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = t, i, 1, 1
        batch.seq_id[i][0] = 0
    rc = llama_cpp.llama_encode(ctx, batch)
    if rc:
        rc = llama_cpp.llama_decode(ctx, batch)
    out = np.array([np.ctypeslib.as_array(llama_cpp.llama_get_embeddings_ith(ctx, i), (d,)) for i in range(n)]) if not rc else None
    llama_cpp.llama_batch_free(batch)
    model.close()
    if out is None:
        raise RuntimeError(f"llama_decode gave {rc}")
    return out


def own(tenon, folder, tmp, golds, case):
    """Hidden states as tenon has them from the folder: its expected outputs are those of a head."""
    args = []
    for i in ("ids", "mask"):
        np.save(os.path.join(tmp, f"{i}.npy"), golds[f"{case}.in.{i}"])
        args += ["--input", f"{i}={tmp}/{i}.npy"]
    rc, _, err = golden.run(tenon, ["run", folder, "--entry", "encode", "--output-dir", tmp, *args])
    if rc:
        raise RuntimeError(err.strip())
    return np.load(os.path.join(tmp, "hidden.npy"))


def check(tenon, what):
    name, _, case = what.partition(":")
    golds = golden.load(os.path.join(PARITY, "models", name, "goldens.safetensors"))
    case = case or "a"
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "twin.gguf")
        folder = os.path.join(PARITY, "models", name)
        rc, _, err = golden.run(tenon, ["export", "gguf", folder, path, "--outtype", "f32"])
        if rc:
            print(f"FAIL {what:20} export: {err.strip()}", flush=True)
            return False
        try:
            if name.startswith(ENCODERS):
                n = int(golds[f"{case}.in.mask"][0].sum())
                r = golds.get(f"{case}.encode.hidden")
                r = (own(tenon, folder, tmp, golds, case) if r is None else r)[0][:n]
                x = hidden(path, golds[f"{case}.in.ids"][0][:n])
            else:
                ids = golds["long.ids"][0] if case == "long" else golds[f"{case}.in.ids"][0]
                r = golds["long.logits"] if case == "long" else golds[f"{case}.logits.logits"][0]
                x = twins.logits(path, ids, r.shape[1])[-len(r):]
        except (ValueError, RuntimeError) as e:
            print(f"FAIL {what:20} llama.cpp: {e}", flush=True)
            return False
        d = golden.Difference(x, r)
    ok = d.nmse <= 1e-5
    print(f"{'ok  ' if ok else 'FAIL'} {what:20} max abs {d.abs:.2e}  nmse {d.nmse:.1e}", flush=True)
    return ok


if __name__ == "__main__":
    failures = sum(not check(sys.argv[1], n) for n in sys.argv[2:])
    print(f"{failures} failures")
    sys.exit(failures > 0)
