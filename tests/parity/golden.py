"""Reading safetensors with numpy alone, comparing, and calling tenon: what the runners of tests/ share."""
import json
import os
import sys
import subprocess

try:
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: numpy is not there") or 77)

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


def load(path):
    with open(path, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(n))
        data = f.read()
    header.pop("__metadata__", None)
    return {k: np.frombuffer(data[v["data_offsets"][0]:v["data_offsets"][1]], DTYPES[v["dtype"]]).reshape(v["shape"])
            for k, v in header.items()}


def load_folder(folder):
    """All tensors of a folder, whether in one file or several."""
    out = {}
    for f in sorted(os.listdir(folder)):
        if f.startswith("model") and f.endswith(".safetensors"):
            out.update(load(os.path.join(folder, f)))
    return out


class Difference:
    """How far x is from the expected r: the whole-model row of the parity table in float32.

    ratio = max |x - r| / (atol + rtol |r|) with atol 1e-4 x max(1, rms(r)) and rtol 1e-3; NMSE at most 1e-9 on the
    same scale (a constant output has no energy of its own to compare with). With `nmse` given, that alone is the limit,
    and outputs smaller than a half are measured against a half."""

    def __init__(self, x, r, nmse=None):
        x, r = np.asarray(x, np.float64), np.asarray(r, np.float64)
        rms = float(np.sqrt(np.mean(r * r))) if r.size else 0.0
        finite = np.isfinite(x) == np.isfinite(r)
        d = np.where(np.isfinite(x) & np.isfinite(r), x - r, 0.0)
        self.abs = float(np.max(np.abs(d), initial=0.0))
        self.ratio = float(np.max(np.abs(d) / (1e-4 * max(1.0, rms) + 1e-3 * np.abs(np.where(np.isfinite(r), r, 0.0))),
                                  initial=0.0))
        least = 1e-12 if nmse is None else 0.25
        self.nmse = float(np.sum(d * d) / max(np.sum(r * r), r.size * least, 1e-300))
        close = self.ratio <= 1.0 and self.nmse <= 1e-9 if nmse is None else self.nmse <= nmse
        self.ok = bool(finite.all()) and close


def argmax_differs(x, r, err):
    """Positions whose largest value is another one, although the expected two largest are further apart than 10 x err."""
    top = np.sort(r, axis=-1)
    sure = top[..., -1] - top[..., -2] >= 10 * err
    return int(np.sum(sure & (np.argmax(x, -1) != np.argmax(r, -1))))


def run(tenon, args, timeout=600):
    env = dict(os.environ, NO_COLOR="1")
    p = subprocess.run([tenon, *args], capture_output=True, text=True, timeout=timeout, env=env, errors="replace")
    return p.returncode, p.stdout, p.stderr
