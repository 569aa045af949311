#!/usr/bin/env python3
"""`tenon quantize MODEL OUT.onnx int8-dynamic|int8-static` on small models: what the files say, and what they compute.

    models.py TENON [NAME...]

Each model is exported in f32 and quantized in several ways: encoders from their ONNX file with stored inputs, the bundled
decoder from its folder with a text, others without data. onnx.checker accepts the files; codes and scales of
every weight are those that NumPy rounds from the f32 file's; ONNX Runtime's outputs are near the f32 model's (a cosine for each
way), and tenon gives the outputs that ONNX Runtime gives. One line per model and way; exits 1 if one is wrong.
"""
import os
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    import tokenizers
    from onnx import numpy_helper
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e.name} is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
import golden  # noqa: E402

PARITY = os.path.join(HERE, "..", "parity", "models")
# Model -> folder, how it is calibrated.
MODELS = {
    "bert-model": (os.path.join(PARITY, "bert-model"), "stored"), "distilbert": (os.path.join(PARITY, "distilbert"), "stored"),
    "sentence-mean": (os.path.join(PARITY, "sentence-mean"), "stored"), "gpt2": (os.path.join(PARITY, "gpt2"), None),
    "llama": (os.path.join(PARITY, "llama"), None), "demo": (os.path.join(HERE, "..", "..", "tools", "demo-model", "model"), "text"),
}  # fmt: skip
TEXT = "In the beginning God created the heaven and the earth. And the earth was without form, and void. " * 8
# Way -> words, the ops that must be there, least cosine of any output to f32, the same of tenon to ONNX Runtime.
WAYS = {
    "dynamic": (["int8-dynamic"], {"MatMulInteger"}, 0.999, 0.9999),
    "dynamic, one step": (["int8-dynamic", "--activation-scales", "tensor"], {"DynamicQuantizeLinear", "MatMulInteger"}, 0.998, 0.9999),
    "dynamic, per tensor": (["int8-dynamic", "--per-tensor", "--leave-tables"], {"MatMulInteger"}, 0.998, 0.9999),
    "static": (["int8-static"], {"QuantizeLinear", "DequantizeLinear"}, 0.998, 0.9995),
    "static, symmetric": (["int8-static", "--symmetric"], {"QuantizeLinear", "DequantizeLinear"}, 0.997, 0.9995),
    "static, mse": (["int8-static", "--calibration-method", "mse"], {"QuantizeLinear", "DequantizeLinear"}, 0.997, 0.9995),
    "static, smoothed": (["int8-static", "--method", "smoothquant"], {"QuantizeLinear", "DequantizeLinear"}, 0.998, 0.9995),
    "dynamic, smoothed": (["int8-dynamic", "--method", "smoothquant"], {"MatMulInteger"}, 0.999, 0.9999),
}  # fmt: skip


def cosine(a, b):
    a, b = a.astype("f8").ravel(), b.astype("f8").ravel()
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30))


def inputs(model, rng):
    """Values for every input: batch 2, 7 tokens, an empty past."""
    out = {}
    for i in model.graph.input:
        dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in i.type.tensor_type.shape.dim]
        past = i.name.startswith("past")
        shape = [d if isinstance(d, int) else 2 if "batch" in d else 0 if past else 7 for d in dims]
        kind = onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)
        if i.name == "input_ids":
            x = rng.integers(3, 50, shape)
        elif i.name == "position_ids":
            x = np.broadcast_to(np.arange(7), shape)
        else:
            x = np.ones(shape) if i.name == "attention_mask" else np.zeros(shape)
        out[i.name] = np.ascontiguousarray(x.astype(kind))
    return out


def write_inputs(folder, values):
    os.makedirs(folder)
    for i, (name, x) in enumerate(values.items()):
        with open(os.path.join(folder, f"input_{i}.pb"), "wb") as f:
            f.write(numpy_helper.from_array(x, name).SerializeToString())


def run_ort(path, values):
    o = ort.SessionOptions()
    o.intra_op_num_threads, o.log_severity_level = 1, 3
    s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    return dict(zip([x.name for x in s.get_outputs()], s.run(None, values), strict=True))


def run_tenon(tenon, path, entry, values, tmp):
    args = ["run", path, "--entry", entry, "--output-dir", tmp]
    for name, x in values.items():
        np.save(os.path.join(tmp, f"in-{name}.npy"), x)
        args += ["--input", f"{name}={tmp}/in-{name}.npy"]
    rc, _, err = golden.run(tenon, args)
    return err.strip().splitlines()[0] if rc else None


def expected_codes(w, axis):
    scale = np.abs(w).max(axis=axis, keepdims=True).astype("f4") / np.float32(127)
    scale[scale < 2.0**-126] = 1
    return np.clip(np.rint(w / scale), -127, 127).astype("i1"), scale


def check_codes(plain, model, words):
    """Codes of weights that were not smoothed: some f32 initialiser, perhaps transposed, rounded."""
    weights = {i.name: numpy_helper.to_array(i) for i in plain.graph.initializer}
    scales = [numpy_helper.to_array(i) for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT]
    found = 0
    for i in model.graph.initializer:
        if not i.name.endswith(".codes") and ".codes_" not in i.name:
            continue
        codes, w = numpy_helper.to_array(i), weights.get(i.name.split(".codes")[0])
        if w is None:
            return f"'{i.name}' is of no weight"
        found += 1
        if "smoothquant" in words:
            continue
        products = [(w.T, 0), (w, 0)] if w.shape != codes.shape or w.shape[0] == w.shape[1] else [(w, 0)]
        choices = [(x, None if "--per-tensor" in words else a) for x, a in products] + [(w, 1)]
        made = [expected_codes(x.astype("f4"), a) for x, a in choices]
        if not any(np.array_equal(c, codes) and any(s.size == y.size and np.array_equal(s.ravel(), y.ravel()) for y in scales)
                   for c, s in made):  # fmt: skip
            return f"'{i.name}' holds other codes or scales than rounding gives"
    return None if found else "no weight is in 8 bits"


def needs_data(words):
    return words[0] == "int8-static" or "smoothquant" in words


def check(tenon, way, source, plain, f32, values, data, tmp):
    words, ops, least, same = WAYS[way]
    out = os.path.join(tmp, "q.onnx")
    calibration = ["--calibration", data] if needs_data(words) else []
    rc, _, err = golden.run(tenon, ["quantize", source, out, *words, *calibration])
    if rc:
        return err.strip().splitlines()[0]
    onnx.checker.check_model(out, full_check=True)
    model = onnx.load(out)
    missing = ops - {n.op_type for n in model.graph.node}
    if missing:
        return f"there is no {missing}"
    why = check_codes(plain, model, words)
    if why:
        return why
    got = run_ort(out, values)
    worst = min(cosine(got[k], f32[k]) for k in f32 if f32[k].dtype == np.float32 and f32[k].size)
    if worst < least:
        return f"cosine {worst:.5f} to f32, at least {least} was expected"
    why = run_tenon(tenon, out, model.graph.name, values, tmp)
    if why:
        return why
    ours = min(cosine(np.load(os.path.join(tmp, f"{k}.npy")), v) for k, v in got.items() if v.dtype == np.float32 and v.size)
    return None if ours >= same else f"tenon's outputs have a cosine of {ours:.6f} to ONNX Runtime's"


def check_model(tenon, name, top):
    """Yields way, what is wrong."""
    folder, how = MODELS[name]
    source = os.path.join(top, "f32.onnx")
    rc, _, err = golden.run(tenon, ["export", "onnx", folder, source])
    if rc:
        yield "f32", err.strip().splitlines()[0]
        return
    plain, rng = onnx.load(source), np.random.default_rng(1)
    values = inputs(plain, rng)
    data = os.path.join(top, "data")
    if how == "text":
        with open(data, "w") as f:
            f.write(TEXT)
        ids = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).encode(TEXT).ids
        values["input_ids"] = np.array(ids[: values["input_ids"].size], "i8").reshape(values["input_ids"].shape)
    for i in range(4 if how == "stored" else 0):
        write_inputs(os.path.join(data, f"set_{i}"), inputs(plain, rng))
    f32 = run_ort(source, values)
    for way, (words, *_) in WAYS.items():
        if how or not needs_data(words):
            with tempfile.TemporaryDirectory() as tmp:
                yield way, check(tenon, way, folder if how == "text" else source, plain, f32, values, data, tmp)


def main():
    tenon, *only = sys.argv[1:]
    failures = 0
    for name in only or MODELS:
        with tempfile.TemporaryDirectory() as top:
            for way, why in check_model(tenon, name, top):
                failures += why is not None
                print("FAIL" if why else "ok  ", name, way, why or "", flush=True)
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
