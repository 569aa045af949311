#!/usr/bin/env python3
"""Exports the modules of tests/ops/*.cases, one op each, and compares ONNX Runtime's results with the stored ones.

    ops.py TENON [--opset N] [-v] [FILE.cases | REGEX...]

The expected values are those of NumPy, PyTorch and the gguf package (tests/ops). A module that the writer refuses, one for
which ONNX Runtime has no CPU kernel, and one where ONNX or ONNX Runtime mean something else must be named in ops.allow
with the reason; the list may only shrink. Exits 1 on any other result, or an entry of the list that is no longer true.
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto as T, helper
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e.name} is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
OPS = os.path.join(HERE, "..", "..", "ops")
PLAIN = {"f64": "<f8", "f32": "<f4", "f16": "<f2", "i64": "<i8", "i32": "<i4", "i16": "<i2", "i8": "i1", "u64": "<u8",
         "u32": "<u4", "u16": "<u2", "u8": "u1", "bool": "?"}
# Types that NumPy lacks go in and out through one that has all their values.
WIDE = {"bf16": (T.BFLOAT16, "f32", T.FLOAT), "f8e4m3": (T.FLOAT8E4M3FN, "f32", T.FLOAT),
        "f8e5m2": (T.FLOAT8E5M2, "f32", T.FLOAT), "i4": (T.INT4, "i8", T.INT8), "u4": (T.UINT4, "u8", T.UINT8)}


def wide(dtype, data, shape):
    """The bytes of a tensor as an array, in the type it has in WIDE or its own; None: no such array."""
    n = int(np.prod(shape, dtype=np.int64))
    if dtype in PLAIN:
        return np.frombuffer(data, PLAIN[dtype])[:n].reshape(shape)
    raw = np.frombuffer(data, "u1")
    if dtype == "bf16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype in ("i4", "u4"):
        v = np.stack([raw & 15, raw >> 4], 1).ravel()[:n]
        return (np.where(v > 7, v.astype(np.int8) - 16, v).astype(np.int8) if dtype == "i4" else v).reshape(shape)
    if dtype in ("f8e4m3", "f8e5m2"):
        import ml_dtypes
        kind = ml_dtypes.float8_e4m3fn if dtype == "f8e4m3" else ml_dtypes.float8_e5m2
        return raw.view(kind).astype(np.float32).reshape(shape)
    return None


class Case:
    def __init__(self, name):
        self.name, self.ir, self.ins, self.outs, self.tol = name, [], [], [], (0, 0)

    def value(self, line):
        dtype, shape, data = re.match(r"(\w+)\[([^\]]*)\] (\S+)", line).groups()
        shape = [int(d) for d in shape.split(",") if d.strip()]
        return dtype, wide(dtype, b"" if data == "-" else bytes.fromhex(data), shape)


def read(path):
    case, inside = None, False
    for line in open(path):
        word, _, rest = line.rstrip("\n").partition(" ")
        if inside:
            inside = line != "end\n"
            case.ir += [line] if inside else []
        elif word == "case":
            if case:
                yield case
            case = Case(rest)
        elif word == "tol":
            case.tol = tuple(float(x) for x in rest.split())
        elif word == "ir":
            inside = True
        elif word == "in":
            case.ins.append(case.value(rest))
        elif word == "out":
            case.outs.append(case.value(rest))
    yield case


def add_casts(model, case):
    """Inputs and outputs in types that NumPy has."""
    g = model.graph
    of = {t: (w, num) for t, w, num in WIDE.values()}
    for v, out in [*((v, False) for v in g.input), *((v, True) for v in g.output)]:
        elem = v.type.tensor_type.elem_type
        if elem not in of:
            continue
        inner, num = v.name + ".narrow", of[elem][1]
        for n in g.node:
            for i, x in enumerate(n.output if out else n.input):
                if x == v.name:
                    (n.output if out else n.input)[i] = inner
            for i, x in enumerate(n.input if out else []):
                n.input[i] = inner if x == v.name else x
        cast = helper.make_node("Cast", [inner if out else v.name], [v.name if out else inner], to=num if out else elem)
        g.node.insert(len(g.node) if out else 0, cast)
        v.type.tensor_type.elem_type = num


def run(model, case):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    s = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return s.run(None, {i.name: np.array(a, order="C") for i, (_, a) in zip(s.get_inputs(), case.ins)})


def same(case, got, dtype, want):
    atol, rtol = case.tol
    if dtype in ("f16", "bf16"):  # ONNX Runtime rounds between steps
        atol, rtol = max(atol, 4e-3 if dtype == "f16" else 3e-2), max(rtol, 4e-3 if dtype == "f16" else 3e-2)
    elif got.dtype.kind == "f":  # its vector code is not correctly rounded
        atol, rtol = max(atol, 1e-6), max(rtol, 1e-5)
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, expected {list(want.shape)}"
    x, r = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~((x == r) | (np.isnan(x) & np.isnan(r)) | (np.abs(x - r) <= atol + rtol * np.abs(r)))
    at = np.flatnonzero(bad.ravel())
    return f"element {at[0]} of {bad.size} ({len(at)} wrong): {x.ravel()[at[0]]!r}, expected {r.ravel()[at[0]]!r}" if len(at) else ""


def one(tenon, case, opset, tmp):
    """("ok" | "refused" | "no kernel" | "wrong", words)"""
    tir, path = os.path.join(tmp, "case.tir"), os.path.join(tmp, "case.onnx")
    open(tir, "w").writelines(case.ir)
    p = subprocess.run([tenon, "export", "onnx", tir, path, "--opset", str(opset)], capture_output=True, text=True)
    if p.returncode:
        lines = p.stderr.strip().splitlines()
        return ("refused" if p.returncode == 1 and len(lines) == 1 else "wrong"), lines[0] if lines else "no message"
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as e:
        return "wrong", " ".join(str(e).split())[:200]
    model = onnx.load(path)
    add_casts(model, case)
    try:
        outs = run(model, case)
    except Exception as e:
        text = " ".join(str(e).split())
        lacks = ("NOT_IMPLEMENTED", "INVALID_GRAPH", "does not support double")
        return "no kernel" if any(l in text for l in lacks) else "wrong", text[:220]
    for o, (dtype, want) in zip(outs, case.outs):
        if want is not None and (text := same(case, o, dtype, want)):
            return "wrong", text
    return "ok", ""


def apart(*args):
    """one(), in a process of its own: a division by zero in a kernel ends the process, not the test."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(w, json.dumps(one(*args)).encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        text = f.read()
    status = os.waitpid(pid, 0)[1]
    return json.loads(text) if status == 0 and text else ("wrong", f"ONNX Runtime ended with status {status}")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("tenon")
    a.add_argument("which", nargs="*")
    a.add_argument("--opset", type=int, default=18)
    a.add_argument("-v", action="store_true")
    o = a.parse_args()
    files = [w for w in o.which if w.endswith(".cases")] or sorted(glob.glob(os.path.join(OPS, "*.cases")))
    regexes = [re.compile(w) for w in o.which if not w.endswith(".cases")]
    rows = [line.split(None, 2) for line in open(os.path.join(HERE, "ops.allow")) if line.strip() and line[0] != "#"]
    allow = [(kind, re.compile(pattern + "$"), 0) for kind, pattern, _ in rows]
    counts, used, failures = {}, set(), 0
    with tempfile.TemporaryDirectory() as tmp:
        for path in files:
            for case in read(path):
                if regexes and not any(r.search(case.name) for r in regexes):
                    continue
                kind, words = apart(o.tenon, case, o.opset, tmp)
                hit = next((i for i, (k, p, _) in enumerate(allow) if k == kind.split()[0] and p.match(case.name)), None)
                used.add(hit)
                counts[kind] = counts.get(kind, 0) + 1
                bad = kind != "ok" and hit is None
                failures += bad
                if bad or o.v and kind != "ok":
                    print(f"{'FAIL' if bad else 'ok  '} {os.path.basename(path)[:-6]} {case.name}: {kind}: {words}", flush=True)
    if not o.which:
        for i, (kind, pattern, _) in enumerate(allow):
            if i not in used:
                failures += 1
                print(f"FAIL ops.allow: '{kind} {pattern.pattern}' matches nothing any more")
    print(", ".join(f"{n} {k}" for k, n in sorted(counts.items())))
    return failures > 0 or not counts


if __name__ == "__main__":
    sys.exit(main())
