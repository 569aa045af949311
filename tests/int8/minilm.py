#!/usr/bin/env python3
"""MiniLM in int8: cosines of 200 sentence embeddings to f32, against ONNX Runtime's own quantisers on the same model and data.

    minilm.py TENON FOLDER [--tenon] [--all]

tenon's files (dynamic, static, each also smoothed) and those of onnxruntime.quantization (quantize_dynamic per
channel; quantize_static of the same products, per channel, u8 activations: the best of its settings that were tried)
run in ONNX Runtime; the mean and the least cosine of ours must be at least those of theirs. --tenon: ours also run in
tenon, at the same cosines. --all: more ways of ours. Sentences are lines of this repository's documents: 100 to
calibrate, 200 others to measure.
"""
import glob
import os
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    import tokenizers
    from onnxruntime import quantization as oq
    from onnxruntime.quantization.shape_inference import quant_pre_process
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e.name} is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
import golden  # noqa: E402

OURS = {
    "dynamic": ["int8-dynamic"],
    "dynamic, smoothed": ["int8-dynamic", "--method", "smoothquant"],
    "static": ["int8-static"],
    "static, smoothed": ["int8-static", "--method", "smoothquant"],
}
MORE = {
    "dynamic, one step": ["int8-dynamic", "--activation-scales", "tensor"],
    "dynamic, one step, smoothed": ["int8-dynamic", "--activation-scales", "tensor", "--method", "smoothquant"],
    "static, percentile": ["int8-static", "--calibration-method", "percentile"],
    "static, entropy": ["int8-static", "--calibration-method", "entropy"],
    "static, mse": ["int8-static", "--calibration-method", "mse"],
    "static, mse, smoothed": ["int8-static", "--calibration-method", "mse", "--method", "smoothquant"],
    "static, symmetric": ["int8-static", "--symmetric"],
    "static, per tensor": ["int8-static", "--per-tensor"],
}


def sentences():
    """Lines of prose of the documents, in an order that does not depend on the file system."""
    lines = []
    for path in sorted(glob.glob(os.path.join(TOP, "**", "*.md"), recursive=True)):
        if os.sep + "." in os.path.relpath(path, TOP) or os.sep + "build" in path:
            continue
        with open(path) as f:
            lines += [x.strip() for x in f if len(x) > 60 and x[0].isalpha()]
    lines = list(dict.fromkeys(lines))
    return lines[::3][:100], [x for i, x in enumerate(lines) if i % 3][:200]


class Model:
    def __init__(self, folder, texts):
        t = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        t.enable_truncation(64)
        t.no_padding()
        self.batches = []
        for at in range(0, len(texts), 8):
            rows = [t.encode(x).ids for x in texts[at : at + 8]]
            n = max(map(len, rows))
            ids = np.array([r + [0] * (n - len(r)) for r in rows], "i8")
            mask = np.array([[1] * len(r) + [0] * (n - len(r)) for r in rows], "i8")
            self.batches.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})

    def embed(self, run):
        out = []
        for b in self.batches:
            h, m = run(b), b["attention_mask"][..., None]
            v = (h * m).sum(1) / m.sum(1)
            out.append(v / np.linalg.norm(v, axis=1, keepdims=True))
        return np.concatenate(out)


def by_ort(path):
    o = ort.SessionOptions()
    o.intra_op_num_threads, o.log_severity_level = 2, 3
    s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    names = [i.name for i in s.get_inputs()]
    return lambda b: s.run(None, {k: b[k] for k in names})[0]


def by_tenon(tenon, path, tmp):
    graph = onnx.load(path).graph
    lib = os.path.join(tmp, "libq.so")
    rc, _, err = golden.run(tenon, ["compile", path, "-o", lib])
    if rc:
        raise RuntimeError(err.strip()[:300])

    def run(b):
        args = ["run", lib, "--entry", graph.name, "--output-dir", tmp]
        for i in graph.input:
            np.save(os.path.join(tmp, f"{i.name}.in.npy"), b[i.name])
            args += ["--input", f"{i.name}={tmp}/{i.name}.in.npy"]
        rc, _, err = golden.run(tenon, args)
        if rc:
            raise RuntimeError(err.strip()[:300])
        return np.load(os.path.join(tmp, graph.output[0].name + ".npy"))

    return run


class Reader(oq.CalibrationDataReader):
    def __init__(self, batches):
        self.rows = iter(batches)

    def get_next(self):
        return next(self.rows, None)


def theirs(f32, calibration, tmp):
    """Files of ONNX Runtime's quantisers."""
    pre = os.path.join(tmp, "pre.onnx")
    quant_pre_process(f32, pre, skip_symbolic_shape=True)
    dynamic, static = os.path.join(tmp, "their-dynamic.onnx"), os.path.join(tmp, "their-static.onnx")
    oq.quantize_dynamic(pre, dynamic, per_channel=True)
    graph = onnx.load(pre).graph
    names, weights = {i.name for i in graph.input}, {i.name for i in graph.initializer}
    products = [n.name for n in graph.node if n.op_type == "MatMul" and n.input[1] in weights]
    rows = [{k: v for k, v in b.items() if k in names} for b in calibration]
    oq.quantize_static(pre, static, Reader(rows), per_channel=True, activation_type=oq.QuantType.QUInt8,
                       weight_type=oq.QuantType.QInt8, op_types_to_quantize=["MatMul"], nodes_to_quantize=products)  # fmt: skip
    return {"dynamic": dynamic, "static": static}


def main():
    tenon, folder, *flags = sys.argv[1:]
    if not os.path.exists(os.path.join(folder, "model.safetensors")):
        sys.exit(print("SKIPPED: tools/fetch-minilm has not run") or 77)
    calibration, texts = sentences()
    failures, bars = 0, {}
    with tempfile.TemporaryDirectory() as tmp:
        f32, text = os.path.join(tmp, "f32.onnx"), os.path.join(tmp, "calibration.txt")
        with open(text, "w") as f:
            f.write("\n".join(calibration) + "\n")
        model = Model(folder, texts)
        rc, _, err = golden.run(tenon, ["export", "onnx", folder, f32])
        if rc:
            sys.exit(err)
        reference = model.embed(by_ort(f32))

        def measure(name, run, path):
            c = (model.embed(run) * reference).sum(1)
            print(f"{name:38} mean {c.mean():.6f}  least {c.min():.6f}  {os.path.getsize(path) / 1e6:.1f} MB", flush=True)
            return float(c.mean()), float(c.min())

        for kind, path in theirs(f32, Model(folder, calibration).batches, tmp).items():
            bars[kind] = measure(f"onnxruntime {kind}", by_ort(path), path)
        for name, words in {**OURS, **(MORE if "--all" in flags else {})}.items():
            out = os.path.join(tmp, "ours.onnx")
            data = ["--calibration", text] if "static" in words[0] or "smoothquant" in words else []
            rc, _, err = golden.run(tenon, ["quantize", folder, out, *words, *data])
            if rc:
                failures += 1
                print("FAIL", name, err.strip()[:300])
                continue
            got, bar = measure(f"tenon {name}", by_ort(out), out), bars[words[0].split("-")[1]]
            if name in OURS and (got[0] < bar[0] or got[1] < bar[1]):
                failures += 1
                print("FAIL", name, "is below onnxruntime's")
            if "--tenon" in flags and name in OURS:
                here = measure(f"tenon {name}, in tenon", by_tenon(tenon, out, tmp), out)
                if abs(here[0] - got[0]) > 5e-4:
                    failures += 1
                    print("FAIL", name, "differs in tenon")
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
