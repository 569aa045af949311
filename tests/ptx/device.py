"""The fake driver as Python sees it: modules, arrays, launches, and what they cost."""
import ctypes as C
import os
import subprocess
import sys

import numpy as np

SETUP = "TENON_FAKE_CUDA"
CLANG = os.environ.get("PTX_CLANG", "clang-22")
TARGETS = {"sm_80": "70", "sm_90a": "80", "sm_100": "86", "sm_120": "87"}


class Fault(Exception):
    """An error of the driver: code, and what the interpreter said."""

    def __init__(self, code, words):
        super().__init__(f"{code}: {words}")
        self.code, self.words = code, words


class Counters(C.Structure):
    _fields_ = [(n, C.c_uint64) for n in (
        "instructions", "lane_instructions", "global_requests", "global_sectors", "shared_requests", "shared_wavefronts",
        "mma", "barriers", "divergences")]


class Device:
    """A fresh context on one fake device; `setup` as TENON_FAKE_CUDA has it (read once per process)."""

    def __init__(self, library, index=0):
        self.cu = C.CDLL(library)
        self.cu.fake_cuda_error.restype = C.c_char_p
        self.index = index
        self.check(self.cu.cuInit(0))
        self.open()

    def open(self):
        self.context = C.c_void_p()
        self.check(self.cu.cuDevicePrimaryCtxRetain(C.byref(self.context), self.index))
        self.check(self.cu.cuCtxPushCurrent_v2(self.context))

    def reset(self):
        """After a fault the context is dead: a new one, with empty memory."""
        self.cu.cuCtxPopCurrent_v2(None)
        self.cu.cuDevicePrimaryCtxRelease_v2(self.index)
        self.open()

    def check(self, code):
        if code:
            raise Fault(code, self.cu.fake_cuda_error().decode())

    def module(self, text):
        m = C.c_void_p()
        self.check(self.cu.cuModuleLoadData(C.byref(m), C.c_char_p(text.encode())))
        return m

    def function(self, module, name, shared=0):
        f = C.c_void_p()
        self.check(self.cu.cuModuleGetFunction(C.byref(f), module, name.encode()))
        if shared > 48 * 1024:
            self.check(self.cu.cuFuncSetAttribute(f, 8, shared))
        return f

    def empty(self, nbytes):
        p = C.c_uint64()
        self.check(self.cu.cuMemAlloc_v2(C.byref(p), C.c_size_t(nbytes)))
        return p

    def put(self, array):
        array = np.ascontiguousarray(array)
        p = self.empty(array.nbytes)
        self.check(self.cu.cuMemcpyHtoD_v2(p, array.ctypes.data_as(C.c_void_p), C.c_size_t(array.nbytes)))
        return p

    def get(self, p, like):
        out = np.empty_like(like)
        self.check(self.cu.cuMemcpyDtoH_v2(out.ctypes.data_as(C.c_void_p), p, C.c_size_t(out.nbytes)))
        return out

    def launch(self, f, grid, block, args, shared=0):
        three = lambda x: tuple(x) + (1,) * (3 - len(x)) if isinstance(x, (tuple, list)) else (x, 1, 1)
        pointers = (C.c_void_p * len(args))(*[C.cast(C.byref(a), C.c_void_p) for a in args])
        self.check(self.cu.cuLaunchKernel(f, *three(grid), *three(block), shared, None, pointers, None))
        self.check(self.cu.cuCtxSynchronize())

    def counters(self):
        c = Counters()
        self.cu.fake_cuda_counters(C.byref(c), 1)
        return c


def wrap(body, params, target="sm_90a", registers="", shared="", directives="", version=None):
    """A module with one kernel `k`; params are their types."""
    version = version or TARGETS[target]
    lines = [f".version {version[:-1]}.{version[-1]}", f".target {target}", ".address_size 64", shared,
             ".visible .entry k(" + ", ".join(f".param .{t} p{i}" for i, t in enumerate(params)) + ") " + directives, "{",
             ".reg .pred %p<20>;", ".reg .b16 %h<40>;", ".reg .b32 %r<200>;", ".reg .b64 %d<60>;", registers, body, "ret;", "}"]
    return "\n".join(lines)


def compile_c(path, target, flags=()):
    """PTX that LLVM makes of a C file."""
    version = TARGETS[target]
    command = [CLANG, "--target=nvptx64-nvidia-cuda", "-Xclang", "-target-cpu", "-Xclang", target, "-Xclang", "-target-feature",
               "-Xclang", f"+ptx{version}", "-O2", "-S", "-o", "-", *flags, path]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


class Checks:
    """Counts what was compared and names what differs."""

    def __init__(self):
        self.done = self.failed = 0

    def that(self, good, what):
        self.done += 1
        if not good:
            self.failed += 1
            print(f"FAILED {what}")

    def close(self, got, want, tolerance, what):
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        both_nan = np.isnan(got) & np.isnan(want)
        with np.errstate(invalid="ignore"):
            error = np.where(both_nan | (got == want), 0, np.abs(got - want) / np.maximum(np.abs(want), 1))
        self.that(bool((error <= tolerance).all()), f"{what}: error {np.nanmax(error) if error.size else 0:.3g}, worst at {int(np.argmax(~(error <= tolerance)))}")

    def same(self, got, want, what):
        got, want = np.asarray(got), np.asarray(want)
        bad = np.flatnonzero(got.ravel() != want.ravel())
        self.that(not bad.size, f"{what}: {bad.size} differ, first at {bad[:1]}: {got.ravel()[bad[:1]]} is not {want.ravel()[bad[:1]]}")

    def faults(self, run, words, what):
        try:
            run()
        except Fault as f:
            self.that(all(w in f.words for w in words), f"{what}: said '{f.words}'")
        else:
            self.that(False, f"{what}: nothing was noticed")

    def end(self, name):
        print(f"{name}: {self.done - self.failed} of {self.done} checks passed")
        sys.exit(bool(self.failed))
