#!/usr/bin/env python3
"""`tenon quantize` as a person uses it: plans and what is written agree, the errors it reports are those that the gguf
package's decoder gives, options do what they say, and everything it cannot do is refused by name.

    command.py TENON PARITY_MODELS DEMO_MODEL
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
FAILURES = []


def expect(ok, what, said=""):
    print(f"{'ok  ' if ok else 'FAIL'} {what}")
    if not ok:
        print(str(said)[-2000:])
        FAILURES.append(what)


class Run:
    def __init__(self, tenon, *args):
        p = subprocess.run([tenon, "quantize", *args], capture_output=True, text=True, timeout=300,
                           env=dict(os.environ, NO_COLOR="1"))
        self.status, self.out, self.err = p.returncode, p.stdout, p.stderr
        self.json = json.loads(p.stdout) if "--json" in args and not p.returncode else None

    def tensors(self):
        return {t["name"]: t for t in self.json["tensors"]}


def read(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def keys(path):
    r = gguf.GGUFReader(path)
    return {k: f.contents() for k, f in r.fields.items()}


def value(t):
    return gguf.dequantize(t.data, t.tensor_type).astype(np.float64)


# ---- what is written ----

def check_file(tenon, tmp, model, scheme, *more):
    """One scheme: dry run, file and the numbers that the report gives."""
    out = os.path.join(tmp, "out.gguf")
    plan = Run(tenon, model, scheme, "--dry-run", "--json", *more)
    done = Run(tenon, model, out, scheme, "--json", *more)
    name = " ".join([scheme, *(os.path.basename(x) for x in more)])
    if plan.status or done.status:
        return expect(False, name, plan.err + done.err)
    before, after, wrong = read(model), read(out), []
    planned = plan.tensors()
    for tensor, t in done.tensors().items():
        x = after[tensor]
        if t["to"] != planned[tensor]["to"] or t["bytes"] != planned[tensor]["bytes"]:
            wrong.append(f"{tensor}: planned {planned[tensor]}")
        if x.tensor_type.name.lower() != t["to"] or x.n_bytes != t["bytes"]:
            wrong.append(f"{tensor}: {t['to']} of {t['bytes']} bytes, in the file {x.tensor_type.name} of {x.n_bytes}")
        d = value(x) - value(before[tensor])
        rmse, most = np.sqrt((d ** 2).mean()), np.abs(d).max()
        if t["from"] == t["to"]:
            if bytes(x.data) != bytes(before[tensor].data):
                wrong.append(f"{tensor}: was not copied")
        elif abs(t.get("rmse", -1) - rmse) > 1e-4 * rmse + 1e-9 or abs(t.get("max_abs", -1) - most) > 1e-4 * most + 1e-9:
            wrong.append(f"{tensor}: rmse {t.get('rmse')} {rmse}, max {t.get('max_abs')} {most}")
    if list(before) != list(after):
        wrong.append("other tensors, or another order")
    expect(not wrong and done.json["bytes"] == sum(x.n_bytes for x in after.values()), name, "\n".join(wrong))
    return out


def check_schemes(tenon, tmp, model, importance):
    for scheme, file_type in mixes.SCHEMES.items():
        out = check_file(tenon, tmp, model, scheme, *(["--imatrix", importance] if scheme.startswith(("IQ", "Q2_K")) else []))
        if out:
            k = keys(out)
            expect(k["general.file_type"] == file_type and k["general.quantization_version"] == 2, f"{scheme}: keys", k)
    check_file(tenon, tmp, model, "COPY")
    check_file(tenon, tmp, model, "q4_k", "--pure")
    out = check_file(tenon, tmp, model, "Q4_K_M", "--imatrix", importance)
    k = keys(out)
    expect(k["quantize.imatrix.file"] == importance and k["quantize.imatrix.entries_count"] > 0
           and k["quantize.imatrix.chunks_count"] == 1 and k["general.name"] == "shape", "keys of the importance matrix", k)


def check_same_bytes(tenon, tmp, model):
    files = []
    for threads in ("1", "3"):
        files.append(os.path.join(tmp, f"t{threads}.gguf"))
        r = Run(tenon, model, files[-1], "Q4_K_M", "-t", threads)
        if r.status:
            return expect(False, "threads", r.err)
    expect(open(files[0], "rb").read() == open(files[1], "rb").read(), "any number of threads gives the same bytes")
    for what in ("json", "html"):
        expect(os.path.getsize(f"{files[0]}.report.{what}") > 500, f"report.{what} is written")
    with open(files[0] + ".report.json") as f:
        report = json.load(f)
    expect(len(report["tensors"]) == len(read(model)), "the report has every tensor", list(report))


# ---- options ----

def types(tenon, *args):
    r = Run(tenon, *args, "--dry-run", "--json")
    return {n: t["to"] for n, t in r.tensors().items()} if not r.status else r.err


def check_options(tenon, tmp, model):
    t = types(tenon, model, "Q4_K_S", "--tensor-type", r"blk\.1\.attn_v=Q8_0", "--tensor-type", "attn=q5_k",
              "--output-tensor-type", "f16", "--token-embedding-type", "q3_k")
    expect(t["blk.1.attn_v.weight"] == "q8_0" and t["blk.0.attn_q.weight"] == "q5_k" and t["output.weight"] == "f16"
           and t["token_embd.weight"] == "q3_k" and t["blk.0.attn_norm.weight"] == "f32", "types by name", t)
    words = os.path.join(tmp, "types.txt")
    with open(words, "w") as f:
        f.write("ffn_down=q6_k\n  ffn_(up|gate)=iq4_xs\n\n")
    t = types(tenon, model, "Q8_0", "--tensor-type-file", words)
    expect(t["blk.0.ffn_down.weight"] == "q6_k" and t["blk.1.ffn_up.weight"] == "iq4_xs", "types of a file", t)
    t = types(tenon, model, "Q4_K_M", "--leave-output-tensor")
    expect(t["output.weight"] == "f16" and t["token_embd.weight"] == "q4_k", "--leave-output-tensor", t)
    t = types(tenon, model, "Q4_K_M", "--pure")
    expect(set(t.values()) == {"q4_k", "f32"}, "--pure", t)
    r = Run(tenon, model, "Q4_K_M", "--dry-run", "--tensor-type", "nothing=q8_0")
    expect(r.status == 0 and "'nothing' matches no tensor" in r.err, "a pattern without tensor is said", r.err)
    r = Run(tenon, model, "Q4_K_M", "--dry-run")
    expect("bits per weight; nothing was written" in r.out and "blk.0.attn_q.weight" in r.out, "the table", r.out)


def check_refused(tenon, tmp, model, narrow):
    def refused(what, words, *args, status=1):
        r = Run(tenon, *args)
        lines = [x for x in r.err.splitlines() if x]
        expect(r.status == status and all(w in r.err for w in words) and not os.path.exists(out), f"refused: {what}", r.err)
        return lines

    out = os.path.join(tmp, "refused.gguf")
    lines = refused("rows that do not fit", ["320 values", "q4_k", "256", "--fallback auto", "q5_0", "and "], narrow, out,
                    "Q4_K_M")
    expect(len(lines) == 2, "one line for each kind of tensor", lines)
    t = types(tenon, narrow, "Q4_K_M", "--fallback", "iq4_nl")
    expect(t["blk.0.attn_q.weight"] == "iq4_nl" and t["blk.1.ffn_down.weight"] in ("q4_k", "q6_k"), "--fallback TYPE", t)
    refused("a fallback that does not fit either", ["320 values"], narrow, out, "Q4_K_M", "--fallback", "q3_k")
    blocks = os.path.join(tmp, "blocks.gguf")
    Run(tenon, model, blocks, "Q8_0")
    refused("blocks again", ["'token_embd.weight' and", "q8_0", "--allow-requantize"], blocks, out, "Q4_K_M")
    expect(Run(tenon, blocks, "Q4_K_M", "--dry-run", "--allow-requantize").status == 0, "--allow-requantize")
    expect(Run(tenon, blocks, "Q8_0", "--dry-run").status == 0, "the same type again needs no leave")
    refused("no importance", ["iq2_xxs", "--imatrix"], model, out, "IQ2_XXS")
    refused("a wrong scheme", ["'Q4_K_X' is no scheme", "Q4_K_"], model, out, "Q4_K_X")
    refused("a type that is none", ["'q9_9' is not a type"], model, out, "Q8_0", "--tensor-type", "a=q9_9")
    refused("no pair", ["not REGEX=TYPE"], model, out, "Q8_0", "--tensor-type", "abc")
    refused("a bad pattern", ["--tensor-type", "(("], model, out, "Q8_0", "--tensor-type", "((=q8_0")
    refused("nowhere to write", ["where to"], model, "Q8_0")
    refused("the model itself", ["is the model that is read"], model, model, "Q8_0")
    refused("GGUF types only", ["INT4 is for packed folders"], model, out, "INT4")
    refused("a folder of k-quants", ["folders have no place for q4_k"], model, os.path.join(tmp, "folder"), "Q4_K_M")
    refused("groups of a type without", ["Q4_0 has no groups"], model, out, "Q4_0", "--group-size", "64")
    refused("a wrong group", ["48"], model, os.path.join(tmp, "folder"), "INT4", "--group-size", "48")
    refused("two searches", ["one of"], model, out, "Q4_K_M", "--target-bpw", "4", "--max-kld", "1")
    refused("a size that is none", ["'12x'"], model, out, "Q4_K_M", "--target-size", "12x")
    refused("too few bits", ["bits per weight"], model, out, "Q4_K_M", "--target-bpw", "1")
    refused("no text", ["--eval"], model, out, "Q4_K_M", "--max-kld", "0.1")
    bad = os.path.join(tmp, "bad.imatrix")
    mixes.importance_file(bad, narrow)
    refused("an importance matrix of another model", ["320", "256"], model, out, "Q4_K_M", "--imatrix", bad)


def check_search(tenon, tmp, model):
    values = sum(t.n_elements for t in read(model).values())
    errors = []
    for bits in ("4.2", "5.5"):
        r = Run(tenon, model, os.path.join(tmp, "mix.gguf"), "Q4_K_M", "--target-bpw", bits, "--json")
        if r.status:
            return expect(False, "search", r.err)
        size = sum(t.n_bytes for t in read(os.path.join(tmp, "mix.gguf")).values())
        expect(0.97 * float(bits) <= size * 8 / values <= float(bits), f"{bits} bits per weight", size * 8 / values)
        errors.append(sum(t["nmse"] for t in r.json["tensors"] if "nmse" in t))
    expect(errors[1] < errors[0], "more bits, less error", errors)
    r = Run(tenon, model, "Q4_K_M", "--dry-run", "--json", "--target-size", "1.2M")
    expect(r.status == 0 and r.json["bytes"] <= 1200000, "--target-size", r.err)
    r = Run(tenon, model, "Q4_K_M", "--dry-run", "--json", "--target-bpw", "5", "--types", "q4_0,q8_0", "--tensor-type",
            "attn_v=f16")
    t = {n: x["to"] for n, x in r.tensors().items()} if not r.status else {}
    expect(set(t.values()) == {"q4_0", "q8_0", "f16", "f32"} and t["blk.0.attn_v.weight"] == "f16", "--types", r.err or t)


# ---- folders ----

def check_folders(tenon, tmp, models):
    llama = os.path.join(models, "llama")
    out = os.path.join(tmp, "llama.gguf")
    r = Run(tenon, llama, out, "Q8_0", "--json", "--fallback", "auto")
    expect(r.status == 0 and "blk.0.attn_q.weight" in read(out), "a folder becomes a GGUF file", r.err)
    for scheme in ("F16", "BF16"):
        folder = os.path.join(tmp, "folder-" + scheme)
        r = Run(tenon, llama, folder, scheme, "--json")
        ok = r.status == 0 and os.path.exists(os.path.join(folder, "config.json"))
        expect(ok and {t["to"] for t in r.json["tensors"] if t["class"] != "kept"} == {scheme.lower()},
               f"a folder as {scheme}", r.err)
    r = Run(tenon, os.path.join(models, "gpt2"), os.path.join(tmp, "gpt2"), "INT4", "--group-size", "32")
    expect(r.status == 1 and "transposed" in r.err, "GPT-2's transposed matrices are not packed", r.err)


def check_packed(tenon, tmp):
    """Packed folders of a model whose rows are groups of 128: what config.json says, and that tenon reads them."""
    model = shapes.fill(shapes.llama(os.path.join(tmp, "wordless.gguf"), 2, 256, 512, 4, 1, words=False))
    plain = os.path.join(tmp, "plain")
    r = Run(tenon, model, plain, "F32")
    expect(r.status == 0, "a GGUF file becomes a folder", r.err)
    for scheme, kind, of in (("INT8", "s8_row", "compressed-tensors"), ("INT4", "s4_128", "compressed-tensors"),
                             ("INT4 --group-size 32 --asymmetric", "u4_32", "compressed-tensors"),
                             ("INT4 --asymmetric --pack gptq", "u4_128", "gptq"),
                             ("INT4 --asymmetric --pack awq", "u4_128", "awq"), ("NF4", "nf4_64", "bitsandbytes"),
                             ("FP8", "f8_row", "compressed-tensors"), ("MXFP4", "mxfp4", "compressed-tensors"),
                             ("W8A8", "s8_row", "compressed-tensors")):
        folder = os.path.join(tmp, "packed")
        shutil.rmtree(folder, ignore_errors=True)
        r = Run(tenon, plain, folder, *scheme.split(), "--json")
        if r.status:
            expect(False, f"packed: {scheme}", r.err)
            continue
        with open(os.path.join(folder, "config.json")) as f:
            config = json.load(f).get("quantization_config", {})
        to = {t["to"] for t in r.json["tensors"] if t["name"].endswith("_proj.weight")}
        size = sum(os.path.getsize(os.path.join(folder, x)) for x in os.listdir(folder) if x.endswith(".safetensors"))
        checked = subprocess.run([tenon, "check", folder], capture_output=True, text=True)
        expect(to == {kind} and config.get("quant_method") == of and checked.returncode == 0
               and r.json["bytes"] <= size <= r.json["bytes"] + 100000, f"packed: {scheme}",
               f"{to} {config} {size} {r.json['bytes']} {checked.stderr}")


# ---- measured searches ----

def divergence(tenon, model, base, text, how):
    p = subprocess.run([tenon, "perplexity", model, text, "--kl", base, *how, "--json"], capture_output=True, text=True)
    return json.loads(p.stdout)["kl"]["mean"] if not p.returncode else p.stderr


def check_measured(tenon, tmp, demo):
    """The divergence of what searches wrote, measured by the command that is there for it."""
    text, out, fixed = os.path.join(demo, "README.md"), os.path.join(tmp, "measured.gguf"), os.path.join(tmp, "fixed.gguf")
    how, sizes = ["-c", "64", "--chunks", "2"], []
    for limit in (0.004, 0.08):
        r = Run(tenon, demo, out, "--max-kld", str(limit), "--eval", text, *how, "--json")
        if r.status:
            return expect(False, "--max-kld", r.err)
        kl = divergence(tenon, out, demo, text, how)
        sizes.append(r.json["bytes"])
        expect(0.2 * limit < kl <= limit * 1.0001, f"--max-kld {limit}", kl)
    expect(sizes[1] < 0.9 * sizes[0], "more divergence, fewer bytes", sizes)
    one = Run(tenon, demo, fixed, "Q5_0", "--pure", "--json").json
    mix = Run(tenon, demo, out, "--target-bpw", str(one["bits_per_weight"] + 1e-4), "--json").json
    a, b = (divergence(tenon, x, demo, text, how) for x in (out, fixed))
    expect(mix["bytes"] <= one["bytes"] and a < b, "a mix is better than one type of the same size", (a, b))
    r = Run(tenon, demo, out, "Q4_0", "--fallback", "auto", "--sensitivity", "--eval", text, *how)
    with open(out + ".report.json") as f:
        layers = {x["layer"]: x["kl"] for x in json.load(f)["layers"]}
    expect(r.status == 0 and {f"layer {i}" for i in range(4)} < set(layers) and all(v > 0 for v in layers.values()),
           "--sensitivity", layers)
    expect(not [x for x in os.listdir(tmp) if ".probe" in x], "no probe is left behind")


def check_help(tenon):
    p = subprocess.run([tenon, "quantize", "--help"], capture_output=True, text=True)
    with open(os.path.join(HERE, "..", "..", "passes", "quantize", "schemes.def")) as f:
        names = [x.split('"')[1] for x in f if x.startswith("TN_SCHEME(")]
    missing = [x for x in names if x not in p.stdout.replace(",", " ").replace(".", " ").split()]
    expect(len(names) > 40 and not missing, "the help lists every scheme", missing)


def main():
    tenon, models, demo = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as tmp:
        model = shapes.fill(shapes.llama(os.path.join(tmp, "shape.gguf"), 2, 256, 512, 4, 1, vocab=96))
        narrow = shapes.fill(shapes.llama(os.path.join(tmp, "narrow.gguf"), 2, 320, 512, 5, 1, vocab=96))
        stacked = shapes.fill(shapes.llama(os.path.join(tmp, "stacked.gguf"), 1, 256, 256, 4, 2, vocab=96, experts=4))
        importance, of_stack = os.path.join(tmp, "importance.gguf"), os.path.join(tmp, "of_stack.gguf")
        mixes.importance_file(importance, model)
        mixes.importance_file(of_stack, stacked)
        check_schemes(tenon, tmp, model, importance)
        check_file(tenon, tmp, stacked, "Q4_K_M", "--imatrix", of_stack)
        check_file(tenon, tmp, narrow, "Q4_K_M", "--fallback", "auto")
        check_same_bytes(tenon, tmp, model)
        check_options(tenon, tmp, model)
        check_refused(tenon, tmp, model, narrow)
        check_search(tenon, tmp, model)
        check_folders(tenon, tmp, models)
        check_packed(tenon, tmp)
        check_measured(tenon, tmp, demo)
    check_help(tenon)
    print(f"{len(FAILURES)} failures" if FAILURES else "all as expected")
    return 1 if FAILURES else 0


if __name__ == "__main__":
    try:
        import gguf
        import numpy as np
    except ImportError:
        sys.exit(77)
    sys.path.insert(0, HERE)
    import mixes
    import shapes
    sys.exit(main())
