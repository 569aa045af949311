"""Cases for the reference kernels: how one is written down, and correct rounding to every element type.

A case file is text. Per case:
    case NAME
    tol ATOL RTOL                 (0 0: equal values; NaN equals NaN)
    dim NAME VALUE                (any number)
    ir                            (the module: one function; lines up to "end")
    in TYPE HEX                   (arguments in order, then states; little-endian bytes; "-" for none)
    out TYPE HEX                  (results in order; TYPE with the sizes the dims give)
"""

import numpy as np
import torch
import ml_dtypes

PLAIN = {
    "f64": np.float64,
    "f32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f8e4m3": ml_dtypes.float8_e4m3fn,
    "f8e5m2": ml_dtypes.float8_e5m2,
    "i64": np.int64,
    "i32": np.int32,
    "i16": np.int16,
    "i8": np.int8,
    "u64": np.uint64,
    "u32": np.uint32,
    "u16": np.uint16,
    "u8": np.uint8,
    "bool": np.bool_,
}
SUB_BYTE = {"i4": (4, -8, 7), "u4": (4, 0, 15), "i2": (2, -2, 1), "u2": (2, 0, 3)}
FLOATS = ("f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2")
# One unit in the last place, relative.
ULP = {
    "f64": 2.0**-52,
    "f32": 2.0**-23,
    "f16": 2.0**-10,
    "bf16": 2.0**-7,
    "f8e4m3": 2.0**-3,
    "f8e5m2": 2.0**-2,
}


def _finite_table(dtype):
    """All finite non-negative values of a narrow float, by code."""
    bits = np.dtype(PLAIN[dtype]).itemsize * 8
    codes = np.arange(2 ** (bits - 1), dtype=np.uint16 if bits == 16 else np.uint8)
    with np.errstate(invalid="ignore"):
        values = codes.view(PLAIN[dtype]).astype(np.float64)
    return values[np.isfinite(values)]


def rounded(values, dtype):
    """float64 to dtype, to nearest, ties to even; looks neighbours up, so that nothing is rounded twice."""
    values = np.asarray(values, np.float64)
    if dtype in ("f64", "f32"):
        with np.errstate(over="ignore"):
            return values.astype(PLAIN[dtype])
    table = _finite_table(dtype)
    a = np.abs(values)
    high = np.clip(np.searchsorted(table, a), 1, len(table) - 1)
    low = high - 1
    middle = (table[low] + table[high]) / 2
    code = np.where(a > middle, high, np.where(a < middle, low, np.where(low % 2 == 0, low, high)))
    limit = table[-1] + (table[-1] - table[-2]) / 2
    result = table[code]
    if dtype == "f8e4m3":
        result = np.where(a > table[-1], table[-1], result)  # saturates
    else:
        result = np.where(a >= limit, np.inf, result)
    return np.where(np.isnan(values), np.nan, np.copysign(result, values)).astype(PLAIN[dtype])


def to_type(values, dtype):
    """Converts as the op `cast` does: to floats to nearest, to integers towards zero and saturating."""
    values = np.asarray(values)
    if dtype in FLOATS:
        return rounded(values.astype(np.float64), dtype)
    if dtype == "bool":
        return values != 0
    if dtype in SUB_BYTE:
        _, low, high = SUB_BYTE[dtype]
        return np.clip(values, low, high).astype(np.int8)
    if values.dtype.kind != "f":
        return values.astype(PLAIN[dtype])
    info = np.iinfo(PLAIN[dtype])
    exact = [
        0 if v != v else info.max if v >= float(info.max) else info.min if v <= float(info.min) else int(v)
        for v in values.astype(np.float64).ravel()
    ]
    return np.array(exact, dtype=PLAIN[dtype]).reshape(values.shape)


def packed(values, dtype):
    """The bytes of a tensor; sub-byte types low bits first."""
    if dtype in PLAIN:
        return np.ascontiguousarray(values).astype(PLAIN[dtype]).tobytes()
    if dtype not in SUB_BYTE:
        return np.ascontiguousarray(values, dtype=np.uint8).tobytes()  # blocks come as bytes
    bits = SUB_BYTE[dtype][0]
    flat = np.asarray(values).ravel().astype(np.int64) & (2**bits - 1)
    out = bytearray((len(flat) * bits + 7) // 8)
    for i, v in enumerate(flat):
        out[i * bits // 8] |= int(v) << (i * bits % 8)
    return bytes(out)


class Tensor:
    """A value of a type; `text` is the type with symbolic sizes, `shape` that of block formats."""

    def __init__(self, dtype, values, text=None, shape=None):
        self.dtype = dtype
        self.values = values
        self.shape = tuple(shape if shape is not None else np.shape(values))
        self.text = f"{dtype}[{text}]" if text is not None else self.sized()

    def sized(self):
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    def hex(self):
        return packed(self.values, self.dtype).hex() or "-"


class Cases:
    """Collects the cases of one file."""

    def __init__(self):
        self.text = []
        self.names = set()

    def add(self, name, op, ins, outs, tol=None, dims=None, states=()):
        """op: text after the `=`, naming operands %a, %b, ... in the order of ins and @s0, ... for states."""
        assert name not in self.names, name
        self.names.add(name)
        args = ", ".join(f"%{chr(97 + i)}: {t.text}" for i, t in enumerate(ins))
        results = ", ".join(f"%r{i}" for i in range(len(outs)))
        types = ", ".join(t.text for t in outs)
        named = ", ".join(f"r{i}: {t.text}" for i, t in enumerate(outs))
        head = "module @case {\n" + (f"  dims {', '.join(dims)}\n" if dims else "")
        head += "".join(f"  state @s{i} : {t.text}\n" for i, t in enumerate(states))
        body = f"  func @f({args}) -> {f'({named})' if len(outs) > 1 else types} {{\n"
        body += f"    {results} = {op} : {types}\n    return {results}\n  }}\n}}"
        atol, rtol = tol or (0, 0)
        lines = [f"case {name}", f"tol {atol:g} {rtol:g}"]
        lines += [f"dim {k} {v}" for k, v in (dims or {}).items()]
        lines += ["ir", head + body, "end"]
        lines += [f"in {t.sized()} {t.hex()}" for t in (*ins, *states)]
        lines += [f"out {t.sized()} {t.hex()}" for t in outs]
        self.text.append("\n".join(lines) + "\n")

    def write(self, path):
        with open(path, "w", newline="\n") as f:
            f.write("\n".join(self.text))


def tensor(dtype, values, text=None):
    return Tensor(dtype, to_type(values, dtype), text)


def ulps(dtype, n=1.0):
    """Tolerance of n units in the last place around 1; more for float64, which is summed in another order."""
    n = n * 8 if dtype == "f64" else n
    return (
        (ULP[dtype] * n * 2.0 ** (0 if dtype == "f64" else -10), ULP[dtype] * n) if dtype in ULP else (0, 0)
    )


EDGES = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.5, 1.0, -1.0, 1e-3, 1e-40, -1e-40, 20.0, -20.0, 88.0]
EDGES += [-88.0, 1e30, -1e30, np.inf, -np.inf, np.nan]
INTS = ("i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8")
rng = np.random.default_rng(20261101)
np.seterr(all="ignore")


def normal(*shape, scale=1.0):
    return rng.normal(size=shape) * scale


def f64(t):
    """A tensor's values, as stored, in float64."""
    return np.asarray(t.values).astype(np.float64)


def torch64(t):
    return torch.from_numpy(f64(t).copy())
