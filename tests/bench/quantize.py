#!/usr/bin/env python3
"""`tenon quantize` beside llama-quantize on the same file, by hand: the error of each tensor, the divergence of the whole
model, the time and the memory. Needs the llama_cpp and gguf packages.

    quantize.py quality TENON MODEL.gguf TEXT [--imatrix FILE] [--schemes Q4_K_M,...] [--chunks 4] [--context 512]
    quantize.py speed TENON MODEL.gguf [FOLDER] [--scheme Q4_K_S] [--threads 2] [--pure]

MODEL.gguf has plain numbers (`tenon quantize in out.gguf F32`). quality: root mean square errors per tensor as a ratio,
tenon's over llama.cpp's, weighted by importance where there is some: worst and mean of those that a tensor-type override
(Q8_0:REGEX=TYPE for a scheme) concerns, or of all; then the mean KL divergence of both
files from MODEL, measured with `tenon perplexity --kl`. speed: seconds and peak memory of both; FOLDER is the same model
as safetensors.
"""
import argparse
import ctypes
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time

import gguf
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "quantize"))
from mixes import SCHEMES  # noqa: E402


def read_importance(path):
    """name -> [experts * columns] of means, as llama-quantize hands them on."""
    out, tensors = {}, {t.name: t for t in gguf.GGUFReader(path).tensors}
    for name, t in tensors.items():
        if not name.endswith(".in_sum2"):
            continue
        counts = np.asarray(tensors[name[:-8] + ".counts"].data, np.float32).reshape(-1, 1)
        sums = np.asarray(t.data, np.float32).reshape(counts.shape[0], -1)
        out[name[:-8]] = np.where(counts > 0, sums / np.maximum(counts, 1e-30), 1).astype(np.float32).ravel()
    return out


def llama_quantize(src, dst, scheme, threads, importance=None, pure=False, override=None):
    import llama_cpp as L

    @L.llama_log_callback
    def log(level, text, _data):
        if level >= 4:
            sys.stderr.write(text.decode("utf-8", "replace"))
    L.llama_log_set(log, ctypes.c_void_p(0))
    p = L.llama_model_quantize_default_params()
    p.ftype, p.nthread, p.pure = SCHEMES[scheme], threads, pure
    keep = []
    if override:
        pattern, kind = override.rsplit("=", 1)
        pairs = (L.llama_model_tensor_override * 2)()
        pairs[0].pattern, pairs[0].type = pattern.encode(), int(gguf.GGMLQuantizationType[kind.upper()])
        pairs[1].pattern = None
        p.tt_overrides = pairs
    if importance:
        rows = (L.llama_model_imatrix_data * (len(importance) + 1))()
        for i, (name, v) in enumerate(importance.items()):
            keep.append(v)
            rows[i].name, rows[i].size = name.encode(), v.size
            rows[i].data = v.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        p.imatrix = rows
    if L.llama_model_quantize(src.encode(), dst.encode(), ctypes.byref(p)):
        raise SystemExit(f"llama.cpp does not make {scheme}")


def numbers(path):
    """name -> (type, values [rows, columns] or [experts, rows, columns])"""
    return {t.name: (t.tensor_type.name.lower(), lambda t=t: gguf.dequantize(t.data, t.tensor_type).astype(np.float32))
            for t in gguf.GGUFReader(path).tensors}


def errors(src, a, b, importance):
    """Per tensor that both encoded: (name, type, error of a, error of b)."""
    s, x, y, out = numbers(src), numbers(a), numbers(b), []
    for name, (kind, get) in s.items():
        if x[name][0] != y[name][0]:
            print(f"  {name}: {x[name][0]} here, {y[name][0]} there")
            continue
        if x[name][0] == kind:
            continue
        want = get()
        w = importance.get(name) if importance else None
        w = w.reshape(-1, *([1] * (want.ndim - 2)), want.shape[-1]) if w is not None else None
        e = []
        for m in (x, y):
            d = (m[name][1]().reshape(want.shape) - want).astype(np.float64) ** 2
            e.append(float(np.sqrt((d * w if w is not None else d).mean())))
        out.append((name, x[name][0], e[0], e[1]))
    return out


def divergence(tenon, model, base, args):
    r = subprocess.run([tenon, "perplexity", model, args.text, "--kl", base, "--json", "-c", str(args.context),
                        "--chunks", str(args.chunks)], capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(r.stderr)
    return json.loads(r.stdout)


def quality(args):
    importance = read_importance(args.imatrix) if args.imatrix else None
    print(f"{'scheme':9} {'tensors':>7} {'rmse ratio':>22} {'KL divergence':>23} {'ratio':>7}   perplexity")
    print(f"{'':9} {'':7} {'worst':>11} {'mean':>10} {'tenon':>11} {'llama.cpp':>11}")
    for what in args.schemes.split(","):
        scheme, _, override = what.partition(":")  # Q8_0:ffn_down=q4_k
        with tempfile.TemporaryDirectory(dir=args.tmp) as tmp:
            a, b = os.path.join(tmp, "tenon.gguf"), os.path.join(tmp, "llama.gguf")
            command = [args.tenon, "quantize", args.model, a, scheme, "--fallback", "auto", "--json"]
            command += ["--imatrix", args.imatrix] if args.imatrix else []
            command += ["--tensor-type", override] if override else []
            r = subprocess.run(command, capture_output=True, text=True)
            if r.returncode:
                raise SystemExit(r.stderr)
            llama_quantize(args.model, b, scheme, 2, importance, override=override)
            rows = errors(args.model, a, b, importance)
            rows = [x for x in rows if not override or re.search(override.rsplit("=", 1)[0], x[0])]
            ratios = np.array([x[2] / x[3] if x[3] > 0 else 1.0 if x[2] == 0 else np.inf for x in rows])
            if args.verbose:
                for (name, kind, e, f), ratio in sorted(zip(rows, ratios), key=lambda v: -v[1])[:12]:
                    print(f"    {name} {kind}: {e:.6g} / {f:.6g} = {ratio:.4f}")
            x, y = divergence(args.tenon, a, args.model, args), divergence(args.tenon, b, args.model, args)
            print(f"{what:9} {len(rows):7} {ratios.max():11.4f} {ratios.mean():10.4f} {x['kl']['mean']:11.6f} "
                  f"{y['kl']['mean']:11.6f} {x['kl']['mean'] / y['kl']['mean']:7.3f}   {x['perplexity']:.3f} "
                  f"{y['perplexity']:.3f}", flush=True)


def timed(command):
    """Seconds and peak memory of a command."""
    begin = time.monotonic()
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(p.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.monotonic() - begin, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def speed(args):
    with tempfile.TemporaryDirectory(dir=args.tmp) as tmp:
        out = os.path.join(tmp, "out.gguf")
        more = ["--pure"] if args.pure else []
        child = [sys.executable, os.path.abspath(__file__), "llama", args.model, out, args.scheme, str(args.threads),
                 str(int(args.pure))]
        for name, command in [("llama.cpp", child)] + [
                (f"tenon, {what}", [args.tenon, "quantize", model, out, args.scheme, "-t", str(args.threads), *more])
                for what, model in (("GGUF", args.model), ("folder", args.folder)) if model]:
            s = [timed(command) for _ in range(args.runs)]
            best = min(s)
            print(f"{name:14} {best[0]:8.2f} s  {best[2]:8.2f} s of processors  {best[1]:8.0f} MB peak  "
                  f"{os.path.getsize(out)} bytes", flush=True)
            os.unlink(out)


def main():
    if sys.argv[1:2] == ["llama"]:
        return llama_quantize(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), pure=bool(int(sys.argv[6])))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="what", required=True)
    q = sub.add_parser("quality")
    for name in ("tenon", "model", "text"):
        q.add_argument(name)
    q.add_argument("--imatrix")
    q.add_argument("--schemes", default="Q2_K,Q3_K_M,Q4_K_M,Q5_K_M,Q6_K,Q4_0,Q4_1,Q5_0,Q5_1,Q8_0,IQ4_NL,IQ4_XS")
    q.add_argument("--chunks", type=int, default=4)
    q.add_argument("--context", type=int, default=512)
    q.add_argument("--verbose", action="store_true")
    v = sub.add_parser("speed")
    v.add_argument("tenon")
    v.add_argument("model")
    v.add_argument("folder", nargs="?")
    v.add_argument("--scheme", default="Q4_K_S")
    v.add_argument("--threads", type=int, default=2)
    v.add_argument("--runs", type=int, default=1)
    v.add_argument("--pure", action="store_true")
    for x in (q, v):
        x.add_argument("--tmp", default=tempfile.gettempdir())
    args = p.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return quality(args) if args.what == "quality" else speed(args)


if __name__ == "__main__":
    sys.exit(main())
