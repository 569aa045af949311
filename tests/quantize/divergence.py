#!/usr/bin/env python3
"""How far a whole model moves: the mean KL divergence of the scores of files that `tenon quantize` wrote from those of the
file they were made of, against llama-quantize's files of the same type and importance matrix, whose divergences are kept in
divergence.json.

    divergence.py TENON            no further over all, and no type more than 1.05 times as far
    divergence.py --make TENON     writes divergence.json, with the llama_cpp package (0.3.36)

The models have random matrices with a few large columns, as trained ones have them; both sides run in tenon's interpreter.
tests/bench/quantize.py does the same with real models.
"""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "divergence.json")
SEEDS = (11, 12, 13, 14)
BLIND = ["Q8_0", "Q6_K", "Q5_K_S", "Q4_K_S", "Q4_K_M", "Q3_K_M", "Q3_K_S", "Q2_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL",
         "IQ4_XS", "IQ3_S"]
SEEING = ["Q6_K", "Q5_K_S", "Q4_K_S", "Q3_K_S", "Q2_K", "Q4_0", "Q4_1", "Q5_0", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS",
          "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_S", "IQ1_M"]


def importance_file(path, model):
    """Columns matter as much as their numbers are small, spread over three orders of magnitude."""
    r, w, rng = gguf.GGUFReader(model), gguf.GGUFWriter(path, None), np.random.default_rng(5)
    w.add_type("imatrix")
    w.add_array("imatrix.datasets", ["none"])
    w.add_uint32("imatrix.chunk_count", 1)
    w.add_uint32("imatrix.chunk_size", 1)
    for t in r.tensors:
        if len(t.shape) == 2:
            w.add_tensor(t.name + ".in_sum2", np.exp(1.2 * rng.standard_normal((1, int(t.shape[0])))).astype(np.float32))
            w.add_tensor(t.name + ".counts", np.ones((1, 1), np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def scores(tenon, path, tmp):
    """Log-probabilities after each of some tokens."""
    ids = np.random.default_rng(3).integers(3, 96, (1, 120)).astype(np.int32)
    np.save(os.path.join(tmp, "ids.npy"), ids)
    p = subprocess.run([tenon, "run", path, "--entry", "logits", "--input", f"ids={tmp}/ids.npy", "--output-dir", tmp,
                        "--backend", "ref", "-O0"], capture_output=True, text=True)
    if p.returncode:
        raise SystemExit(p.stderr)
    x = np.load(os.path.join(tmp, "logits.npy")).reshape(ids.shape[1], -1).astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def divergences(tenon, write, tmp):
    """{"SCHEME" or "SCHEME importance": mean KL divergence of what write(model, out, scheme, importance file) makes}, over
    four models: how errors happen to add up moves the mean of four by some 2.5 %."""
    data, made, out = os.path.join(tmp, "importance.gguf"), os.path.join(tmp, "out.gguf"), {}
    for seed in SEEDS:
        model = shapes.fill(shapes.llama(os.path.join(tmp, "shape.gguf"), 2, 256, 512, 4, 1, vocab=96), seed)
        importance_file(data, model)
        p = scores(tenon, model, tmp)
        for scheme, importance in [(s, None) for s in BLIND] + [(s, data) for s in SEEING]:
            write(model, made, scheme, importance)
            name = scheme + (" importance" if importance else "")
            kl = float((np.exp(p) * (p - scores(tenon, made, tmp))).sum(-1).mean())
            out[name] = out.get(name, 0) + kl / len(SEEDS)
    return out


def make(tenon):
    sys.path.insert(0, os.path.join(HERE, "..", "bench"))
    import quantize

    def write(model, out, scheme, importance):
        quantize.llama_quantize(model, out, scheme, 1, quantize.read_importance(importance) if importance else None)
    with tempfile.TemporaryDirectory() as tmp, open(GOLDEN, "w") as f:
        json.dump(divergences(tenon, write, tmp), f, indent=1)
        f.write("\n")


def check(tenon):
    def write(model, out, scheme, importance):
        p = subprocess.run([tenon, "quantize", model, out, scheme] + (["--imatrix", importance] if importance else []),
                           capture_output=True, text=True)
        if p.returncode:
            raise SystemExit(p.stderr)
    with open(GOLDEN) as f:
        golden = json.load(f)
    with tempfile.TemporaryDirectory() as tmp:
        got = divergences(tenon, write, tmp)
    mean = sum(kl / golden[name] for name, kl in got.items()) / len(got)
    failures = int(mean > 1)
    print(f"mean ratio {mean:.3f}")
    for name, kl in got.items():
        ok = kl <= 1.05 * golden[name]
        failures += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {name:20} {kl:.6f}  llama.cpp {golden[name]:.6f}  ratio {kl / golden[name]:.3f}")
    print(f"{failures} failures")
    return failures > 0


if __name__ == "__main__":
    try:
        import gguf
        import numpy as np
    except ImportError:
        sys.exit(77)
    sys.path.insert(0, HERE)
    import shapes
    sys.exit(make(sys.argv[2]) if sys.argv[1] == "--make" else check(sys.argv[1]))
