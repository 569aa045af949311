#!/usr/bin/env python3
"""Compiles a small model again and again: run_compile.py TENON [NAME...]

Whatever the object cache holds, however many processors there are: the library is the same, byte for byte. How many of a
target's parts came from the cache is what --time-passes --json says.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "parity", "models", "llama-bf16")
TARGETS = "avx2,avx512,avx512vnni,avx512bf16"


class Failure(Exception):
    pass


def need(truth, words):
    if not truth:
        raise Failure(words)


class Place:
    """A folder for libraries and one for the cache."""

    def __init__(self, tenon, folder):
        self.tenon, self.folder, self.cache = tenon, folder, os.path.join(folder, "cache")
        self.n = 0

    def command(self, *options, isa="avx2"):
        self.n += 1
        out = os.path.join(self.folder, str(self.n))
        os.mkdir(out)
        lib = os.path.join(out, "libx.so")
        return lib, [self.tenon, "compile", MODEL, "-o", lib, "--isa", isa, "--json", "--time-passes", *options]

    def environment(self, **more):
        return {**os.environ, "TENON_CACHE_DIR": self.cache, **more}

    def compile(self, *options, isa="avx2", env=None, prefix=()):
        """The library's bytes, and what was said about the steps."""
        lib, command = self.command(*options, isa=isa)
        p = subprocess.run([*prefix, *command], capture_output=True, text=True, env=env or self.environment())
        need(p.returncode == 0, f"exit status {p.returncode}: {p.stderr}")
        need(not p.stderr, f"on stderr: {p.stderr}")
        said = [json.loads(line) for line in p.stdout.splitlines()]
        need(len(said) == 2 and said[0]["library"] == lib, f"said {p.stdout}")
        with open(lib, "rb") as f:
            return f.read(), said[1]

    def entries(self):
        folder = os.path.join(self.cache, "cpu")
        return sorted(os.path.join(folder, name) for name in os.listdir(folder)) if os.path.isdir(folder) else []


def codegen(steps):
    return {s["target"]: s for s in steps["phases"] if s["name"] == "codegen"}


def cached(steps):
    """(parts, how many of them were cached) of all targets."""
    rows = codegen(steps).values()
    return sum(s["parts"] for s in rows), sum(s["cached"] for s in rows)


def hits(place):
    first, steps = place.compile()
    parts, found = cached(steps)
    equal = parts - len(place.entries())  # a part may equal one that was made before
    need(parts > 5 and 0 <= found <= equal < parts, f"{found} of {parts} parts were in an empty cache, {equal} are equal")
    second, steps = place.compile()
    need(cached(steps) == (parts, parts), f"{cached(steps)} of {parts} parts the second time")
    third, steps = place.compile("--no-cache")
    need(cached(steps) == (parts, 0), f"{cached(steps)} with --no-cache")
    fourth, steps = place.compile(env=place.environment(TENON_CACHE_DIR=""))
    need(cached(steps) == (parts, 0), f"{cached(steps)} with an empty TENON_CACHE_DIR")
    need(first == second == third == fourth, "the library depends on the cache")
    # Half of the entries gone: those parts are made anew.
    for path in place.entries()[::2]:
        os.unlink(path)
    fifth, steps = place.compile()
    need(0 < cached(steps)[1] < parts, f"{cached(steps)} with half of the cache")
    need(first == fifth, "the library depends on half of the cache")


def damaged(place):
    first, steps = place.compile()
    parts = cached(steps)[0]
    equal = parts - len(place.entries())
    for i, path in enumerate(place.entries()):
        with open(path, "r+b") as f:
            data = f.read()
            f.seek(0)
            f.truncate()
            if i % 3 == 0:  # a bit; the last byte; everything
                at = (i * 997) % len(data)
                f.write(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
            elif i % 3 == 1:
                f.write(data[:-1])
    second, steps = place.compile()
    need(cached(steps)[1] <= equal, f"{cached(steps)} of damaged entries were taken")
    third, steps = place.compile()
    need(cached(steps) == (parts, parts), f"{cached(steps)}: damaged entries were not replaced")
    need(first == second == third, "damaged entries change the library")


def concurrent(place):
    want, _ = place.compile("--no-cache")
    running = []
    for _ in range(4):
        lib, command = place.command()
        running.append((lib, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                              env=place.environment())))
    for lib, p in running:
        _, words = p.communicate()
        need(p.returncode == 0 and not words, f"exit status {p.returncode}: {words}")
        with open(lib, "rb") as f:
            need(f.read() == want, "compiles at the same time differ")
    need(all(len(os.path.basename(e)) == 64 for e in place.entries()), f"left behind: {place.entries()}")
    again, steps = place.compile()
    need(cached(steps)[0] == cached(steps)[1] and again == want, f"{cached(steps)} after four at the same time")


def unusable(place):
    want, steps = place.compile("--no-cache")
    parts = cached(steps)[0]
    file = os.path.join(place.folder, "file")
    open(file, "w").close()
    shared = os.path.join(place.folder, "shared", "cpu")
    os.makedirs(shared)
    os.chmod(shared, 0o777)  # others could put code there
    for folder in (file, os.path.join(file, "below"), "/proc/nowhere", os.path.dirname(shared)):
        for _ in range(2):
            got, steps = place.compile(env=place.environment(TENON_CACHE_DIR=folder))
            need(got == want and cached(steps) == (parts, 0), f"{folder}: {cached(steps)}")
    need(not os.listdir(shared), "something was put into a folder that all may write")
    # Where it is when nothing says so: in XDG_CACHE_HOME, else in ~/.cache.
    for variable, below in (("XDG_CACHE_HOME", "tenon"), ("HOME", ".cache/tenon")):
        home = os.path.join(place.folder, variable)
        env = {k: v for k, v in os.environ.items() if k not in ("TENON_CACHE_DIR", "XDG_CACHE_HOME")}
        os.mkdir(home)
        got, _ = place.compile(env=dict(env, **{variable: home}))
        kept = os.path.join(home, below, "cpu")
        need(got == want and os.path.isdir(kept) and os.listdir(kept), f"{variable}: nothing in {kept}")
        need(os.stat(kept).st_mode & 0o77 == 0, f"{kept} is open to others")


def threads(place):
    """On one processor and on all of them, for every target and precision."""
    one = min(os.sched_getaffinity(0))
    for options in ((), ("--precision", "fast")):
        want, _ = place.compile("--no-cache", *options, isa=TARGETS)
        for prefix in ((), ("taskset", "-c", str(one))):
            if prefix and not shutil.which("taskset"):
                continue
            got, _ = place.compile("--no-cache", *options, isa=TARGETS, prefix=prefix)
            need(got == want, f"{prefix} {options}: other bytes")


def times(place):
    _, steps = place.compile(isa="avx2,avx512")
    need(set(steps) == {"phases", "seconds"}, f"keys {set(steps)}")
    for s in steps["phases"]:
        need({"name", "pass", "seconds"} <= set(s) <= {"name", "pass", "seconds", "target", "parts", "cached"}, str(s))
        need(isinstance(s["seconds"], float) and s["seconds"] >= 0 and isinstance(s["pass"], bool), str(s))
    names = [s["name"] for s in steps["phases"] if not s["pass"]]
    want = ["plugins", "import", "between passes", "tokenizer", "layouts", "kernels", "codegen", "join", "kernels",
            "codegen", "join", "program", "header", "link", "weights", "finish", "rest"]
    need(names == want, f"phases {names}")
    need({"fuse", "dce", "plan-memory"} <= {s["name"] for s in steps["phases"] if s["pass"]}, "passes are missing")
    need(list(codegen(steps)) == ["avx2", "avx512"], f"targets {list(codegen(steps))}")
    total = sum(s["seconds"] for s in steps["phases"])
    need(abs(total - steps["seconds"]) < 1e-3, f"the steps take {total}, all of it {steps['seconds']}")
    # The same as a table, on stderr, for a person.
    lib, command = place.command()
    p = subprocess.run([w for w in command if w != "--json"], capture_output=True, text=True, env=place.environment())
    lines = p.stderr.splitlines()
    need(p.returncode == 0 and lines[-1].startswith("total"), p.stderr)
    need(any(line.startswith("phase codegen") and "cached" in line for line in lines), p.stderr)
    need(all(line.split()[0] in ("phase", "pass", "total") for line in lines), p.stderr)


CASES = {f.__name__: f for f in (hits, damaged, concurrent, unusable, threads, times)}


def main():
    if len(sys.argv) < 2 or any(n not in CASES for n in sys.argv[2:]):
        sys.exit(__doc__)
    failures = 0
    for name in sys.argv[2:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                CASES[name](Place(os.path.abspath(sys.argv[1]), folder))
                print(f"{name}: ok")
            except Failure as e:
                failures += 1
                print(f"{name}: FAILED: {e}")
    sys.exit(failures > 0)


main()
