#!/usr/bin/env python3
"""Weights in block formats, written in each of the three ways, against the gguf package's values.

    blocks.py TENON
"""
import os
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np
    import onnx
    import onnxruntime as ort
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e.name} is not there") or 77)

FORMATS = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0",
           "iq2_xxs", "iq3_s", "iq1_s", "mxfp4"]
APART = {"q4_0": "DequantizeLinear", "q5_0": "DequantizeLinear", "q8_0": "DequantizeLinear", "q3_k": "DequantizeLinear",
         "q6_k": "DequantizeLinear", "tq2_0": "DequantizeLinear"}
NBITS = {"q4_0": 4, "q5_0": 8, "q8_0": 8, "q6_k": 8}
ROWS, COLUMNS = 6, 512


def blocks(kind, rng):
    """Random blocks whose numbers are finite and not huge, and what they stand for."""
    values, size = gguf.GGML_QUANT_SIZES[kind]
    raw, out = [], []
    while len(raw) < ROWS * COLUMNS // values:
        block = rng.integers(0, 256, (1, size), dtype=np.uint8)
        with np.errstate(all="ignore"):
            v = gguf.quants.dequantize(block, kind)
        if np.isfinite(v).all() and 1e-3 < np.abs(v).max() < 1e3:
            raw.append(block)
            out.append(v)
    return np.concatenate(raw).tobytes(), np.concatenate(out, 1).reshape(ROWS, COLUMNS)


def one(tenon, name, how, tmp, raw, want):
    with open(os.path.join(tmp, "w.bin"), "wb") as f:
        f.write(raw)
    with open(os.path.join(tmp, "m.tir"), "w") as f:
        f.write(f'module @m {{\n  dims B\n  weight @w : {name}[{ROWS}, {COLUMNS}] = "w.bin" + 0x0 : {hex(len(raw))}\n'
                f"  func @f(%x: f32[B, {COLUMNS}]) -> f32[B, {ROWS}] {{\n    %r = matmul %x, @w {{trans_b}}\n    return %r\n  }}\n}}\n")
    out = os.path.join(tmp, "m.onnx")
    p = subprocess.run([tenon, "export", "onnx", os.path.join(tmp, "m.tir"), out, "--opset", "21", "--quantized", how],
                       capture_output=True, text=True)
    if p.returncode:
        return p.stderr.strip()
    onnx.checker.check_model(out, full_check=True)
    ops = {n.op_type: n for n in onnx.load(out).graph.node}
    if (how != "float" and name in APART and APART[name] not in ops and "MatMulNBits" not in ops) or "quantised weights" not in p.stderr:
        return f"written as {sorted(ops)}, without a note" if "quantised weights" not in p.stderr else f"written as {sorted(ops)}"
    if how == "matmulnbits" and name in NBITS and "MatMulNBits" not in ops:
        return f"written as {sorted(ops)}, not as MatMulNBits"
    s = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    got = s.run(None, {"x": np.eye(COLUMNS, dtype=np.float32)})[0].T
    # MatMulNBits of ONNX Runtime may round what it multiplies to 8 bits
    bad = np.abs(got - want) > (2e-2 if "MatMulNBits" in ops else 1e-6) * np.abs(want).max()
    return f"{bad.sum()} of {bad.size} values differ, by {np.abs(got - want).max():.2e}" if bad.any() else ""


def main():
    failures, rng = 0, np.random.default_rng(7)
    for name in FORMATS:
        kind = gguf.GGMLQuantizationType[name.upper()]
        raw, want = blocks(kind, rng)
        for how in ("float", "dequantize", "matmulnbits"):
            with tempfile.TemporaryDirectory() as tmp:
                words = one(sys.argv[1], name, how, tmp, raw, want)
            failures += bool(words)
            print(f"{'FAIL' if words else 'ok  '} {name:8} {how} {words}", flush=True)
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
