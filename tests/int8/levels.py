#!/usr/bin/env python3
"""`tenon optimize -O1..-O3` on the exports of tests/onnx/export: outputs stay in the bounds that tools/export/LEVELS.md states.

    levels.py TENON [NAME...]

The file as it was exported and the file of each level run in ONNX Runtime with its own optimisations off, with the
inputs of the goldens. The largest difference of an output, over its largest number, must be at most the bound that the
document gives for the level; no level has more nodes than the one below; norms are found from O2 on, products with the same
input are merged at O3 (of a folder that tenon exports: the weights of the other files are too small). One line per
model with the differences; exits 1 if one is too large.
"""
import collections
import json
import os
import re
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e.name} is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..", "..")
EXPORT = os.path.join(HERE, "..", "onnx", "export")
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
import golden  # noqa: E402

LEVELS = ("O1", "O2", "O3")


def bounds():
    """| `-O1` | ... | 1e-6 | ... of the document."""
    with open(os.path.join(TOP, "tools", "export", "LEVELS.md")) as f:
        rows = re.findall(r"^\| `-(O\d)` \|.*\| (\d\S*) \|$", f.read(), re.M)
    return {level: float(bound) for level, bound in rows}


def session(path):
    o = ort.SessionOptions()
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    o.intra_op_num_threads, o.log_severity_level = 1, 3
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def run_all(path, cases):
    s = session(path)
    wanted = {i.name for i in s.get_inputs()}
    names = [o.name for o in s.get_outputs()]
    return [dict(zip(names, s.run(None, {k: v for k, v in c.items() if k in wanted}), strict=True)) for c in cases]


def difference(a, b):
    worst = 0.0
    for one, other in zip(a, b, strict=True):
        if one.keys() != other.keys():
            return f"outputs are {sorted(other)}, not {sorted(one)}"
        for k, x in one.items():
            y = other[k]
            if x.shape != y.shape or x.dtype != y.dtype:
                return f"{k} is {y.dtype}{list(y.shape)}, not {x.dtype}{list(x.shape)}"
            if x.size and x.dtype == np.float32:
                worst = max(worst, float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-30)))
            elif x.size and (x != y).any():
                return f"{k} differs"
    return worst


def check(tenon, path, cases, opset, norms, limit):
    """The lines of the levels, or what is wrong; and the ops of each level."""
    plain, seen, ops, last = run_all(path, cases), [], {}, 0
    for level in LEVELS:
        with tempfile.TemporaryDirectory() as tmp:
            out = os.path.join(tmp, "out.onnx")
            rc, _, err = golden.run(tenon, ["optimize", path, out, "-" + level, "--opset", str(opset)])
            if rc:
                return err.strip().splitlines()[0], None
            onnx.checker.check_model(out, full_check=True)
            nodes = ops[level] = collections.Counter(n.op_type for n in onnx.load(out).graph.node)
            d = difference(plain, run_all(out, cases))
        if isinstance(d, str) or d > limit[level]:
            return f"{level}: {d if isinstance(d, str) else f'{d:.1e}, the bound is {limit[level]}'}", None
        if seen and nodes.total() > last:
            return f"{level} has {nodes.total()} nodes, the level below has {last}", None
        if level != "O1" and nodes["LayerNormalization"] < norms:
            return f"{level} has {nodes['LayerNormalization']} LayerNormalization, {norms} were expected", None
        last = nodes.total()
        seen.append(f"{level} {last} nodes {d:.1e}")
    print("ok  ", os.path.basename(path), f"{len(onnx.load(path).graph.node)} nodes;", ", ".join(seen), flush=True)
    return None, ops


def check_export(tenon, name, row, limit):
    golds = golden.load(os.path.join(EXPORT, "goldens", row["model"] + ".safetensors"))
    cases = [{k: golds[f"{n}.in.{k}"] for k in row["inputs"]} for n in range(3) if f"{n}.in.{row['inputs'][0]}" in golds]
    path = os.path.join(EXPORT, "models", name + ".onnx")
    return check(tenon, path, cases, max(row["opset"], 20), row["fusions"].get("layer_norm", 0), limit)[0]


def check_merges(tenon, limit):
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "bert.onnx")
        rc, _, err = golden.run(tenon, ["export", "onnx", os.path.join(HERE, "..", "parity", "models", "bert-model"), path])
        if rc:
            return err.strip().splitlines()[0]
        ids = np.arange(3, 17).reshape(2, 7)
        case = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        why, ops = check(tenon, path, [case], 20, 1, limit)
    if why:
        return why
    merged = ops["O2"]["MatMul"] - ops["O3"]["MatMul"]
    return None if merged >= 2 and ops["O3"]["Split"] else f"O3 has {merged} products less than O2"


def main():
    tenon, *only = sys.argv[1:]
    with open(os.path.join(EXPORT, "manifest.json")) as f:
        rows = json.load(f)
    limit, failures = bounds(), 0
    if sorted(limit) != sorted(LEVELS):
        sys.exit(f"LEVELS.md gives bounds for {sorted(limit)}")
    for name in only or [*rows, "merges"]:
        why = check_merges(tenon, limit) if name == "merges" else check_export(tenon, name, rows[name], limit)
        failures += why is not None
        if why:
            print("FAIL", name, why, flush=True)
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
