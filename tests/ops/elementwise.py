"""Cases of the elementwise ops: unary, cast, binary, compare, select."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F

from goldens import (
    EDGES,
    FLOATS,
    INTS,
    PLAIN,
    SUB_BYTE,
    Tensor,
    f64,
    normal,
    rng,
    tensor,
    to_type,
    torch64,
    ulps,
)


def unary(c):
    t = torch
    exact = {
        "neg": np.negative,
        "abs": np.abs,
        "sign": np.sign,
        "floor": np.floor,
        "ceil": np.ceil,
        "round": np.rint,
        "sqrt": np.sqrt,
        "relu": lambda x: np.where(np.isnan(x), x, np.maximum(x, 0)),
    }
    near = {
        "exp": np.exp,
        "log": np.log,
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "tanh": np.tanh,
        "sigmoid": lambda x: t.sigmoid(t.from_numpy(x)).numpy(),
        "erf": lambda x: t.erf(t.from_numpy(x)).numpy(),
        "silu": lambda x: F.silu(t.from_numpy(x)).numpy(),
        "gelu": lambda x: F.gelu(t.from_numpy(x)).numpy(),
    }
    for (op, f), dtype in itertools.product((exact | near).items(), ("f32", "f64", "f16", "bf16")):
        if dtype == "f64" and op in exact:
            continue
        x = tensor(dtype, np.concatenate([EDGES, normal(15, scale=3)]))
        c.add(
            f"{op}_{dtype}",
            f"{op} %a",
            [x],
            [tensor(dtype, f(f64(x)))],
            None if op in exact else ulps(dtype, 2),
        )
    for op, f in (("sin", np.sin), ("cos", np.cos)):
        for dtype in ("f32", "f16", "f64"):
            x = tensor(
                dtype,
                [0, 1, -1, 3.14159265, 100, 4095, 32767, 131071 % 65000, np.inf, np.nan, *normal(9, scale=9)],
            )
            c.add(f"{op}_{dtype}", f"{op} %a", [x], [tensor(dtype, f(f64(x)))], ulps(dtype, 2))
    for form, f in (
        ("tanh", lambda x: F.gelu(x, approximate="tanh")),
        ("quick", lambda x: x * t.sigmoid(1.702 * x)),
    ):
        x = tensor("f32", np.concatenate([EDGES, normal(20, scale=2)]))
        want = f(torch64(x)).numpy()
        c.add(f"gelu_{form}", f'gelu %a {{form = "{form}"}}', [x], [tensor("f32", want)], ulps("f32", 2))
    for dtype in ("f8e4m3", "f8e5m2"):
        x = tensor(dtype, normal(5, 3, scale=20))
        c.add(f"exp_{dtype}", "exp %a", [x], [tensor(dtype, np.exp(f64(x)))])
        c.add(f"neg_{dtype}", "neg %a", [x], [tensor(dtype, -f64(x))])
    for dtype in INTS:
        info = np.iinfo(PLAIN[dtype])
        x = np.array([info.min, info.max, 0, 1, 2, 3, info.max // 2, info.max - 1], PLAIN[dtype])
        one = Tensor(dtype, x)
        c.add(f"neg_{dtype}", "neg %a", [one], [Tensor(dtype, np.negative(x))])
        c.add(f"abs_{dtype}", "abs %a", [one], [Tensor(dtype, np.abs(x))])
        c.add(f"sign_{dtype}", "sign %a", [one], [Tensor(dtype, np.sign(x))])
        c.add(f"relu_{dtype}", "relu %a", [one], [Tensor(dtype, np.maximum(x, PLAIN[dtype](0)))])
        c.add(f"not_{dtype}", "not %a", [one], [Tensor(dtype, ~x)])
    b = np.array([True, False, True])
    c.add("not_bool", "not %a", [Tensor("bool", b)], [Tensor("bool", ~b)])
    c.add("exp_scalar", "exp %a", [tensor("f32", 1.25)], [tensor("f32", np.exp(1.25))], ulps("f32"))
    c.add("exp_empty", "exp %a", [tensor("f32", np.zeros((2, 0, 3)))], [tensor("f32", np.zeros((2, 0, 3)))])


def cast(c):
    special = [
        0,
        -0.0,
        0.49,
        0.5,
        -0.5,
        1.5,
        2.5,
        -1.5,
        127,
        128,
        -128,
        -129,
        255.9,
        256,
        65504,
        65519.99,
        65520,
        7e4,
        448,
        460,
        464,
        465,
        1e9,
        2147483647,
        2147483648,
        -2147483648,
        4294967296,
        9.3e18,
        -9.3e18,
        1.9e19,
        1e-7,
        5.9e-8,
        1e-45,
        1e300,
        np.inf,
        -np.inf,
        np.nan,
        1 + 2**-8 + 2**-40,
        1 + 2**-11 + 2**-40,
        1 + 3 * 2**-9 - 2**-40,
        1 + 2**-4 + 2**-40,
    ]
    for to in (*FLOATS, *INTS, "bool", *SUB_BYTE):
        x = tensor("f64", special)
        want = (
            to_type(np.nan_to_num(np.trunc(x.values), nan=0, posinf=99, neginf=-99), to)
            if to in SUB_BYTE
            else to_type(x.values, to)
        )
        c.add(f"cast_f64_{to}", f"cast %a {{to = {to}}}", [x], [Tensor(to, want)])
    for src, to in itertools.product(
        ("f32", "f16", "bf16", "f8e4m3", "f8e5m2"), ("f64", "f32", "f16", "bf16", "i32", "u8", "bool")
    ):
        x = tensor(src, np.concatenate([EDGES, normal(10, scale=100)]))
        c.add(f"cast_{src}_{to}", f"cast %a {{to = {to}}}", [x], [Tensor(to, to_type(f64(x), to))])
    for src, to in itertools.product(INTS, (*INTS, "f32", "f64", "f16", "bool")):
        info = np.iinfo(PLAIN[src])
        x = np.array([info.min, info.max, 0, 1, 77, info.max // 3], PLAIN[src])
        want = x != 0 if to == "bool" else x.astype(PLAIN[to])
        c.add(f"cast_{src}_{to}", f"cast %a {{to = {to}}}", [Tensor(src, x)], [Tensor(to, want)])
    for sub, (_, low, high) in SUB_BYTE.items():
        x = np.arange(low, high + 1, dtype=np.int8)
        c.add(
            f"cast_{sub}_f32", "cast %a {to = f32}", [Tensor(sub, x)], [Tensor("f32", x.astype(np.float32))]
        )
    b = np.array([True, False])
    c.add("cast_bool_f16", "cast %a {to = f16}", [Tensor("bool", b)], [Tensor("f16", b.astype(np.float16))])
    x = normal(7).astype(np.float32)
    c.add("bitcast_f32_i32", "bitcast %a {to = i32}", [Tensor("f32", x)], [Tensor("i32", x.view(np.int32))])
    y = np.arange(250, 256, dtype=np.uint8)
    c.add("bitcast_u8_i8", "bitcast %a {to = i8}", [Tensor("u8", y)], [Tensor("i8", y.view(np.int8))])


def python_mod(a, b):
    """Python's remainder; by zero 0."""
    return np.where(b == 0, 0, np.mod(a, np.where(b == 0, 1, b)))


def trunc_div(a, b):
    """C's integer division, wrapping; by zero 0."""
    out = [
        0 if y == 0 else abs(int(x)) // abs(int(y)) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(a, b)
    ]
    bits = a.dtype.itemsize * 8
    return np.array([v % 2**bits for v in out], np.uint64).astype(a.dtype)


def binary(c):
    fs = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "min": np.minimum,
        "max": np.maximum,
        "pow": np.power,
    }
    for (op, f), dtype in itertools.product(fs.items(), ("f32", "f64", "f16", "bf16", "f8e4m3")):
        if dtype == "f64" and op not in ("add", "pow"):
            continue
        a = tensor(dtype, np.concatenate([EDGES, normal(8, scale=3)]).reshape(6, 5))
        b = tensor(dtype, np.concatenate([normal(2, scale=3), [0.0, np.nan, np.inf]]))
        want = tensor(dtype, f(f64(a), f64(b)))
        c.add(f"{op}_{dtype}", f"{op} %a, %b", [a, b], [want], ulps(dtype) if op == "pow" else None)
    for dtype in ("f32", "f64", "f16"):
        a = tensor(dtype, [7, -7, 7, -7, 0.5, -0.25, 6, -6, 1e20, np.inf, np.nan, -1, 5, -0.0, 3])
        b = tensor(dtype, [3, 3, -3, -3, 0.2, 0.2, 3, 3, 7, 2, 2, np.inf, 0, 2, np.nan])
        want = np.where(f64(b) == 0, 0, np.mod(f64(a), f64(b)))
        c.add(f"mod_{dtype}", "mod %a, %b", [a, b], [tensor(dtype, want)], ulps(dtype))
    for dtype in INTS:
        info = np.iinfo(PLAIN[dtype])
        a = np.array([info.min, info.min, info.max, info.max, 7, 7, 0, 100, info.max - 6], PLAIN[dtype])
        b = np.array([2, -1 if info.min else 1, 3, info.max, 3, 0, 5, 9, info.max - 7], PLAIN[dtype])
        if info.min:
            a, b = np.append(a, np.array([-7, 7, -7], a.dtype)), np.append(b, np.array([3, -3, -3], b.dtype))
        ab = [Tensor(dtype, a), Tensor(dtype, b)]
        for op, f in (
            ("add", np.add),
            ("sub", np.subtract),
            ("mul", np.multiply),
            ("min", np.minimum),
            ("max", np.maximum),
            ("div", trunc_div),
            ("mod", python_mod),
            ("and", np.bitwise_and),
            ("or", np.bitwise_or),
            ("xor", np.bitwise_xor),
        ):
            c.add(f"{op}_{dtype}", f"{op} %a, %b", ab, [Tensor(dtype, f(a, b).astype(a.dtype))])
        p = np.array([0, 1, 2, 3, 4, 7, 9, 1, 0], PLAIN[dtype])
        e = np.array([0, 0, 3, 5, 2, 20, 1, 100, 3], PLAIN[dtype])
        want = [pow(int(x), int(y), 2 ** (a.dtype.itemsize * 8)) for x, y in zip(p, e)]
        want = np.array(want, np.uint64).astype(a.dtype)
        c.add(f"pow_{dtype}", "pow %a, %b", [Tensor(dtype, p), Tensor(dtype, e)], [Tensor(dtype, want)])
    x, y = np.array([[True], [False]]), np.array([True, False])
    for op, f in (("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)):
        c.add(f"{op}_bool", f"{op} %a, %b", [Tensor("bool", x), Tensor("bool", y)], [Tensor("bool", f(x, y))])
    p = [Tensor("i32", np.array(v, np.int32)) for v in ([2, 1, -1, -1, 0], [-1, -3, -3, -4, -2])]
    c.add("pow_negative", "pow %a, %b", p, [Tensor("i32", np.array([0, 1, -1, 1, 0], np.int32))])


def compare(c):
    fs = {
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    }
    for cmp, f in fs.items():
        for dtype in ("f32", "bf16", "i32", "u64", "u8", "bool"):
            if dtype in FLOATS:
                a = tensor(dtype, [1, 2, np.nan, 0.0, np.inf, -1, np.nan])
                b = tensor(dtype, [1, 1, 1, -0.0, np.inf, 2, np.nan])
            else:
                top = 1 if dtype == "bool" else np.iinfo(PLAIN[dtype]).max
                a = Tensor(dtype, np.array([0, 1, 0, top, top], PLAIN[dtype]))
                b = Tensor(dtype, np.array([0, 0, 1, top, 1], PLAIN[dtype]))
            c.add(
                f"compare_{cmp}_{dtype}",
                f'compare %a, %b {{cmp = "{cmp}"}}',
                [a, b],
                [Tensor("bool", f(a.values, b.values))],
            )
    cond = rng.random((3, 1, 5)) < 0.5
    for dtype in ("f32", "f16", "i64", "u8", "bool"):
        a, b = tensor(dtype, normal(4, 5, scale=50)), tensor(dtype, normal(1, 5, scale=50))
        want = np.where(cond, a.values, b.values)
        c.add(f"select_{dtype}", "select %a, %b, %c", [Tensor("bool", cond), a, b], [Tensor(dtype, want)])


def broadcasting(c):
    for i, (s1, s2) in enumerate(
        [
            ((2, 3, 4), (4,)),
            ((2, 1, 4), (3, 1)),
            ((), (2, 3)),
            ((1,), (5,)),
            ((2, 0, 3), (1, 3)),
            ((1, 1, 1), (2, 3)),
            ((300,), (2, 1)),
            ((2, 3, 2, 2, 1, 2), (3, 1, 2, 3, 1)),
        ]
    ):
        a, b = tensor("f32", normal(*s1)), tensor("f32", normal(*s2))
        c.add(f"add_broadcast{i}", "add %a, %b", [a, b], [tensor("f32", f64(a) + f64(b))])
    a, b = tensor("f32", normal(2, 5, 4), "B, S, 4"), tensor("f32", normal(5, 1), "S, 1")
    c.add(
        "mul_symbolic",
        "mul %a, %b",
        [a, b],
        [tensor("f32", f64(a) * f64(b), "B, S, 4")],
        dims={"B": 2, "S": 5},
    )
