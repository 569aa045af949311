#!/usr/bin/env python3
"""async.py LIBRARY - mbarriers, bulk and tensor copies of 1 to 5 dimensions, clusters and their shared memory, barriers
with names, carries, atomics, against NumPy; and what goes wrong when a wait, a count or a barrier is left out."""
import ctypes as C
import os
import sys

import numpy as np

import device

os.environ[device.SETUP] = f"sm=90,check=races+unwritten,seed={os.environ.get('PTX_SEED', '0')}"
dev, checks = device.Device(sys.argv[1]), device.Checks()
rng = np.random.default_rng(11)
TYPES = {"uint8": 0, "uint16": 1, "uint32": 2, "uint64": 4}
BAR = ".shared .align 8 .b64 bar;"


def tensor_map(p, x, box, swizzle=0):
    raw = (C.c_char * 192)()
    at = (C.addressof(raw) + 63) // 64 * 64
    shape, n = x.shape[::-1], x.ndim
    strides = x.strides[::-1]
    dev.check(dev.cu.cuTensorMapEncodeTiled(
        C.c_void_p(at), TYPES[x.dtype.name], n, C.c_void_p(p.value), (C.c_uint64 * n)(*shape), (C.c_uint64 * max(n - 1, 1))(*strides[1:]),
        (C.c_uint32 * n)(*box), (C.c_uint32 * n)(*[1] * n), 0, swizzle, 0, 0))
    return (C.c_char * 128).from_buffer_copy(C.string_at(at, 128))


def box_of(x, origin, box):
    """The box as it lies in memory, zeros outside of the tensor; origin and box: fastest dimension first."""
    out = np.zeros(box[::-1], x.dtype)
    for at in np.ndindex(*out.shape):
        src = tuple(a + o for a, o in zip(at, origin[::-1]))
        if all(0 <= s < n for s, n in zip(src, x.shape)):
            out[at] = x[src]
    return out


def kernel(body, params, shared, threads=32, grid=1, args=(), directives=""):
    module = dev.module(device.wrap(body, params, shared=shared, directives=directives))
    dev.launch(dev.function(module, "k"), grid, threads, list(args))


def tma_load(n, x, origin, box, swizzle=0, expect=None, wait=True):
    count = int(np.prod(box)) * x.itemsize
    coordinates = ", ".join(str(o & 0xffffffff) for o in origin)
    body = f"""mov.u32 %r0, %tid.x; ld.param.u64 %d0, [p0]; mov.u32 %r1, s; mov.u32 %r2, bar; setp.eq.u32 %p0, %r0, 0;
@%p0 mbarrier.init.shared.b64 [%r2], 1; bar.sync 0;
mov.b64 %d1, p1; cvta.param.u64 %d1, %d1;
@!%p0 bra W;
mbarrier.arrive.expect_tx.shared.b64 _, [%r2], {count if expect is None else expect};
cp.async.bulk.tensor.{n}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%d1, {{{coordinates}}}], [%r2];
W: {'mbarrier.try_wait.parity.shared.b64 %p1, [%r2], 0; @!%p1 bra W;' if wait else ''}
mov.u32 %r3, %r0;
L: add.u32 %r4, %r1, %r3; ld.shared.u8 %h0, [%r4]; cvt.u64.u32 %d2, %r3; add.u64 %d2, %d0, %d2; st.global.u8 [%d2], %h0;
add.u32 %r3, %r3, 32; setp.lt.u32 %p2, %r3, {count}; @%p2 bra L;"""
    p = dev.put(x)
    out = np.zeros(count, np.uint8)
    q = dev.put(out)
    text = device.wrap(body, ["u64"], shared=f".shared .align 1024 .b8 s[{count}]; {BAR}").replace("p0)", "p0, .param .align 64 .b8 p1[128])")
    dev.launch(dev.function(dev.module(text), "k"), 1, 32, [q, tensor_map(p, x, box, swizzle)])
    return dev.get(q, out)


def swizzled(data, mode):
    out = np.zeros_like(data)
    for at in range(0, len(data), 16):
        to = at ^ (at >> 7 & ((1 << mode) - 1)) << 4
        out[to:to + 16] = data[at:at + 16]
    return out


def tensors():
    cases = [(1, (100,), (16,), (32,)), (2, (20, 64), (8, 3), (32, 8)), (2, (20, 64), (-16, 15), (32, 8)), (3, (5, 6, 32), (16, 2, 1), (16, 3, 2)),
             (4, (3, 4, 5, 16), (0, 1, 2, 1), (16, 2, 2, 2)), (5, (2, 3, 4, 5, 16), (0, -1, 2, 1, 0), (16, 3, 2, 2, 2))]
    for n, shape, origin, box in cases:
        x = rng.integers(0, 60000, shape).astype(np.uint16)
        got = tma_load(n, x, origin, box)
        checks.same(got, box_of(x, origin, box).view(np.uint8).ravel(), f"tensor copy of {n} dimensions from {origin}")
    x = rng.integers(0, 60000, (40, 64)).astype(np.uint16)
    for mode in (1, 2, 3):
        box = ((16 << mode) // 2, 16)
        got = tma_load(2, x, (0, 5), box, mode)
        checks.same(got, swizzled(box_of(x, (0, 5), box).view(np.uint8).ravel(), mode), f"swizzle of {16 << mode} bytes")
    checks.faults(lambda: tma_load(2, x, (0, 0), (32, 8), expect=32 * 8 * 2 + 16), ["deadlock", "mbarrier"], "too many bytes are expected")
    dev.reset()
    try:
        tma_load(2, x, (0, 0), (32, 8), wait=False)
        checks.that(False, "a copy that nobody waits for is not noticed")
    except device.Fault as e:
        checks.that("never written" in e.words or "race" in e.words, f"a copy that nobody waits for: {e}")
        dev.reset()


def stores():
    """Bulk and tensor stores out of shared memory."""
    x = rng.integers(0, 250, 512).astype(np.uint8)
    setup = """mov.u32 %r0, %tid.x; ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; mov.u32 %r1, s; shl.b32 %r2, %r0, 4; cvt.u64.u32 %d2, %r2;
add.u64 %d3, %d0, %d2; add.u32 %r3, %r1, %r2; ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%d3]; st.shared.v4.b32 [%r3], {%r4, %r5, %r6, %r7};
fence.proxy.async.shared::cta; bar.sync 0; setp.eq.u32 %p0, %r0, 0; @!%p0 bra E;\n"""
    q = dev.put(np.zeros(512, np.uint8))
    kernel(setup + "cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r1], 512; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0; E:",
           ["u64", "u64"], ".shared .align 128 .b8 s[512];", args=[dev.put(x), q])
    checks.same(dev.get(q, x), x, "a bulk store")
    y = np.zeros((10, 40), np.uint16)
    q = dev.put(y)
    text = device.wrap(setup + """mov.b64 %d4, p2; cvta.param.u64 %d4, %d4;
cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%d4, {24, 6}], [%r1]; cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0; E:""",
                       ["u64", "u64"], shared=".shared .align 128 .b8 s[512];").replace("p1)", "p1, .param .align 64 .b8 p2[128])")
    dev.launch(dev.function(dev.module(text), "k"), 1, 32, [dev.put(x), q, tensor_map(q, y, (32, 8))])
    want, tile = y.copy(), x.view(np.uint16).reshape(8, 32)
    want[6:10, 24:40] = tile[:4, :16]
    checks.same(dev.get(q, y), want, "a tensor store, cut at the edge")


CLUSTER = ".explicitcluster .reqnctapercluster 4, 1, 1"


def clusters():
    """Each CTA of a cluster writes its rank into all the others' shared memory."""
    body = """mov.u32 %r0, %tid.x; mov.u32 %r1, %cluster_ctarank; ld.param.u64 %d0, [p0]; mov.u32 %r2, s; shl.b32 %r3, %r1, 2; add.u32 %r3, %r2, %r3;
setp.lt.u32 %p0, %r0, 4; @!%p0 bra A; mapa.shared::cluster.u32 %r4, %r3, %r0; mov.u32 %r9, %ctaid.x; st.shared::cluster.u32 [%r4], %r9;
A: barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
@!%p0 bra E; shl.b32 %r5, %r0, 2; add.u32 %r5, %r2, %r5; ld.shared.u32 %r6, [%r5]; mov.u32 %r7, %ctaid.x; shl.b32 %r8, %r7, 2; add.u32 %r8, %r8, %r0;
mad.wide.u32 %d0, %r8, 4, %d0; st.global.u32 [%d0], %r6; E:"""
    out = np.zeros((8, 4), np.uint32)
    q = dev.put(out)
    kernel(body, ["u64"], ".shared .align 8 .b8 s[16];", grid=8, args=[q], directives=CLUSTER)
    want = np.repeat(np.arange(8).reshape(2, 1, 4), 4, 1).reshape(8, 4)
    checks.same(dev.get(q, out), want, "shared memory of a cluster")
    no_wait = body.replace("barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;", "")
    checks.faults(lambda: kernel(no_wait, ["u64"], ".shared .align 8 .b8 s[16];", grid=8, args=[q], directives=CLUSTER), [""], "a cluster without its barrier")
    dev.reset()
    far = body.replace("%r4, %r3, %r0", "%r4, %r3, 4")
    checks.faults(lambda: kernel(far, ["u64"], ".shared .align 8 .b8 s[16];", grid=8, args=[dev.put(out)], directives=CLUSTER), ["no CTA 4"], "a CTA that is not there")
    dev.reset()
    q = dev.put(out)
    checks.that(launch_code(body, 6, q) == 701, "a grid that is no multiple of the cluster")
    dev.reset()


def launch_code(body, grid, q):
    try:
        kernel(body, ["u64"], ".shared .align 8 .b8 s[16];", grid=grid, args=[q], directives=CLUSTER)
    except device.Fault as e:
        return e.code
    return 0


def multicast():
    """One CTA's copy lands in both CTAs of a cluster, and arrives at both barriers."""
    x = rng.integers(0, 60000, (8, 64)).astype(np.uint16)
    body = """mov.u32 %r0, %tid.x; mov.u32 %r9, %cluster_ctarank; ld.param.u64 %d0, [p0]; mov.u32 %r1, s; mov.u32 %r2, bar; setp.eq.u32 %p0, %r0, 0;
@%p0 mbarrier.init.shared.b64 [%r2], 1; @%p0 mbarrier.arrive.expect_tx.shared.b64 _, [%r2], 512;
barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
mov.b64 %d1, p1; cvta.param.u64 %d1, %d1; mov.u16 %h1, 3; setp.eq.u32 %p3, %r9, 0; and.pred %p3, %p3, %p0; @!%p3 bra W;
cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%d1, {0, 0}], [%r2], %h1;
W: mbarrier.try_wait.parity.shared.b64 %p1, [%r2], 0; @!%p1 bra W;
shl.b32 %r3, %r0, 4; add.u32 %r4, %r1, %r3; ld.shared.v4.b32 {%r5, %r6, %r7, %r8}, [%r4]; shl.b32 %r10, %r9, 9; add.u32 %r10, %r10, %r3;
cvt.u64.u32 %d2, %r10; add.u64 %d2, %d0, %d2; st.global.v4.b32 [%d2], {%r5, %r6, %r7, %r8};"""
    out = np.zeros((2, 8, 32), np.uint16)
    q = dev.put(out)
    text = device.wrap(body, ["u64"], shared=f".shared .align 1024 .b8 s[512]; {BAR}", directives=".reqnctapercluster 2, 1, 1").replace("p0)", "p0, .param .align 64 .b8 p1[128])")
    dev.launch(dev.function(dev.module(text), "k"), 2, 32, [q, tensor_map(dev.put(x), x, (32, 8))])
    checks.same(dev.get(q, out), np.stack([x[:, :32]] * 2), "multicast to two CTAs")


def pipeline():
    """A producer warp fills two slots with cp.async.bulk, a consumer warp adds them up: full and empty barriers."""
    steps, n = 5, 64
    x = rng.integers(0, 1000, (steps, n)).astype(np.uint32)
    body = f"""mov.u32 %r0, %tid.x; ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; mov.u32 %r1, s; mov.u32 %r2, full; mov.u32 %r3, empty;
setp.eq.u32 %p0, %r0, 0; @!%p0 bra I; mbarrier.init.shared.b64 [%r2], 1; mbarrier.init.shared.b64 [%r2+8], 1;
mbarrier.init.shared.b64 [%r3], 32; mbarrier.init.shared.b64 [%r3+8], 32; I: bar.sync 0;
mov.u32 %r4, 0; mov.u32 %r20, 0; mov.u32 %r21, 0; setp.lt.u32 %p1, %r0, 32; @%p1 bra P;
C: and.b32 %r5, %r4, 1; shr.u32 %r6, %r4, 1; and.b32 %r6, %r6, 1; shl.b32 %r7, %r5, 3; add.u32 %r8, %r2, %r7;
C1: mbarrier.try_wait.parity.shared.b64 %p2, [%r8], %r6; @!%p2 bra C1;
shl.b32 %r9, %r5, 8; add.u32 %r9, %r9, %r1; sub.u32 %r10, %r0, 32; shl.b32 %r10, %r10, 3; add.u32 %r9, %r9, %r10;
ld.shared.v2.u32 {{%r11, %r12}}, [%r9]; add.u32 %r20, %r20, %r11; add.u32 %r21, %r21, %r12;
add.u32 %r8, %r3, %r7; mbarrier.arrive.shared.b64 %d9, [%r8];
add.u32 %r4, %r4, 1; setp.lt.u32 %p3, %r4, {steps}; @%p3 bra C;
cvt.u64.u32 %d2, %r10; add.u64 %d2, %d1, %d2; st.global.v2.u32 [%d2], {{%r20, %r21}}; ret;
P: @!%p0 bra E;
P0: and.b32 %r5, %r4, 1; shr.u32 %r6, %r4, 1; and.b32 %r6, %r6, 1; xor.b32 %r6, %r6, 1; shl.b32 %r7, %r5, 3; add.u32 %r8, %r3, %r7;
P1: mbarrier.try_wait.parity.shared.b64 %p2, [%r8], %r6; @!%p2 bra P1;
add.u32 %r8, %r2, %r7; mbarrier.arrive.expect_tx.shared.b64 %d9, [%r8], {4 * n}; shl.b32 %r9, %r5, 8; add.u32 %r9, %r9, %r1;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r9], [%d0], {4 * n}, [%r8]; add.u64 %d0, %d0, {4 * n};
add.u32 %r4, %r4, 1; setp.lt.u32 %p3, %r4, {steps}; @%p3 bra P0; E:"""
    shared = ".shared .align 128 .b8 s[512]; .shared .align 8 .b64 full[2]; .shared .align 8 .b64 empty[2];"
    out = np.zeros(n, np.uint32)

    def run(text):
        q = dev.put(out)
        kernel(text, ["u64", "u64"], shared, threads=64, args=[dev.put(x), q])
        return dev.get(q, out)

    checks.same(run(body), x.sum(0), "producer and consumer")
    for what, text, words in (("the consumer does not wait", body.replace("@!%p2 bra C1;", ""), ""),
                              ("the producer does not wait", body.replace("@!%p2 bra P1;", ""), ""),
                              ("too few bytes are expected", body.replace(f"[%r8], {4 * n};", f"[%r8], {4 * n - 16};"), ""),
                              ("the consumer does not let go", body.replace("mbarrier.arrive.shared.b64 %d9, [%r8];", ""), "deadlock"),
                              ("too many arrive", body.replace("[%r3], 32", "[%r3], 16"), "")):
        try:
            noticed, said = not (run(text) == x.sum(0)).all(), "a wrong result"
        except device.Fault as e:
            noticed, said = True, e.words
            dev.reset()
        checks.that(noticed and words in said, f"{what}: {said if noticed else 'not noticed'}")


def products():
    """A warp copies tiles into one slot; a warpgroup multiplies them by wgmma, adding up. What a product reads, and the
    numbers it makes, are its own until it was waited for."""
    steps, n = 3, 16
    a, b = [rng.standard_normal((steps, rows, 64)).astype(np.float16) for rows in (64, n)]
    image = np.concatenate([swizzled(x.view(np.uint8).ravel(), 3) for s in range(steps) for x in (a[s], b[s])])
    size, count = len(image) // steps, n // 2
    d = "{" + ", ".join(f"%f{i}" for i in range(count)) + "}"
    mma = " ".join(f"add.u64 %d6, %d4, {2 * i}; add.u64 %d7, %d5, {2 * i}; wgmma.mma_async.sync.aligned.m64n{n}k16.f32.f16.f16 {d}, %d6, %d7, %p4, 1, 1, 0, 0;"
                   for i in range(4))
    body = f"""mov.u32 %r0, %tid.x; ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; mov.u32 %r1, s; mov.u32 %r2, full; mov.u32 %r3, empty;
setp.eq.u32 %p0, %r0, 128; @!%p0 bra I; mbarrier.init.shared.b64 [%r2], 1; mbarrier.init.shared.b64 [%r3], 128; I: bar.sync 0;
mov.u32 %r4, 0; mov.pred %p4, 1; setp.ge.u32 %p1, %r0, 128; @%p1 bra P;
cvt.u64.u32 %d4, %r1; shr.u64 %d4, %d4, 4; or.b64 %d4, %d4, {64 << 32 | 1 << 62:#x}; add.u64 %d5, %d4, 512;
{" ".join(f"mov.b32 %f{i}, 0;" for i in range(count))}
C: and.b32 %r6, %r4, 1;
C1: mbarrier.try_wait.parity.shared.b64 %p2, [%r2], %r6; @!%p2 bra C1;
wgmma.fence.sync.aligned; {mma} wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;
mbarrier.arrive.shared.b64 %d9, [%r3];
add.u32 %r4, %r4, 1; setp.lt.u32 %p3, %r4, {steps}; @%p3 bra C;
mad.wide.u32 %d8, %r0, {4 * count}, %d1; {" ".join(f"st.global.b32 [%d8 + {4 * i}], %f{i};" for i in range(count))} ret;
P: @!%p0 bra E;
P0: and.b32 %r6, %r4, 1; xor.b32 %r6, %r6, 1;
P1: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], %r6; @!%p2 bra P1;
mbarrier.arrive.expect_tx.shared.b64 %d9, [%r2], {size};
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d0], {size}, [%r2]; add.u64 %d0, %d0, {size};
add.u32 %r4, %r4, 1; setp.lt.u32 %p3, %r4, {steps}; @%p3 bra P0; E:"""
    shared = f".shared .align 1024 .b8 s[{size}]; .shared .align 8 .b64 full; .shared .align 8 .b64 empty;"
    want = sum(a[s].astype(np.float64) @ b[s].astype(np.float64).T for s in range(steps))

    def run(text):
        q = dev.put(np.zeros((128, count), np.float32))
        module = dev.module(device.wrap(text, ["u64", "u64"], registers=f".reg .b32 %f<{count}>;", shared=shared))
        dev.launch(dev.function(module, "k"), 1, 256, [dev.put(image), q])
        raw, got = dev.get(q, np.zeros((128, count), np.float32)), np.zeros((64, n))
        for thread in range(128):
            for i in range(count):
                got[16 * (thread // 32) + thread % 32 // 4 + 8 * (i // 2 % 2), 8 * (i // 4) + 2 * (thread % 4) + i % 2] = raw[thread, i]
        return np.abs(got - want).max() < 1e-3

    checks.that(run(body), "products of tiles that are copied")
    wait, go = "wgmma.wait_group.sync.aligned 0;\n", "mbarrier.arrive.shared.b64 %d9, [%r3];\n"
    last = "mad.wide.u32 %d8"
    for what, text, words in (("nobody waits for the products", body.replace(wait, ""), ""),
                              ("products are waited for when their tile was given back", body.replace(wait, "").replace(go, go + wait), "race"),
                              ("products are waited for at the end only", body.replace(wait, "").replace(last, wait + last), ""),
                              ("all but the last group is waited for", body.replace("aligned 0;", "aligned 1;"), ""),
                              ("the tile is not waited for", body.replace("@!%p2 bra C1;", ""), ""),
                              ("the slot is not waited for", body.replace("@!%p2 bra P1;", ""), "")):
        try:
            noticed, said = not run(text), "a wrong result"
        except device.Fault as e:
            noticed, said = True, e.words
            dev.reset()
        checks.that(noticed and words in said, f"{what}: {said if noticed else 'not noticed'}")


def others():
    """Named barriers, reductions at a barrier, carries of 128 bits, atomics."""
    x = rng.integers(0, 2**32, 64, dtype=np.uint32)
    at = "mov.u32 %r0, %tid.x; ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; mad.wide.u32 %d0, %r0, 4, %d0; mad.wide.u32 %d1, %r0, 4, %d1; ld.global.u32 %r1, [%d0];\n"
    q = dev.put(np.zeros(64, np.uint32))
    kernel(at + "and.b32 %r2, %r1, 1; setp.eq.u32 %p0, %r2, 1; barrier.red.popc.aligned.u32 %r3, 0, %p0; st.global.u32 [%d1], %r3;", ["u64", "u64"], "", 64, 1, [dev.put(x), q])
    checks.same(dev.get(q, x), np.full(64, (x & 1).sum()), "barrier.red.popc")
    body = at + """mov.u32 %r5, s; shl.b32 %r6, %r0, 2; add.u32 %r6, %r5, %r6; setp.lt.u32 %p0, %r0, 32; @%p0 bra P;
bar.sync 3, 64; ld.shared.u32 %r7, [%r6+-128]; st.global.u32 [%d1], %r7; ret;
P: st.shared.u32 [%r6], %r1; bar.arrive 3, 64; st.global.u32 [%d1], %r1;"""
    kernel(body, ["u64", "u64"], ".shared .align 4 .b8 s[256];", 64, 1, [dev.put(x), q])
    checks.same(dev.get(q, x), np.concatenate([x[:32], x[:32]]), "bar.arrive and bar.sync 3")
    carry = at + "add.cc.u32 %r2, %r1, %r1; addc.u32 %r3, 0, 0; st.global.u32 [%d1], %r3;"
    kernel(carry, ["u64", "u64"], "", 64, 1, [dev.put(x), q])
    checks.same(dev.get(q, x), (x >> 31), "a carry")
    ops = {"add.u32": x.sum(dtype=np.uint32), "max.u32": x.max(), "min.s32": np.int32(min(0, x.view(np.int32).min())).view(np.uint32), "or.b32": np.bitwise_or.reduce(x), "xor.b32": np.bitwise_xor.reduce(x)}
    for op, want in ops.items():
        r = dev.put(np.zeros(1, np.uint32))
        kernel(at.replace("mad.wide.u32 %d1, %r0, 4, %d1;", "") + f"red.global.{op} [%d1], %r1;", ["u64", "u64"], "", 64, 1, [dev.put(x), r])
        checks.same(dev.get(r, np.zeros(1, np.uint32)), [want], f"red.{op}")
    r = dev.put(np.zeros(1, np.float32))
    kernel(at.replace("mad.wide.u32 %d1, %r0, 4, %d1;", "") + "mov.b32 %r2, 0f3F000000; atom.global.add.f32 %r3, [%d1], %r2;", ["u64", "u64"], "", 64, 1, [dev.put(x), r])
    checks.same(dev.get(r, np.zeros(1, np.float32)), [32.0], "atom.add.f32")
    lock = at.replace("mad.wide.u32 %d1, %r0, 4, %d1;", "") + "L: atom.global.cas.b32 %r3, [%d1], 0, 1; setp.ne.u32 %p0, %r3, 0; @%p0 bra L; ld.global.u32 %r4, [%d1+4]; add.u32 %r4, %r4, 1; st.global.u32 [%d1+4], %r4; atom.global.exch.b32 %r3, [%d1], 0;"
    r = dev.put(np.zeros(2, np.uint32))
    kernel(lock, ["u64", "u64"], "", 1, 20, [dev.put(x), r])
    checks.same(dev.get(r, np.zeros(2, np.uint32)), [0, 20], "a lock by compare and swap")


def halves():
    """One half of a warp waits at a barrier while the other comes later: as long as one lane can go on, nobody is stuck."""
    x = rng.integers(0, 2**32, 64, dtype=np.uint32)
    body = """mov.u32 %r0, %tid.x; ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; mad.wide.u32 %d0, %r0, 4, %d0; mad.wide.u32 %d1, %r0, 4, %d1;
ld.global.u32 %r1, [%d0]; mov.u32 %r2, 0; setp.lt.u32 %p0, %r0, 16;
L: @%p0 bra M; bra.uni J;
J: bar.sync 0; add.u32 %r2, %r2, 1; setp.lt.u32 %p1, %r2, 40; @%p1 bra L; bra.uni E;
M: add.u32 %r1, %r1, 1; bra.uni J;
E: st.global.u32 [%d1], %r1;"""
    q = dev.put(np.zeros(64, np.uint32))
    kernel(body, ["u64", "u64"], "", 64, 100, [dev.put(x), q])
    checks.same(dev.get(q, x), x + np.where(np.arange(64) < 16, 40, 0).astype(np.uint32), "half a warp at a barrier")


tensors()
stores()
clusters()
multicast()
pipeline()
products()
others()
halves()
checks.end(f"copies and clusters, seed {os.environ.get('PTX_SEED', '0')}")
