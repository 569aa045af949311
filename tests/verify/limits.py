#!/usr/bin/env python3
"""Numbers and limits of `tenon verify` against NumPy: KL divergence, likeliest token, cosine, perplexity of a text; which
limit fails, and the exit status. A second model is the demo model with its weights rounded to few bits. Then inputs that
are made up, of every type.

    limits.py TENON DEMO_FOLDER
"""
import shutil
import sys
import tempfile

from models import MODELS, Checks, load_wide, np, save

try:
    import onnx
    import tokenizers
    from onnx import TensorProto, helper
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e}") or 77)

# The first verses of Genesis, King James Version (1611, public domain).
TEXT = """In the beginning God created the heaven and the earth.
And the earth was without form, and void; and darkness was upon the face of the deep. And the Spirit of God moved upon
the face of the waters. And God said, Let there be light: and there was light. And God saw the light, that it was good:
and God divided the light from the darkness. And God called the light Day, and the darkness he called Night.
"""
CONTEXT = 48


def rounded(folder, to, steps):
    shutil.copytree(folder, to)
    tensors = {}
    for name, x in load_wide(f"{folder}/model.safetensors").items():
        most = np.abs(x).max() or 1
        tensors[name] = (np.round(x / most * steps) / steps * most).astype(np.float32) if x.ndim == 2 else x.astype(np.float32)
    save(f"{to}/model.safetensors", tensors)
    return to


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def logits(t, model, ids, work):
    np.save(f"{work}/ids.npy", np.asarray(ids, np.int32))
    t.run("run", model, "--entry", "logits", "--input", f"ids={work}/ids.npy", "--output-dir", work, "--backend", "ref", "-O0")
    return np.load(f"{work}/logits.npy")


def divergence(a, b):
    """Of b's scores from a's, mean over all rows; part of the rows with the same best."""
    p, q = log_softmax(a), log_softmax(b)
    return float((np.exp(p) * (p - q)).sum(-1).mean()), float((p.argmax(-1) == q.argmax(-1)).mean())


def close(x, y, rtol=2e-4):
    return x is not None and abs(x - y) <= rtol * abs(y) + 1e-9


def check_scores(t, a, b, work):
    ids = np.random.default_rng(5).integers(0, 256, (2, 20))
    x, y = logits(t, a, ids, work).copy(), logits(t, b, ids, work)
    kl, top = divergence(x, y)
    cosine = float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))
    rc, said, _ = t.verify(a, b, "--entry", "logits", "--input", f"ids={work}/ids.npy")
    t.line("tolerances decide by default", rc == 1 and not said["ok"], "")
    t.line("KL divergence of the scores", close(said.get("kl"), kl), f"{said.get('kl')} {kl}")
    t.line("same likeliest token", close(said.get("top1"), top), f"{said.get('top1')} {top}")
    t.line("cosine", close(said.get("cosine"), cosine, 1e-6), f"{said.get('cosine')} {cosine}")
    return kl, top, cosine


def check_text(t, a, b, work):
    """As llama-perplexity: chunks, the second half scored."""
    path = f"{work}/text.txt"
    open(path, "w").write(TEXT)
    ids = tokenizers.Tokenizer.from_file(f"{a}/tokenizer.json").encode(TEXT).ids
    empty = tokenizers.Tokenizer.from_file(f"{a}/tokenizer.json").encode("").ids
    nll, rows = [[], []], [[], []]
    for i in range(len(ids) // CONTEXT):
        chunk = ids[i * CONTEXT:(i + 1) * CONTEXT]
        for k, model in enumerate((a, b)):
            p = logits(t, model, [(empty[:1] or chunk[:1]) + chunk[1:]], work)[0][CONTEXT // 2:-1]
            rows[k].append(p)
            nll[k].append(-log_softmax(p)[np.arange(len(p)), chunk[CONTEXT // 2 + 1:]])
    perplexity = [float(np.exp(np.concatenate(x).mean())) for x in nll]
    kl, top = divergence(np.concatenate(rows[0]), np.concatenate(rows[1]))
    options = ["--text", path, "-c", str(CONTEXT)]
    rc, said, err = t.verify(a, b, "--entry", "logits", *options, "--max-kl", "1e9")
    text = said.get("text", {})
    for key, value in ("perplexity_a", perplexity[0]), ("perplexity_b", perplexity[1]), ("kl_mean", kl), ("top1", top):
        t.line(f"text: {key}", close(text.get(key), value), f"{text.get(key)} {value} {err.strip()}")
    return options, kl, top, perplexity[1] / perplexity[0] - 1


def check_limit(t, a, b, option, value, most, *options):
    """Holds a little above the value, and does not a little below it, or the other way round."""
    room = 0.01 * abs(value) + 1e-9
    for limit in value - room, value + room:
        rc, said, err = t.verify(a, b, "--entry", "logits", *options, option, repr(limit))
        ok = (limit > value) == most
        told = [x["ok"] for x in said.get("limits", [])]
        t.line(f"{option} {limit:.6g}", (rc == 0) == ok and told == [ok] and said.get("ok") is ok, err.strip())


def refused(t, a, b, words, *options):
    rc, said, err = t.verify(a, b, *options)
    t.line(" ".join(options), rc == 1 and words in err, err.strip()[:120])


TYPES = {"f32": TensorProto.FLOAT, "f64": TensorProto.DOUBLE, "f16": TensorProto.FLOAT16, "i64": TensorProto.INT64,
         "i32": TensorProto.INT32, "i16": TensorProto.INT16, "i8": TensorProto.INT8, "u64": TensorProto.UINT64,
         "u32": TensorProto.UINT32, "u16": TensorProto.UINT16, "u8": TensorProto.UINT8, "bool": TensorProto.BOOL}
SHAPES = [[], ["N"], ["batch", 5], [2, "rows", 3], ["batch", 3, "height", "width"], [1, 2, 1, "x", 2]]


def doubled(path, by):
    """A model with an input of every type, each times a number; ranks 0 to 4."""
    nodes, inputs, outputs = [], [], []
    for i, (name, kind) in enumerate(TYPES.items()):
        shape = SHAPES[i % len(SHAPES)]
        inputs.append(helper.make_tensor_value_info(f"in_{name}", kind, shape))
        outputs.append(helper.make_tensor_value_info(f"out_{name}", TensorProto.DOUBLE, shape))
        nodes.append(helper.make_node("Cast", [f"in_{name}"], [f"wide_{name}"], to=TensorProto.DOUBLE))
        nodes.append(helper.make_node("Mul", [f"wide_{name}", "by"], [f"out_{name}"]))
    graph = helper.make_graph(nodes, "all", inputs, outputs, [helper.make_tensor("by", TensorProto.DOUBLE, [], [by])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def check_inputs(t, work):
    one, two = doubled(f"{work}/one.onnx", 1.0), doubled(f"{work}/two.onnx", 2.0)
    t.equal("made-up inputs of every type", one, f"{one}@O0,ref")
    rc, said, err = t.verify(one, two)
    wrong = {x["name"].split("out_")[-1]: not x["ok"] for x in said.get("values", [])}
    t.line("none of them is zeros", rc == 1 and wrong == dict.fromkeys(TYPES, True), f"{wrong} {err.strip()}")
    a = t.verify(one, two)[1]
    t.line("the same again with the same seed", a == said and t.verify(one, two, "--seed", "3")[1] != said, "")


def main(tenon, demo):
    t = Checks(tenon)
    with tempfile.TemporaryDirectory() as work:
        b = rounded(demo, f"{work}/rounded", 5)
        given = "--input", f"ids={work}/given.npy"
        kl, top, cosine = check_scores(t, demo, b, work)
        shutil.copy(f"{work}/ids.npy", f"{work}/given.npy")
        check_limit(t, demo, b, "--max-kl", kl, True, *given)
        check_limit(t, demo, b, "--min-top1", top, False, *given)
        check_limit(t, demo, b, "--min-cosine", cosine, False, *given)
        options, kl, top, increase = check_text(t, demo, b, work)
        check_limit(t, demo, b, "--max-kl", kl, True, *options)
        check_limit(t, demo, b, "--min-top1", top, False, *options)
        check_limit(t, demo, b, "--max-ppl-increase", increase, True, *options)
        refused(t, demo, b, "--max-ppl-increase needs --text", "--max-ppl-increase", "0.1")
        refused(t, f"{MODELS}/bert-model", f"{MODELS}/bert-model", "needs language models", "--max-kl", "0.1")
        refused(t, demo, f"{MODELS}/llama", "no entry point 'nothing'", "--entry", "nothing")
        refused(t, demo, f"{MODELS}/bert-model", "no entry point in common", "--seed", "1")
        check_inputs(t, work)
    return t.end(25)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
