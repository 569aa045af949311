"""Tokens per second of llama-shaped models in tenon and llama.cpp, on the same GGUF files, interleaved.

llama.py TENON [--shapes 135m,1.1b] [--formats bf16,q8_0,q4_0,q4_k,q6_k] [--precisions strict,fast] [--threads 1,2] [--isa NAME]
         [--rounds 5] [--work DIR] [--json FILE]

Weights are random, written with the gguf package in BF16; llama.cpp itself quantises the other formats (all matrices in one
format; where rows are no multiple of its block it takes its usual fallback). Prefill of --prompt tokens, then --decode tokens
one by one, greedy. tenon runs the compiled library through `tenon bench`, llama.cpp through llama-cpp-python in this process. Ratios
are tenon's speed over llama.cpp's; the last column is the weights that decoding reads per second, as a part of the bandwidth that
`tenon bench --limits` measures before and after each turn (the mean of both; on shared machines it moves from second to second)."""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import gguf
import llama_cpp
import numpy as np

import turns

SHAPES = {
    "tiny": dict(layers=2, d=256, ffn=768, heads=4, kv=2, vocab=512, tied=True),
    "135m": dict(layers=30, d=576, ffn=1536, heads=9, kv=3, vocab=49152, tied=True),
    "1.1b": dict(layers=22, d=2048, ffn=5632, heads=32, kv=4, vocab=32000, tied=False),
}
FTYPES = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "q4_k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_S,
          "q6_k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K, "q5_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_0}


def write_bf16(path, shape):
    """A llama with random weights; the vocabulary is made up and has no end token that could stop it."""
    g = np.random.default_rng(1)
    w = gguf.GGUFWriter(path, "llama")
    d, head = shape["d"], shape["d"] // shape["heads"]
    w.add_context_length(2048)
    w.add_embedding_length(d)
    w.add_block_count(shape["layers"])
    w.add_feed_forward_length(shape["ffn"])
    w.add_head_count(shape["heads"])
    w.add_head_count_kv(shape["kv"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(head)
    w.add_vocab_size(shape["vocab"])
    w.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    special = ["<unk>", "<s>", "</s>"]
    tokens = special + [f"<0x{i:02X}>" for i in range(256)] + [f"t{i}" for i in range(shape["vocab"] - 259)]
    types = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * (shape["vocab"] - 259)
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([-float(i) for i in range(len(tokens))])
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    names = [("token_embd", (shape["vocab"], d)), ("output_norm", (d,))]
    if not shape["tied"]:
        names.append(("output", (shape["vocab"], d)))
    for i in range(shape["layers"]):
        for name, dims in (("attn_norm", (d,)), ("attn_q", (d, d)), ("attn_k", (shape["kv"] * head, d)), ("attn_v", (shape["kv"] * head, d)),
                           ("attn_output", (d, d)), ("ffn_norm", (d,)), ("ffn_gate", (shape["ffn"], d)), ("ffn_up", (shape["ffn"], d)),
                           ("ffn_down", (d, shape["ffn"]))):
            names.append((f"blk.{i}.{name}", dims))
    make = {}
    for name, dims in names:
        if len(dims) == 1:
            w.add_tensor(name + ".weight", np.ones(dims, np.float32))
            continue
        if dims not in make:  # values do not matter for time; drawn once per shape
            x = (g.standard_normal(dims, np.float32) * np.float32(0.02)).view(np.uint32)
            make[dims] = ((x + 0x8000) >> 16).astype(np.uint16)
        w.add_tensor(name + ".weight", make[dims].view(np.uint8), raw_shape=(dims[0], dims[1] * 2), raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def model_file(work, name, fmt):
    base = work / f"{name}-bf16.gguf"
    if not base.exists():
        write_bf16(base, SHAPES[name])
    path = work / f"{name}-{fmt}.gguf"
    if not path.exists():
        p = llama_cpp.llama_model_quantize_default_params()
        p.ftype, p.pure, p.nthread = FTYPES[fmt], True, 2
        if llama_cpp.llama_model_quantize(str(base).encode(), str(path).encode(), p):
            sys.exit(f"{path}: llama.cpp cannot quantise it")
    return path


class LlamaCpp:
    def __init__(self, path, threads, capacity):
        self.llm = llama_cpp.Llama(str(path), n_ctx=capacity, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads, verbose=False)

    def run(self, prompt, decode):
        self.llm.reset()
        t0 = time.perf_counter()
        self.llm.eval(prompt)
        vocab = self.llm.n_vocab()
        pick = lambda: int(np.argmax(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.llm.ctx, -1), (vocab,))))
        token = pick()
        t1 = time.perf_counter()
        for _ in range(decode - 1):
            self.llm.eval([token])
            token = pick()
        t2 = time.perf_counter()
        return len(prompt) / (t1 - t0), (decode - 1) / (t2 - t1)


class Tenon:
    def __init__(self, args, path, precision, threads, capacity):
        name = f"{path.stem}-{precision}{'-' + args.isa if args.isa else ''}".replace("-", "_").replace(".", "_")
        library = path.parent / f"lib{name}.so"
        if not library.exists() or library.stat().st_mtime < max(path.stat().st_mtime, pathlib.Path(args.tenon).stat().st_mtime):
            isa = ["--isa", args.isa] if args.isa else []
            subprocess.run([args.tenon, "compile", path, "-o", library, "--precision", precision] + isa, check=True, stdout=sys.stderr)
        self.library = library
        self.command = [args.tenon, "bench", library, "--threads", str(threads), "--context-size", str(capacity), "--runs", "1", "--json"]

    def run(self, prompt, decode):
        out = subprocess.run(self.command + ["--prompt-tokens", str(len(prompt)), "--max-tokens", str(decode)], check=True, capture_output=True).stdout
        rows = {r["what"]: r["per_second"] for r in json.loads(out) if "per_second" in r}
        return rows["prefill"], rows["decode"]


def matrix_bytes(path):
    """What decoding one token reads: every matrix but an embedding that is not the output's too."""
    tensors = {t.name: int(t.n_bytes) for t in gguf.GGUFReader(path).tensors}
    return sum(tensors.values()) - (tensors["token_embd.weight"] if "output.weight" in tensors else 0)


def measure(args, work, name, fmt, threads):
    path = model_file(work, name, fmt)
    capacity = args.prompt + args.decode + 8
    engines = {p: Tenon(args, path, p, threads, capacity) for p in args.precisions.split(",")}
    engines["llama.cpp"] = LlamaCpp(path, threads, capacity)
    prompt = [3 + i * 2654435761 % (SHAPES[name]["vocab"] - 3) for i in range(args.prompt)]
    speeds = {engine: [] for engine in engines}
    parts = {engine: [] for engine in engines}  # of the read bandwidth
    bounds, size = [], matrix_bytes(path)
    read = lambda: turns.limits(args.tenon, threads)["read"]["median"]
    for i in range(args.rounds + 1):  # the first round warms up
        bounds.append(read())
        for engine, e in engines.items():
            s = e.run(prompt, args.decode)
            bounds.append(read())
            if i:
                speeds[engine].append(s)
                parts[engine].append(s[1] * size / statistics.mean(bounds[-2:]))
    row = {"model": name, "format": fmt, "threads": threads, "isa": args.isa, "matrix_bytes": size, "prompt": args.prompt,
           "decode_tokens": args.decode, "read_gb_per_s": statistics.median(bounds) / 1e9}
    for k, what in enumerate(("prefill", "decode")):
        all = {engine: [s[k] for s in speeds[engine]] for engine in engines}
        row[what] = {engine: {"median": statistics.median(v), "min": min(v), "max": max(v),
                              "ratio": statistics.median(a / b for a, b in zip(v, all["llama.cpp"]))} for engine, v in all.items()}
    for engine, v in row["decode"].items():
        v["of_bandwidth"] = statistics.median(parts[engine])
    return row


def show(r):
    for engine in r["decode"]:
        p, d = r["prefill"][engine], r["decode"][engine]
        print(f"{r['model']:6} {r['format']:5} {r['threads']:2}  {engine:9} {p['median']:9.1f} [{p['min']:.1f} .. {p['max']:.1f}] {p['ratio']:6.2f}  "
              f"{d['median']:9.1f} [{d['min']:.1f} .. {d['max']:.1f}] {d['ratio']:6.2f} {100 * d['of_bandwidth']:5.0f} %", flush=True)


def summary(rows):
    """Geometric means over all rows, and the lowest ratio."""
    for what in ("prefill", "decode"):
        for engine in rows[0][what]:
            if engine != "llama.cpp":
                ratios = [r[what][engine]["ratio"] for r in rows]
                print(f"{what} {engine}: geometric mean {statistics.geometric_mean(ratios):.2f}, lowest {min(ratios):.2f}, of {len(ratios)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tenon")
    parser.add_argument("--shapes", default="135m,1.1b")
    parser.add_argument("--formats", default="bf16,q8_0,q4_0,q4_k,q6_k")
    parser.add_argument("--precisions", default="strict,fast")
    parser.add_argument("--isa", help="compile for this target; by default the best one here is taken")
    parser.add_argument("--keep", action="store_true", help="keep the compiled libraries")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--work", help="where models stay from run to run")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    work = pathlib.Path(args.work or tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    print(turns.processor())
    print("tokens/s, median [min .. max], ratio to llama.cpp: prefill, decode; decode's part of the read bandwidth", flush=True)
    for name in args.shapes.split(","):
        for fmt in args.formats.split(","):
            for threads in map(int, args.threads.split(",")):
                rows.append(measure(args, work, name, fmt, threads))
                show(rows[-1])
            if not args.keep:
                for f in work.glob("lib*.so"):
                    f.unlink()
    summary(rows)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


main()
