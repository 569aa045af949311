#!/usr/bin/env python3
"""What tenon export writes and what it refuses, by its files.

    files.py TENON

A copied GGUF file is the same file; packed checkpoints become plain folders and GGUF files with the logits that their
methods' own packages give (tests/packed); config.json has its type and no quantization_config; stored types are those
that were asked for; q8_0 is within half a step of each block's scale; ten things that cannot be are one error each.
"""
import json
import os
import shutil
import struct
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY, PACKED = (os.path.join(os.path.dirname(HERE), d) for d in ("parity", "packed"))
sys.path.insert(0, PARITY)
import golden
import numpy as np

MODELS = os.path.join(PARITY, "models")
failures = 0


def line(what, ok, text=""):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {what:44} {text}", flush=True)


class Tool:
    def __init__(self, tenon, tmp):
        self.tenon, self.tmp = tenon, tmp

    def path(self, name):
        return os.path.join(self.tmp, name)

    def export(self, *args):
        rc, out, err = golden.run(self.tenon, ["export", *args])
        if rc:
            raise RuntimeError(f"export {' '.join(args)}: {err.strip()}")
        return out

    def logits(self, model, ids):
        np.save(self.path("ids.npy"), ids)
        rc, _, err = golden.run(self.tenon, ["run", model, "--entry", "logits", "--output-dir", self.tmp, "-O1", "--input",
                                             f"ids={self.path('ids.npy')}"])
        if rc:
            raise RuntimeError(err.strip())
        return np.load(self.path("logits.npy"))


def header(path):
    with open(path, "rb") as f:
        return json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))


def gguf_tensors(path):
    """Name -> (type, dims), by the format's description."""
    data = open(path, "rb").read()
    at = 4

    def take(fmt):
        nonlocal at
        v = struct.unpack_from("<" + fmt, data, at)
        at += struct.calcsize("<" + fmt)
        return v[0]

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n:at]

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            item, n = take("I"), take("Q")
            return [value(item) for _ in range(n)]
        return take("BbHhIif?"[kind] if kind < 8 else {10: "Q", 11: "q", 12: "d"}[kind])

    assert data[:4] == b"GGUF" and take("I") == 3
    tensors, keys = take("Q"), take("Q")
    kv = {}
    for _ in range(keys):
        name = text().decode()
        kv[name] = value(take("I"))
    rows = {}
    for _ in range(tensors):
        name, rank = text().decode(), take("I")
        dims = [take("Q") for _ in range(rank)][::-1]
        rows[name] = (take("I"), dims, take("Q"))
    start = -(-at // 32) * 32
    return kv, {k: (t, d, start + o) for k, (t, d, o) in rows.items()}, data


def copies(t):
    a, b = t.path("a.gguf"), t.path("b.gguf")
    t.export("gguf", os.path.join(MODELS, "llama"), a)
    t.export("gguf", a, b)
    line("a copied GGUF file is the same file", open(a, "rb").read() == open(b, "rb").read())
    os.mkdir(t.path("into"))
    t.export("gguf", os.path.join(MODELS, "llama"), t.path("into"))
    line("a folder gets a file of the model's name", os.path.exists(t.path("into/llama.gguf")))


def types(t):
    for name, number in (("f32", 0), ("f16", 1), ("bf16", 30), ("q8_0", 8)):
        out = t.path("t.gguf")
        t.export("gguf", os.path.join(MODELS, "deepseek-v2"), out, "--outtype", name)
        kv, rows, _ = gguf_tensors(out)
        matrices = {k: v[0] for k, v in rows.items() if len(v[1]) == 2 and v[1][1] % 32 == 0 and "_inp" not in k}
        vectors = {v[0] for v in rows.values() if len(v[1]) == 1}
        ok = set(matrices.values()) == {number} and vectors == {0}
        line(f"matrices of --outtype {name}", ok and kv["general.file_type"] == {0: 0, 1: 1, 30: 32, 8: 7}[number],
             f"{len(matrices)} of {len(rows)}, file_type {kv['general.file_type']}")
    for name, want in (("f32", "F32"), ("f16", "F16"), ("bf16", "BF16")):
        out = t.path(name)
        t.export("safetensors", os.path.join(MODELS, "deepseek-v2"), out, "--outtype", name)
        got = {v["dtype"] for k, v in header(os.path.join(out, "model.safetensors")).items() if k != "__metadata__"}
        config = json.load(open(os.path.join(out, "config.json")))
        torch = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[name]
        line(f"a folder in {name}", got == {want} and torch in (config.get("dtype"), config.get("torch_dtype")), str(got))


def q8(t):
    out, plain = t.path("q8.gguf"), t.path("f32.gguf")
    t.export("gguf", os.path.join(MODELS, "deepseek-v2"), out, "--outtype", "q8_0")
    t.export("gguf", os.path.join(MODELS, "deepseek-v2"), plain, "--outtype", "f32")
    (_, a, da), (_, b, db) = gguf_tensors(out), gguf_tensors(plain)
    worst, n = 0.0, 0
    for k, (kind, dims, at) in a.items():
        if kind != 8:
            continue
        values = int(np.prod(dims))
        raw = np.frombuffer(da, np.uint8, values // 32 * 34, at).reshape(-1, 34)
        scale = raw[:, :2].copy().view(np.float16).astype(np.float64)
        x = raw[:, 2:].view(np.int8) * scale
        r = np.frombuffer(db, np.float32, values, b[k][2]).reshape(-1, 32)
        worst = max(worst, float((np.abs(x - r) / np.maximum(scale, 1e-30)).max()))
        n += 1
    # codes end at 127, and f16 rounds the scale: a little more than half a step
    line("q8_0 is within half a step", n > 0 and worst < 0.57, f"{n} matrices, {worst:.3f} steps")


def packed(t):
    for name in ("gptq4-g32-act", "awq-g64", "ct-int4-row-zero", "ct-fp8-tensor", "bnb-nf4", "fp8-tiles", "mxfp4", "gptq4-moe"):
        folder = os.path.join(PACKED, "models", name)
        want = golden.load(os.path.join(folder, "expected.safetensors"))
        for kind in ("safetensors", "gguf"):
            out = t.path(f"{name}.{kind}")
            try:
                t.export(kind, folder, out, "--outtype", "f32")
                d = golden.Difference(t.logits(out, want["ids"]), want["logits"])
                text, ok = f"{d.ratio:.3f} of tolerance", d.ok
            except RuntimeError as e:
                text, ok = str(e), False
            line(f"{name} to plain {kind}", ok, text)
        config = json.load(open(os.path.join(t.path(f"{name}.safetensors"), "config.json")))
        line(f"{name}: config.json", "quantization_config" not in config)
        same = t.path(f"{name}.same")
        t.export("safetensors", folder, same)
        kept = header(os.path.join(same, "model.safetensors")), header(os.path.join(folder, "model.safetensors"))
        for h in kept:
            h.pop("__metadata__", None)
        line(f"{name} copied stays packed", {k: v["dtype"] for k, v in kept[0].items()} == {k: v["dtype"] for k, v in kept[1].items()})


def refused(t):
    onnx = t.path("m.onnx")
    open(onnx, "wb").write(b"\x08\x08")
    gguf = t.path("b.gguf")
    cases = [
        (["gguf", onnx, t.path("x.gguf")], "is a graph"),
        (["gguf", t.path("nowhere"), t.path("x.gguf")], "no such file"),
        (["gguf", os.path.join(MODELS, "bert-bf16"), t.path("x.gguf")], "GGUF files of this model mean act = gelu"),
        (["gguf", os.path.join(MODELS, "gemma3-images"), t.path("x.gguf")], "GGUF files cannot say what this model is"),
        (["gguf", os.path.join(MODELS, "qwen2-window"), t.path("x.gguf")], "required is not windowed"),
        (["safetensors", os.path.join(MODELS, "llama"), os.path.join(MODELS, "llama")], "is the folder that the model is read from"),
        (["safetensors", gguf, gguf], "is not a folder"),
        (["pytorch", gguf, t.path("x")], "is not a format"),
        (["gguf", gguf, t.path("x.gguf"), "--outtype", "q4_k"], "is not auto, f32"),
        (["safetensors", gguf, t.path("x"), "--max-shard-size", "many"], "is not a size"),
    ]
    for args, want in cases:
        rc, _, err = golden.run(t.tenon, ["export", *args])
        line(f"refused: {want[:34]}", rc != 0 and want in err, err.strip().splitlines()[0][-70:] if err else "nothing was said")
    line("nothing was written", not os.path.exists(t.path("x.gguf")) and not os.path.exists(t.path("x/model.safetensors")))


def main():
    tmp = tempfile.mkdtemp()
    try:
        t = Tool(sys.argv[1], tmp)
        for part in (copies, types, q8, packed, refused):
            try:
                part(t)
            except (RuntimeError, OSError) as e:
                line(part.__name__, False, str(e))
    finally:
        shutil.rmtree(tmp)
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
