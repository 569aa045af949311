#!/usr/bin/env python3
"""matrix.py LIBRARY - mma, ldmatrix, stmatrix, movmatrix, wgmma, shuffles, votes and reductions against NumPy.

Fragments are laid out here by the tables of the PTX ISA, written down once more and in another way than in the
interpreter: as lists of (row, column) per lane."""
import ctypes as C
import os
import sys

import ml_dtypes
import numpy as np

import device

os.environ[device.SETUP] = "sm=90,check=races+unwritten"
dev, checks = device.Device(sys.argv[1]), device.Checks()
rng = np.random.default_rng(3)
KINDS = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "tf32": np.float32, "f32": np.float32, "s8": np.int8, "u8": np.uint8,
         "s32": np.int32, "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}


def values(shape, t):
    if t in ("s8", "u8"):
        return rng.integers(-100 if t == "s8" else 0, 100, shape).astype(KINDS[t])
    if t == "s32":
        return rng.integers(-1000, 1000, shape).astype(np.int32)
    x = rng.standard_normal(shape).astype(np.float32)
    return (x.view(np.uint32) & 0xffffe000).view(np.float32) if t == "tf32" else x.astype(KINDS[t])


# Fragments of A, B, C as the manual lists them: per element i of a lane, row and column by groupID and threadID.
def a_places(m, k, bits):
    out = []
    for lane in range(32):
        g, t = lane >> 2, lane & 3
        if bits == 16:
            n = 8 if k == 16 else 4
            out.append([(g + (8 if i // 2 % 2 else 0), 2 * t + i % 2 + (8 if i >= 4 else 0)) for i in range(n)])
        elif bits == 8 and m == 8:
            out.append([(g, 4 * t + i) for i in range(4)])
        elif bits == 8:
            n = 16 if k == 32 else 8
            out.append([(g + (8 if i // 4 % 2 else 0), 4 * t + i % 4 + (16 if i >= 8 else 0)) for i in range(n)])
        else:
            out.append([(g + 8 * (i % 2), t + 4 * (i // 2)) for i in range(4 if k == 8 else 2)])
    return out


def b_places(k, bits):
    out = []
    for lane in range(32):
        g, t = lane >> 2, lane & 3
        if bits == 16:
            out.append([(2 * t + i % 2 + (8 if i >= 2 else 0), g) for i in range(4 if k == 16 else 2)])
        elif bits == 8:
            out.append([(4 * t + i % 4 + (16 if i >= 4 else 0), g) for i in range(8 if k == 32 else 4)])
        else:
            out.append([(t + 4 * i, g) for i in range(2 if k == 8 else 1)])
    return out


def c_places(m):
    return [[((l >> 2) + (8 if i >= 2 else 0), 2 * (l & 3) + i % 2) for i in range(4 if m == 16 else 2)] for l in range(32)]


def gather(x, places):
    flat = np.array([[x[r, c] for r, c in lane] for lane in places], x.dtype)
    return np.ascontiguousarray(flat).view(np.uint32)


def load(first, count, param):
    return "\n".join(f"ld.global.b32 %r{first + i}, [%d{param} + {4 * i}];" for i in range(count))


def lanes(param, count):
    return f"ld.param.u64 %d{param}, [p{param}];\nmad.wide.u32 %d{param}, %r0, {4 * count}, %d{param};"


def regs(first, count):
    return "{" + ", ".join(f"%r{first + i}" for i in range(count)) + "}" if count > 1 else f"%r{first}"


def mma(shape, td, ta, tb, tc, extra=""):
    m, n, k = shape
    a, b, c = values((m, k), ta), values((k, n), tb), values((m, n), tc)
    fa = gather(a, a_places(m, k, 8 * np.dtype(KINDS[ta]).itemsize))
    fb = gather(b, b_places(k, 8 * np.dtype(KINDS[tb]).itemsize))
    fc = gather(c, c_places(m))
    na, nb, nc = fa.shape[1], fb.shape[1], fc.shape[1]
    body = "\n".join(["mov.u32 %r0, %tid.x;", lanes(0, na), lanes(1, nb), lanes(2, nc), lanes(3, nc), load(10, na, 0), load(20, nb, 1),
                      load(30, nc, 2), f"mma.sync.aligned.m{m}n{n}k{k}.row.col{extra}.{td}.{ta}.{tb}.{tc} {regs(40, nc)}, {regs(10, na)}, {regs(20, nb)}, {regs(30, nc)};"]
                     + [f"st.global.b32 [%d3 + {4 * i}], %r{40 + i};" for i in range(nc)])
    out = np.zeros_like(fc)
    p = dev.put(out)
    dev.launch(dev.function(dev.module(device.wrap(body, ["u64"] * 4)), "k"), 1, 32, [dev.put(fa), dev.put(fb), dev.put(fc), p])
    got = np.zeros((m, n), KINDS[td])
    for lane, places in enumerate(c_places(m)):
        row = dev_out(p, out)[lane].view(KINDS[td])
        for i, (r, cc) in enumerate(places):
            got[r, cc] = row[i]
    want = a.astype(np.float64) @ b.astype(np.float64) + c.astype(np.float64)
    if extra:
        want = np.clip(want, -2**31, 2**31 - 1)
    what = f"mma m{m}n{n}k{k} {td} {ta} {tb} {tc}{extra}"
    checks.close(got.astype(float), want, 0 if td == "s32" else 2e-3 if td == "f16" else 1e-6, what)


def dev_out(p, like):
    return dev.get(p, like)


def products():
    for t in ("f16", "bf16"):
        for k in (8, 16):
            mma((16, 8, k), "f32", t, t, "f32")
    for k in (8, 16):
        mma((16, 8, k), "f16", "f16", "f16", "f16")
    for k in (4, 8):
        mma((16, 8, k), "f32", "tf32", "tf32", "f32")
    for a in ("s8", "u8"):
        for b in ("s8", "u8"):
            for k in (16, 32):
                mma((16, 8, k), "s32", a, b, "s32", ".satfinite" if a != b else "")
            mma((8, 8, 16), "s32", a, b, "s32")
    for a in ("e4m3", "e5m2"):
        for b in ("e4m3", "e5m2"):
            mma((16, 8, 32), "f32", a, b, "f32")


def matrices():
    """ldmatrix takes rows apart over lanes; stmatrix puts them together; both with .trans."""
    x = rng.integers(0, 60000, (4, 8, 8)).astype(np.uint16)
    for count in (1, 2, 4):
        for trans in ("", ".trans"):
            setup = """mov.u32 %r0, %tid.x; ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; mov.u32 %r1, s;
shl.b32 %r2, %r0, 4; cvt.u64.u32 %d2, %r2; add.u64 %d3, %d0, %d2; add.u32 %r3, %r1, %r2;
ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%d3]; st.shared.v4.b32 [%r3], {%r4, %r5, %r6, %r7}; bar.sync 0;
mad.wide.u32 %d4, %r0, 16, %d1;\n"""
            body = setup + f"ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {regs(10, count) if count > 1 else '{%r10}'}, [%r3];\n"
            body += "\n".join(f"st.global.b32 [%d4 + {4 * i}], %r{10 + i};" for i in range(count))
            p = dev.put(np.zeros((32, 4), np.uint32))
            dev.launch(dev.function(dev.module(device.wrap(body, ["u64"] * 2, shared=".shared .align 16 .b8 s[512];")), "k"), 1, 32, [dev.put(x), p])
            got = dev.get(p, np.zeros((32, 4), np.uint32)).view(np.uint16).reshape(32, 4, 2)
            for mtx in range(count):
                y = x[mtx].T if trans else x[mtx]
                checks.same(got[:, mtx, :].reshape(8, 4, 2).reshape(8, 8), y, f"ldmatrix.x{count}{trans}, matrix {mtx}")
            store = setup + f"ldmatrix.sync.aligned.m8n8.x{count}.shared.b16 {regs(10, count) if count > 1 else '{%r10}'}, [%r3]; bar.sync 0;\n"
            store += f"stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%r3], {regs(10, count) if count > 1 else '{%r10}'}; bar.sync 0;\n"
            store += "ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r3]; st.global.v4.b32 [%d4], {%r4, %r5, %r6, %r7};"
            dev.launch(dev.function(dev.module(device.wrap(store, ["u64"] * 2, shared=".shared .align 16 .b8 s[512];")), "k"), 1, 32, [dev.put(x), p])
            got = dev.get(p, np.zeros((32, 4), np.uint32)).view(np.uint16).reshape(4, 8, 8)
            for mtx in range(4):
                y = x[mtx].T if trans and mtx < count else x[mtx]
                checks.same(got[mtx], y, f"stmatrix.x{count}{trans}, matrix {mtx}")
    one = rng.integers(0, 2**32, 32, dtype=np.uint32)
    got = per_lane("movmatrix.sync.aligned.m8n8.trans.b16 %r20, %r10;", one)
    checks.same(got.view(np.uint16).reshape(8, 8), one.view(np.uint16).reshape(8, 8).T, "movmatrix")


def per_lane(line, x):
    body = f"mov.u32 %r0, %tid.x; {lanes(0, 1)} {lanes(1, 1)} ld.global.b32 %r10, [%d0];\n{line}\nst.global.b32 [%d1], %r20;"
    p = dev.put(np.zeros(32, np.uint32))
    dev.launch(dev.function(dev.module(device.wrap(body, ["u64"] * 2)), "k"), 1, 32, [dev.put(x), p])
    return dev.get(p, np.zeros(32, np.uint32))


def warp_wide():
    x = rng.integers(0, 2**32, 32, dtype=np.uint32)
    l = np.arange(32)
    for n in (1, 3, 16, 31):
        checks.same(per_lane(f"shfl.sync.bfly.b32 %r20, %r10, {n}, 31, -1;", x), x[l ^ n], f"shfl.bfly {n}")
        checks.same(per_lane(f"shfl.sync.down.b32 %r20, %r10, {n}, 31, -1;", x), np.where(l + n < 32, x[(l + n) % 32], x), f"shfl.down {n}")
        checks.same(per_lane(f"shfl.sync.up.b32 %r20, %r10, {n}, 0, -1;", x), np.where(l >= n, x[l - n], x), f"shfl.up {n}")
        checks.same(per_lane(f"shfl.sync.idx.b32 %r20, %r10, {n}, 31, -1;", x), np.full(32, x[n]), f"shfl.idx {n}")
        checks.same(per_lane(f"shfl.sync.down.b32 %r20|%p1, %r10, {n}, 31, -1; selp.u32 %r20, 1, 0, %p1;", x), (l + n < 32).astype(np.uint32), f"shfl.down {n}, predicate")
    checks.same(per_lane("shfl.sync.bfly.b32 %r20, %r10, 1, 0x1807, -1;", x), x[l ^ 1], "shfl.bfly in segments of 8")
    odd = (x & 1).astype(bool)
    ballot = np.uint32(sum(1 << int(i) for i in l[odd]))
    test = "and.b32 %r11, %r10, 1; setp.ne.u32 %p1, %r11, 0;"
    checks.same(per_lane(test + "vote.sync.ballot.b32 %r20, %p1, -1;", x), np.full(32, ballot), "vote.ballot")
    for name, fn in (("any", odd.any()), ("all", odd.all()), ("uni", odd.all() or not odd.any())):
        checks.same(per_lane(test + f"vote.sync.{name}.pred %p2, %p1, -1; selp.u32 %r20, 1, 0, %p2;", x), np.full(32, int(fn), np.uint32), f"vote.{name}")
    s = x.view(np.int32)
    for name, t, want in (("add", "u32", x.sum(dtype=np.uint32)), ("min", "u32", x.min()), ("max", "u32", x.max()), ("min", "s32", s.min().view(np.uint32)),
                          ("max", "s32", s.max().view(np.uint32)), ("and", "b32", np.bitwise_and.reduce(x)), ("or", "b32", np.bitwise_or.reduce(x)),
                          ("xor", "b32", np.bitwise_xor.reduce(x))):
        checks.same(per_lane(f"redux.sync.{name}.{t} %r20, %r10, -1;", x), np.full(32, want), f"redux.{name}.{t}")
    y = (x % 5).astype(np.uint32)
    want = np.array([sum(1 << int(j) for j in l if y[j] == y[i]) for i in l], np.uint32)
    checks.same(per_lane("match.any.sync.b32 %r20, %r10, -1;", y), want, "match.any")
    checks.same(per_lane("elect.sync %r20|%p1, -1; selp.u32 %r20, %r20, 77, %p1;", x), np.where(l == 0, 0, 77), "elect")
    checks.same(per_lane("mov.u32 %r20, %lanemask_lt;", x), (1 << l) - 1, "%lanemask_lt")
    half = "setp.lt.u32 %p1, %r0, 16; @%p1 bra A; mov.u32 %r20, 5; bra.uni B;\nA: shfl.sync.bfly.b32 %r20, %r10, 1, 31, 0xffff;\nB:"
    checks.same(per_lane(half, x), np.where(l < 16, x[l ^ 1], 5), "half a warp shuffles")


def swizzle(data, width):
    """Bytes as they lie in shared memory: chunk c of row r of `width` bytes is at chunk c ^ (r mod width / 16 ...)."""
    out = np.zeros_like(data)
    for at in range(0, len(data), 16):
        to = at ^ (at >> 7 & (width // 16 - 1)) << 4
        out[to:to + 16] = data[at:at + 16]
    return out


def wgmma(n, td, t, width, registers=False, seed=0):
    """D [64, n] = A [64, k] B [n, k]^T, operands in shared memory, rows of `width` bytes, swizzled."""
    size = np.dtype(KINDS[t]).itemsize
    k = 32 // size
    per_row = width // size
    a, b = values((64, per_row), t), values((n, per_row), t)
    steps = per_row // k
    raw = [swizzle(np.ascontiguousarray(x).view(np.uint8).ravel(), width) for x in (a, b)]
    mode = {128: 1, 64: 2, 32: 3}[width]
    count = n // 2
    image = np.concatenate(raw)
    shared = f".shared .align 1024 .b8 s[{len(image)}];"
    words = len(image) // 4
    body = [f"mov.u32 %r0, %tid.x; ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; mov.u32 %r1, s; mov.u32 %r2, %r0;",
            "L: shl.b32 %r3, %r2, 2; cvt.u64.u32 %d2, %r3; add.u64 %d3, %d0, %d2; ld.global.b32 %r4, [%d3]; add.u32 %r5, %r1, %r3; st.shared.b32 [%r5], %r4;",
            f"add.u32 %r2, %r2, 128; setp.lt.u32 %p1, %r2, {words}; @%p1 bra L; fence.proxy.async; bar.sync 0;",
            "mov.u32 %r1, s; cvt.u64.u32 %d5, %r1; shr.u64 %d5, %d5, 4;",
            f"or.b64 %d6, %d5, {(8 * width // 16) << 32 | mode << 62:#x}; add.u64 %d7, %d6, {64 * width // 16};",
            "wgmma.fence.sync.aligned;"]
    d = "{" + ", ".join(f"%f{i}" for i in range(count)) + "}"
    for s in range(steps):
        keep = "mov.pred %p2, 0;" if s == 0 else "mov.pred %p2, 1;"
        more = ", 0, 0" if size == 2 else ""
        if td == "s32":
            body.append(f"{keep} wgmma.mma_async.sync.aligned.m64n{n}k{k}.{td}.{t}.{t} {d}, %d6, %d7, %p2;")
        else:
            body.append(f"{keep} wgmma.mma_async.sync.aligned.m64n{n}k{k}.{td}.{t}.{t} {d}, %d6, %d7, %p2, 1, 1{more};")
        body.append("add.u64 %d6, %d6, 2; add.u64 %d7, %d7, 2;")
    body += ["wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 0;", f"mad.wide.u32 %d8, %r0, {4 * count}, %d1;"]
    body += [f"st.global.b32 [%d8 + {4 * i}], %f{i};" for i in range(count)]
    p = dev.put(np.zeros((128, count), np.float32))
    module = dev.module(device.wrap("\n".join(body), ["u64"] * 2, registers=f".reg .b32 %f<{count}>;", shared=shared))
    dev.launch(dev.function(module, "k"), 1, 128, [dev.put(image), p])
    raw_out = dev.get(p, np.zeros((128, count), np.float32)).view(KINDS[td])
    got = np.zeros((64, n), np.float64)
    for thread in range(128):
        warp, lane = thread // 32, thread % 32
        for i in range(count):
            got[16 * warp + lane // 4 + 8 * (i // 2 % 2), 8 * (i // 4) + 2 * (lane % 4) + i % 2] = raw_out[thread, i]
    want = a.astype(np.float64) @ b.astype(np.float64).T
    checks.close(got, want, 0 if td == "s32" else 2e-6, f"wgmma m64n{n}k{k} {t}, rows of {width} bytes")


products()
matrices()
warp_wide()
for width in (128, 64, 32):
    wgmma(16, "f32", "bf16", width)
wgmma(64, "f32", "f16", 128)
wgmma(256, "f32", "bf16", 128)
wgmma(24, "f32", "e4m3", 128)
wgmma(32, "s32", "s8", 64)
wgmma(8, "f32", "tf32", 128)
checks.end("matrices and warps")
