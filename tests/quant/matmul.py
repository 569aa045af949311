#!/usr/bin/env python3
"""Products with a weight of every block format, and rows gathered from it, through tenon.

    matmul.py TENON BACKEND [TYPE...]

The weights are made of the blocks in vectors/, whose values came from elsewhere (make_vectors.py): a product must be
within an NMSE of 1e-9 of the one with those values in float64; a gathered row must be those values. Blocks with
extreme scales are left out of the products. One line per type; exits 1 if one is wrong.
"""
import json
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

K, N = 512, 24
IDS = [5, 0, 23, 5]


def sizes(tenon):
    """TYPE -> values and bytes of a block, as `tenon formats` lists them."""
    rc, out, err = golden.run(tenon, ["formats", "--json"])
    if rc:
        sys.exit(err)

    return {row["name"]: (row["values"], row["bytes"]) for row in json.loads(out)}


def weight(name, values, size):
    """[N, K] as blocks and as numbers, out of the file's ordinary blocks."""
    data = np.fromfile(os.path.join(HERE, "vectors", name + ".bin"), np.uint8)
    n = len(data) // (size + 4 * values)
    blocks = data[: n * size].reshape(n, size)
    numbers = data[n * size :].view("<f4").reshape(n, values)
    with np.errstate(over="ignore"):
        largest = np.abs(numbers).max(1)
    usual = np.flatnonzero((largest > 1e-3) & (largest < 300))
    order = usual[np.random.default_rng(1).integers(0, len(usual), N * K // values)]
    return blocks[order].reshape(N, -1), numbers[order].reshape(N, K)


def module(name, size):
    rows, tokens = "f32[S, 512]", f"i32[{len(IDS)}]"
    return f"""module @quant {{
  dims S
  weight @w : {name}[{N}, {K}] = "w" + 0x0 : {size:#x}
  func @f(%x: {rows}, %ids: {tokens}) -> (y: f32[S, {N}], rows: f32[{len(IDS)}, {K}]) {{
    %y = matmul %x, @w {{trans_b}} : f32[S, {N}]
    %g = gather @w, %ids : {name}[{len(IDS)}, {K}]
    %rows = dequant %g : f32[{len(IDS)}, {K}]
    return %y, %rows
  }}
}}
"""


def nmse(got, want):
    return float(np.sum((got - want) ** 2) / np.sum(want**2))


def check(tenon, backend, name, shape, tmp):
    blocks, numbers = weight(name, *shape)
    blocks.tofile(os.path.join(tmp, "w"))
    path = os.path.join(tmp, "quant.tir")
    with open(path, "w") as f:
        f.write(module(name, blocks.size))
    np.save(os.path.join(tmp, "ids.npy"), np.array(IDS, np.int32))
    worst = 0.0
    for s in 1, 5, 40:  # decode, and both kinds of prefill
        x = np.random.default_rng(s).standard_normal((s, K)).astype(np.float32)
        np.save(os.path.join(tmp, "x.npy"), x)
        args = ["run", path, "--entry", "f", "--backend", backend, "--output-dir", tmp]
        args += ["--input", f"x={tmp}/x.npy", "--input", f"ids={tmp}/ids.npy"]
        rc, _, err = golden.run(tenon, args)
        if rc:
            return err.strip().splitlines()[0]
        worst = max(worst, nmse(np.load(f"{tmp}/y.npy"), x.astype(np.float64) @ numbers.astype(np.float64).T))
        if not np.array_equal(np.load(f"{tmp}/rows.npy").view(np.uint32), numbers[IDS].view(np.uint32)):
            return "gathered rows differ"
    return None if worst <= 1e-9 else f"NMSE {worst:.1e}"


def main():
    tenon, backend, *names = sys.argv[1:]
    failures = 0
    for name, shape in sizes(tenon).items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as tmp:
            why = check(tenon, backend, name, shape, tmp)
        failures += why is not None
        print("FAIL" if why else "ok  ", name, why or "", flush=True)
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
