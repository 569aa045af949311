#!/usr/bin/env python3
"""kernels.py LIBRARY - kernels that LLVM compiles from C for four architectures give what NumPy gives, in the usual and
in random order of warps; and bugs that are planted in them are found: every mutation must be noticed, by a fault or by a
wrong result, and most by the fault that names it."""
import ctypes as C
import os
import re
import sys

import ml_dtypes
import numpy as np

import device

SEED = os.environ.get("PTX_SEED", "0")
SM = {"sm_80": "80", "sm_90a": "90", "sm_100": "100", "sm_120": "120"}
target = sys.argv[2]
os.environ[device.SETUP] = f"sm={SM[target]},check=races+unwritten,seed={SEED}"
dev, checks = device.Device(sys.argv[1]), device.Checks()
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kernels")
rng = np.random.default_rng(5)
bf16 = ml_dtypes.bfloat16


def call(text, name, grid, block, outs, ins, shared=0):
    """Arrays in `outs` are written: they come back."""
    pointers = [dev.put(o) for o in outs]
    args = pointers + [x if isinstance(x, C._SimpleCData) else dev.put(x) for x in ins]
    dev.launch(dev.function(dev.module(text), name, shared), grid, block, args, shared)
    return [dev.get(p, o) for p, o in zip(pointers, outs)]


def squares(text, n=1000):
    x = rng.standard_normal((3, n)).astype(np.float32)
    got, = call(text, "squares", 3, 128, [np.zeros(3, np.float32)], [x, C.c_int(n)])
    return np.abs(got - (x.astype(float)**2).sum(1)).max() < 1e-3 * n


def product(text, m=33, n=20, k=37):
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    grid = -(-m // 16) * -(-n // 16)
    got, = call(text, "product", grid, 256, [np.zeros((m, n), np.float32)], [a, b, C.c_int(m), C.c_int(n), C.c_int(k)])
    return np.abs(got - a.astype(float) @ b).max() < 1e-4


def scan(text):
    x = rng.integers(-100, 100, (2, 256)).astype(np.int32)
    got, = call(text, "scan", 2, 256, [np.zeros_like(x)], [x])
    return (got == x.cumsum(1)).all()


def histogram(text, n=3001):
    x = rng.integers(0, 256, n).astype(np.uint8)
    got, = call(text, "histogram", 3, 64, [np.zeros(256, np.int32)], [x, C.c_int(n)])
    return (got == np.bincount(x, minlength=256)).all()


def collatz(text, n=100):
    def steps(x):
        s = 0
        while x != 1:
            x, s = 3 * x + 1 if x % 2 else x // 2, s + 1
        return s
    got, = call(text, "collatz", 4, 32, [np.zeros(n, np.int32)], [C.c_int(n)])
    return got.tolist() == [steps(i + 1) for i in range(n)]


def halves(text, n=77):
    x, y = [rng.standard_normal(n).astype(np.float16) for _ in range(2)]
    got, = call(text, "halves", 3, 32, [np.zeros(n, np.float16)], [x, y, C.c_int(n)])
    want = x.astype(float) * y.astype(float) + 0.5
    return np.abs(got - want).max() < 4e-3


def sort8(text):
    x = rng.integers(-1000, 1000, (64, 8)).astype(np.int32)
    got, = call(text, "sort8", 2, 32, [np.zeros_like(x)], [x])
    return (got == np.sort(x, 1)).all()


def choose(text, n=90):
    x = rng.integers(0, 10000, n).astype(np.int32)
    table = [3, 1, 4, 1, 5, 9, 2, 6]
    want = [[11, v * 3, ~v, v >> 2, table[v & 7], v % 10, -1][v % 7] for v in x.tolist()]
    got, = call(text, "choose", 3, 32, [np.zeros(n, np.int32)], [x, C.c_int(n)])
    return got.tolist() == want


def softmax(text, n=77):
    x = (rng.standard_normal((4, n)) * 5).astype(np.float32)
    got, = call(text, "softmax", 4, 32, [np.zeros_like(x)], [x, C.c_int(n)])
    e = np.exp(x.astype(float) - x.max(1, keepdims=True))
    return np.abs(got - e / e.sum(1, keepdims=True)).max() < 1e-6


def ring(text, k=256):
    a, b = rng.standard_normal((128, k)).astype(bf16), rng.standard_normal((32, k)).astype(bf16)
    got, = call(text, "ring", 1, 128, [np.zeros((128, 32), np.float32)], [a, b, C.c_int(k)])
    return np.abs(got - a.astype(float) @ b.astype(float).T).max() < 1e-3


# Bugs: kernel, what is replaced (a pattern), by what, words that the fault must have ("": a wrong result will do).
MUTATIONS = [
    (squares, r"bar\.sync\s+0;", "", "race|unwritten", 1),
    (squares, r"shfl\.sync\.bfly\.b32(.*), 16, 31", r"shfl.sync.bfly.b32\1, 8, 31", "", 1),
    (product, r"bar\.sync\s+0;", "", "race|unwritten", 1),
    (product, r"bar\.sync\s+0;", "", "race|unwritten", 2),
    (product, r"st\.global\.b32\s+\[(%rd\d+)\]", r"st.global.b32 [\1+67108864]", "bad address", 1),
    (scan, r"bar\.sync\s+0;", "", "race|unwritten", 1),
    (scan, r"add\.s32", "sub.s32", "", 0),
    (histogram, r"(atom|red)(\.global)?\.add\.[us]32(.*)\[(%rd\d+)\]", r"\1\2.add.u32\3[\4+2]", "misaligned", 1),
    (choose, r"ld\.global\.b32\s+(%r\d+), \[(%rd\d+)\]", r"ld.global.b32 \1, [\2+-4]", "", 1),
    (softmax, r"-1;", "0x7fffffff;", "not in the mask", 1),
    (softmax, r"ex2\.approx\.f32", "lg2.approx.f32", "", 1),
    (ring, r"cp\.async\.wait_group\s+1;", "", "", 1),
    (ring, r"cp\.async\.wait_group\s+1;", "cp.async.wait_group 2;", "", 1),
    (ring, r"bar\.sync\s+0;", "", "race|unwritten", 1),
    (ring, r"(mma\.sync\S+\s*\{[^}]*\}, \{)(%r\d+), (%r\d+)", r"\1\3, \2", "", 1),
    (ring, r"(ldmatrix\S+\s*\{[^}]*\}, \[%r\d+)", r"\1+8", "misaligned", 1),
    (ring, r"cp\.async\.commit_group;", "", "", 0),
]


def mutate(text, pattern, to, which):
    """Replaces the which-th match; 0: all. None: there are not so many."""
    found = list(re.finditer(pattern, text))
    if len(found) < max(which, 1):
        return None
    if not which:
        return re.sub(pattern, to, text)
    m = found[which - 1]
    return text[:m.start()] + m.expand(to) + text[m.end():]


def one_kernel(text, name):
    """The module with only this kernel, so that a mutation meets it."""
    parts = re.split(r"(?=\.visible \.entry )", text)
    head = [p for p in parts if not p.startswith(".visible .entry")]
    return "".join(head + [p for p in parts if re.match(rf"\.visible \.entry {name}\(", p)])


plain = device.compile_c(os.path.join(folder, "plain.c"), target)
source = {f: plain for f in (squares, product, scan, histogram, collatz, halves, sort8, choose, softmax)}
source[ring] = device.compile_c(os.path.join(folder, "ring.c"), target)
for f, text in source.items():
    try:
        checks.that(f(text), f"{f.__name__} on {target}")
    except device.Fault as e:
        checks.that(False, f"{f.__name__} on {target}: {e}")
        dev.reset()
found = 0
for f, pattern, to, words, which in MUTATIONS:
    text = mutate(one_kernel(source[f], f.__name__), pattern, to, which)
    if text is None:
        checks.that(False, f"{f.__name__}: '{pattern}' is not in the code for {target}")
        continue
    try:
        noticed, said = not f(text), "a wrong result"
    except device.Fault as e:
        noticed, said = True, e.words
        dev.reset()
    found += noticed
    checks.that(noticed and any(word in said for word in words.split("|")), f"{f.__name__} with '{pattern}' -> '{to}': {'noticed: ' + said if noticed else 'not noticed'}")
print(f"{found} of {len(MUTATIONS)} planted bugs found")
checks.end(f"kernels on {target}, seed {SEED}")
