#!/usr/bin/env python3
"""Reads ONNX files and writes them again: ONNX Runtime must give what it gave before.

    files.py TENON [-v] [--optimize LEVEL] [--nodes [REGEX]] [NAME...]

Models are those of tests/onnx/export, by name, and what they gave is PyTorch's outputs. --nodes: the onnx package's node cases, as far as ONNX Runtime itself gives their
expected outputs and tenon imports them; what the writer refuses is counted and listed with -v. Exits 1 if an output differs
(models: the parity table; nodes: rtol 1e-3, atol 1e-5 x rms), or a file is not valid.
"""
import argparse
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
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e.name} is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
EXPORT = os.path.join(HERE, "..", "export")
sys.path.insert(0, os.path.join(HERE, "..", "..", "parity"))
import golden

def session(path):
    o = ort.SessionOptions()
    o.intra_op_num_threads, o.log_severity_level = 1, 4
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def differs(x, r):
    if isinstance(r, (list, tuple)) or isinstance(x, (list, tuple)) or r is None or x is None:
        return "" if isinstance(x, type(r)) and len(x) == len(r) and not any(differs(a, b) for a, b in zip(x, r)) else "a list"
    x, r = np.asarray(x), np.asarray(r)
    if x.dtype != r.dtype or x.shape != r.shape:
        return f"{x.dtype}{list(x.shape)}, before {r.dtype}{list(r.shape)}"
    if r.dtype.kind != "f":
        return "" if (x == r).all() else "other values"
    a, b = x.astype(np.float64), r.astype(np.float64)
    rms = np.sqrt(np.mean(b[np.isfinite(b)] ** 2)) if np.isfinite(b).any() else 1.0
    tol = (1e-5 if r.dtype != np.float16 else 5e-3) * max(1.0, rms) + 1e-3 * np.abs(b)
    with np.errstate(invalid="ignore"):
        bad = ~((a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= tol))
    return f"{bad.sum()} of {bad.size} values differ, by {np.nanmax(np.abs(a - b)[bad], initial=0):.1e}" if bad.any() else ""


def rewrite(tenon, path, out, level):
    command = ["optimize", path, out, f"-{level}"] if level else ["export", "onnx", path, out]
    return subprocess.run([tenon, *command], capture_output=True, text=True, errors="replace")


def check(out, row, golds):
    """Every case of the goldens: PyTorch's outputs."""
    onnx.checker.check_model(out, full_check=True)
    s, n, bad = session(out), 0, []
    if [i.name for i in s.get_inputs()] != row["inputs"]:
        return f"inputs {[i.name for i in s.get_inputs()]}, before {row['inputs']}"
    while f"{n}.in.{row['inputs'][0]}" in golds:
        types = {i.name: i.type for i in s.get_inputs()}
        feeds = {k: golds[f"{n}.in.{k}"] for k in row["inputs"]}
        feeds = {k: v.astype(np.int64) if types[k] == "tensor(int64)" else v for k, v in feeds.items()}
        for o, x in zip(s.get_outputs(), s.run(None, feeds)):
            r = golds.get(f"{n}.out.{o.name}")
            if r is not None and (x.shape != r.shape or not golden.Difference(x, r).ok):
                bad.append(f"case {n} {o.name}")
        n += 1
    return ", ".join(bad) or ("" if n else "no goldens")


def files(o):
    rows = json.load(open(os.path.join(EXPORT, "manifest.json")))
    failures, names = 0, o.models or sorted(rows)
    for name in names:
        with tempfile.TemporaryDirectory() as tmp:
            out = os.path.join(tmp, "model.onnx")
            p = rewrite(o.tenon, os.path.join(EXPORT, "models", name + ".onnx"), out, o.optimize)
            words = p.stderr.strip().splitlines()[0] if p.returncode else ""
            if not words:
                try:
                    words = check(out, rows[name], golden.load(os.path.join(EXPORT, "goldens", rows[name]["model"] + ".safetensors")))
                except Exception as e:
                    words = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
        failures += bool(words)
        print(f"{'FAIL' if words else 'ok  '} {name} {words}", flush=True)
    print(f"{len(names) - failures} of {len(names)} files")
    return failures > 0 or not names


def node(tenon, case, level, tmp):
    """("ok" | "import" | "runtime" | "refused" | "wrong", words)"""
    path, out = os.path.join(tmp, "i.onnx"), os.path.join(tmp, "o.onnx")
    onnx.save(case.model, path)
    given, want = case.data_sets[0]
    if any(isinstance(v, list) or v is None for v in [*given, *want]):
        return "lists", ""  # are inputs and outputs of their own behind tenon
    try:
        s = session(path)
        feeds = dict(zip([i.name for i in s.get_inputs()], given))
        if any(differs(x, r) for x, r in zip(s.run(None, feeds), want)):
            return "runtime", ""
    except Exception:
        return "runtime", ""
    p = subprocess.run([tenon, "opt", path, "-o", os.path.join(tmp, "o.tir")], capture_output=True, text=True, errors="replace")
    if p.returncode:
        return "import", ""
    p = rewrite(tenon, path, out, level)
    if p.returncode:
        lines = p.stderr.strip().splitlines()
        return ("refused" if len(lines) == 1 else "wrong"), lines[0] if lines else f"status {p.returncode}"
    try:
        onnx.checker.check_model(out, full_check=True)
        s = session(out)
        words = "; ".join(filter(None, (differs(x, r) for x, r in zip(s.run(None, {i.name: feeds[i.name] for i in s.get_inputs()}), want))))
        return ("wrong", words) if words else ("ok", "")
    except Exception as e:
        text = " ".join(str(e).split())
        return "no kernel" if "NOT_IMPLEMENTED" in text else "wrong", text[:200]


def apart(*args):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(w, json.dumps(node(*args)).encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        text = f.read()
    status = os.waitpid(pid, 0)[1]
    return json.loads(text) if status == 0 and text else ("wrong", f"ended with status {status}")


def nodes(o):
    from onnx.backend.test.loader import load_model_tests
    counts, failures = {}, 0
    for case in load_model_tests(kind="node"):
        if not re.search(o.nodes, case.name) or case.name.endswith("_expanded") or "_expanded_" in case.name:
            continue
        with tempfile.TemporaryDirectory() as tmp:
            kind, words = apart(o.tenon, case, o.optimize, tmp)
        counts[kind] = counts.get(kind, 0) + 1
        failures += kind == "wrong"
        if kind == "wrong" or o.v and kind in ("refused", "no kernel"):
            print(f"{'FAIL' if kind == 'wrong' else 'ok  '} {case.name}: {kind}: {words}", flush=True)
    print(", ".join(f"{n} {k}" for k, n in sorted(counts.items())))
    return failures > 0 or not counts


def main():
    a = argparse.ArgumentParser()
    a.add_argument("tenon")
    a.add_argument("models", nargs="*")
    a.add_argument("--optimize")
    a.add_argument("--nodes", nargs="?", const=".")
    a.add_argument("-v", action="store_true")
    o = a.parse_args()
    return nodes(o) if o.nodes else files(o)


if __name__ == "__main__":
    sys.exit(main())
