#!/usr/bin/env python3
"""The GGUF writer against the gguf package: files that the package wrote come out of reader and writer byte for byte
(every value type, every tensor type, three alignments), the package reads what the writer's own functions write, and
what a file must not have is refused by name.

    writer.py GGUF_COPY      skipped (status 77) without the package
"""
import os
import subprocess
import sys
import tempfile

import reader  # skips

import gguf

REFUSED = {"key-twice": "'k' is there twice",
           "key-empty": "'(a key)' has a name that is empty or not plain UTF-8 text",
           "key-bytes": "'(a key)' has a name that is empty or not plain UTF-8 text",
           "alignment": "'general.alignment' is not a power of two",
           "alignment-late": "'general.alignment' comes after tensors, which it places",
           "array": "'a' is not an array of numbers",
           "tensor-twice": "'t' is there twice",
           "rank": "'t' has more than the 4 dims that GGUF files allow",
           "type": "'t' has an element type that GGUF files do not have",
           "rows": "'t' has rows that are not whole blocks",
           "bytes": "'t' has rows that are not whole blocks, or more bytes than can be counted",
           "name": "is longer than the 63 bytes that GGUF files allow",
           "no-file": "/nowhere/refused.gguf: error: cannot be written: no such file"}


def run(*args):
    return subprocess.run(args, capture_output=True, text=True, timeout=300)


def copies(main, tmp):
    bad = 0
    for alignment in (32, 64, 4096):
        a, b = os.path.join(tmp, "a.gguf"), os.path.join(tmp, "b.gguf")
        reader.write(a, alignment)
        p = run(main, a, b)
        same = p.returncode == 0 and open(a, "rb").read() == open(b, "rb").read()
        print(f"{'ok  ' if same else 'FAIL'} copy with alignment {alignment} {p.stderr}")
        bad += not same
    return bad


def values(main, tmp):
    path = os.path.join(tmp, "values.gguf")
    p = run(main, "-", path)
    if p.returncode:
        return print("FAIL values:", p.stderr) or 1
    r = gguf.GGUFReader(path)
    want = {"u32": 4000000000, "u64": 1 << 63, "i32": -5, "f32": 0.10000000149011612, "yes": True, "no": False,
            "text": "中", "texts": ["", "a\0b", "中"], "none": [], "bytes": [-128, 0, 127], "reals": [0.1, -1e300]}
    got = {k: f.contents() if f.data else [] for k, f in r.fields.items() if not k.startswith("GGUF.")}
    tensors = [(t.name, t.tensor_type.name, t.shape.tolist(), t.n_bytes) for t in r.tensors]
    good = got == want and tensors == [("empty", "F32", [3, 0, 2], 0), ("scalar", "I64", [], 8)]
    print(f"{'ok  ' if good else 'FAIL'} values", "" if good else (got, tensors))
    return not good


def refused(main):
    bad = 0
    for what, message in REFUSED.items():
        p = run(main, what)
        good = p.returncode == 1 and message in p.stderr
        print(f"{'ok  ' if good else 'FAIL'} refuses {what}", "" if good else p.stderr)
        bad += not good
    return bad


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(copies(sys.argv[1], folder) + values(sys.argv[1], folder) + refused(sys.argv[1]) > 0)
