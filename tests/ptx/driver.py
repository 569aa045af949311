#!/usr/bin/env python3
"""driver.py LIBRARY [CASE] - the fake driver: streams run late, events order them, graphs replay, devices are apart,
errors are those of the driver API; and the interpreter refuses what it does not know. Each case runs in a process of its
own, since the driver reads its settings once."""
import ctypes as C
import os
import subprocess
import sys

import numpy as np

import device

ADD = device.wrap("""mov.u32 %r0, %tid.x; ld.param.u64 %d0, [p0]; ld.param.u32 %r1, [p1]; mad.wide.u32 %d0, %r0, 4, %d0;
ld.global.u32 %r2, [%d0]; add.u32 %r2, %r2, %r1; st.global.u32 [%d0], %r2;""", ["u64", "u32"], "sm_80")
x = np.arange(32, dtype=np.uint32)


def start():
    dev = device.Device(sys.argv[1])
    return dev, dev.function(dev.module(ADD), "k")


def args_of(*values):
    return (C.c_void_p * len(values))(*[C.cast(C.byref(a), C.c_void_p) for a in values])


def enqueue(dev, f, p, n, stream):
    dev.check(dev.cu.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, stream, args_of(p, C.c_uint32(n)), None))


def stream_of(dev):
    s = C.c_void_p()
    dev.check(dev.cu.cuStreamCreate(C.byref(s), 1))
    return s


def pinned(dev, like):
    p = C.c_void_p()
    dev.check(dev.cu.cuMemHostAlloc(C.byref(p), C.c_size_t(like.nbytes), 0))
    return np.frombuffer((C.c_uint32 * like.size).from_address(p.value), np.uint32), p


def late(checks):
    """Nothing on a stream happens before it is waited for; pinned memory is read late, pageable memory at the call."""
    dev, f = start()
    s, p = stream_of(dev), dev.put(x)
    host, raw = pinned(dev, x)
    host[:] = 0
    enqueue(dev, f, p, 5, s)
    dev.check(dev.cu.cuMemcpyDtoHAsync_v2(raw, p, C.c_size_t(x.nbytes), s))
    checks.that(host[1] == 0, "a copy is not done at the call")
    checks.that(dev.cu.cuStreamQuery(s) == 600, "the stream is not ready")
    dev.check(dev.cu.cuStreamSynchronize(s))
    checks.same(host, x + 5, "a kernel and a copy after cuStreamSynchronize")
    host[:] = 7
    dev.check(dev.cu.cuMemcpyHtoDAsync_v2(p, raw, C.c_size_t(x.nbytes), s))
    host[:] = 9
    dev.check(dev.cu.cuStreamSynchronize(s))
    checks.same(dev.get(p, x), np.full(32, 9), "pinned memory that changes too early")
    y = np.full(32, 3, np.uint32)
    dev.check(dev.cu.cuMemcpyHtoDAsync_v2(p, y.ctypes.data_as(C.c_void_p), C.c_size_t(x.nbytes), s))
    y[:] = 4
    dev.check(dev.cu.cuStreamSynchronize(s))
    checks.same(dev.get(p, x), np.full(32, 3), "pageable memory is read at the call")


def events(checks):
    dev, f = start()
    a, b, p = stream_of(dev), stream_of(dev), dev.put(x)
    e = C.c_void_p()
    dev.check(dev.cu.cuEventCreate(C.byref(e), 0))
    host, raw = pinned(dev, x)
    enqueue(dev, f, p, 1, a)
    dev.check(dev.cu.cuEventRecord(e, a))
    enqueue(dev, f, p, 100, a)
    dev.check(dev.cu.cuStreamWaitEvent(b, e, 0))
    dev.check(dev.cu.cuMemcpyDtoHAsync_v2(raw, p, C.c_size_t(x.nbytes), b))
    checks.that(dev.cu.cuEventQuery(e) == 600, "an event that is not reached")
    dev.check(dev.cu.cuStreamSynchronize(b))
    checks.that(host[0] in (1, 101), "b waited for the kernel before the event")
    checks.that(dev.cu.cuEventQuery(e) == 0, "the event is reached")


def graphs(checks):
    dev, f = start()
    s, p = stream_of(dev), dev.put(x)
    g, e, n = C.c_void_p(), C.c_void_p(), C.c_size_t()
    dev.check(dev.cu.cuStreamBeginCapture_v2(s, 1))
    enqueue(dev, f, p, 1, s)
    enqueue(dev, f, p, 10, s)
    checks.that(dev.cu.cuMemAlloc_v2(C.byref(C.c_uint64()), C.c_size_t(64)) == 900, "no allocation while a stream is captured")
    checks.that(dev.cu.cuCtxSynchronize() == 900, "no synchronisation while a stream is captured")
    dev.check(dev.cu.cuStreamEndCapture(s, C.byref(g)))
    dev.check(dev.cu.cuGraphGetNodes(g, None, C.byref(n)))
    checks.that(n.value == 2, f"two nodes: {n.value}")
    checks.same(dev.get(p, x), x, "a capture runs nothing")
    dev.check(dev.cu.cuGraphInstantiateWithFlags(C.byref(e), g, C.c_ulonglong(0)))
    for _ in range(3):
        dev.check(dev.cu.cuGraphLaunch(e, s))
    dev.check(dev.cu.cuStreamSynchronize(s))
    checks.same(dev.get(p, x), x + 33, "three replays")
    dev.check(dev.cu.cuGraphExecDestroy(e))
    dev.check(dev.cu.cuGraphDestroy(g))


def two_devices(checks):
    dev, f = start()
    p = dev.put(x)
    other = device.Device(sys.argv[1], 1)
    q = other.empty(x.nbytes)
    code = other.cu.cuMemcpyDtoDAsync_v2(q, p, C.c_size_t(x.nbytes), None)
    checks.that(code == 0, f"a copy between devices: {code}")
    checks.same(other.get(q, x), x, "what came over")
    g = other.function(other.module(ADD), "k")
    try:
        other.launch(g, 1, 32, [p, C.c_uint32(1)])
        checks.that(False, "a kernel wrote to the other device")
    except device.Fault as e:
        checks.that(e.code == 700, f"memory of the other device: {e}")
    checks.that(other.cu.cuCtxSynchronize() == 700, "the context stays dead")
    other.reset()
    checks.that(other.cu.cuCtxSynchronize() == 0, "a new context lives")


def sizes(checks):
    dev, f = start()
    p = dev.put(x)
    big = C.c_uint64()
    checks.that(dev.cu.cuMemAlloc_v2(C.byref(big), C.c_size_t(2 << 20)) == 2, "more than memory=1M")
    checks.that(dev.cu.cuLaunchKernel(f, 1, 70000, 1, 32, 1, 1, 0, None, args_of(p, C.c_uint32(1)), None) == 1, "a grid of 70000 in y")
    checks.that(dev.cu.cuLaunchKernel(f, 1, 1, 1, 2048, 1, 1, 0, None, args_of(p, C.c_uint32(1)), None) == 1, "2048 threads")
    checks.that(dev.cu.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 60000, None, args_of(p, C.c_uint32(1)), None) == 1, "60000 bytes unasked")
    checks.that(dev.cu.cuFuncSetAttribute(f, 8, 60000) == 0, "60000 bytes asked for")
    checks.that(dev.cu.cuFuncSetAttribute(f, 8, 100 * 1024) == 1, "100 KB on sm_89")
    dev.check(dev.cu.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 60000, None, args_of(p, C.c_uint32(1)), None))
    checks.same(dev.get(p, x), x + 1, "the launch with 60000 bytes")
    checks.that(dev.cu.cuMemFree_v2(C.c_uint64(p.value + 4)) == 1, "freeing an address inside")
    dev.check(dev.cu.cuMemFree_v2(p))
    checks.faults(lambda: dev.launch(f, 1, 32, [p, C.c_uint32(1)]), ["was freed"], "a kernel on freed memory")


def failures(checks):
    """fail= sends an entry point wrong once."""
    dev, _ = start()
    p = C.c_uint64()
    codes = [dev.cu.cuMemAlloc_v2(C.byref(p), C.c_size_t(64)) for _ in range(4)]
    checks.that(codes == [0, 2, 0, 0], f"the second allocation fails: {codes}")


def images(checks):
    dev, _ = start()
    m = C.c_void_p()
    load = lambda text: dev.cu.cuModuleLoadData(C.byref(m), C.c_char_p(text.encode() if isinstance(text, str) else text))
    checks.that(load(device.wrap("", [], "sm_120", version="80")) == 209, "sm_120 on 9.0")
    checks.that(load(device.wrap("", [], "sm_90a")) == 0, "sm_90a on 9.0")
    checks.that(load(device.wrap("", [], "sm_80", version="90")) == 222, "PTX 9.0 on driver 12.0")
    checks.that(load(b"\x7fELF\x02\x01\x01") == 209, "machine code")
    log = C.create_string_buffer(200)
    options, values = (C.c_int * 2)(5, 6), (C.c_void_p * 2)(C.addressof(log), 200)
    bad = ADD.replace("add.u32", "add.u33").encode()
    checks.that(dev.cu.cuModuleLoadDataEx(C.byref(m), C.c_char_p(bad), 2, options, values) == 218, "a wrong instruction")
    line = bad[:bad.index(b"add.u33")].count(b"\n") + 1
    checks.that(b"line %d:" % line in log.value and b".u33" in log.value, f"the log names the line: {log.value}")
    f = C.c_void_p()
    dev.check(load(ADD))
    checks.that(dev.cu.cuModuleGetFunction(C.byref(f), m, b"nobody") == 500, "a kernel that is not there")


def refused(checks):
    """One line each: what PTX does not allow, or the interpreter does not do."""
    dev, _ = start()
    lines = {
        "add.u32 %r0, %r1": "operands", "add.wide.u32 %r0, %r1, %r2": "not known", "frob.u32 %r0, %r1": "not an instruction",
        "mul.u32 %r0, %r1, %r2": ".lo, .hi or .wide", "cvt.s32.f32 %r0, %r1": ".rni", "cvt.f32.s32 %r0, %r1": ".rn",
        "fma.f32 %r0, %r1, %r2, %r3": "rounding", "ld.global.v4.b32 {%r0, %r1}, [%d0]": "length", "bra nowhere": "no 'nowhere'",
        "mov.u32 %r0, %r999": "no register", "shfl.bfly.b32 %r0, %r1, 1, 31": ".sync", "cp.async.ca.shared.global [%r0], [%d0], 3": "4, 8 or 16",
        "mma.sync.aligned.m16n8k7.row.col.f32.bf16.bf16.f32 {%r0, %r1, %r2, %r3}, {%r4, %r5}, {%r6}, {%r0, %r1, %r2, %r3}": "shape",
        "wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 {%r0}, %d0, %d1, 1, 1, 1, 0, 0": "shape", "ld.global.b32 %r0, %d0": "brackets",
        "st.param.b32 [p0], %r0": "not written", "add.rz.f16 %h0, %h1, %h2": "nearest", "setp.u32 %p0, %r0, %r1": "comparison",
        "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r0], 32": "not an instruction", "ld.global.b32.b32 %r0, [%d0]": "one type",
        "add.rn.f64.f16 %d0, %h1, %d2": "another type", "min.f32.f16 %r0, %h1, %r2": "one type", "add.rn.f32.f16 %r0, %h1, %r2": "sm_100",
        "mov.u32 %r0, 12monkeys": "number", "red.async.add.u32 [%d0], %r0": ".async", "bar %r0": ".sync", "cvta.param.u64 %d0, %d1": "7.7",
    }
    for line, words in lines.items():
        m = C.c_void_p()
        version = "76" if words == "7.7" else None
        target = "sm_80" if version else "sm_90a"
        code = dev.cu.cuModuleLoadData(C.byref(m), C.c_char_p(device.wrap(line + ";", ["u32"], target=target, version=version).encode()))
        said = dev.cu.fake_cuda_error().decode()
        checks.that(code == 218 and words in said and said.startswith("line "), f"'{line}': {code} {said}")


def faults(checks):
    """What a kernel may do wrong, and the words for it."""
    dev, _ = start()
    cases = {
        "no address": ("mov.u64 %d0, 64; ld.global.u32 %r0, [%d0];", "in no allocation"),
        "behind the end": ("ld.param.u64 %d0, [p0]; ld.global.u32 %r0, [%d0+128];", "beyond the allocation of 128 bytes"),
        "misaligned": ("ld.param.u64 %d0, [p0]; ld.global.u32 %r0, [%d0+2];", "no multiple of 4"),
        "shared": ("mov.u32 %r0, 64; ld.shared.u32 %r1, [%r0];", "the CTA has 0 bytes"),
        "trap": ("trap;", "trapped"),
        "wrong mask": ("mov.u32 %r0, %laneid; setp.lt.u32 %p0, %r0, 16; @%p0 shfl.sync.bfly.b32 %r1, %r0, 1, 31, 0xff;", "not in the mask"),
        "divergent .uni": ("mov.u32 %r0, %laneid; setp.lt.u32 %p0, %r0, 16; @%p0 bra.uni A; A:", "bra.uni"),
        "no mbarrier": ("mov.u32 %r0, s; mov.u32 %r1, 0; st.shared.u64 [%r0], %d0; mbarrier.arrive.shared.b64 %d1, [%r0];", "no mbarrier"),
        "deadlock": ("mov.u32 %r0, s; mbarrier.init.shared.b64 [%r0], 64; W: mbarrier.try_wait.parity.shared.b64 %p0, [%r0], 0; @!%p0 bra W;", "an mbarrier"),
        "barrier 16": ("bar.sync 16;", "there are 16"),
    }
    for name, (body, words) in cases.items():
        shared = ".shared .align 8 .b8 s[16];" if "mov.u32 %r0, s" in body else ""
        p = dev.put(x)
        f = dev.function(dev.module(device.wrap(body, ["u64"], shared=shared)), "k")
        checks.faults(lambda: dev.launch(f, 1, 32, [p]), [words, "line "], name)
        dev.reset()


CASES = {"late": (late, ""), "events": (events, ""), "graphs": (graphs, ""), "two_devices": (two_devices, "devices=2"),
         "sizes": (sizes, "memory=1M,sm=89"), "failures": (failures, "fail=cuMemAlloc_v2:2:2"), "images": (images, "sm=90,driver=12000"),
         "refused": (refused, ""), "faults": (faults, "check=races")}


def set_up(checks):
    for setup, code in (("devices=0", 100), ("stub=1", 34)):
        text = f"import ctypes; print(ctypes.CDLL({sys.argv[1]!r}).cuInit(0))"
        done = subprocess.run([sys.executable, "-c", text], env={**os.environ, device.SETUP: setup}, capture_output=True, text=True)
        checks.that(done.stdout.strip() == str(code), f"cuInit with {setup}: {done.stdout}{done.stderr}")
    for name, (_, setup) in CASES.items():
        done = subprocess.run([sys.executable, __file__, sys.argv[1], name], env={**os.environ, device.SETUP: setup}, capture_output=True, text=True)
        checks.that(done.returncode == 0, f"{name}: {done.stdout}{done.stderr}")


run = device.Checks()
if len(sys.argv) > 2:
    CASES[sys.argv[2]][0](run)
else:
    set_up(run)
run.end(sys.argv[2] if len(sys.argv) > 2 else "driver")
