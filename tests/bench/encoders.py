"""Latency of encoders at f32, bf16 and int8, in turn with the best other engines.

encoders.py TENON MINILM [--cases minilm,minilm-8,bert-128,bert-512,vit] [--precisions f32,bf16,int8] [--threads 1,2] [--rounds 7]
            [--work DIR] [--json FILE]
MINILM: the folder of all-MiniLM-L6-v2; BERT-base and ViT-base have their published shapes and random weights. A row is one engine:
median and spread, our speed over its, and the cosine of its mean hidden state to PyTorch's in f32."""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import turns

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parity"))
CASES = {"minilm": ("minilm", 1, 128), "minilm-8": ("minilm", 8, 128), "bert-128": ("bert-base", 1, 128),
         "bert-512": ("bert-base", 1, 512), "vit": ("vit-base", 1, 0)}
ENGINES = {"f32": ["tenon", "onnxruntime", "openvino", "torch.compile"],
           "bf16": ["tenon", "openvino", "torch.compile"],
           "int8": ["tenon", "tenon-onnx", "onnxruntime", "openvino", "ctranslate2"]}


# ---- models, made once ----
def folder(args, model):
    return pathlib.Path(args.minilm) if model == "minilm" else args.work / model


def torch_model(args, model):
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    return transformers.AutoModel.from_pretrained(folder(args, model), dtype=torch.float32).eval()


def inputs(args, model, batch, length):
    import numpy as np
    if model == "vit-base":
        return {"pixel_values": np.random.default_rng(1).standard_normal((batch, 3, 224, 224), np.float32)}
    import tokenizers
    text = (pathlib.Path(__file__).resolve().parent.parent / "parity" / "minilm_sentences.txt").read_text()
    ids = tokenizers.Tokenizer.from_file(str(pathlib.Path(args.minilm) / "tokenizer.json")).encode(text).ids
    ids = [i for i in ids if i]
    ids = (ids * (1 + batch * length // len(ids)))[:batch * length]
    ids = np.array(ids, np.int64).reshape(batch, length)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def hidden_only(model):
    """A module whose result is the last hidden state alone, as torch.onnx.export wants it."""
    import torch

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *given):
            names = ["pixel_values"] if len(given) == 1 else ["input_ids", "attention_mask", "token_type_ids"]
            return self.model(**dict(zip(names, given))).last_hidden_state
    return Module().eval()


def prepare(args, models):
    """Folders, ONNX files (f32 and ONNX Runtime's dynamic int8) and the other engines' own formats."""
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    for model in models:
        path = folder(args, model)
        if not path.exists():
            bert = transformers.BertModel(transformers.BertConfig()) if model == "bert-base" else transformers.ViTModel(transformers.ViTConfig())
            bert.save_pretrained(path)
        onnx = args.work / f"{model}.onnx"
        if not onnx.exists():
            feed = inputs(args, model, 1, 16)
            axes = {n: {0: "B"} if model == "vit-base" else {0: "B", 1: "S"} for n in feed}
            torch.onnx.export(hidden_only(torch_model(args, model)), tuple(map(torch.from_numpy, feed.values())), onnx, input_names=list(feed),
                              output_names=["hidden"], dynamic_axes=axes, opset_version=17, dynamo=False)
        if not (args.work / f"{model}-int8.onnx").exists():
            import onnxruntime.quantization as q
            q.quantize_dynamic(onnx, args.work / f"{model}-int8.onnx", weight_type=q.QuantType.QInt8, per_channel=True)


def int8_folder(args, model):
    """The model with the linear layers' weights as 8-bit integers, one scale per row, activations rounded per token when it
    runs: what compressed-tensors calls W8A8 dynamic."""
    import numpy as np
    import safetensors.numpy
    path = args.work / f"{model}-w8a8"
    if (path / "config.json").exists():
        return path
    path.mkdir(exist_ok=True)
    tensors = {}
    for name, w in safetensors.numpy.load_file(folder(args, model) / "model.safetensors").items():
        if w.ndim == 2 and "encoder.layer" in name:
            scale = np.abs(w).max(1, keepdims=True) / 127
            tensors[name] = np.rint(w / scale).astype(np.int8)
            tensors[f"{name}_scale"] = scale.astype(np.float32)
        else:
            tensors[name] = w
    safetensors.numpy.save_file(tensors, path / "model.safetensors", {"format": "pt"})
    config = json.loads((folder(args, model) / "config.json").read_text())
    args8 = {"num_bits": 8, "type": "int", "symmetric": True, "actorder": None, "block_structure": None, "group_size": None}
    config["quantization_config"] = {
        "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed", "ignore": ["pooler.dense"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": args8 | {"strategy": "channel", "dynamic": False},
                                      "input_activations": args8 | {"strategy": "token", "dynamic": True}, "output_activations": None}}}
    (path / "config.json").write_text(json.dumps(config))
    return path


def tenon_source(args, model, precision, onnx):
    if precision == "int8":
        return args.work / f"{model}-int8.onnx" if onnx or model == "vit-base" else int8_folder(args, model)
    return args.work / f"{model}.onnx" if model == "vit-base" else folder(args, model)


# ---- engines: each returns run() -> hidden state ----
def tenon(args, model, precision, feed, onnx=False):
    import library
    import numpy as np
    source = tenon_source(args, model, precision, onnx)
    level = "strict" if precision == "f32" else "fast"
    path = args.work / f"libtn_{source.stem.replace('-', '_')}_{precision}.so"
    if not path.exists() or path.stat().st_mtime < pathlib.Path(args.tenon).stat().st_mtime:
        subprocess.run([args.tenon, "compile", source, "-o", path, "--precision", level], check=True, stdout=sys.stderr)
    m = library.Model(str(path))
    s = library.Session(m, threads=args.threads)
    entry = "encode" if "encode" in m.entries else next(iter(m.entries))
    names, out = m.entries[entry][1:]
    short = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
    given = {n: feed[short.get(n, n)] for n in names}
    if "ids" in given:
        given = {n: v.astype(np.int32) for n, v in given.items()}
    return lambda: s.run(entry, **given)[out[0]]


def onnxruntime(args, model, precision, feed):
    import onnxruntime as ort
    o = ort.SessionOptions()
    o.intra_op_num_threads = args.threads
    s = ort.InferenceSession(args.work / f"{model}{'-int8' if precision == 'int8' else ''}.onnx", o, providers=["CPUExecutionProvider"])
    feed = {i.name: feed[i.name] for i in s.get_inputs()}
    return lambda: s.run(None, feed)[0]


def openvino(args, model, precision, feed):
    import openvino as ov
    core = ov.Core()
    m = core.read_model(args.work / f"{model}.onnx")
    m.reshape({i.get_any_name(): list(feed[i.get_any_name()].shape) for i in m.inputs})
    feed = {i.get_any_name(): feed[i.get_any_name()] for i in m.inputs}
    if precision == "int8":
        import nncf
        m = nncf.quantize(m, nncf.Dataset([feed]), model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset.MIXED, subset_size=1)
    hint = "bf16" if precision == "bf16" else "f32"
    c = core.compile_model(m, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY"})
    request = c.create_infer_request()
    return lambda: list(request.infer(feed).values())[0]


def torch_compile(args, model, precision, feed):
    import torch
    torch.set_num_threads(args.threads)
    m = hidden_only(torch_model(args, model))
    if precision == "bf16":
        m = m.to(torch.bfloat16)
    given = [torch.from_numpy(v) for v in feed.values()]
    if precision == "bf16":
        given = [t.to(torch.bfloat16) if t.is_floating_point() else t for t in given]
    compiled = torch.compile(m, options={"freezing": True})

    def run():
        with torch.no_grad():
            return compiled(*given).float().numpy()
    return run


def ctranslate2(args, model, precision, feed):
    import shutil
    import ctranslate2 as ct
    import numpy as np
    path = args.work / f"{model}-ct2"
    if not path.exists():
        source = args.work / f"{model}-with-tokens"
        shutil.copytree(folder(args, model), source, dirs_exist_ok=True)
        for f in pathlib.Path(args.minilm).glob("*token*"):
            shutil.copy(f, source)
        shutil.copy(pathlib.Path(args.minilm) / "vocab.txt", source)
        ct.converters.TransformersConverter(str(source)).convert(str(path), quantization="int8")
    e = ct.Encoder(str(path), compute_type="int8", intra_threads=args.threads, inter_threads=1)
    ids = feed["input_ids"].tolist()
    return lambda: np.array(e.forward_batch(ids, token_type_ids=feed["token_type_ids"].tolist()).last_hidden_state)


def make(args):
    import numpy as np
    engine, case, precision = args.worker.split(":")
    model, batch, length = CASES[case]
    feed = inputs(args, model, batch, length)
    run = {"tenon": tenon, "tenon-onnx": lambda *a: tenon(*a, onnx=True), "onnxruntime": onnxruntime, "openvino": openvino, "torch.compile": torch_compile,
           "ctranslate2": ctranslate2}[engine](args, model, precision, feed)
    hidden = np.asarray(run(), np.float64).mean(1).ravel()
    want = np.load(args.work / f"{case}.npy").mean(1).ravel().astype(np.float64)
    return run, {"cosine": float(hidden @ want / np.linalg.norm(hidden) / np.linalg.norm(want))}


# ---- the table ----
def references(args, cases):
    import numpy as np
    import torch
    for case in cases:
        model, batch, length = CASES[case]
        if not (args.work / f"{case}.npy").exists():
            with torch.inference_mode():
                feed = inputs(args, model, batch, length)
                np.save(args.work / f"{case}.npy", torch_model(args, model)(**{k: torch.from_numpy(v) for k, v in feed.items()}).last_hidden_state.numpy())


def measure(args, case, precision, threads, log):
    def command(engine):
        return [sys.executable, __file__, args.tenon, args.minilm, "--work", args.work, "--threads", str(threads), "--worker", f"{engine}:{case}:{precision}"]
    engines = [turns.Engine(e, list(map(str, command(e))), threads, log) for e in ENGINES[precision]]
    running = [e for e in engines if not e.error]
    turns.interleave(running, args.rounds)
    rows = []
    for e in engines:
        row = {"case": case, "precision": precision, "threads": threads, "engine": e.name, "error": e.error}
        if not e.error:
            ms = [s * 1e3 for s in e.seconds]
            row |= {"ms": statistics.median(ms), "min": min(ms), "max": max(ms), "cosine": e.facts["cosine"]}
            if not engines[0].error:
                row["ratio"] = turns.ratio(engines[0], e)
        rows.append(row)
        e.close()
    return rows


def show(rows):
    for r in rows:
        head = f"{r['case']:9} {r['precision']:5} {r['threads']}  {r['engine']:14}"
        if r["error"]:
            print(f"{head} {r['error']}", flush=True)
        else:
            print(f"{head} {r['ms']:8.2f} ms [{r['min']:.2f} .. {r['max']:.2f}]  {r.get('ratio', 0):5.2f}  cosine {r['cosine']:.6f}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tenon")
    parser.add_argument("minilm")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--precisions", default="f32,bf16,int8")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--work", help="where models stay from run to run")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work = pathlib.Path(args.work or tempfile.mkdtemp())
    args.work.mkdir(parents=True, exist_ok=True)
    if args.worker:
        args.threads = int(args.threads)
        turns.serve(lambda: make(args))
        return
    cases = args.cases.split(",")
    prepare(args, {CASES[c][0] for c in cases})
    references(args, cases)
    print(turns.processor())
    print("case      precision threads engine   median [min .. max]   our speed / its", flush=True)
    rows = []
    with open(args.work / "engines.log", "w") as log:
        for case in cases:
            for precision in args.precisions.split(","):
                for threads in map(int, args.threads.split(",")):
                    rows += measure(args, case, precision, threads, log)
                    show(rows[-len(ENGINES[precision]):])
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


main()
