#!/usr/bin/env python3
"""The types that schemes give each tensor: those of llama-quantize, whose plans (dry runs of the same files) are kept in
mixes.json.

    mixes.py TENON            compares with mixes.json
    mixes.py --make           writes it, with the llama_cpp package (0.3.36: llama.cpp of autumn 2026)
"""
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "mixes.json")
SCHEMES = {"F16": 1, "BF16": 32, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11,
           "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18,
           "IQ2_XXS": 19, "IQ2_XS": 20, "Q2_K_S": 21, "IQ3_XS": 22, "IQ3_XXS": 23, "IQ1_S": 24, "IQ4_NL": 25,
           "IQ3_S": 26, "IQ3_M": 27, "IQ2_S": 28, "IQ2_M": 29, "IQ4_XS": 30, "IQ1_M": 31, "TQ1_0": 36, "TQ2_0": 37,
           "MXFP4_MOE": 38}


def pack(types):
    """[(name, from, to)] as the type of most tensors and {type: {tensor: layers}} of the others. What was f32 and stays
    so is left out."""
    out, count = {}, {}
    for name, before, t in types:
        t = t.lower()
        m = re.match(r"blk\.(\d+)\.(.*)\.weight$", name)
        if before == t == "f32":
            continue
        count[t] = count.get(t, 0) + 1
        out.setdefault(t, {}).setdefault(m[2] if m else name, []).append(int(m[1]) if m else -1)
    most = max(sorted(count), key=count.get)
    return [most, {t: {n: spans(v) for n, v in sorted(x.items())} for t, x in sorted(out.items()) if t != most}]


def spans(v):
    v, out, i = sorted(v), [], 0
    while i < len(v):
        k = i
        while k + 1 < len(v) and v[k + 1] == v[k] + 1:
            k += 1
        out.append("" if v[i] < 0 else str(v[i]) if k == i else f"{v[i]}-{v[k]}")
        i = k + 1
    return " ".join(out)


def importance_file(path, model):
    """An importance matrix of ones for every matrix of the model."""
    import gguf
    import numpy as np
    r, w = gguf.GGUFReader(model), gguf.GGUFWriter(path, None)
    w.add_type("imatrix")
    w.add_array("imatrix.datasets", ["none"])
    w.add_uint32("imatrix.chunk_count", 1)
    w.add_uint32("imatrix.chunk_size", 1)
    for t in r.tensors:
        if len(t.shape) < 2 or "norm" in t.name:
            continue
        experts = int(t.shape[2]) if len(t.shape) > 2 else 1
        w.add_tensor(t.name + ".in_sum2", np.ones((experts, int(t.shape[0])), np.float32))
        w.add_tensor(t.name + ".counts", np.ones((experts, 1), np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- llama.cpp ----

def plan_of_llama(path, ftype, importance):
    import ctypes
    import llama_cpp as L
    lines = []

    @L.llama_log_callback
    def log(_level, text, _data):
        lines.append(text.decode("utf-8", "replace"))
    L.llama_log_set(log, ctypes.c_void_p(0))
    p = L.llama_model_quantize_default_params()
    p.ftype, p.dry_run, p.nthread = ftype, True, 1
    if importance:
        data = (ctypes.c_float * 1)(1.0)
        rows = (L.llama_model_imatrix_data * 2)()
        rows[0].name, rows[0].data, rows[0].size = b"none", data, 1
        rows[1].name = None
        p.imatrix = rows
    status = L.llama_model_quantize(path.encode(), b"", ctypes.byref(p))
    text = "".join(lines)
    if status:
        raise SystemExit(text)
    return [(m[1], m[2], m[3] or m[2]) for m in re.finditer(
        r"\] (\S+)\s+- \[[^]]*\], type = +(\w+), size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((\w+)\))?", text)]


def make():
    import shapes
    out = {}
    with tempfile.TemporaryDirectory() as tmp:
        for name, build in shapes.MODELS.items():
            path = build(os.path.join(tmp, name + ".gguf"))
            for scheme, ftype in SCHEMES.items():
                for importance in (False, True):
                    if name == "aside" and scheme in ("MXFP4_MOE", "F16", "BF16"):
                        continue
                    key = f"{name} {scheme}{' importance' if importance else ''}"
                    out[key] = pack(plan_of_llama(path, ftype, importance))
    short = {}
    for key, value in out.items():  # a plan that importance does not change is kept once
        base = key.replace(" importance", "")
        if key != base and out[base] == value:
            continue
        short[key] = value
    with open(GOLDEN, "w") as f:
        f.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in short.items()) + "\n}\n")


# ---- tenon ----

def plan_of_tenon(tenon, path, scheme, importance, fallback):
    command = [tenon, "quantize", path, scheme, "--dry-run", "--json"]
    command += ["--imatrix", importance] if importance else []
    command += ["--fallback", "auto"] if fallback else []
    p = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if p.returncode:
        return p.stderr.strip()
    return pack([(t["name"], t["from"], t["to"]) for t in json.loads(p.stdout)["tensors"]])


def check(tenon):
    import shapes
    golden, wrong, n = json.load(open(GOLDEN)), 0, 0
    with tempfile.TemporaryDirectory() as tmp:
        for name, build in shapes.MODELS.items():
            path, data = build(os.path.join(tmp, name + ".gguf")), os.path.join(tmp, name + ".imatrix")
            importance_file(data, path)
            for scheme in SCHEMES:
                for importance in (False, True):
                    key = f"{name} {scheme}"
                    if key not in golden:
                        continue
                    want = golden.get(key + " importance", golden[key]) if importance else golden[key]
                    got = plan_of_tenon(tenon, path, scheme, data if importance else None, name == "aside")
                    n += 1
                    if isinstance(got, str) and not importance and "needs an importance matrix" in got:
                        continue  # llama.cpp says so too, where it does more than plan
                    if got != want:
                        wrong += 1
                        print(f"FAIL {key}{' with importance' if importance else ''}\n  want {want}\n  got  {got}")
    print(f"{n - wrong} of {n} plans are those of llama-quantize")
    return 1 if wrong or n < 500 else 0


if __name__ == "__main__":
    try:
        import gguf  # noqa: F401
    except ImportError:
        sys.exit(77)
    sys.exit(make() if sys.argv[1] == "--make" else check(sys.argv[1]))
