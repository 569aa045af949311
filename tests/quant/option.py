#!/usr/bin/env python3
"""--quantize and the form `encode`: plain weights that become blocks while they stream.

    option.py TENON BACKEND

Weights of f32, f16 and bf16, in one part and in three, transposed, a table of rows, more rows than one band. q8_0 is
worked out here in NumPy from its description: products and rows must be those of the numbers that it stands for. Of
other formats products must be within the error that the format has on such numbers (errors of rounding to the nearest
code). Broken weights give one clear error. Exits 1 if anything is wrong.
"""
import os
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: numpy is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
import golden  # noqa: E402

K, N, IDS = 256, 96, [5, 0, 95, 5]
# Largest error of a product, relative to the product's size: a little above the format's own error on normal numbers.
OTHERS = {"q6_k": 0.02, "q5_k": 0.04, "q4_k": 0.08, "q4_0": 0.1, "iq4_nl": 0.09, "s4_128": 0.13, "u4_32_f32": 0.09,
          "nf4_64": 0.1, "mxfp4": 0.13, "q3_k": 0.17, "q2_k": 0.3, "iq3_s": 0.15, "iq2_xs": 0.35}  # fmt: skip


def q8_0(w):
    b = w.reshape(-1, 32).astype(np.float32)
    d = (np.abs(b).max(1, keepdims=True) / np.float32(127)).astype(np.float32)
    v = b * np.where(d > 0, np.float32(1) / np.where(d > 0, d, 1), 0)
    code = np.sign(v) * np.floor(np.abs(v) + np.float32(0.5))
    return (code * d.astype(np.float16).astype(np.float32)).reshape(w.shape).astype(np.float64)


def bf16(w):
    bits = w.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def module(at):
    parts = ", ".join(f'"w" + {at["c"] + i * K * N * 2 // 3:#x} : {K * N * 2 // 3:#x}' for i in range(3))
    return f"""module @option {{
  dims S
  weight @a : f32[{N}, {K}] = "w" + {at["a"]:#x} : {N * K * 4:#x}
  weight @b : f16[{K}, {N}] = "w" + {at["b"]:#x} : {N * K * 2:#x}
  weight @c : bf16[{N}, {K}] = {parts}
  weight @tall : f32[16416, {K}] = "w" + {at["tall"]:#x} : {16416 * K * 4:#x}
  func @f(%x: f32[S, {K}], %ids: i32[4]) -> (a: f32[S, {N}], b: f32[S, {N}], c: f32[S, {N}], t: f32[S, 16416], r: f32[4, {K}]) {{
    %a = matmul %x, @a {{trans_b}} : f32[S, {N}]
    %b = matmul %x, @b : f32[S, {N}]
    %c = matmul %x, @c {{trans_b}} : f32[S, {N}]
    %t = matmul %x, @tall {{trans_b}} : f32[S, 16416]
    %r = gather @a, %ids : f32[4, {K}]
    return %a, %b, %c, %t, %r
  }}
}}
"""


def write(tmp, rng, spoil=None):
    w = {name: rng.standard_normal((n, K)).astype(np.float32) * 0.05 for name, n in
         (("a", N), ("b", N), ("c", N), ("tall", 16416))}  # fmt: skip
    w["b"] = w["b"].astype(np.float16).astype(np.float32)
    raw = bf16(w["c"])
    w["c"] = (raw.astype(np.uint32) << 16).view(np.float32)
    if spoil is not None:
        w["a"][spoil] = np.nan
    pieces = {"a": w["a"].tobytes(), "b": w["b"].T.astype(np.float16).tobytes(), "c": raw.tobytes(),
              "tall": w["tall"].tobytes()}  # fmt: skip
    at, end = {}, 0
    with open(os.path.join(tmp, "w"), "wb") as f:
        for name, data in pieces.items():
            at[name] = end
            end += len(data)
            f.write(data)
    with open(os.path.join(tmp, "m.tir"), "w") as f:
        f.write(module(at))
    np.save(os.path.join(tmp, "ids.npy"), np.array(IDS, np.int32))
    return w


def run(tenon, backend, tmp, more):
    args = ["run", os.path.join(tmp, "m.tir"), "--entry", "f", "--backend", backend, "--output-dir", tmp, *more]
    for name in "x", "ids":
        args += ["--input", f"{name}={tmp}/{name}.npy"]
    return golden.run(tenon, args)


def relative(got, want):
    return float(np.sqrt(np.sum((got - want) ** 2) / np.sum(want**2)))


def products(tenon, backend, tmp, w):
    x = np.random.default_rng(3).standard_normal((7, K)).astype(np.float32)
    np.save(os.path.join(tmp, "x.npy"), x)
    bad = []
    for scheme, limit in {"q8_0": 1e-5, **OTHERS}.items():
        rc, _, err = run(tenon, backend, tmp, ["--quantize", scheme])
        if rc:
            bad.append(f"{scheme}: {err}")
            continue
        numbers = {k: q8_0(v) if scheme == "q8_0" else v.astype(np.float64) for k, v in w.items()}
        want = {k: x @ numbers[n].T for k, n in (("a", "a"), ("b", "b"), ("c", "c"), ("t", "tall"))}
        want["r"] = numbers["a"][IDS]
        worst = max(relative(np.load(f"{tmp}/{k}.npy").astype(np.float64), v) for k, v in want.items())
        least = min(relative(np.load(f"{tmp}/{k}.npy").astype(np.float64), v) for k, v in want.items())
        ok = worst <= limit and (scheme == "q8_0" or least > limit / 30)  # blocks, not the numbers themselves
        print(f"{scheme:10} relative error {worst:.2e} {'ok' if ok else 'WRONG: at most ' + str(limit)}")
        if not ok:
            bad.append(scheme)
    return bad


def forms(tenon, backend, tmp):
    """Forms that do not fit their weight -> what the error must say."""
    cases = [
        ('q8_0[96, 256] form "encode"', "form 'encode': does not say f32, f16 or bf16"),
        ('q8_0[96, 256] form "encode f16"', "its parts have 98304 bytes, needed are 49152"),
        ('f16[96, 256] form "encode f32"', "blocks of a plain type cannot be made"),
    ]
    bad = []
    for weight, words in cases:
        with open(os.path.join(tmp, "m.tir"), "w") as f:
            f.write(f"""module @form {{
  dims S
  weight @a : {weight} = "w" + 0x0 : 0x18000
  func @f(%x: f32[S, 256], %ids: i32[4]) -> (a: f32[S, 96], ids: i32[4]) {{
    %a = matmul %x, @a {{trans_b}} : f32[S, 96]
    return %a, %ids
  }}
}}
""")
        rc, _, err = run(tenon, backend, tmp, [])
        if rc != 1 or words not in err or "weight 'a'" not in err:
            bad.append(f"{weight}: exit {rc}, {err}")
    return bad


def refusals(tenon, backend, tmp):
    """Arguments -> what the error must say."""
    bad = []
    cases = [(["--quantize", "q9_z"], "'q9_z' is no block format"), (["--quantize", "f16"], "'f16' is no block format")]
    for more, words in cases:
        rc, _, err = run(tenon, backend, tmp, more)
        if rc != 1 or words not in err:
            bad.append(f"{more}: exit {rc}, {err}")
    bad += forms(tenon, backend, tmp)
    write(tmp, np.random.default_rng(1), spoil=(3, 17))
    rc, _, err = run(tenon, backend, tmp, ["--quantize", "q4_k"])
    if rc != 1 or "the number at row 3, column 17 is not finite" not in err or "'a@q4_k'" not in err:
        bad.append(f"a NaN: exit {rc}, {err}")
    return bad


def main():
    tenon, backend = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as tmp:
        w = write(tmp, np.random.default_rng(1))
        bad = products(tenon, backend, tmp, w) + refusals(tenon, backend, tmp)
    for line in bad:
        print("FAILED", line)
    return bool(bad)


sys.exit(main())
