#!/usr/bin/env python3
"""Ranges of activations (passes/quantize/range.c) against NumPy on the numbers themselves, not on a histogram.

    range.py RANGE_TOOL

min-max: exact. Percentile: NumPy's quantiles, as far apart as bins are wide. MSE: the error of really rounding the numbers is
at most 2 % above the least that a finer search finds. Entropy: among NumPy's divergences of all limits, none is
less. Chunks in any order give the same.
"""
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: numpy is not there") or 77)

HALF, LEVELS = 4096, 255
ASKED = [("minmax", 0, 0), ("minmax", 1, 0), ("percentile", 0, 99), ("percentile", 1, 99.9), ("percentile", 0, 0),
         ("mse", 0, 0), ("mse", 1, 0), ("entropy", 0, 0), ("entropy", 1, 0)]  # fmt: skip


def data():
    r = np.random.default_rng(3)
    gelu = r.standard_normal(40000)
    yield "normal", r.standard_normal(50000)
    yield "outliers", np.concatenate([r.standard_normal(50000), r.standard_normal(40) * 30])
    yield "gelu", gelu * (1 + np.tanh(0.8 * (gelu + 0.0447 * gelu**3))) / 2
    yield "positive", np.abs(r.standard_normal(20000)) ** 3
    yield "negative", -r.random(5000) - 2
    yield "laplace", r.laplace(size=60000) * 1e-4
    yield "zeros first", np.concatenate([np.zeros(5000), r.standard_normal(20000) * 50])
    yield "zeros", np.zeros(100)
    yield "one number", np.full(10, 0.75)
    yield "tiny", np.full(10, 1e-40)


def ask(tool, x, chunk):
    words = [str(w) for row in ASKED for w in row]
    out = subprocess.run([tool, str(chunk), *words], input=x.astype("<f4").tobytes(), stdout=subprocess.PIPE, check=True).stdout
    return [tuple(float(np.float32(w)) for w in line.split()) for line in out.decode().splitlines()]


def step(low, high, symmetric):
    s = np.float32(max(-low, high)) / np.float32(127) if symmetric else np.float32(high - low) / np.float32(255)
    if not s >= np.float32(2.0**-126):
        s = np.float32(1)
    return float(s), 0 if symmetric else int(np.rint(np.float32(-low) / np.float32(s)))


def rounding_error(x, low, high, symmetric):
    s, z = step(low, high, symmetric)
    q = np.clip(np.rint(x / s) + z, -127 if symmetric else 0, 127 if symmetric else 255)
    return float(np.square((q - z) * s - x).mean())


def least_error(x, symmetric):
    low, high = min(x.min(), 0), max(x.max(), 0)
    parts = np.linspace(0.02, 1, 99)
    if symmetric:
        top = max(-low, high)
        return min(rounding_error(x, -top * p, top * p, True) for p in parts)
    lows = [low * p for p in parts] if low < 0 else [0]
    highs = [high * p for p in parts] if high > 0 else [0]
    best, b = np.inf, highs[-1]
    for _ in range(3):  # one end after the other
        a = min(lows, key=lambda v: rounding_error(x, v, b, False))
        b = min(highs, key=lambda v: rounding_error(x, a, v, False))
        best = min(best, rounding_error(x, a, b, False))
    return best


def divergences(x):
    """{limit: KL divergence} by the definition in range.c, on a histogram of NumPy's."""
    limit = 2.0 ** np.frexp(np.abs(x).max())[1]
    width = limit / HALF
    counts = np.bincount((np.floor(x / width) + HALF).astype(int), minlength=2 * HALF).astype(float)
    whole = int(max(np.ceil(x.max() / width), np.ceil(-x.min() / width)))
    out = {}
    for k in range(whole, 127, -16):
        p = counts[HALF - k : HALF + k].copy()
        edges = (np.arange(LEVELS + 1) * 2 * k) // LEVELS
        mass, full = np.add.reduceat(p, edges[:-1]), np.add.reduceat((p > 0).astype(float), edges[:-1])
        level = np.repeat(np.divide(mass, full, out=np.zeros(LEVELS), where=full > 0), np.diff(edges))
        q = np.where(p > 0, level, 0)
        if q.sum() <= 0:
            continue
        p[0] += counts[: HALF - k].sum()
        p[-1] += counts[HALF + k :].sum()
        there = p > 0
        if (q[there] <= 0).any():
            continue
        p, q = p[there] / p.sum(), q[there] / q.sum()
        out[k * width] = float((p * np.log(p / q)).sum())
    return out, whole * width


def check(x, asked, got):
    method, symmetric, percent = asked
    low, high, scale, zero = got
    least, most = min(float(x.min()), 0), max(float(x.max()), 0)
    if (scale, zero) != step(low, high, symmetric):
        return f"step {scale}, {zero}, expected {step(low, high, symmetric)}"
    if not least <= low <= 0 <= high <= most:
        return f"[{low}, {high}] is not inside [{least}, {most}]"
    width = 2.0 ** np.frexp(max(-least, most))[1] / HALF
    if method == "minmax" and (low, high) != (least, most):
        return f"[{low}, {high}], expected [{least}, {most}]"
    if method == "percentile":
        out = (1 - (percent or 99.999) / 100) / 2
        a, b = np.quantile(x, [out, 1 - out], method="inverted_cdf")
        if symmetric:
            a, b = -max(-a, b), max(-a, b)
        a, b = max(min(a, 0), least), min(max(b, 0), most)
        if abs(low - a) > 1.01 * width or abs(high - b) > 1.01 * width:
            return f"[{low}, {high}], quantiles are [{a}, {b}], a bin is {width}"
    if method == "mse" and most > least:
        error, best = rounding_error(x, low, high, symmetric), least_error(x, symmetric)
        if error > 1.02 * best + width**2 / 12:
            return f"error {error:.4g}, the least is {best:.4g}"
    if method == "entropy" and most > least and np.abs(x).max() > 1e-30:
        all_, whole = divergences(x)
        limit = min(all_, key=all_.get) if all_ else whole
        if abs(max(-low, high) - min(limit, max(-least, most))) > 1e-6 * limit:
            return f"[{low}, {high}], the least divergence is at {limit}"
    return None


def main():
    tool, failures = sys.argv[1], 0
    for name, x in data():
        x = x.astype("f4").astype("f8")
        got = ask(tool, x, 1000)
        again = ask(tool, x[::-1], 777)
        if got != again:
            failures += 1
            print("FAIL", name, "depends on the order")
        for asked, row in zip(ASKED, got, strict=True):
            why = check(x, asked, row)
            failures += why is not None
            if why:
                print("FAIL", name, *asked, why)
    bad = subprocess.run([tool, "10", "minmax", "0", "0"], input=np.float32([1, np.nan]).tobytes(), capture_output=True)
    failures += bad.stdout != b"not finite\n"
    print(f"{failures} failures")
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
