#!/usr/bin/env python3
"""Runs the packed checkpoints of models/ through tenon.

    run_packed.py TENON BACKEND [METHOD...]

The logits must be those of expected.safetensors (make_packed.py) at the tolerance of whole models in float32
(tests/parity/golden.py). The weights of the artefact must take at most 2 % more bytes than the checkpoint's tensors,
but for the methods in LARGER. One line per method; exits 1 if one is wrong.
"""
import json
import os
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: numpy is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
import golden  # noqa: E402

# Blocks lie along one row, so what many rows share is stored for each: 4 bytes of scale for 128 values that
# checkpoints of DeepSeek store once for 128 rows, and for 64 values where nested scales take one byte.
LARGER = {"fp8-tiles": 1.032, "bnb-nf4-nested": 1.091}


ALIGNMENT = 20 * 64  # every weight begins at a multiple of 64

# What goes with packed matrices without being codes, scales or zeros: not counted, however small it is.
BESIDE = ("weight_shape", "quant_map", "bitsandbytes__nf4", "bitsandbytes__fp4", "weight_format")


def stored_bytes(path, name):
    """Bytes of the checkpoint's packed matrices, and of its other tensors in the artefact."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    packed = other = 0
    for tensor, row in header.items():
        if tensor == "__metadata__" or tensor.endswith(BESIDE) or (tensor.endswith("g_idx") and "act" not in name):
            continue
        n = row["data_offsets"][1] - row["data_offsets"][0]
        if "_proj." in tensor:
            packed += n
        else:  # kernels read plain matrices in panels of 16 rows
            rows = row["shape"][0]
            other += n if len(row["shape"]) < 2 else n // rows * (rows + -rows % 16)
    return packed, other


def compare(tenon, backend, folder, tmp):
    want = golden.load(os.path.join(folder, "expected.safetensors"))
    np.save(os.path.join(tmp, "ids.npy"), want["ids"])
    rc, _, err = golden.run(tenon, ["run", folder, "--entry", "logits", "--backend", backend, "--output-dir", tmp,
                                    "--input", f"ids={tmp}/ids.npy"])  # fmt: skip
    if rc:
        return err.strip().splitlines()[0]
    if "warning" in err:
        return err.strip().splitlines()[0]
    d = golden.Difference(np.load(os.path.join(tmp, "logits.npy")), want["logits"])
    return None if d.ok else f"NMSE {d.nmse:.1e}, {d.ratio:.2f} of the tolerance"


def size(tenon, backend, folder, name, tmp):
    lib = os.path.join(tmp, "libpacked.so")
    rc, _, err = golden.run(tenon, ["compile", folder, "--backend", backend, "--isa", "avx2", "--weights", "external", "-o", lib])
    if rc:
        return err.strip().splitlines()[0], 0
    packed, other = stored_bytes(os.path.join(folder, "model.safetensors"), name)
    made = os.path.getsize(lib[:-3] + ".weights") - other
    return None if made <= packed * LARGER.get(name, 1.02) + ALIGNMENT else "too large", made / packed - 1


def main():
    tenon, backend, *names = sys.argv[1:]
    failures = 0
    for name in names or sorted(os.listdir(os.path.join(HERE, "models"))):
        folder = os.path.join(HERE, "models", name)
        with tempfile.TemporaryDirectory() as tmp:
            why, more = compare(tenon, backend, folder, tmp), 0
            if not why and backend == "cpu":
                why, more = size(tenon, backend, folder, name, tmp)
        failures += why is not None
        print("FAIL" if why else "ok  ", name, why or (f"{more:+.1%} bytes" if more else ""), flush=True)
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
