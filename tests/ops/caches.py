"""Cases of what serves caches: rings, packed keys and values, ragged batches, windows both ways; and rope far out.

The numbers have a generator of their own, so that cases may be added without changing others."""

import gguf
import mpmath
import numpy as np

from attention import sdpa
from goldens import Tensor, f64, tensor, ulps

rng = np.random.default_rng(20261122)


def normal(*shape):
    return rng.normal(size=shape)


def packed(x):
    """x as a q8_0 tensor, by the gguf package, and the values that it stands for."""
    blocks = gguf.quants.quantize(x.astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
    values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    return Tensor("q8_0", blocks, shape=x.shape), values.astype(np.float64)


def cache_attention(c):
    def add(name, b=1, s=4, t=4, h=2, hkv=1, d=4, rows=0, causal=1, window=0, first=None, kv="f32", softcap=0.0):
        """rows: of the ring that holds the last of t keys; 0: all keys lie in order."""
        q, k, v = tensor("f32", normal(b, s, h, d)), normal(b, t, hkv, d), normal(b, t, hkv, d)
        stored = []
        for i, x in enumerate((k, v)):
            if rows:  # the newest key that belongs into each row; rows that are still free hold anything
                ring = normal(b, rows, hkv, d) * 50
                for p in range(t):
                    ring[:, p % rows] = x[:, p]
                full = x
                x = ring
            if kv == "q8_0":
                held, values = packed(x)
            else:
                held = tensor(kv, x)
                values = f64(held)
            stored.append(held)
            if rows:
                full = full.copy()
                for p in range(max(0, t - rows), t):
                    full[:, p] = values[:, p % rows]
                values = full
            k, v = (values, v) if i == 0 else (k, values)
        i, j = np.arange(s)[:, None], np.arange(t)
        back = i + t - s - j
        visible = np.ones((s, t), bool) & ((not causal) | (back >= 0))
        visible = visible & ((not window) | (abs(back) < window)) & ((not rows) | (j >= t - rows))
        visible = visible[None, None]
        extra = []
        if first is not None:
            visible = visible & (j >= np.array(first)[:, None, None, None])
            extra = [Tensor("i32", np.array(first, np.int32))]
        want = sdpa(f64(q), k, v, 0.35, visible, softcap)
        attrs = [("causal", causal), (f"window = {window}", window), (f"softcap = {softcap}", softcap)]
        attrs += [(f"keys = {t}, ring", rows)]
        attrs = ", ".join(["scale = 0.35"] + [a for a, on in attrs if on])
        c.add(
            f"attention_{name}",
            f"attention %a, %b, %c{', _, _, %d' if extra else ''} {{{attrs}}}",
            [q, *stored, *extra],
            [tensor("f32", want)],
            ulps("f32", 8),
        )

    for w in (1, 2, 5, 6, 9):
        add(f"both_ways{w}", s=6, t=6, causal=0, window=w)
    add("both_ways_short", s=2, t=7, causal=0, window=3)
    add("first", b=3, s=4, t=4, first=[0, 2, 4])
    add("first_decode", b=2, s=1, t=9, first=[0, 7])
    add("first_window", b=2, s=3, t=8, first=[4, 5], window=3)
    for t in (3, 5, 6, 11, 12, 13, 100):
        add(f"ring{t}", s=2, t=t, rows=5)
    add("ring_decode", s=1, t=33, rows=8, window=4)
    add("ring_window", s=3, t=20, rows=7, window=5)
    add("ring_first", b=2, s=3, t=9, rows=7, window=5, first=[0, 6])
    add("ring_f16", s=2, t=17, rows=6, kv="f16")
    add("q8_0", s=3, t=9, d=64, h=4, hkv=2, kv="q8_0")
    add("q8_0_ring", b=2, s=2, t=19, d=32, rows=6, window=4, kv="q8_0", softcap=3.0)


def cache_update(c):
    for name, rows, s, pos, state in (
        ("wraps", 5, 3, 4, "f32"),
        ("far", 5, 5, 1003, "bf16"),
        ("before", 5, 2, 1, "f16"),
    ):
        held, x = tensor(state, normal(2, rows, 2, 3)), tensor("f32", normal(2, s, 2, 3))
        want = held.values.copy()
        for i in range(s):
            want[:, (pos + i) % rows] = tensor(state, f64(x)[:, i]).values
        op = f"kv_update @s0, %a {{pos = {pos}, ring}}"
        c.add(f"kv_update_ring_{name}", op, [x], [Tensor(state, want)], states=[held])
    for pos, ring in ((1, False), (6, True)):
        held, _ = packed(normal(2, 4, 2, 64))
        x = tensor("f32", normal(2, 2, 2, 64) * np.exp(normal(2, 2, 2, 1)))
        x.values[0, 0, 0] = 0
        rows, _ = packed(x.values)
        want = held.values.reshape(2, 4, 2, -1).copy()
        for i in range(2):
            want[:, (pos + i) % 4] = rows.values.reshape(2, 2, 2, -1)[:, i]
        op = f"kv_update @s0, %a {{pos = {pos}{', ring' if ring else ''}}}"
        name = f"kv_update_q8_0{'_ring' if ring else ''}"
        c.add(name, op, [x], [Tensor("q8_0", want, shape=(2, 4, 2, 64))], states=[held])


def far_rope(c):
    """Sines and cosines themselves, against 60 digits: x holds (1, 0) and (0, 1)."""
    mpmath.mp.dps = 60
    positions = [0, 4095, 4096, 32767, 131071]
    for name, base, f, interleaved in (("theta_1e4", 1e4, 8, 0), ("theta_5e5", 5e5, 16, 0), ("pairs", 1e6, 8, 1)):
        inv = tensor("f32", base ** (-np.arange(f) / f))
        x = np.zeros((1, 5, 2, 2 * f))
        one = np.s_[..., 0, 0::2] if interleaved else np.s_[..., 0, :f]
        two = np.s_[..., 1, 1::2] if interleaved else np.s_[..., 1, f:]
        x[one] = 1
        x[two] = 1
        angle = [[mpmath.mpf(p) * mpmath.mpf(float(v)) for v in inv.values] for p in positions]
        cos = np.array([[float(mpmath.cos(a)) for a in row] for row in angle])
        sin = np.array([[float(mpmath.sin(a)) for a in row] for row in angle])
        want = np.zeros((1, 5, 2, 2 * f))
        lo, hi = (np.s_[0::2], np.s_[1::2]) if interleaved else (np.s_[:f], np.s_[f:])
        want[0, :, 0][:, lo], want[0, :, 0][:, hi] = cos, sin
        want[0, :, 1][:, lo], want[0, :, 1][:, hi] = -sin, cos
        op = "rope %a, %b, %c" + (" {interleaved}" if interleaved else "")
        ids = Tensor("i32", np.array(positions, np.int32))
        c.add(f"rope_far_{name}", op, [tensor("f32", x), ids, inv], [tensor("f32", want)], (1.2e-7, 0))
