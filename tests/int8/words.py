#!/usr/bin/env python3
"""What `tenon quantize ... int8-static|int8-dynamic` says and takes: options, messages, the files it leaves.

    words.py TENON
"""
import json
import os
import sys
import tempfile

try:
    import numpy as np
    import onnx
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e.name} is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
import golden  # noqa: E402

PARITY = os.path.join(HERE, "..", "parity", "models")
BERT = os.path.join(PARITY, "bert-model")
DEMO = os.path.join(HERE, "..", "..", "tools", "demo-model", "model")
FAILURES = 0


def expect(ok, what):
    global FAILURES
    FAILURES += not ok
    print("ok  " if ok else "FAIL", what, flush=True)


REFUSED = [
    (["int8-static"], "needs --calibration"),
    (["int8-dynamic", "--method", "smoothquant"], "needs --calibration"),
    (["int8-dynamic", "--method", "gptq"], "is not rtn or smoothquant"),
    (["int8-dynamic", "--exclude", "no_such_weight"], "no weight and no node matches 'no_such_weight'"),
    (["int8-dynamic", "--exclude", "("], "--exclude: '('"),
    (["int8-dynamic", "--exclude", "."], "there is no product with a matrix of weights"),
    (["int8-dynamic", "--activation-scales", "row"], "'row' is not token or tensor"),
    (["int8-static", "--calibration", "x", "--activation-scales", "token"], "is for int8-dynamic"),
    (["int8-static", "--calibration", "x", "--calibration-method", "median"], "minmax, percentile, entropy or mse"),
    (["int8-static", "--calibration", "x", "--percentile", "30"], "a number above 50"),
    (["int8-static", "--calibration", HERE], "neither holds stored inputs"),
    (["int8-static", "--calibration", "/nowhere/x"], "/nowhere/x"),
]


def refused(tenon, tmp):
    for i, (words, text) in enumerate(REFUSED):
        out = os.path.join(tmp, f"refused{i}.onnx")
        rc, _, err = golden.run(tenon, ["quantize", BERT, out, *words])
        expect(rc != 0 and text in err and not os.path.exists(out), f"{' '.join(words[:3])}: {err.strip()[:150]}")


def codes_of(model):
    return {i.name.split(".codes")[0] for i in model.graph.initializer if i.data_type == onnx.TensorProto.INT8 and i.dims}


def excluded(tenon, tmp):
    names = {}
    for what, words in {"all": [], "less": ["--exclude", "attention.*(query|key)", "--exclude", r"layer\.0\.output"]}.items():
        out = os.path.join(tmp, "x.onnx")
        rc, text, err = golden.run(tenon, ["quantize", BERT, out, "int8-dynamic", "--json", *words])
        expect(rc == 0, f"{what}: {err.strip()[:150]}")
        row = json.loads(text)
        names[what] = codes_of(onnx.load(out))
        expect({w["name"] for w in row["weights"]} >= names[what], f"{what}: the JSON names the weights")
        expect(all(0 < w["nmse"] < 1e-3 for w in row["weights"]), f"{what}: errors are those of 8 bits")
    gone = names["all"] - names["less"]
    expect(gone and all("query" in n or "key" in n or "layer.0.output" in n for n in gone), f"left out: {sorted(gone)}")
    expect(not any("query" in n or "layer.0.output" in n for n in names["less"]), "nothing excluded is in 8 bits")


def tables(tenon, tmp):
    counts, out = [], os.path.join(tmp, "t.onnx")
    for words in ([], ["--leave-tables"], ["--exclude", "embed"]):
        _, text, err = golden.run(tenon, ["quantize", DEMO, out, "int8-dynamic", "--json", *words])
        counts.append(json.loads(text)["tables"])
    expect(counts[0] > 0 and counts[1:] == [0, 0], f"tables in 8 bits: {counts}")


def by_nodes(tenon, tmp):
    """An ONNX file's nodes have names, which --exclude takes too."""
    plain, out = os.path.join(tmp, "plain.onnx"), os.path.join(tmp, "q.onnx")
    golden.run(tenon, ["export", "onnx", BERT, plain])
    model = onnx.load(plain)
    first = next(n for n in model.graph.node if n.op_type == "MatMul")
    for i, n in enumerate(model.graph.node):
        n.name = f"/step/{i}/{n.op_type}"
    chosen = first.name
    onnx.save(model, plain)
    counts = []
    for words in ([], ["--exclude", f"^{chosen}$"]):
        rc, text, err = golden.run(tenon, ["quantize", plain, out, "int8-dynamic", "--json", *words])
        expect(rc == 0, f"by node {words}: {err.strip()[:150]}")
        counts.append(json.loads(text)["products"])
    expect(counts[0] == counts[1] + 1, f"one product less by the name of its node: {counts}")


def folder(tenon, tmp):
    text = os.path.join(tmp, "text")
    with open(text, "w") as f:
        f.write("In the beginning God created the heaven and the earth. " * 10)
    out = os.path.join(tmp, "out") + "/"
    rc, said, err = golden.run(tenon, ["quantize", DEMO, out, "int8-static", "--calibration", text, "--percentile", "99.9"])
    expect(rc == 0 and "in 8 bits" in said, f"folder: {said.strip()} {err.strip()[:150]}")
    expect({"model.onnx", "tokenizer.json", "config.json", "report.json", "report.html"} <= set(os.listdir(out)), f"{sorted(os.listdir(out))}")
    with open(os.path.join(out, "report.json")) as f:
        rows = json.load(f)["tensors"]
    expect(rows and all(r["to"] == "i8" and r["bytes_after"] < r["bytes_before"] for r in rows), f"{len(rows)} rows in the report")
    again = os.path.join(tmp, "again.onnx")
    golden.run(tenon, ["quantize", DEMO, again, "int8-static", "--calibration", text, "--percentile", "99.9", "-t", "1"])
    with open(again, "rb") as a, open(os.path.join(out, "model.onnx"), "rb") as b:
        expect(a.read() == b.read(), "the same input gives the same bytes")


def not_finite(tenon, tmp):
    path, out = os.path.join(tmp, "nan.onnx"), os.path.join(tmp, "no.onnx")
    w = np.ones((64, 64), "f4")
    w[5, 7] = np.nan
    h = onnx.helper
    graph = h.make_graph([h.make_node("MatMul", ["x", "w"], ["y"])], "g", [h.make_tensor_value_info("x", 1, ["b", 64])],
                         [h.make_tensor_value_info("y", 1, ["b", 64])], [onnx.numpy_helper.from_array(w, "w")])  # fmt: skip
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=9), path)
    rc, _, err = golden.run(tenon, ["quantize", path, out, "int8-dynamic"])
    expect(rc != 0 and "not finite" in err and not os.path.exists(out), f"a weight with NaN: {err.strip()[:150]}")


def main():
    tenon = sys.argv[1]
    for part in (refused, excluded, tables, by_nodes, folder, not_finite):
        with tempfile.TemporaryDirectory() as tmp:
            part(tenon, tmp)
    sys.exit(FAILURES != 0)


if __name__ == "__main__":
    main()
