"""Cases of what ONNX models bring: more elementary functions, shifts, remainders, index ops, and narrow types."""

import itertools

import ml_dtypes
import numpy as np
import onnx.numpy_helper

from goldens import EDGES, INTS, PLAIN, Tensor, f64, normal, tensor, ulps

NARROW = {
    "f8e4m3": ml_dtypes.float8_e4m3fn,
    "f8e5m2": ml_dtypes.float8_e5m2,
    "f8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "f8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}


def functions(c):
    fs = {
        "tan": np.tan,
        "asin": np.arcsin,
        "acos": np.arccos,
        "atan": np.arctan,
        "sinh": np.sinh,
        "cosh": np.cosh,
        "asinh": np.arcsinh,
        "acosh": np.arccosh,
        "atanh": np.arctanh,
        "expm1": np.expm1,
        "log1p": np.log1p,
    }
    for (op, f), dtype in itertools.product(fs.items(), ("f32", "f64", "f16", "bf16")):
        x = tensor(dtype, np.concatenate([EDGES, np.linspace(-1, 1, 9), normal(15, scale=3)]))
        c.add(f"{op}_{dtype}", f"{op} %a", [x], [tensor(dtype, f(f64(x)))], ulps(dtype, 2))


def bits(c):
    for dtype in INTS:
        info = np.iinfo(PLAIN[dtype])
        width = info.bits
        a = np.array([info.min, info.max, 1, 77, info.max // 3, 5], PLAIN[dtype])
        for n in (0, 1, width // 2, width - 1, width, 100):
            b = np.full(a.shape, n, PLAIN[dtype])
            bare = [int(v) % 2**width for v in a]
            up = np.array([v * 2**n % 2**width for v in bare], np.uint64).astype(a.dtype)
            down = np.array([v >> n for v in bare], np.uint64).astype(a.dtype)
            ab = [Tensor(dtype, a), Tensor(dtype, b)]
            c.add(f"shl_{dtype}_{n}", "shl %a, %b", ab, [Tensor(dtype, up)])
            c.add(f"shr_{dtype}_{n}", "shr %a, %b", ab, [Tensor(dtype, down)])
        b = np.array([3, 7, 5, 10, 9, 2], PLAIN[dtype])
        c.add(
            f"fmod_{dtype}",
            "fmod %a, %b",
            [Tensor(dtype, a), Tensor(dtype, b)],
            [Tensor(dtype, np.fmod(a, b))],
        )
    for dtype in ("f32", "f64", "f16"):
        a = tensor(dtype, [7, -7, 7, -7, 0.5, -0.25, 6, -6, np.inf, np.nan, -1, 5, -0.0, 3, 1000.5])
        b = tensor(dtype, [3, 3, -3, -3, 0.2, 0.2, 3, 3, 2, 2, np.inf, 0, 2, np.nan, 0.1])
        c.add(f"fmod_{dtype}", "fmod %a, %b", [a, b], [tensor(dtype, np.fmod(f64(a), f64(b)))], ulps(dtype))
    for dtype in ("f32", "f16", "i32", "u8"):
        x = tensor(dtype, np.abs(normal(3, 5, scale=4)))
        for exclusive, reverse in itertools.product((False, True), (False, True)):
            v = x.values.astype(np.int64 if dtype in INTS else np.float64)
            v = v[::-1] if reverse else v
            w = np.cumprod(v, 0)
            w = np.concatenate([np.ones_like(w[:1]), w[:-1]]) if exclusive else w
            w = w[::-1] if reverse else w
            want = Tensor(dtype, w.astype(PLAIN[dtype])) if dtype in INTS else tensor(dtype, w)
            flags = f"exclusive = {str(exclusive).lower()}, reverse = {str(reverse).lower()}"
            c.add(
                f"cumprod_{dtype}_{exclusive:d}{reverse:d}",
                f"cumprod %a {{axis = 0, {flags}}}",
                [x],
                [want],
                ulps(dtype, 2),
            )


def indices(c):
    ties = np.array([[3, 1, 3, 2, 1], [0, 0, 5, 5, -7]])
    nans = np.array([[1, np.nan, 3, np.inf], [np.nan, np.nan, -np.inf, 0]])
    for name, v, dtype in (
        ("ties", ties, "f32"),
        ("nan", nans, "f32"),
        ("ties", ties, "i8"),
        ("plain", normal(3, 7), "f64"),
    ):
        x = tensor(dtype, v)
        n = v.shape[1] - 1
        for op, f in (("argmax", np.argmax), ("argmin", np.argmin)):
            c.add(f"{op}_{name}_{dtype}", f"{op} %a", [x], [Tensor("i64", f(x.values, -1))])
            last = n - f(x.values[:, ::-1], -1)
            c.add(f"{op}_{name}_{dtype}_last", f"{op} %a {{last}}", [x], [Tensor("i64", last)])


def coded(dtype, codes):
    """A tensor given by the codes of its elements."""
    return Tensor(dtype, codes.view(PLAIN[dtype]) if dtype in PLAIN else codes, shape=codes.shape)


SPECIAL = [
    0,
    -0.0,
    1,
    -1,
    0.3,
    5.9,
    6,
    7,
    239,
    240,
    241,
    247,
    248,
    249,
    447,
    448,
    463,
    464,
    465,
    57344,
    61439,
    61440,
]
SPECIAL += [
    1e9,
    -1e9,
    1e-3,
    2**-9,
    2**-10,
    2**-11,
    2**-16,
    2**-17,
    1.5 * 2**-17,
    1e-9,
    np.inf,
    -np.inf,
    np.nan,
]


def narrow(c):
    values = np.array([*SPECIAL, *normal(20, scale=50), *normal(20, scale=0.01)], np.float32)
    x = Tensor("f32", values)
    codes = np.arange(256, dtype=np.uint8)
    for name, t in NARROW.items():
        many = coded(name, codes)
        c.add(
            f"{name}_to_f32", "cast %a {to = f32}", [many], [Tensor("f32", codes.view(t).astype(np.float32))]
        )
        largest = onnx.numpy_helper.saturate_cast(values, np.dtype(t)).view(np.uint8)
        special = values.astype(t).view(np.uint8)
        for how, want in (("largest", largest), ("special", special)):
            # A NaN's sign is not told.
            keep = ~np.isnan(values)
            part = Tensor("f32", values[keep])
            want = coded(name, want[keep])
            c.add(f"f32_to_{name}_{how}", f'cast %a {{to = {name}, overflow = "{how}"}}', [part], [want])
    many = coded("f8e8m0", codes)
    want = codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    c.add("f8e8m0_to_f32", "cast %a {to = f32}", [many], [Tensor("f32", want)])
    size = np.array([*SPECIAL, 1.4, 1.5, 1.6, 3e38, 2.5e38, 1e-38, 6e-39, 3e-39], np.float32)
    for how, saturate in itertools.product(("nearest", "up", "down"), (False, True)):
        want = onnx.numpy_helper.to_float8e8m0(size, saturate, how).view(np.uint8)
        c.add(
            f"f32_to_f8e8m0_{how}_{saturate:d}",
            f'cast %a {{to = f8e8m0, round = "{how}", overflow = "{"largest" if saturate else "special"}"}}',
            [Tensor("f32", size)],
            [coded("f8e8m0", want)],
        )
    nibbles = np.arange(16, dtype=np.uint8)
    both = Tensor("f4e2m1", nibbles[::2] | nibbles[1::2] << 4, shape=[16])
    c.add(
        "f4e2m1_to_f32",
        "cast %a {to = f32}",
        [both],
        [Tensor("f32", nibbles.view(ml_dtypes.float4_e2m1fn).astype(np.float32))],
    )
    code = values.astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    code = np.append(code, np.zeros(len(code) % 2, np.uint8))
    c.add(
        "f32_to_f4e2m1",
        "cast %a {to = f4e2m1}",
        [x],
        [Tensor("f4e2m1", code[::2] | code[1::2] << 4, shape=values.shape)],
    )
