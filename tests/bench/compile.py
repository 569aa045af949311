#!/usr/bin/env python3
"""How long tenon takes to make and to load a library, step by step.

    compile.py TENON MODEL... [--runs 3] [--precision fast] [--isa avx512] [--dir FOLDER]

Each model is compiled with an empty object cache (cold) and with one that has all its kernels (warm), its files being in
the page cache; then the library is opened in a fresh process: dlopen, the model, the first session. Medians over the runs.
"""
import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

STEPS = (("import", ("plugins", "import", "tokenizer", "layouts")), ("passes", ("between passes",)),
         ("kernels", ("kernels",)), ("codegen", ("codegen", "join")), ("link", ("program", "header", "link")),
         ("pack", ("weights",)), ("rest", ("finish", "rest")))


def read_all(path):
    """Into the page cache."""
    files = [path] if os.path.isfile(path) else [os.path.join(path, f) for f in os.listdir(path)]
    for f in filter(os.path.isfile, files):
        with open(f, "rb") as file:
            while file.read(1 << 24):
                pass


def compile_once(tenon, model, out, cache, options):
    p = subprocess.run([tenon, "compile", model, "-o", out, "--json", "--time-passes", *options], check=True,
                       capture_output=True, text=True, env=dict(os.environ, TENON_CACHE_DIR=cache))
    library, steps = (json.loads(line) for line in p.stdout.splitlines())
    row = {"total": steps["seconds"], "bytes": library["library_bytes"], "memory": library["peak_memory_bytes"]}
    for name, phases in STEPS:
        row[name] = sum(s["seconds"] for s in steps["phases"] if s["name"] in phases or name == "passes" and s["pass"])
    return row


class SessionOptions(ctypes.Structure):
    """The beginning of tn_session_options, which is all that its size promises."""
    _fields_ = [("size", ctypes.c_uint32), ("threads", ctypes.c_uint32), ("batch", ctypes.c_int64),
                ("capacity", ctypes.c_int64), ("error", ctypes.c_void_p), ("error_size", ctypes.c_uint64)]


def load(path):
    """Run in a process of its own: milliseconds of dlopen and open, and of the first session."""
    begin = time.perf_counter()
    library = ctypes.CDLL(path)
    name = next(line.split("(")[0].split()[-1] for line in open(os.path.join(os.path.dirname(path), "x.h"))
                if "_open(" in line and "(" in line)
    prefix = name.lstrip("*")[:-len("_open")]
    model, session, words = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.create_string_buffer(256)
    if getattr(library, prefix + "_open")(None, ctypes.byref(model), words, ctypes.c_uint64(256)):
        sys.exit(words.value.decode())
    opened = time.perf_counter()
    o = SessionOptions(size=ctypes.sizeof(SessionOptions))
    if getattr(library, prefix + "_session_new")(model, ctypes.byref(o), ctypes.byref(session)):
        sys.exit("no session")
    return {"load": (opened - begin) * 1e3, "session": (time.perf_counter() - opened) * 1e3}


def medians(rows):
    return {k: statistics.median(r[k] for r in rows) for k in rows[0]}


def measure(a, model, folder):
    options = [w for name in ("precision", "isa") if getattr(a, name) for w in (f"--{name}", getattr(a, name))]
    out, cache = os.path.join(folder, "libx.so"), os.path.join(folder, "cache")
    read_all(model)
    cold, warm, loads = [], [], []
    for _ in range(a.runs):
        shutil.rmtree(cache, ignore_errors=True)
        cold.append(compile_once(a.tenon, model, out, cache, options))
        warm.append(compile_once(a.tenon, model, out, cache, options))
        p = subprocess.run([sys.executable, __file__, "--load", out], check=True, capture_output=True, text=True)
        loads.append(json.loads(p.stdout))
    return medians(cold), medians(warm), medians(loads)


def main():
    if sys.argv[1:2] == ["--load"]:
        print(json.dumps(load(sys.argv[2])))
        return
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("tenon")
    p.add_argument("models", nargs="+")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--precision")
    p.add_argument("--isa")
    p.add_argument("--dir", help="where libraries are written for the while")
    a = p.parse_args()
    a.tenon = os.path.abspath(a.tenon)
    names = [name for name, _ in STEPS]
    print("| model | cache | seconds | " + " | ".join(names) + " | library MB | peak MB | load ms | session ms |")
    print("|---" * (len(names) + 7) + "|")
    for model in a.models:
        with tempfile.TemporaryDirectory(dir=a.dir) as folder:
            cold, warm, loads = measure(a, model, folder)
        for kind, r in (("cold", cold), ("warm", warm)):
            cells = [os.path.basename(model.rstrip("/")), kind, f"{r['total']:.2f}", *(f"{r[n]:.2f}" for n in names),
                     f"{r['bytes'] / 1e6:.1f}", f"{r['memory'] / 1e6:.0f}", f"{loads['load']:.1f}",
                     f"{loads['session']:.1f}"]
            print("| " + " | ".join(cells) + " |", flush=True)


main()
