#!/usr/bin/env python3
"""scalar.py LIBRARY - every scalar instruction on random and special numbers, against NumPy. Python's integers and
NumPy's floats are the reference; rounding modes other than nearest are checked with exact fractions."""
import ctypes as C
import fractions
import math
import os
import sys

import ml_dtypes
import numpy as np

import device

N = 512
rng = np.random.default_rng(7)
INTS = {"u16": np.uint16, "u32": np.uint32, "u64": np.uint64, "s16": np.int16, "s32": np.int32, "s64": np.int64}
FLOATS = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64}
BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
os.environ[device.SETUP] = "sm=120"
dev, checks = device.Device(sys.argv[1]), device.Checks()


def bits_of(a):
    return a.view(BITS[a.itemsize])


def numbers(t):
    if t in INTS:
        info = np.iinfo(INTS[t])
        a = rng.integers(info.min, info.max, N, dtype=INTS[t], endpoint=True)
        a[:6] = [info.min, info.max, 0, 1, 2, info.max // 2]
        return a
    kind = FLOATS[t]
    a = (rng.standard_normal(N) * 10.0 ** rng.integers(-3, 4, N)).astype(np.float64)
    a[:10] = [0.0, -0.0, 1, -1, math.inf, -math.inf, math.nan, 6e-8, 1e-40, 65504]
    with np.errstate(over="ignore"):
        return a.astype(kind)


def reg(size, i):
    return {1: f"%h{i}", 2: f"%h{i}", 4: f"%r{i}", 8: f"%d{i}"}[size]


def run(lines, ins, out, target="sm_120"):
    """One thread per number: loads ins to registers 10, 11, 12 (or the 64-bit ones), runs the lines, stores register 20."""
    body = ["mov.u32 %r0, %ctaid.x;", "mov.u32 %r1, %ntid.x;", "mov.u32 %r2, %tid.x;", "mad.lo.u32 %r0, %r0, %r1, %r2;"]
    for i, a in enumerate([*ins, out]):
        body += [f"ld.param.u64 %d{i}, [p{i}];", f"mul.wide.u32 %d{i + 40}, %r0, {a.itemsize};", f"add.u64 %d{i}, %d{i}, %d{i + 40};"]
    for i, a in enumerate(ins):
        body.append(f"ld.global.b{8 * a.itemsize} {reg(a.itemsize, 10 + i)}, [%d{i}];")
    body += lines + [f"st.global.b{8 * out.itemsize} [%d{len(ins)}], {reg(out.itemsize, 20)};"]
    module = dev.module(device.wrap("\n".join(body), ["u64"] * (len(ins) + 1), target))
    p = dev.put(out)
    dev.launch(dev.function(module, "k"), (N // 64,), (64,), [*[dev.put(a) for a in ins], p])
    return dev.get(p, out)


def wrap_int(values, t):
    n = 8 * np.dtype(INTS[t]).itemsize
    out = [int(v) & ((1 << n) - 1) for v in values]
    return np.array(out, BITS[n // 8]).view(INTS[t])


def three(t):
    s = np.dtype(INTS[t]).itemsize
    return reg(s, 20), reg(s, 10), reg(s, 11), reg(s, 12), s


def whole(text, t, fn, nin=2, out=None):
    """text: instruction with {d} {a} {b} {c}; fn on Python integers."""
    d, a, b, c, s = three(t)
    ins = [numbers(t) for _ in range(nin)]
    o = np.zeros(N, INTS[out or t])
    d = reg(o.itemsize, 20)
    got = run([text.format(d=d, a=a, b=b, c=c, t=t) + ";"], ins, o)
    want = wrap_int([fn(*[int(x[i]) for x in ins]) for i in range(N)], out or t)
    checks.same(got, want, text.format(d="d", a="a", b="b", c="c", t=t))


def cdiv(a, b):
    return -1 if not b else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def integers():
    wide = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}
    for t in INTS:
        bits = 8 * np.dtype(INTS[t]).itemsize
        whole("add.{t} {d}, {a}, {b}", t, lambda a, b: a + b)
        whole("sub.{t} {d}, {a}, {b}", t, lambda a, b: a - b)
        whole("mul.lo.{t} {d}, {a}, {b}", t, lambda a, b: a * b)
        whole("mul.hi.{t} {d}, {a}, {b}", t, lambda a, b: a * b >> bits)
        whole("mad.lo.{t} {d}, {a}, {b}, {c}", t, lambda a, b, c: a * b + c, 3)
        whole("div.{t} {d}, {a}, {b}", t, cdiv)
        whole("rem.{t} {d}, {a}, {b}", t, lambda a, b: a - b * cdiv(a, b) if b else a)
        whole("min.{t} {d}, {a}, {b}", t, min)
        whole("max.{t} {d}, {a}, {b}", t, max)
        whole("sad.{t} {d}, {a}, {b}, {c}", t, lambda a, b, c: abs(a - b) + c, 3)
        if t in wide:
            whole("mul.wide.{t} {d}, {a}, {b}", t, lambda a, b: a * b, 2, wide[t])
        if t[0] == "s":
            whole("abs.{t} {d}, {a}", t, abs, 1)
            whole("neg.{t} {d}, {a}", t, lambda a: -a, 1)
        if bits > 16:
            for at, n in ((0, 8), (5, 13), (bits - 3, 9), (3, 0), (40, 8)):
                whole("bfe.{t} {d}, {a}, " + f"{at}, {n}", t, lambda a: field(a, at, n, bits, t[0] == "s"), 1)
    whole("add.sat.s32 {d}, {a}, {b}", "s32", lambda a, b: max(-2**31, min(2**31 - 1, a + b)))
    for t in ("u16", "u32", "u64", "s32"):
        bits = 8 * np.dtype(INTS[t]).itemsize
        b = f"b{bits}"
        whole(f"and.{b} {{d}}, {{a}}, {{b}}", t, lambda x, y: x & y)
        whole(f"or.{b} {{d}}, {{a}}, {{b}}", t, lambda x, y: x | y)
        whole(f"xor.{b} {{d}}, {{a}}, {{b}}", t, lambda x, y: x ^ y)
        whole(f"not.{b} {{d}}, {{a}}", t, lambda x: ~x, 1)
        for n in (0, 1, bits - 1, bits, bits + 5):
            whole(f"shl.{b} {{d}}, {{a}}, {n}", t, lambda x: x << n if n < bits else 0, 1)
            whole(f"shr.{{t}} {{d}}, {{a}}, {n}", t, lambda x: x >> min(n, bits), 1)
        if bits > 16:
            mask = (1 << bits) - 1
            whole(f"popc.{b} %r20, {{a}}", t, lambda x: bin(x & mask).count("1"), 1, "u32")
            whole(f"clz.{b} %r20, {{a}}", t, lambda x: bits - (x & mask).bit_length(), 1, "u32")
            whole(f"brev.{b} {{d}}, {{a}}", t, lambda x: int(format(x & mask, f"0{bits}b")[::-1], 2), 1)
    whole("prmt.b32 {d}, {a}, {b}, 0x3715", "u32", lambda a, b: permute(a, b, 0x3715))
    whole("prmt.b32 {d}, {a}, {b}, 0xb2d0", "u32", lambda a, b: permute(a, b, 0xb2d0))
    whole("lop3.b32 {d}, {a}, {b}, {c}, 0x96", "u32", lambda a, b, c: a ^ b ^ c, 3)
    whole("lop3.b32 {d}, {a}, {b}, {c}, 0xe8", "u32", lambda a, b, c: a & b | b & c | a & c, 3)
    whole("shf.l.wrap.b32 {d}, {a}, {b}, 9", "u32", lambda a, b: (b << 32 | a) >> 23)
    whole("shf.r.clamp.b32 {d}, {a}, {b}, 35", "u32", lambda a, b: b)
    whole("bfi.b32 {d}, {a}, {b}, 7, 11", "u32", lambda a, b: b & ~(0x7ff << 7) | (a & 0x7ff) << 7)
    whole("dp4a.u32.s32 {d}, {a}, {b}, {c}", "u32", lambda a, b, c: c + sum((a >> 8 * i & 255) * signed(b >> 8 * i & 255, 8) for i in range(4)), 3)
    whole("dp4a.s32.s32 {d}, {a}, {b}, {c}", "s32", lambda a, b, c: c + sum(signed(a >> 8 * i & 255, 8) * signed(b >> 8 * i & 255, 8) for i in range(4)), 3)
    whole("dp2a.lo.s32.s32 {d}, {a}, {b}, {c}", "s32", lambda a, b, c: c + sum(signed(a >> 16 * i & 65535, 16) * signed(b >> 8 * i & 255, 8) for i in range(2)), 3)


def signed(v, bits):
    return v - (1 << bits) if v >> (bits - 1) & 1 else v


def field(a, at, n, bits, sign):
    a &= (1 << bits) - 1
    if not n:
        return 0
    v = a >> at & ((1 << n) - 1)
    top = a >> min(at + n - 1, bits - 1) & 1
    have = max(0, min(at + n, bits) - at)
    return v | -1 << have if sign and top else v


def permute(a, b, s):
    data, out = (b << 32 | a).to_bytes(8, "little"), 0
    for i in range(4):
        pick = s >> 4 * i & 15
        v = data[pick & 7]
        out |= (255 * (v >> 7) if pick & 8 else v) << 8 * i
    return out


def real(text, t, fn, nin=2, tolerance=0, target="sm_120"):
    size = np.dtype(FLOATS[t]).itemsize
    ins = [numbers(t) for _ in range(nin)]
    names = dict(zip("abc", (reg(size, 10 + i) for i in range(3))))
    got = run([text.format(d=reg(size, 20), t=t, **names) + ";"], ins, np.zeros(N, FLOATS[t]), target)
    with np.errstate(all="ignore"):
        want = fn(*[x.astype(np.float64) for x in ins]).astype(FLOATS[t])
    label = text.format(d="d", a="a", b="b", c="c", t=t)
    checks.close(got.astype(np.float64), want.astype(np.float64), tolerance, label)
    if not tolerance:  # the sign of zero too
        zeros = (got == 0) & (want == 0)
        checks.same(np.signbit(got.astype(np.float64))[zeros], np.signbit(want.astype(np.float64))[zeros], label + ", zeros")


def exact_fma(a, b, c, kind):
    out = np.zeros(len(a), kind)
    for i, (x, y, z) in enumerate(zip(a, b, c)):
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
            with np.errstate(all="ignore"):
                out[i] = kind(np.float64(x) * np.float64(y) + np.float64(z))
            continue
        r = fractions.Fraction(x) * fractions.Fraction(y) + fractions.Fraction(z)
        out[i] = nearest(r, kind) if r else kind(x * y + z)
    return out


def nearest(r, kind):
    """The float of `kind` next to a fraction, ties to even."""
    info = ml_dtypes.finfo(kind) if kind is ml_dtypes.bfloat16 else np.finfo(kind)
    digits, least = info.nmant + 1, int(info.minexp)
    e = r.numerator.bit_length() - r.denominator.bit_length() if r else 0
    a = abs(r)
    while a >= fractions.Fraction(2) ** (e + 1):
        e += 1
    while a < fractions.Fraction(2) ** e:
        e -= 1
    e = max(e, least)
    unit = fractions.Fraction(2) ** (e - digits + 1)
    q = round(a / unit) * unit  # Python rounds fractions to even
    if q > fractions.Fraction(float(info.max)):
        return kind(math.copysign(math.inf, r))
    return kind(math.copysign(float(q), r))


def floats():
    for t, kind in FLOATS.items():
        rn = ".rn" if t in ("f32", "f64") else ""
        real(f"add{rn}.{{t}} {{d}}, {{a}}, {{b}}", t, np.add)
        real(f"sub{rn}.{{t}} {{d}}, {{a}}, {{b}}", t, np.subtract)
        real(f"mul{rn}.{{t}} {{d}}, {{a}}, {{b}}", t, np.multiply)
        real("fma.rn.{t} {d}, {a}, {b}, {c}", t, lambda a, b, c: exact_fma(a, b, c, kind), 3)
        real("min.{t} {d}, {a}, {b}", t, np.fmin, 2, 1e-30)
        real("max.{t} {d}, {a}, {b}", t, np.fmax, 2, 1e-30)
        real("max.NaN.{t} {d}, {a}, {b}", t, np.maximum, 2, 1e-30) if t != "f64" else None
        real("abs.{t} {d}, {a}", t, np.abs, 1)
        real("neg.{t} {d}, {a}", t, np.negative, 1)
    for t in ("f32", "f64"):
        real("div.rn.{t} {d}, {a}, {b}", t, np.divide)
        real("sqrt.rn.{t} {d}, {a}", t, np.sqrt, 1)
        real("rcp.rn.{t} {d}, {a}", t, np.reciprocal, 1)
    for op, fn in (("ex2", np.exp2), ("lg2", np.log2), ("sin", np.sin), ("cos", np.cos), ("rsqrt", lambda x: 1 / np.sqrt(x)),
                   ("sqrt", np.sqrt), ("rcp", np.reciprocal), ("tanh", np.tanh)):
        real(f"{op}.approx.{{t}} {{d}}, {{a}}", "f32", fn, 1, 1e-6)
    real("add.ftz.f32 {d}, {a}, {b}", "f32", lambda a, b: flush(flush(a) + flush(b)))
    real("add.sat.f32 {d}, {a}, {b}", "f32", lambda a, b: np.nan_to_num(np.clip(a + b, 0, 1)))
    real("fma.rn.relu.f16 {d}, {a}, {b}, {c}", "f16", lambda a, b, c: relu(exact_fma(a, b, c, np.float16).astype(float)), 3)
    directed()
    packed()


def flush(x):
    return np.where(np.abs(x) < 2.0**-126, np.copysign(0, x), x)


def relu(x):
    return np.where(x < 0, 0, x)


def directed():
    """add.rz, .rm, .rp of f32: the exact sum, then the neighbour on the right side."""
    for how in ("rz", "rm", "rp"):
        a, b = numbers("f32")[10:], numbers("f32")[10:]
        a, b = np.resize(a, N), np.resize(b, N)
        got = run([f"add.{how}.f32 %r20, %r10, %r11;"], [a, b], np.zeros(N, np.float32))
        want = np.zeros(N, np.float32)
        for i in range(N):
            r = fractions.Fraction(float(a[i])) + fractions.Fraction(float(b[i]))
            n = np.float32(float(r)) if r else np.float32(0)
            v = fractions.Fraction(float(n))
            towards = {"rz": 0.0, "rm": -math.inf, "rp": math.inf}[how]
            over = {"rz": abs(v) > abs(r), "rm": v > r, "rp": v < r}[how]
            want[i] = np.nextafter(n, np.float32(towards)) if over else n
        checks.same(bits_of(got) & 0x7fffffff, bits_of(want) & 0x7fffffff, f"add.{how}.f32")


def packed():
    for t, kind, bits in (("f16x2", np.float16, 16), ("bf16x2", ml_dtypes.bfloat16, 16), ("f32x2", np.float32, 32)):
        word = {16: np.uint32, 32: np.uint64}[bits]
        halves = [[numbers(t[:-2]) for _ in range(2)] for _ in range(3)]
        ins = [np.ascontiguousarray(np.stack(h, 1)).view(word).ravel() for h in halves]
        size = ins[0].itemsize
        r = [reg(size, 10 + i) for i in range(3)]
        for op, fn in (("add.rn" if bits == 32 else "add", lambda a, b, c: a + b), ("mul.rn" if bits == 32 else "mul", lambda a, b, c: a * b),
                       ("fma.rn", lambda a, b, c: exact_fma(a, b, c, kind))):
            args = ", ".join(r[:3 if "fma" in op else 2])
            got = run([f"{op}.{t} {reg(size, 20)}, {args};"], ins, np.zeros(N, word)).view(kind).reshape(N, 2)
            for h in range(2):
                with np.errstate(all="ignore"):
                    want = fn(*[x[h].astype(np.float64) for x in halves]).astype(kind)
                checks.close(got[:, h].astype(float), want.astype(float), 0, f"{op}.{t}, half {h}")


def mixed():
    """f32 results of 16-bit operands; the last operand is f32."""
    for t in ("f16", "bf16"):
        x, y, c = numbers(t), numbers(t)[::-1].copy(), numbers("f32")
        wide = [v.astype(np.float64) for v in (x, y, c)]
        with np.errstate(all="ignore"):
            sums = {"add": wide[0] + wide[2], "sub": wide[0] - wide[2]}
        for op, want in sums.items():
            got = run([f"{op}.rn.f32.{t} %r20, %h10, %r11;"], [x, c], np.zeros(N, np.float32))
            checks.close(got.astype(np.float64), want.astype(np.float32).astype(np.float64), 0, f"{op}.rn.f32.{t}")
        got = run([f"fma.rn.f32.{t} %r20, %h10, %h11, %r12;"], [x, y, c], np.zeros(N, np.float32))
        want = exact_fma(*wide, np.float32)
        checks.close(got.astype(np.float64), want.astype(np.float64), 0, f"fma.rn.f32.{t}")


def conversions():
    kinds = {**INTS, **FLOATS}
    for d in ("u16", "s16", "u32", "s32", "u64", "s64", "f16", "bf16", "f32", "f64"):
        for s in ("u16", "s16", "u32", "s32", "u64", "s64", "f16", "bf16", "f32", "f64"):
            if d == s or "bf16" in (d, s) and {d, s} - {"bf16", "f32"}:
                continue
            a = numbers(s)
            to, frm = d in FLOATS, s in FLOATS
            narrow = to and frm and np.dtype(kinds[d]).itemsize < np.dtype(kinds[s]).itemsize
            how = ".rn" if to and not frm or narrow else ".rzi" if frm and not to else ""
            text = f"cvt{how}.{d}.{s} {reg(np.dtype(kinds[d]).itemsize, 20)}, {reg(a.itemsize, 10)};"
            got = run([text], [a], np.zeros(N, kinds[d]))
            with np.errstate(all="ignore"):
                if to and not frm and d in ("f16",):
                    want = np.array([nearest(fractions.Fraction(int(v)), np.float16) if int(v) else 0 for v in a], np.float16)
                elif to:
                    want = a.astype(kinds[d])
                elif frm:
                    info = np.iinfo(kinds[d])
                    want = np.array([0 if math.isnan(v) else max(info.min, min(info.max, int(v) if math.isfinite(v) else
                                     (info.max if v > 0 else info.min))) for v in a.astype(float)], kinds[d])
                else:
                    want = wrap_int([int(v) for v in a], d)
            if to:
                checks.close(got.astype(float), want.astype(float), 0, text)
            else:
                checks.same(got, want, text)
    a = numbers("f32")
    for how, fn in (("rni", np.rint), ("rmi", np.floor), ("rpi", np.ceil), ("rzi", np.trunc)):
        got = run([f"cvt.{how}.f32.f32 %r20, %r10;"], [a], np.zeros(N, np.float32))
        checks.close(got, fn(a), 0, f"cvt.{how}.f32.f32")
    for t, kind in (("e4m3", ml_dtypes.float8_e4m3fn), ("e5m2", ml_dtypes.float8_e5m2)):
        x, y = [np.clip(np.nan_to_num(numbers("f32"), nan=1), -400, 400).astype(np.float32) for _ in range(2)]
        got = run([f"cvt.rn.satfinite.{t}x2.f32 %h20, %r10, %r11;"], [x, y], np.zeros(N, np.uint16))
        want = x.astype(kind).view(np.uint8).astype(np.uint16) << 8 | y.astype(kind).view(np.uint8)
        checks.same(got, want, f"cvt.rn.satfinite.{t}x2.f32")
        got = run([f"cvt.rn.f16x2.{t}x2 %r20, %h10;"], [want.astype(np.uint16)], np.zeros(N, np.uint32)).view(np.float16).reshape(N, 2)
        checks.close(got[:, 0].astype(float), y.astype(kind).astype(float), 0, f"cvt.rn.f16x2.{t}x2, low")
        checks.close(got[:, 1].astype(float), x.astype(kind).astype(float), 0, f"cvt.rn.f16x2.{t}x2, high")


def comparisons():
    ordered = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
    for t in ("u32", "s32", "s64", "f32", "f64", "f16"):
        kind = INTS.get(t) or FLOATS[t]
        a, b = numbers(t), numbers(t)
        b[::3] = a[::3]
        size = np.dtype(kind).itemsize
        for name, fn in ordered.items():
            unordered = np.isnan(a.astype(float)) | np.isnan(b.astype(float)) if t in FLOATS else np.zeros(N, bool)
            for u in ("", "u") if t in FLOATS else ("",):
                got = run([f"setp.{name}{u}.{t} %p1, {reg(size, 10)}, {reg(size, 11)};", "selp.u32 %r20, 1, 0, %p1;"], [a, b], np.zeros(N, np.uint32))
                want = np.where(unordered, u == "u", fn(a, b))
                checks.same(got, want.astype(np.uint32), f"setp.{name}{u}.{t}")


def loads():
    """Into registers of the type's size and wider ones."""
    for size in (1, 2, 4):
        for kind in "iu":
            a = rng.integers(0, 1 << 8 * size, N).astype(f"u{size}").view(f"{kind}{size}")
            for out in (2, 4, 8):
                text = f"ld.global.{'s' if kind == 'i' else 'u'}{8 * size} {reg(out, 20)}, [%d0];"
                if out >= size:
                    checks.same(run([text], [a], np.zeros(N, f"{kind}{out}")), a.astype(f"{kind}{out}"), text)


integers()
floats()
mixed()
loads()
conversions()
comparisons()
checks.end("scalar instructions")
