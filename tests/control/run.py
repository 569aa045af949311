"""Programs whose sizes and steps depend on data: let_dim, if, loop. Expected values are worked out here with NumPy,
and come from every backend, level, number of threads, in the tool and from a library made of the model.

    python run.py TENON CC [NAME...]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TENON, CC = Path(sys.argv[1]).resolve(), sys.argv[2]
failures = 0


def run(model, entry, inputs, *options):
    """The outputs by name, or the words of the error."""
    with tempfile.TemporaryDirectory() as d:
        args = [TENON, "run", model, "--entry", entry, "--output-dir", d, *options]
        for name, value in inputs.items():
            np.save(f"{d}/in-{name}.npy", value)
            args += ["--input", f"{name}={d}/in-{name}.npy"]
        r = subprocess.run(args, capture_output=True, text=True, timeout=120)
        if r.returncode:
            return r.stderr.strip()
        return {f.stem: np.load(f) for f in Path(d).glob("*.npy") if not f.stem.startswith("in-")}


def same(got, wanted):
    if isinstance(got, str) or isinstance(wanted, str):
        return isinstance(got, str) and isinstance(wanted, str) and wanted in got
    return got.keys() == wanted.keys() and all(
        got[k].dtype == v.dtype and got[k].shape == v.shape and np.allclose(got[k], v, rtol=1e-4, atol=1e-5)
        for k, v in wanted.items()
    )


def i64(v):
    return np.array(v, np.int64)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def slices():
    for b, n in ((3, 0), (3, 1), (3, 2), (3, -1), (9, 8), (1, 0)):
        x = normal(b, b, 4)
        e = np.exp(x)
        k = n + 1
        yield "main", {"x": x, "n": i64(n)}, {
            "y": -e[:k],
            "z": -e,
            "sum": e[:k].sum(0),
            "half": np.arange(k, k + k // 2),
        }
    yield "main", {"x": normal(1, 3, 4), "n": i64(3)}, "N = 4, which the model works out at"
    yield "main", {"x": normal(1, 3, 4), "n": i64(3)}, "slices.tir:8, the limit is 3"
    yield "main", {"x": normal(1, 12, 4), "n": i64(11)}, "the limit is 9"
    yield "main", {"x": normal(1, 3, 4), "n": i64(-2)}, "slices.tir:8, the least is 0"
    yield "main", {"x": normal(1, 3, 4), "n": i64(2**62)}, "the limit is 3"


def branches():
    for b, c, d in ((1, True, True), (5, True, False), (5, True, True), (5, False, True), (300, True, False)):
        x = normal(b, b, 64) / 8
        e = np.exp(x)
        y = e @ x.T @ x
        r, q = (y[:1], y.max(0)) if d else (y, y.min(0))
        if not c:
            r, q = np.concatenate([e, x]), x.sum(0)
        yield "main", {"x": x, "c": np.array(c), "d": np.array([d])}, {"y": -r, "s": q, "again": e + x}


def loops():
    for b, n, c in ((3, 4, True), (3, 0, True), (3, -5, True), (3, 5, False), (6, 50, True), (1, 300, True)):
        x = np.arange(b, dtype=np.float32) + 1
        if b == 1:
            x /= 8
        acc, grown, sums, last, go, i = np.zeros(b, np.float32), [x[0]], [], [], c, 0
        while i < n and go:
            acc = acc + x
            grown.append(i)
            sums.append(acc)
            last.append(acc.sum())
            go = last[-1] < 100
            i += 1
        yield "main", {"x": x, "n": i64(n), "c": np.array(c)}, {
            "y": acc,
            "grown": np.array(grown, np.float32),
            "sums": np.array(sums, np.float32).reshape(-1, b),
            "last": np.array(last, np.float32),
        }


def collatz():
    def walk(v):
        n = 0
        while v > 1:
            v, n = (v // 2 if v % 2 == 0 else 3 * v + 1), n + 1
        return n

    for xs, n in (([27, 1, 6, 97], 4), ([27, 1, 6, 97], 2), ([3], 0)):
        yield "main", {"x": i64(xs), "n": i64(n)}, {"steps": i64([walk(v) for v in xs[:n]])}


def checks():
    def two(n, m):
        return "two", {"n": i64(n), "m": np.array([m], np.int32)}

    yield *two(3, 2), {"y": np.arange(3), "z": np.arange(2)}
    yield *two(0, 0), {"y": np.arange(0), "z": np.arange(0)}
    yield *two(7, 0), "the limit is 6"
    yield *two(5, 6), "M + N = 11 is more than 8 = 8"
    yield *two(4, 1), "2 * N = 8 is more than M + 4 = 5"
    yield "slices", {"n": i64(1)}, {"y": np.zeros((1, 0), np.int64)}
    yield "slices", {"n": i64(3)}, "result 'y': slice 1 has another shape than those before it"
    yield "fixed", {"n": i64(0), "x": normal(1, 3)}, {"y": normal(1, 3)}
    yield "fixed", {"n": i64(1), "x": normal(1, 3)}, "result 'y' has 6 in dim 0, expected B = 3"


def check(what, got, wanted):
    global failures
    if same(got, wanted):
        return
    failures += 1
    with np.printoptions(threshold=40):
        print(f"FAILED: {what}\n  expected {wanted}\n  got      {got}")


def library(name, backend, folder):
    out = f"{folder}/lib{name}.so"
    r = subprocess.run(
        [TENON, "compile", HERE / f"{name}.tir", "-o", out, f"--backend={backend}"],
        capture_output=True,
        text=True,
    )
    return out if r.returncode == 0 else r.stderr.strip()


def user(folder):
    """A C program that links the library made of slices.tir."""
    program = f"{folder}/user"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{folder}", f"-L{folder}", f"-Wl,-rpath,{folder}"]
    r = subprocess.run([CC, *flags, HERE / "user.c", "-o", program, "-lslices", "-lm"], capture_output=True, text=True)
    if r.returncode == 0:
        r = subprocess.run([program], capture_output=True, text=True)
    return r.stdout + r.stderr if r.returncode else {}


def main():
    done = 0
    for cases in (slices, branches, loops, collatz, checks):
        name = cases.__name__
        if sys.argv[3:] and name not in sys.argv[3:]:
            continue
        for entry, inputs, wanted in cases():
            for options in (
                ("--backend=ref", "-O0", "--threads=1"),
                ("--backend=ref", "-O2", "--threads=2"),
                ("--backend=cpu", "-O1", "--threads=3"),
                ("--backend=cpu", "-O3", "--threads=1"),
            ):
                check(f"{name} {entry} {options}", run(HERE / f"{name}.tir", entry, inputs, *options), wanted)
                done += 1
        with tempfile.TemporaryDirectory() as folder:
            lib = library(name, "cpu", folder)
            for entry, inputs, wanted in cases():
                got = run(lib, entry, inputs, "--threads=2") if lib.endswith(".so") else lib
                check(f"{name} {entry} from a library", got, wanted)
                done += 1
            if name == "slices":
                check("a program that links slices", user(folder), {})
                done += 1
    print(f"{done} runs, {failures} failures")
    return failures != 0


sys.exit(main())
