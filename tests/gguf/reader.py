#!/usr/bin/env python3
"""The GGUF reader against the gguf package: what it writes, every value type and every tensor type that it knows, is
read as its own reader reads it.

    reader.py GGUF_MAIN [FILE.gguf...]      skipped (status 77) without the package
"""
import os
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: the gguf package is not there") or 77)

V, Q = gguf.GGUFValueType, gguf.GGMLQuantizationType
ACTIVATIONS = (Q.Q8_1, Q.Q8_K)  # not for files


def write(path, alignment):
    w = gguf.GGUFWriter(path, "llama")
    w.data_alignment = alignment
    w.add_custom_alignment(alignment)
    low = {V.INT8: -128, V.INT16: -32768, V.INT32: -2**31, V.INT64: -2**63}
    for t in V:
        if t not in (V.STRING, V.ARRAY, V.BOOL):
            w.add_key_value(f"one.{t.name}", low.get(t, 3), t)
    w.add_key_value("one.FLOAT64.pi", 3.141592653589793, V.FLOAT64)
    w.add_key_value("one.BOOL", True, V.BOOL)
    w.add_key_value("one.STRING", "gr\u00fc\u00df \U0001f600", V.STRING)
    w.add_array("some.ints", [-1, 2, 70000])
    w.add_array("some.floats", [0.5, -1e30])
    w.add_array("some.strings", ["", "a", "\u4e2d\u6587"])
    rng = np.random.default_rng(1)
    for t in Q:
        if t in ACTIVATIONS:
            continue
        values, size = gguf.GGML_QUANT_SIZES[t]
        shape = (3, 2, 2 * values) if values > 1 else (2, 5)
        data = rng.integers(0, 256, (*shape[:-1], shape[-1] // values * size), np.uint8)
        w.add_tensor(f"t.{t.name}", data, raw_dtype=t)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def value(kind, part):
    if kind == V.STRING:
        return "x" + bytes(part).hex()
    if kind == V.BOOL:
        return "true" if part[0] else "false"
    return "%.17g" % part[0] if kind in (V.FLOAT32, V.FLOAT64) else str(int(part[0]))


def expected(path):
    r = gguf.GGUFReader(path)
    for f in r.fields.values():
        if f.name.startswith("GGUF."):
            continue
        array = f.types[0] == V.ARRAY
        values = [value(f.types[-1], f.parts[i]) for i in f.data]
        yield " ".join(["K", f.name.encode().hex(), f"{int(f.types[0])}.{int(f.types[-1]) if array else -1}",
                        str(len(values)), *values])
    for t in r.tensors:
        yield " ".join(map(str, ("T", t.name, t.tensor_type.name.lower(), t.data_offset, t.n_bytes,
                                 *(int(d) for d in t.shape[::-1]))))


def check(main, path, name):
    p = subprocess.run([main, path], capture_output=True, text=True, timeout=300)
    got, want = p.stdout.splitlines(), list(expected(path))
    wrong = [(a, b) for a, b in zip(got, want) if a != b]
    bad = bool(p.returncode or wrong or len(got) != len(want))
    print(f"{'FAIL' if bad else 'ok  '} {name}: {len(want)} keys and tensors")
    for a, b in wrong[:3]:
        print(f"     read     {a[:150]}\n     expected {b[:150]}")
    print(p.stderr, end="")
    return bad


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    failures = sum(check(sys.argv[1], path, os.path.basename(path)) for path in sys.argv[2:])
    with tempfile.TemporaryDirectory() as tmp:
        for alignment in (32, 64, 4096):
            path = os.path.join(tmp, "all.gguf")
            write(path, alignment)
            failures += check(sys.argv[1], path, f"alignment {alignment}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
