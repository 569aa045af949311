#!/usr/bin/env python3
"""Plants errors into tiny models and asks `tenon verify` which value is the first to blame.

    planted.py TENON BROKEN_RULES.so

What is planted says what the answer must be: a change of a tensor is met first by the op that reads it, a wrong epsilon by
the first norm, a wrong rule by what it rewrote. Needs numpy, onnx and gguf.
"""
import sys
import tempfile

from models import MODELS, Checks, copy, np

try:
    import gguf
    import onnx
    from onnx import numpy_helper
    import make_gguf
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e}") or 77)


def add_one(name, by=0.5):
    def change(w):
        w[name][1, 2] += by
    return change


def swap_rows(name, a=3, b=7):
    def change(w):
        w[name][[a, b]] = w[name][[b, a]]
    return change


def transpose(name):
    def change(w):
        w[name] = w[name].T.copy()
    return change


def scale(name, by):
    def change(w):
        w[name] = w[name] * np.float32(by)
    return change


def setting(key, value):
    def change(c):
        at = c
        for k in key.split(".")[:-1]:
            at = at[k]
        at[key.split(".")[-1]] = value
    return change


def folders(t, work):
    """Both sides are folders: names and lines are the same."""
    llama, bert = f"{MODELS}/llama", f"{MODELS}/bert-model"
    up, v, o = "model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.v_proj.weight", "model.layers.1.self_attn.o_proj.weight"
    t.differs("one number of a weight", llama, copy("llama", f"{work}/one", add_one(up)), "matmul", up)
    t.differs("two rows swapped", llama, copy("llama", f"{work}/swap", swap_rows(v)), "matmul", v)
    t.differs("a matrix transposed", llama, copy("llama", f"{work}/trans", transpose(o)), "matmul", o)
    t.differs("a norm's weight twice as large", llama,
              copy("llama", f"{work}/norm", scale("model.layers.1.input_layernorm.weight", 2)), "rms_norm",
              "model.layers.1.input_layernorm.weight")
    t.differs("wrong epsilon", llama, copy("llama", f"{work}/eps", config=setting("rms_norm_eps", 1e-2)), "rms_norm #1",
              "model.layers.0.input_layernorm.weight")
    t.differs("wrong base of the rotation", llama,
              copy("llama", f"{work}/rope", config=setting("rope_parameters.rope_theta", 500.0)), "rope #1")
    t.differs("mask off by one", f"{MODELS}/mistral-window",
              copy("mistral-window", f"{work}/window", config=setting("sliding_window", 11)), "attention #1")
    t.differs("another activation", bert, copy("bert-model", f"{work}/act", config=setting("hidden_act", "gelu_new")), "gelu #1")
    bias = "encoder.layer.1.attention.self.value.bias"
    t.differs("a bias left out", bert, copy("bert-model", f"{work}/bias", scale(bias, 0)), "add", bias)
    table = "embeddings.token_type_embeddings.weight"
    t.differs("rows of a table swapped", bert, copy("bert-model", f"{work}/types", swap_rows(table, 0, 1)), "", table)


def rules(t, plugin):
    t.differs("a broken rule of a plugin", f"{MODELS}/bert-model@O0", f"{MODELS}/bert-model@O3", "gelu #1",
              options=["--plugin", plugin])


def change_onnx(path, to, change):
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, to)
    return to


def initializer(graph, name):
    return next(i for i in graph.initializer if i.name == name)


def onnx_files(t, work):
    """A folder against its ONNX file, and the file against a changed one."""
    folder, path = f"{MODELS}/bert-cls", f"{work}/cls.onnx"
    t.run("export", "onnx", folder, path)
    weight = "bert.encoder.layer.1.intermediate.dense.weight"

    def change_weight(g):
        i = initializer(g, weight)
        x = numpy_helper.to_array(i).copy()
        x[3, 4] += 1
        i.CopyFrom(numpy_helper.from_array(x, weight))

    def change_scale(g):
        by = [n for n in g.node if n.op_type == "Mul" and any(i.name in n.input and not i.dims for i in g.initializer)]
        i = initializer(g, next(x for x in by[0].input if any(i.name == x for i in g.initializer)))
        i.CopyFrom(numpy_helper.from_array(np.asarray(numpy_helper.to_array(i) * 3, np.float32), i.name))
        change_scale.name = by[0].name or by[0].output[0]

    def change_epsilon(g):
        norm = [n for n in g.node if n.op_type == "LayerNormalization"][2]
        next(a for a in norm.attribute if a.name == "epsilon").f = 0.5
        change_epsilon.name = norm.name or norm.output[0]

    def change_rows(g):
        i = initializer(g, rows)
        x = numpy_helper.to_array(i).copy()
        x[[3, 9]] = x[[9, 3]]
        i.CopyFrom(numpy_helper.from_array(x, rows))

    rows = "bert.encoder.layer.0.attention.self.value.weight"
    t.differs("folder, ONNX: one number of a weight", folder, change_onnx(path, f"{work}/w.onnx", change_weight), "matmul", weight)
    t.differs("folder, ONNX: two rows swapped", folder, change_onnx(path, f"{work}/r.onnx", change_rows), "matmul", rows)
    scaled = change_onnx(path, f"{work}/s.onnx", change_scale)
    t.differs("ONNX, ONNX: a wrong scale", path, scaled, change_scale.name)
    t.differs("folder, ONNX: a wrong scale of attention", folder, scaled, "attention #1")
    norm = change_onnx(path, f"{work}/n.onnx", change_epsilon)
    t.differs("folder, ONNX: wrong epsilon of the third norm", folder, norm, "layer_norm", other=change_epsilon.name)


def gguf_files(t, work):
    """A folder against a GGUF file whose weights are those of a changed folder: q and k have their rows in another order."""
    down, q = "model.layers.0.mlp.down_proj.weight", "model.layers.1.self_attn.q_proj.weight"
    v = "model.layers.1.self_attn.v_proj.weight"
    changed = copy("llama", f"{work}/down", add_one(down))
    make_gguf.convert(changed, f"{work}/down.gguf")
    t.differs("folder, GGUF: one number of a weight", f"{MODELS}/llama", f"{work}/down.gguf", "matmul", down)
    changed = copy("llama", f"{work}/rows", swap_rows(v))
    make_gguf.convert(changed, f"{work}/rows.gguf")
    t.differs("folder, GGUF: two rows swapped", f"{MODELS}/llama", f"{work}/rows.gguf", "matmul", v)
    changed = copy("llama", f"{work}/q", scale(q, 4))
    make_gguf.convert(changed, f"{work}/q.gguf")
    t.differs("folder, GGUF: a wrong scale", f"{MODELS}/llama", f"{work}/q.gguf", "matmul", q)


def libraries(t, work):
    """A library has no values inside to look at: it is said to differ."""
    changed = copy("bert-cls", f"{work}/lib", add_one("bert.encoder.layer.0.output.dense.weight"))
    t.run("compile", changed, "-o", f"{work}/libchanged.so")
    rc, said, err = t.verify(f"{MODELS}/bert-cls", f"{work}/libchanged.so")
    t.line("folder, library: one number of a weight", rc == 1 and said.get("ok") is False and not err, "")


def main(tenon, plugin):
    t = Checks(tenon)
    with tempfile.TemporaryDirectory() as work:
        folders(t, work)
        rules(t, plugin)
        onnx_files(t, work)
        gguf_files(t, work)
        libraries(t, work)
    return t.end(20)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
