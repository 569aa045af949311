"""One attention, in turn with PyTorch's flash attention (scaled_dot_product_attention) in f32 and bf16.

attention.py TENON [--cases prefill-512,...] [--precisions f32,bf16] [--threads 1,2] [--rounds 7] [--work DIR] [--json FILE]
f32 is tenon's precision strict, bf16 its fast (what comes and goes is f32 there, products are bf16). A row is median and spread,
our speed over PyTorch's, GFLOP/s of the pairs of query and key that are seen, and by how much peak memory grew beyond the operands."""
import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

import turns

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parity"))
CASES = {f"{kind}-{n}-d{d}": (32, kv, d, n if kind != "decode" else 1, n, kind == "causal")
         for kind, kv in (("encode", 32), ("causal", 32), ("decode", 8)) for d in (64, 128) for n in (512, 2048, 8192)}


def operands(case):
    import numpy as np
    h, kv, d, s, t, _ = CASES[case]
    r = np.random.default_rng(1)
    return [r.standard_normal((1, n, heads, d), np.float32) for n, heads in ((s, h), (t, kv), (t, kv))]


def tenon(args, case, precision, given):
    import library
    import numpy as np
    h, kv, d, s, _, causal = CASES[case]
    n = "1" if s == 1 else "S"
    level = "strict" if precision == "f32" else "fast"
    source, path = args.work / f"{case}.tir", args.work / f"libattention_{case.replace('-', '_')}_{precision}.so"
    source.write_text(f"module @attention {{\n  dims S, T\n  func @attend(%q: f32[1, {n}, {h}, {d}], %k: f32[1, T, {kv}, {d}], "
                      f"%v: f32[1, T, {kv}, {d}]) -> (r: f32[1, {n}, {h}, {d}]) {{\n    %r = attention %q, %k, %v "
                      f"{{scale = {d ** -0.5!r}{', causal' if causal else ''}}}\n    return %r\n  }}\n}}\n")
    if not path.exists() or path.stat().st_mtime < pathlib.Path(args.tenon).stat().st_mtime:
        subprocess.run([args.tenon, "compile", source, "-o", path, "--precision", level], check=True, stdout=sys.stderr)
    model = library.Model(str(path))
    session = library.Session(model, threads=args.threads)
    q, k, v = map(np.ascontiguousarray, given)
    return lambda: session.run("attend", q=q, k=k, v=v)["r"]


def torch(args, case, precision, given):
    import torch
    torch.set_num_threads(args.threads)
    h, kv, _, s, _, causal = CASES[case]
    dtype = torch.float32 if precision == "f32" else torch.bfloat16
    q, k, v = (torch.from_numpy(x).to(dtype).transpose(1, 2).contiguous() for x in given)

    def run():
        with torch.inference_mode():
            r = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=h != kv)
        return r.transpose(1, 2).float().numpy() if run.whole else r
    run.whole = False
    return run


def make(args):
    import numpy as np
    engine, case, precision = args.worker.split(":")
    given = operands(case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if engine == "torch":
        import torch as warm  # its own size is not the attention's
        warm.set_num_threads(args.threads)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = {"tenon": tenon, "torch": torch}[engine](args, case, precision, given)
    run()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if engine == "torch":
        run.whole = True
    out = np.asarray(run(), np.float64)
    if engine == "torch":
        run.whole = False
    h, kv, d, s, _, causal = CASES[case]
    rows = slice(0, 1) if s == 1 else slice(max(0, s // 2 - 4), s // 2 + 4)  # a few rows, in f64
    q, k, v = (np.repeat(x[0].astype(np.float64), h // x.shape[2], 1).transpose(1, 0, 2) for x in given)
    scores = q[:, rows] @ k.transpose(0, 2, 1) * d ** -0.5
    if causal:
        at = np.arange(s)[rows]
        scores[:, np.arange(k.shape[1])[None, :] > at[:, None]] = -np.inf
    p = np.exp(scores - scores.max(-1, keepdims=True))
    want = ((p / p.sum(-1, keepdims=True)) @ v).transpose(1, 0, 2)
    error = float(np.abs(out[0, rows] - want).max() / np.abs(want).max())
    return run, {"mb": grown, "error": error}


def measure(args, case, precision, threads, log):
    h, _, d, s, t, causal = CASES[case]
    command = [sys.executable, __file__, args.tenon, "--work", args.work, "--threads", threads, "--worker"]
    engines = [turns.Engine(e, list(map(str, [*command, f"{e}:{case}:{precision}"])), threads, log) for e in ("tenon", "torch")]
    running = [e for e in engines if not e.error]
    turns.interleave(running, args.rounds)
    flops = 4 * h * d * (s * (t - (s - 1) / 2) if causal else s * t)
    rows = []
    for e in engines:
        e.close()
        row = {"case": case, "precision": precision, "threads": threads, "engine": e.name, "error": e.error}
        if not e.error:
            ms = [x * 1e3 for x in e.seconds]
            row |= {"ms": statistics.median(ms), "low": min(ms), "high": max(ms), "gflops": flops / statistics.median(ms) * 1e-6,
                    "mb": e.facts["mb"], "off": e.facts["error"]}
            if e.name == "torch" and not engines[0].error:
                row["ratio"] = turns.ratio(engines[0], e)
        rows.append(row)
        print(f"{case:18} {precision:5} {threads} {e.name:6} ", end="")
        print(e.error or f"{row['ms']:9.3f} ms [{row['low']:.3f}..{row['high']:.3f}] {row['gflops']:6.0f} GFLOP/s {row['mb']:7.1f} MB"
              f" off {row['off']:.1e}" + (f"  tenon is {row['ratio']:.2f}x" if "ratio" in row else ""), flush=True)
    return rows


def main():
    a = argparse.ArgumentParser()
    a.add_argument("tenon")
    a.add_argument("--cases", default=",".join(CASES))
    a.add_argument("--precisions", default="f32,bf16")
    a.add_argument("--threads", default="1,2")
    a.add_argument("--rounds", type=int, default=7)
    a.add_argument("--work", type=pathlib.Path)
    a.add_argument("--json", type=pathlib.Path)
    a.add_argument("--worker")
    args = a.parse_args()
    if args.worker:
        args.threads = int(args.threads)
        turns.serve(lambda: make(args))
        return
    with tempfile.TemporaryDirectory() as work, open(pathlib.Path(work) / "log", "w") as log:
        args.work = (args.work or pathlib.Path(work)).resolve()
        args.work.mkdir(exist_ok=True)
        print(turns.processor())
        rows = [row for case in args.cases.split(",") for precision in args.precisions.split(",") for threads in map(int, args.threads.split(","))
                for row in measure(args, case, precision, threads, log)]
        ratios = [r["ratio"] for r in rows if "ratio" in r]
        if ratios:
            print(f"least {min(ratios):.2f}x, geometric mean {statistics.geometric_mean(ratios):.2f}x")
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1))


main()
