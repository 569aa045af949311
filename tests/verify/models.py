"""Copies of the tiny folders with something planted in them, for planted.py and equal.py."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "parity"))
try:
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: numpy is not there") or 77)

import golden

MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "parity", "models")
NAMES = {np.dtype("float32"): "F32", np.dtype("float16"): "F16", np.dtype("int64"): "I64", np.dtype("int32"): "I32"}


def save(path, tensors):
    """A safetensors file, written by hand."""
    header, at = {}, 0
    for name, x in tensors.items():
        header[name] = {"dtype": NAMES[x.dtype], "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for x in tensors.values():
            f.write(np.ascontiguousarray(x).tobytes())


def load_wide(path):
    """The tensors of one file as float32, of which some may be bfloat16."""
    data = open(path, "rb").read()
    n = int.from_bytes(data[:8], "little")
    header, out = json.loads(data[8:8 + n]), {}
    header.pop("__metadata__", None)
    for name, v in header.items():
        raw = data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]
        if v["dtype"] == "BF16":
            x = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            x = np.frombuffer(raw, golden.DTYPES[v["dtype"]]).astype(np.float32)
        out[name] = x.reshape(v["shape"])
    return out


def copy(name, to, weights=None, config=None):
    """A folder like tests/parity/models/NAME in one file; weights(tensors) and config(values) change it in place."""
    folder = os.path.join(MODELS, name)
    os.makedirs(to, exist_ok=True)
    for f in os.listdir(folder):
        if not f.startswith("model") and f != "goldens.safetensors":
            shutil.copy(os.path.join(folder, f), to)
    tensors = {k: v.copy() for k, v in golden.load_folder(folder).items()}
    if weights:
        weights(tensors)
    save(os.path.join(to, "model.safetensors"), tensors)
    path = os.path.join(to, "config.json")
    values = json.load(open(path))
    if config:
        config(values)
    json.dump(values, open(path, "w"))
    return to


class Checks:
    """Runs `tenon verify` and holds its answer against what must come out."""

    def __init__(self, tenon):
        self.tenon, self.failed, self.n = tenon, 0, 0

    def run(self, *args):
        r = subprocess.run([self.tenon, *map(str, args)], capture_output=True, text=True)
        if r.returncode:
            sys.exit(f"tenon {' '.join(map(str, args))}: {r.stderr.strip()}")

    def verify(self, a, b, *options):
        r = subprocess.run([self.tenon, "verify", str(a), str(b), "--json", *options], capture_output=True, text=True)
        try:
            return r.returncode, json.loads(r.stdout), r.stderr
        except json.JSONDecodeError:
            return r.returncode, {}, r.stderr

    def line(self, what, ok, text):
        self.n += 1
        self.failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {what:44} {text}", flush=True)

    def differs(self, what, a, b, node, weight=None, other=None, options=()):
        """The first value to blame is made by an op of this name, reading this weight; `other`: what the second side
        calls it."""
        rc, said, err = self.verify(a, b, *options)
        first, reads = said.get("first_difference") or "", said.get("first_difference_weight") or ""
        second = said.get("first_difference_b") or ""
        ok = rc == 1 and said.get("ok") is False and f"{node}" in first
        ok = ok and (weight is None or reads == weight) and (other is None or other in second)
        self.line(what, ok, f"{first} reads {reads or '-'}{'; ' + second if second else ''}{err.strip()}"
                  + ("" if ok else f"   expected {node}, {weight}, {other}"))

    def equal(self, what, a, b, *options):
        rc, said, err = self.verify(a, b, *options)
        ok = rc == 0 and said.get("ok") is True and len(said["values"]) > 0 and not said.get("first_difference")
        self.line(what, ok, f"{len(said.get('values', []))} values{err.strip()}")

    def end(self, least):
        print(f"{self.n - self.failed} of {self.n}")
        return self.failed > 0 or self.n < least
