#!/usr/bin/env python3
"""The commands themselves: names of inputs and outputs, tasks, folders, external data, what is refused.

    command.py TENON
"""
import json
import os
import re
import subprocess
import sys
import tempfile

try:
    import onnx
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e.name} is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "..", "parity", "models")
failures = 0


def run(*args):
    p = subprocess.run([sys.argv[1], *args], capture_output=True, text=True, errors="replace")
    return p.returncode, p.stdout, p.stderr


def expect(what, ok, words=""):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {what} {'' if ok else words}", flush=True)


def names(path):
    g = onnx.load(path, load_external_data=False).graph
    return [i.name for i in g.input], [o.name for o in g.output]


def signature(tmp, model, flags, inputs, outputs):
    out = os.path.join(tmp, "model.onnx")
    rc, _, err = run("export", "onnx", os.path.join(MODELS, model), out, *flags)
    got = names(out) if rc == 0 else err
    expect(f"{model} {' '.join(flags)}", got == (inputs, outputs), got)


def refused(tmp, what, status, word, *args):
    """One message with that word, and nothing written."""
    before = sorted(os.listdir(tmp))
    rc, out, err = run(*args)
    lines = err.strip().splitlines()
    expect(f"refused: {what}", rc == status and len(lines) == 1 and word in lines[0] and sorted(os.listdir(tmp)) == before,
           (rc, err, sorted(os.listdir(tmp))))


def signatures(tmp):
    bert = ["input_ids", "attention_mask", "token_type_ids"]
    past = [f"past_key_values.{n}.{k}" for n in range(2) for k in ("key", "value")]
    present = [f"present.{n}.{k}" for n in range(2) for k in ("key", "value")]
    signature(tmp, "bert-model", [], bert, ["last_hidden_state"])
    signature(tmp, "bert-qa", [], bert, ["start_logits", "end_logits"])
    signature(tmp, "bert-mlm", ["--task", "feature-extraction"], bert, ["last_hidden_state"])
    signature(tmp, "sentence-mean", [], bert, ["token_embeddings", "sentence_embedding"])
    signature(tmp, "distilbert", [], bert[:2], ["last_hidden_state"])
    signature(tmp, "llama", [], ["input_ids", "attention_mask", "position_ids", *past], ["logits", *present])
    signature(tmp, "bloom", [], ["input_ids", "attention_mask", *past], ["logits", *present])
    signature(tmp, "llama", ["--task", "text-generation"], ["input_ids", "attention_mask", "position_ids"], ["logits"])
    signature(tmp, "mamba", [], ["input_ids", "past_conv.0", "past_ssm.0", "past_conv.1", "past_ssm.1"],
              ["logits", "present_conv.0", "present_ssm.0", "present_conv.1", "present_ssm.1"])
    signature(tmp, "llama", ["--entry", "next"], ["ids", *past], ["logits", *present])


def folder(tmp):
    out = os.path.join(tmp, "folder/")
    rc, text, err = run("export", "onnx", os.path.join(MODELS, "llama"), out, "--external-data", "--json")
    report = json.loads(text) if rc == 0 else {}
    expect("a folder", sorted(os.listdir(out)) == ["config.json", "model.onnx", "model.onnx.data"], os.listdir(out))
    m = onnx.load(os.path.join(out, "model.onnx"), load_external_data=False)
    outside = [{e.key: e.value for e in t.external_data} for t in m.graph.initializer if t.data_location]
    size = os.path.getsize(os.path.join(out, "model.onnx.data"))
    expect("offsets", outside and all(int(e["offset"]) % 4096 == 0 and e["location"] == "model.onnx.data" and
                                      int(e["offset"]) + int(e["length"]) <= size for e in outside), outside)
    expect("report", report.get("data_bytes") == size and report.get("nodes") == len(m.graph.node) and report["opset"] == 18, report)


def same_bytes(tmp):
    a, b = os.path.join(tmp, "model.onnx"), os.path.join(tmp, "again.onnx")
    for out in (a, b):
        run("export", "onnx", os.path.join(MODELS, "gemma3"), out)
    expect("same bytes", open(a, "rb").read() == open(b, "rb").read())


def rows():
    """Every op that can stand in a module before fusion has a row in export.def."""
    root = os.path.join(HERE, "..", "..", "..")
    ops = re.findall(r"^TN_(?:OP|UNARY|UNARYF|BINARY|LOGIC|SHIFT|REDUCE)\((\w+), ", open(os.path.join(root, "ir", "ops.def")).read(), re.M)
    written = re.findall(r"^TN_OW_(?:SAME|OP)\((\w+), ", open(os.path.join(root, "frontend", "onnx", "export.def")).read(), re.M)
    missing = set(ops) - set(written) - {"kernel", "yield"}
    expect("rows", len(ops) > 100 and not missing and set(written) <= set(ops), sorted(missing))


def flow(tmp):
    """If, Loop and a size that data decides, with numbers worked out by hand."""
    import numpy as np
    import onnxruntime as ort
    out = os.path.join(tmp, "flow.onnx")
    rc, _, err = run("export", "onnx", os.path.join(HERE, "flow.tir"), out)
    onnx.checker.check_model(out, full_check=True)
    s = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    x = np.array([[1, 0], [0, 3], [5, 0]], np.float32)
    for c, n in ((True, 2), (False, 0), (True, 50)):
        a, b, sums, p = s.run(None, {"c": np.array(c), "n": np.array(n, np.int64), "x": x})
        steps = next((k + 1 for k in range(n) if 9 * (k + 2) >= 100), n)
        good = (a == (np.concatenate([x, x]) if c else x)).all() and (b == x * (steps + 1)).all() and p.tolist() == [0, 3, 4]
        expect(f"flow {c} {n}", good and sums.tolist() == [9 * (k + 2) for k in range(steps)], (a, b, sums, p))


def refusals(tmp):
    llama, out = os.path.join(MODELS, "llama"), os.path.join(tmp, "x.onnx")
    tir = os.path.join(tmp, "two.tir")
    with open(tir, "w") as f:
        f.write("module @m {\n  dims B\n  func @a(%x: f32[B]) -> f32[B] { return %x }\n  func @b(%x: f32[B]) -> f32[B] { return %x }\n"
                .replace("{ return %x }", "{\n    return %x\n  }") + "}\n")
    f8 = os.path.join(tmp, "f8.tir")
    with open(f8, "w") as f:
        f.write("module @m {\n  dims B\n  func @a(%x: f8e4m3[B]) -> f8e4m3[B] {\n    return %x\n  }\n}\n")
    refused(tmp, "no model", 1, "no such file", "export", "onnx", os.path.join(tmp, "none"), out)
    refused(tmp, "format", 2, "is not a format", "export", "tflite", llama, out)
    refused(tmp, "no folder to write to", 1, "cannot write", "export", "onnx", llama, os.path.join(tmp, "no", "x.onnx"))
    refused(tmp, "opset 13", 2, "between 14 and 26", "export", "onnx", llama, out, "--opset", "13")
    refused(tmp, "opset 27", 2, "between 14 and 26", "export", "onnx", llama, out, "--opset", "27")
    refused(tmp, "quantized", 2, "not float", "export", "onnx", llama, out, "--quantized", "int3")
    refused(tmp, "blocks before 21", 1, "opset 21", "export", "onnx", llama, out, "--quantized", "dequantize", "--opset", "18")
    refused(tmp, "task", 1, "it can for", "export", "onnx", llama, out, "--task", "fill-mask")
    refused(tmp, "entry", 1, "no entry point", "export", "onnx", llama, out, "--entry", "nothing")
    refused(tmp, "two graphs", 1, "--entry chooses", "export", "onnx", tir, out)
    refused(tmp, "type", 1, "needs opset 19", "export", "onnx", f8, out)
    refused(tmp, "packed cache", 1, "packed as q8_0", "export", "onnx", os.path.join(MODELS, "gpt2-q8", "model.gguf"), out,
            "--kv-cache", "q8_0") if kv_q8() else None
    refused(tmp, "not a model", 1, "", "optimize", os.path.join(HERE, "command.py"), out)


def kv_q8():
    rc, _, _ = run("opt", os.path.join(MODELS, "gpt2-q8", "model.gguf"), "--kv-cache", "q8_0")
    return rc == 0


def main():
    rows()
    with tempfile.TemporaryDirectory() as tmp:
        signatures(tmp)
    with tempfile.TemporaryDirectory() as tmp:
        folder(tmp)
    with tempfile.TemporaryDirectory() as tmp:
        same_bytes(tmp)
    with tempfile.TemporaryDirectory() as tmp:
        flow(tmp)
    with tempfile.TemporaryDirectory() as tmp:
        refusals(tmp)
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
