"""Writes tests/ops/*.cases: inputs and expected outputs for every op of ir/ops.def, from NumPy in float64, from
PyTorch where NumPy has no such function, and from the gguf package for block formats. Run it in this folder."""
import itertools

import gguf
import numpy as np
import torch
import torch.nn.functional as F

from goldens import FLOATS, PLAIN, SUB_BYTE, Cases, Tensor, rounded, tensor, to_type, ulps

rng = np.random.default_rng(20261101)
np.seterr(all="ignore")
EDGES = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.5, 1.0, -1.0, 1e-3, 1e-40, -1e-40, 20.0, -20.0, 88.0, -88.0, 1e30,
         -1e30, np.inf, -np.inf, np.nan]
INTS = ("i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8")


def normal(*shape, scale=1.0):
    return rng.normal(size=shape) * scale


def f64(t):
    """A tensor's values, as stored, in float64."""
    return np.asarray(t.values).astype(np.float64)


def torch64(t):
    return torch.from_numpy(f64(t).copy())


# ---- elementwise -----------------------------------------------------------------------------------------------------
def unary(c):
    t = torch
    exact = {"neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil,
             "round": np.rint, "sqrt": np.sqrt, "relu": lambda x: np.where(np.isnan(x), x, np.maximum(x, 0))}
    near = {"exp": np.exp, "log": np.log, "rsqrt": lambda x: 1 / np.sqrt(x), "tanh": np.tanh,
            "sigmoid": lambda x: t.sigmoid(t.from_numpy(x)).numpy(), "erf": lambda x: t.erf(t.from_numpy(x)).numpy(),
            "silu": lambda x: F.silu(t.from_numpy(x)).numpy(),
            "gelu": lambda x: F.gelu(t.from_numpy(x)).numpy()}
    for (op, f), dtype in itertools.product((exact | near).items(), ("f32", "f64", "f16", "bf16")):
        if dtype == "f64" and op in exact:
            continue
        x = tensor(dtype, np.concatenate([EDGES, normal(15, scale=3)]))
        c.add(f"{op}_{dtype}", f"{op} %a", [x], [tensor(dtype, f(f64(x)))], None if op in exact else ulps(dtype, 2))
    for op, f in (("sin", np.sin), ("cos", np.cos)):
        for dtype in ("f32", "f16", "f64"):
            x = tensor(dtype, [0, 1, -1, 3.14159265, 100, 4095, 32767, 131071 % 65000, np.inf, np.nan, *normal(9, scale=9)])
            c.add(f"{op}_{dtype}", f"{op} %a", [x], [tensor(dtype, f(f64(x)))], ulps(dtype, 2))
    for form, f in (("tanh", lambda x: F.gelu(x, approximate="tanh")), ("quick", lambda x: x * t.sigmoid(1.702 * x))):
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
    special = [0, -0.0, 0.49, 0.5, -0.5, 1.5, 2.5, -1.5, 127, 128, -128, -129, 255.9, 256, 65504, 65519.99, 65520, 7e4,
               448, 460, 464, 465, 1e9, 2147483647, 2147483648, -2147483648, 4294967296, 9.3e18, -9.3e18, 1.9e19, 1e-7,
               5.9e-8, 1e-45, 1e300, np.inf, -np.inf, np.nan,
               1 + 2**-8 + 2**-40, 1 + 2**-11 + 2**-40, 1 + 3 * 2**-9 - 2**-40, 1 + 2**-4 + 2**-40]
    for to in (*FLOATS, *INTS, "bool", *SUB_BYTE):
        x = tensor("f64", special)
        want = to_type(np.nan_to_num(np.trunc(x.values), nan=0, posinf=99, neginf=-99), to) if to in SUB_BYTE else to_type(x.values, to)
        c.add(f"cast_f64_{to}", f"cast %a {{to = {to}}}", [x], [Tensor(to, want)])
    for src, to in itertools.product(("f32", "f16", "bf16", "f8e4m3", "f8e5m2"), ("f64", "f32", "f16", "bf16", "i32", "u8", "bool")):
        x = tensor(src, np.concatenate([EDGES, normal(10, scale=100)]))
        c.add(f"cast_{src}_{to}", f"cast %a {{to = {to}}}", [x], [Tensor(to, to_type(f64(x), to))])
    for src, to in itertools.product(INTS, (*INTS, "f32", "f64", "f16", "bool")):
        info = np.iinfo(PLAIN[src])
        x = np.array([info.min, info.max, 0, 1, 77, info.max // 3], PLAIN[src])
        want = x != 0 if to == "bool" else x.astype(PLAIN[to])
        c.add(f"cast_{src}_{to}", f"cast %a {{to = {to}}}", [Tensor(src, x)], [Tensor(to, want)])
    for sub, (_, low, high) in SUB_BYTE.items():
        x = np.arange(low, high + 1, dtype=np.int8)
        c.add(f"cast_{sub}_f32", "cast %a {to = f32}", [Tensor(sub, x)], [Tensor("f32", x.astype(np.float32))])
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
    out = [0 if y == 0 else abs(int(x)) // abs(int(y)) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(a, b)]
    bits = a.dtype.itemsize * 8
    return np.array([v % 2**bits for v in out], np.uint64).astype(a.dtype)


def binary(c):
    fs = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
          "min": np.minimum, "max": np.maximum, "pow": np.power}
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
        for op, f in (("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("min", np.minimum),
                      ("max", np.maximum), ("div", trunc_div), ("mod", python_mod), ("and", np.bitwise_and),
                      ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
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
    fs = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
    for cmp, f in fs.items():
        for dtype in ("f32", "bf16", "i32", "u64", "u8", "bool"):
            if dtype in FLOATS:
                a = tensor(dtype, [1, 2, np.nan, 0.0, np.inf, -1, np.nan])
                b = tensor(dtype, [1, 1, 1, -0.0, np.inf, 2, np.nan])
            else:
                top = 1 if dtype == "bool" else np.iinfo(PLAIN[dtype]).max
                a = Tensor(dtype, np.array([0, 1, 0, top, top], PLAIN[dtype]))
                b = Tensor(dtype, np.array([0, 0, 1, top, 1], PLAIN[dtype]))
            c.add(f"compare_{cmp}_{dtype}", f'compare %a, %b {{cmp = "{cmp}"}}', [a, b], [Tensor("bool", f(a.values, b.values))])
    cond = rng.random((3, 1, 5)) < 0.5
    for dtype in ("f32", "f16", "i64", "u8", "bool"):
        a, b = tensor(dtype, normal(4, 5, scale=50)), tensor(dtype, normal(1, 5, scale=50))
        want = np.where(cond, a.values, b.values)
        c.add(f"select_{dtype}", "select %a, %b, %c", [Tensor("bool", cond), a, b], [Tensor(dtype, want)])


def broadcasting(c):
    for i, (s1, s2) in enumerate([((2, 3, 4), (4,)), ((2, 1, 4), (3, 1)), ((), (2, 3)), ((1,), (5,)), ((2, 0, 3), (1, 3)),
                                  ((1, 1, 1), (2, 3)), ((300,), (2, 1)), ((2, 3, 2, 2, 1, 2), (3, 1, 2, 3, 1))]):
        a, b = tensor("f32", normal(*s1)), tensor("f32", normal(*s2))
        c.add(f"add_broadcast{i}", "add %a, %b", [a, b], [tensor("f32", f64(a) + f64(b))])
    a, b = tensor("f32", normal(2, 5, 4), "B, S, 4"), tensor("f32", normal(5, 1), "S, 1")
    c.add("mul_symbolic", "mul %a, %b", [a, b], [tensor("f32", f64(a) * f64(b), "B, S, 4")], dims={"B": 2, "S": 5})


# ---- leaves and views ------------------------------------------------------------------------------------------------
def philox(counter, key):
    """Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011)."""
    m = 0xFFFFFFFF
    x, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(p1 >> 32) ^ x[1] ^ k[0], p1 & m, (p0 >> 32) ^ x[3] ^ k[1], p0 & m]
        k = [(k[0] + 0x9E3779B9) & m, (k[1] + 0xBB67AE85) & m]
    return x


# The published known-answer vectors of Random123.
assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
assert philox([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def leaves(c):
    for dtype in ("f32", "i32", "u8", "bool", "f16"):
        v = tensor(dtype, normal(2, 3, scale=30))
        words = ", ".join(str(x) for x in v.values.ravel().tolist()) if dtype in ("i32", "u8") else None
        if words:
            c.add(f"constant_{dtype}", f"constant {{value = [{words}]}}", [], [v])
    c.add("iota_axis1", "iota {shape = [2, 4], axis = 1, start = -3, dtype = i32}", [],
          [Tensor("i32", np.tile(np.arange(-3, 1, dtype=np.int32), (2, 1)))])
    c.add("iota_axis0", "iota {shape = [3, 2]}", [], [Tensor("i64", np.repeat(np.arange(3), 2).reshape(3, 2))])
    c.add("iota_float", "iota {shape = [5], start = 7, dtype = f32}", [], [tensor("f32", np.arange(7.0, 12))])
    c.add("iota_scalar", "iota {shape = [], start = P, dtype = i32}", [], [Tensor("i32", np.array(9, np.int32))], dims={"P": 9})
    c.add("iota_symbolic", "iota {shape = [S], start = P * 2 + 1, dtype = i64}", [],
          [Tensor("i64", np.arange(9, 12), "S")], dims={"S": 3, "P": 4})
    for seed in (0, 1, 2**40 + 5):
        words = [philox([i, 0, 0, 0], [seed & 0xFFFFFFFF, seed >> 32])[0] for i in range(14)]
        want = np.array([(w >> 8) * 2.0**-24 for w in words]).reshape(2, 7)
        c.add(f"random_uniform_{seed}", f"random_uniform {{shape = [2, 7], seed = {seed}}}", [], [tensor("f32", want)])
    for q, k, window in ((4, 4, 0), (3, 7, 0), (3, 7, 2), (1, 5, 0), (5, 3, 0), (4, 4, 1)):
        i, j = np.arange(q)[:, None], np.arange(k)
        want = (j <= i + k - q) & ((window == 0) | (i + k - q - j < window))
        c.add(f"causal_mask_{q}_{k}_{window}", f"causal_mask {{q = {q}, k = {k}, window = {window}}}", [], [Tensor("bool", want)])
    for heads in (1, 4, 8, 6, 12, 20):
        want = np.array(alibi_slopes(heads))[None, :, None, None] * np.arange(5.0)
        c.add(f"alibi_{heads}", f"alibi {{heads = {heads}, k = 5}}", [], [tensor("f32", want)], ulps("f32"))


def alibi_slopes(n):
    """The function of the paper's own repository (Press et al. 2021), as text of the method: powers of two get a
    geometric sequence; else the nearest power of two's, then every other one of twice that."""
    import math

    def power_of_two(n):
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    if math.log2(n).is_integer():
        return power_of_two(n)
    closest = 2 ** math.floor(math.log2(n))
    return power_of_two(closest) + alibi_slopes(2 * closest)[0::2][: n - closest]


def views(c):
    for dtype in ("f32", "f16", "i64", "u8", "bool", "u4"):
        x = tensor(dtype, np.abs(normal(2, 3, 4, scale=6)))
        v = x.values
        c.add(f"transpose_{dtype}", "transpose %a {perm = [2, 0, 1]}", [x], [Tensor(dtype, v.transpose(2, 0, 1))])
        c.add(f"transpose_rows_{dtype}", "transpose %a {perm = [1, 0, 2]}", [x], [Tensor(dtype, v.transpose(1, 0, 2))])
        c.add(f"reshape_{dtype}", "reshape %a {shape = [4, 6]}", [x], [Tensor(dtype, v.reshape(4, 6))])
        c.add(f"slice_{dtype}", "slice %a {axis = -1, start = 1, stop = 3}", [x], [Tensor(dtype, v[..., 1:3])])
        c.add(f"slice_step_{dtype}", "slice %a {axis = 2, start = 0, stop = 4, step = 3}", [x], [Tensor(dtype, v[..., 0:4:3])])
        c.add(f"slice_middle_{dtype}", "slice %a {axis = 1, start = 1, stop = 3}", [x], [Tensor(dtype, v[:, 1:3])])
        c.add(f"broadcast_{dtype}", "broadcast %a {shape = [2, 2, 3, 4]}", [x], [Tensor(dtype, np.broadcast_to(v, (2, 2, 3, 4)))])
        c.add(f"concat_{dtype}", "concat %a, %b, %a {axis = 1}", [x, Tensor(dtype, v[:, :1])],
              [Tensor(dtype, np.concatenate([v, v[:, :1], v], 1))])
        c.add(f"split_{dtype}", "split %a {axis = 1, sizes = [1, 2]}", [x], [Tensor(dtype, v[:, :1]), Tensor(dtype, v[:, 1:])])
        i = np.array([[0, 2, -1], [1, 3, -4]])
        rows = np.concatenate([v, np.zeros((2, 1, 4), v.dtype)], 1)
        want = rows[:, np.where((i >= 3) | (i < -3), 3, i % 3)]
        c.add(f"gather_{dtype}", "gather %a, %b {axis = 1}", [x, Tensor("i32", i.astype(np.int32))], [Tensor(dtype, want)])
    x = tensor("f32", normal(2, 3))
    c.add("transpose_identity", "transpose %a {perm = [0, 1]}", [x], [x])
    c.add("transpose_scalar", "transpose %a {perm = []}", [tensor("f32", 2.5)], [tensor("f32", 2.5)])
    c.add("broadcast_scalar", "broadcast %a {shape = [2, 2]}", [tensor("f32", 2.5)], [tensor("f32", np.full((2, 2), 2.5))])
    c.add("broadcast_ones", "broadcast %a {shape = [3, 2, 4]}", [tensor("f32", x.values[:, :1])],
          [Tensor("f32", np.broadcast_to(x.values[:, :1], (3, 2, 4)))])
    c.add("broadcast_empty", "broadcast %a {shape = [0, 2, 3]}", [x], [Tensor("f32", np.zeros((0, 2, 3), np.float32))])
    c.add("slice_all", "slice %a {axis = 0, start = 0, stop = 2}", [x], [x])
    c.add("slice_none", "slice %a {axis = 0, start = 1, stop = 1}", [x], [Tensor("f32", x.values[1:1])])
    y = tensor("f32", normal(2, 6), "B, S")
    c.add("slice_symbolic", "slice %a {axis = 1, start = S - 1, stop = S}", [y], [Tensor("f32", y.values[:, 5:], "B, 1")],
          dims={"B": 2, "S": 6})
    c.add("split_symbolic", "split %a {axis = 1, sizes = [1, S - 1]}", [y],
          [Tensor("f32", y.values[:, :1], "B, 1"), Tensor("f32", y.values[:, 1:], "B, S - 1")], dims={"B": 2, "S": 6})
    c.add("concat_one", "concat %a {axis = 0}", [x], [x])
    c.add("concat_empty", "concat %a, %b {axis = 0}", [Tensor("f32", x.values[:0]), x], [x])
    c.add("gather_scalar", "gather %a, %b {axis = 0}", [x, Tensor("i64", np.array(1))], [Tensor("f32", x.values[1])])
    c.add("gather_last", "gather %a, %b {axis = -1}", [x, Tensor("u8", np.array([2, 0], np.uint8))], [Tensor("f32", x.values[:, [2, 0]])])
    for dtype, value in (("f32", -1.5), ("f16", 0.0), ("i32", 7.0), ("bool", 1.0)):
        z = tensor(dtype, normal(2, 3, scale=9))
        want = np.pad(z.values, ((1, 0), (2, 1)), constant_values=to_type(np.float64(value), dtype))
        c.add(f"pad_{dtype}", f"pad %a {{low = [1, 2], high = [0, 1], value = {value}}}", [z], [Tensor(dtype, want)])
    c.add("pad_empty", "pad %a {low = [1], high = [1]}", [Tensor("f32", np.zeros(0, np.float32))], [tensor("f32", [0, 0])])


# ---- reductions ------------------------------------------------------------------------------------------------------
def reductions(c):
    fs = {"reduce_sum": np.sum, "reduce_mean": np.mean, "reduce_max": np.max, "reduce_min": np.min, "reduce_prod": np.prod}
    for (op, f), dtype in itertools.product(fs.items(), ("f32", "f16", "bf16", "f64")):
        x = tensor(dtype, normal(3, 5, 2))
        for axes, keep in (((1,), 0), ((0, 2), 1), ((-1,), 1), ((0, 1, 2), 0))[: 4 if dtype == "f32" else 2]:
            name = f"{op}_{dtype}_{''.join(map(str, axes)).replace('-', 'm')}"
            want = f(f64(x), axis=axes, keepdims=bool(keep))
            c.add(name, f"{op} %a {{axes = {list(axes)}, keep = {'true' if keep else 'false'}}}", [x], [tensor(dtype, want)], ulps(dtype))
    x = tensor("f32", [[1, np.nan, 2], [3, 4, 5], [np.inf, -np.inf, 1]])
    for op, f in fs.items():
        c.add(f"{op}_special", f"{op} %a {{axes = [1]}}", [x], [tensor("f32", f(f64(x), axis=1))], ulps("f32"))
        c.add(f"{op}_no_axes", f"{op} %a {{axes = []}}", [x], [x])
    empty = {"reduce_sum": 0, "reduce_mean": np.nan, "reduce_max": -np.inf, "reduce_min": np.inf, "reduce_prod": 1}
    for op, v in empty.items():
        c.add(f"{op}_empty", f"{op} %a {{axes = [1]}}", [tensor("f32", np.zeros((2, 0)))], [tensor("f32", [v, v])])
    for op, v in (("reduce_sum", 0), ("reduce_max", -128), ("reduce_min", 127), ("reduce_prod", 1)):
        c.add(f"{op}_empty_i8", f"{op} %a {{axes = [0]}}", [Tensor("i8", np.zeros(0, np.int8))], [Tensor("i8", np.array(v, np.int8))])
    for dtype in INTS:
        x = rng.integers(0, 100, (4, 3)).astype(PLAIN[dtype])
        x[0, 0] = np.iinfo(PLAIN[dtype]).max
        for op, f in (("reduce_sum", np.sum), ("reduce_max", np.max), ("reduce_min", np.min), ("reduce_prod", np.prod)):
            kw = {"dtype": x.dtype} if op in ("reduce_sum", "reduce_prod") else {}
            c.add(f"{op}_{dtype}", f"{op} %a {{axes = [0]}}", [Tensor(dtype, x)], [Tensor(dtype, f(x, axis=0, **kw))])
    m = np.array([[7, 8], [-7, -8]], np.int32)
    c.add("reduce_mean_i32", "reduce_mean %a {axes = [1]}", [Tensor("i32", m)], [Tensor("i32", np.array([7, -7], np.int32))])


def along_axis(c):
    ties = np.array([[3, 1, 3, 2, 1], [0.0, -0.0, 5, 5, -7]])
    nans = np.array([[1, np.nan, 3, np.inf], [np.nan, np.nan, -np.inf, 0]])
    for name, v in (("ties", ties), ("nan", nans), ("plain", normal(3, 7))):
        for dtype in ("f32", "f16"):
            x = tensor(dtype, v)
            # NumPy and torch agree: NaN is above every number, and the first of equals is taken.
            c.add(f"argmax_{name}_{dtype}", "argmax %a", [x], [Tensor("i64", np.argmax(f64(x), -1))])
            for down in (0, 1):
                s, i = torch.sort(torch64(x), dim=-1, stable=True, descending=bool(down))
                c.add(f"sort_{name}_{dtype}_{down}", f"sort %a {{descending = {'true' if down else 'false'}}}", [x],
                      [tensor(dtype, s.numpy()), Tensor("i64", i.numpy())])
            s, i = torch.sort(torch64(x), dim=-1, stable=True, descending=True)
            c.add(f"top_k_{name}_{dtype}", "top_k %a {k = 3}", [x], [tensor(dtype, s[:, :3].numpy()), Tensor("i64", i[:, :3].numpy())])
    x = tensor("f32", normal(3, 4, 2))
    c.add("argmax_axis", "argmax %a {axis = 1, keep = true}", [x], [Tensor("i64", np.argmax(x.values, 1, keepdims=True))])
    s, i = torch.sort(torch64(x), dim=1, stable=True)
    c.add("sort_axis", "sort %a {axis = 1}", [x], [tensor("f32", s.numpy()), Tensor("i64", i.numpy())])
    for dtype in ("i32", "u64", "i8"):
        info = np.iinfo(PLAIN[dtype])
        x = np.array([5, info.max, info.min, 5, 0, info.max - 1], PLAIN[dtype])
        i = np.argsort(x, kind="stable")
        c.add(f"sort_{dtype}", "sort %a", [Tensor(dtype, x)], [Tensor(dtype, x[i]), Tensor("i64", i)])
        c.add(f"argmax_{dtype}", "argmax %a", [Tensor(dtype, x)], [Tensor("i64", np.argmax(x))])
    for dtype in ("f32", "f16", "i32", "u8"):
        x = tensor(dtype, np.abs(normal(3, 5, scale=40)))
        for exclusive, reverse in itertools.product((0, 1), (0, 1)):
            v = x.values.astype(np.int64 if dtype in INTS else np.float64)
            w = v[::-1] if reverse else v
            w = np.cumsum(w, 0) - (w if exclusive else 0)
            w = w[::-1] if reverse else w
            want = tensor(dtype, w) if dtype in FLOATS else Tensor(dtype, w.astype(PLAIN[dtype]))
            flag = ("false", "true")
            c.add(f"cumsum_{dtype}_{exclusive}{reverse}", f"cumsum %a {{axis = 0, exclusive = {flag[exclusive]}, reverse = {flag[reverse]}}}",
                  [x], [want], ulps(dtype))
    for dtype in ("f32", "f16", "bf16", "f64"):
        x = tensor(dtype, np.concatenate([normal(3, 9, scale=5), np.zeros((1, 9)), 1e4 * normal(1, 9)]))
        c.add(f"softmax_{dtype}", "softmax %a", [x], [tensor(dtype, torch.softmax(torch64(x), -1).numpy())], ulps(dtype, 2))
    x = tensor("f32", normal(2, 5, 3))
    c.add("softmax_axis", "softmax %a {axis = 1}", [x], [tensor("f32", torch.softmax(torch64(x), 1).numpy())], ulps("f32", 2))
    inf = -np.inf
    x = tensor("f32", [[inf, inf, inf], [inf, 0, 0], [np.nan, 1, 2]])
    c.add("softmax_masked", "softmax %a", [x], [tensor("f32", [[0, 0, 0], [0, 0.5, 0.5], [np.nan] * 3])])


# ---- linear algebra --------------------------------------------------------------------------------------------------
def matmul(c):
    def add(name, a, b, attrs="", out=None, dims=None):
        ta, tb = "trans_a" in attrs, "trans_b" in attrs
        x, y = f64(a), f64(b)
        want = np.matmul(np.swapaxes(x, -1, -2) if ta else x, np.swapaxes(y, -1, -2) if tb else y)
        c.add(name, f"matmul %a, %b{attrs}", [a, b], [tensor(a.dtype, want, out)], ulps(a.dtype, 2), dims)

    for dtype in ("f32", "f64", "f16", "bf16"):
        add(f"matmul_{dtype}", tensor(dtype, normal(3, 7)), tensor(dtype, normal(7, 5)))
        add(f"matmul_tb_{dtype}", tensor(dtype, normal(3, 20)), tensor(dtype, normal(5, 20)), " {trans_b = true}")
        add(f"matmul_ta_{dtype}", tensor(dtype, normal(20, 3)), tensor(dtype, normal(20, 5)), " {trans_a = true}")
        add(f"matmul_tatb_{dtype}", tensor(dtype, normal(4, 3)), tensor(dtype, normal(5, 4)), " {trans_a = true, trans_b = true}")
    for rhs in ("bf16", "f16", "f8e4m3", "f8e5m2", "f64"):
        add(f"matmul_f32_{rhs}", tensor("f32", normal(2, 5)), tensor(rhs, normal(33, 5)), " {trans_b = true}")
        add(f"matmul_nt_f32_{rhs}", tensor("f32", normal(2, 5)), tensor(rhs, normal(5, 33)))
    add("matmul_batch", tensor("f32", normal(2, 1, 3, 4)), tensor("f32", normal(5, 4, 2)))
    add("matmul_batch_rhs", tensor("f32", normal(3, 4)), tensor("f32", normal(2, 4, 2)))
    add("matmul_batch_lhs", tensor("f32", normal(2, 3, 4)), tensor("f32", normal(4, 33)))
    add("matmul_one", tensor("f32", normal(1, 1)), tensor("f32", normal(1, 1)))
    add("matmul_empty_k", tensor("f32", normal(2, 0)), tensor("f32", normal(0, 3)))
    add("matmul_empty_m", tensor("f32", normal(0, 4)), tensor("f32", normal(4, 3)))
    add("matmul_symbolic", tensor("f32", normal(2, 3, 8), "B, S, 8"), tensor("f32", normal(6, 8)), " {trans_b = true}",
        "B, S, 6", {"B": 2, "S": 3})
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        fmt = name.lower()
        for n, k, trans in ((3, 64, True), (64, 2, False)):
            rows, cols = (n, k) if trans else (k, n)
            blocks = quantized(name, rows, cols)
            w = Tensor(fmt, blocks, shape=(rows, cols))
            x = tensor("f32", normal(2, k))
            y = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name]).astype(np.float64)
            want = f64(x) @ (y.T if trans else y)
            flag = " {trans_b = true}" if trans else ""
            c.add(f"matmul_{fmt}_{'tb' if trans else 'nt'}", f"matmul %a, %b{flag}", [x, w], [tensor("f32", want)], ulps("f32", 2))


def quantized(name, rows, cols):
    """Random bytes as blocks, with scales that are finite."""
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (rows * cols // values, size)).astype(np.uint8)
    halves = 2 if name.endswith("1") else 1
    scale = rng.normal(size=(len(blocks), halves)).astype(np.float16)
    blocks[:, : 2 * halves] = scale.view(np.uint8)
    return blocks.reshape(rows, -1)


def dequant(c):
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        fmt = name.lower()
        blocks = quantized(name, 4, 32)
        want = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name]).astype(np.float32)
        w = Tensor(fmt, blocks, shape=(4, 32))
        c.add(f"dequant_{fmt}", "dequant %a", [w], [Tensor("f32", want)])
        c.add(f"dequant_{fmt}_f16", "dequant %a {to = f16}", [w], [Tensor("f16", rounded(want, "f16"))])
        i = np.array([3, 0, -1, 9], np.int32)
        rows = np.concatenate([blocks, np.zeros((1, blocks.shape[1]), np.uint8)])[[3, 0, 3, 4]]
        c.add(f"gather_{fmt}", "gather %a, %b", [w, Tensor("i32", i)], [Tensor(fmt, rows, shape=(4, 32))])
        c.add(f"slice_{fmt}", "slice %a {axis = 0, start = 1, stop = 3}", [w], [Tensor(fmt, blocks[1:3], shape=(2, 32))])


def norms(c):
    for dtype, scales in (("f32", "f32"), ("f16", "f16"), ("f16", "f32"), ("bf16", "bf16"), ("f64", "f32")):
        x = tensor(dtype, normal(1, 3, 17) + 1)
        s, b = tensor(scales, normal(17)), tensor(scales, normal(17))
        suffix = f"{dtype}_{scales}"
        want = F.layer_norm(torch64(x), (17,), torch64(s), torch64(b), 1e-5).numpy()
        c.add(f"layer_norm_{suffix}", "layer_norm %a, %b, %c {eps = 1e-5}", [x, s, b], [tensor(dtype, want)], ulps(dtype, 4))
        want = F.rms_norm(torch64(x), (17,), torch64(s), 1e-6).numpy()
        c.add(f"rms_norm_{suffix}", "rms_norm %a, %b {eps = 1e-6}", [x, s], [tensor(dtype, want)], ulps(dtype, 4))
        want = F.rms_norm(torch64(x), (17,), torch64(s) + 1, 1e-6).numpy()
        c.add(f"rms_norm_offset_{suffix}", "rms_norm %a, %b {eps = 1e-6, offset = 1}", [x, s], [tensor(dtype, want)], ulps(dtype, 4))
    x, s = tensor("f32", normal(4, 5)), tensor("f32", normal(5))
    c.add("layer_norm_bare", "layer_norm %a {eps = 1e-5}", [x], [tensor("f32", F.layer_norm(torch64(x), (5,)).numpy())], ulps("f32", 4))
    c.add("layer_norm_scale", "layer_norm %a, %b {eps = 1e-5}", [x, s],
          [tensor("f32", F.layer_norm(torch64(x), (5,), torch64(s)).numpy())], ulps("f32", 4))
    c.add("rms_norm_bare", "rms_norm %a {eps = 1e-6}", [x], [tensor("f32", F.rms_norm(torch64(x), (5,), eps=1e-6).numpy())], ulps("f32", 4))
    z = tensor("f32", np.zeros((2, 5)))
    c.add("layer_norm_zero", "layer_norm %a {eps = 1e-5}", [z], [z])
    big = tensor("f32", 1e4 + normal(1, 64))
    c.add("layer_norm_shifted", "layer_norm %a {eps = 1e-5}", [big],
          [tensor("f32", F.layer_norm(torch64(big), (64,)).numpy())], ulps("f32", 4))


# ---- attention -------------------------------------------------------------------------------------------------------
def sdpa(q, k, v, scale, visible, softcap=0.0, bias=None):
    """Attention on [b, s, h, d] in float64 with a score matrix; rows without a visible key give zeros."""
    group = q.shape[2] // k.shape[2]
    k, v = np.repeat(k, group, 2), np.repeat(v, group, 2)
    s = np.einsum("bshd,bthd->bhst", q, k) * scale
    s = softcap * np.tanh(s / softcap) if softcap else s
    s = s + (0 if bias is None else bias)
    s = np.where(visible, s, -np.inf)
    if not softcap:  # torch's own attention must agree wherever a row has a visible key
        m = torch.from_numpy(np.where(np.broadcast_to(visible, s.shape), 0 if bias is None else np.broadcast_to(bias, s.shape), -np.inf).astype(np.float64))
        theirs = F.scaled_dot_product_attention(*(torch.from_numpy(x.transpose(0, 2, 1, 3).copy()) for x in (q, k, v)), attn_mask=m, scale=scale)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.where(np.isneginf(top), 0, np.exp(s - np.where(np.isneginf(top), 0, top)))
    total = p.sum(-1, keepdims=True)
    out = np.einsum("bhst,bthd->bshd", p / np.where(total == 0, 1, total), v)
    if not softcap:
        rows = np.broadcast_to(~np.isneginf(top), theirs.shape)
        assert np.allclose(theirs.numpy()[rows], out.transpose(0, 2, 1, 3)[rows], rtol=1e-9, atol=1e-12)
    return out


def attention(c):
    def add(name, b=1, s=4, t=4, h=2, hkv=2, d=4, dv=4, causal=0, window=0, softcap=0.0, keys=0, mask=None, bias=None,
            dtype="f32", kv=None, dims=None, text=("", "", "", "")):
        q = tensor(dtype, normal(b, s, h, d), text[0] or None)
        k = tensor(kv or dtype, normal(b, t, hkv, d), text[1] or None)
        v = tensor(kv or dtype, normal(b, t, hkv, dv), text[2] or None)
        n = keys or t
        i, j = np.arange(s)[:, None], np.arange(n)
        back = i + n - s - j
        visible = np.ones((s, n), bool) & ((not causal) | (back >= 0)) & ((not window) | (back < window))
        if mask is not None:
            visible = visible & (mask.values != 0)
        want = sdpa(f64(q), f64(k)[:, :n], f64(v)[:, :n], 0.35, visible, softcap, None if bias is None else f64(bias))
        operands = "%a, %b, %c" + (", %d" if mask is not None or bias is not None else "") + (", %e" if mask is not None and bias is not None else "")
        if mask is None and bias is not None:
            operands = "%a, %b, %c, _, %d"
        shown = text[3] or (str(keys) if keys else "")
        attrs = [("scale = 0.35", 1), ("causal = true", causal), (f"window = {window}", window), (f"softcap = {softcap}", softcap),
                 (f"keys = {shown}", keys)]
        attrs = ", ".join(a for a, on in attrs if on)
        c.add(f"attention_{name}", f"attention {operands} {{{attrs}}}", [x for x in (q, k, v, mask, bias) if x is not None],
              [tensor(dtype, want, text[0] or None)], ulps(dtype, 8), dims)

    add("plain")
    add("odd", b=2, s=3, t=5, h=3, hkv=3, d=5, dv=3)
    add("gqa", b=2, s=3, t=3, h=6, hkv=2)
    add("mqa", s=2, h=4, hkv=1)
    add("causal", s=5, t=5, causal=1)
    add("causal_past", s=2, t=7, causal=1)
    add("causal_long_queries", s=6, t=3, causal=1)
    add("decode", s=1, t=9, causal=1, h=4, hkv=2)
    for w in (1, 3, 4, 5):
        add(f"window{w}", s=6, t=6, causal=1, window=w)
    add("window_both_ways", s=6, t=6, window=2)
    add("softcap", softcap=2.5, causal=1)
    add("keys", s=2, t=9, keys=5, causal=1)
    add("keys_symbolic", b=2, s=3, t=10, keys=7, causal=1, dims={"B": 2, "S": 3, "P": 4, "C": 10},
        text=("B, S, 2, 4", "B, C, 2, 4", "B, C, 2, 4", "P + S"))
    pad = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])[:, None, None, :]
    add("mask_bool", b=2, mask=Tensor("bool", pad != 0))
    add("mask_int", b=2, mask=Tensor("i32", pad.astype(np.int32) * 5), causal=1)
    add("mask_keys", b=2, t=9, keys=4, mask=Tensor("i32", pad.astype(np.int32)))
    add("mask_left", b=2, causal=1, mask=Tensor("bool", pad[..., ::-1] != 0))
    add("mask_none_left", b=2, mask=Tensor("bool", np.array([[0] * 4, [1] * 4])[:, None, None, :] != 0))
    add("mask_full", b=2, h=2, s=3, t=4, mask=Tensor("bool", rng.random((2, 2, 3, 4)) < 0.6))
    add("mask_matrix", s=3, t=4, mask=Tensor("bool", rng.random((3, 4)) < 0.6))
    add("bias", bias=tensor("f32", normal(1, 2, 4, 4)))
    add("bias_row", bias=tensor("f32", normal(2, 1, 4)))
    add("bias_inf", b=2, bias=tensor("f32", np.where(pad, 0.0, -np.inf)))
    add("bias_all_inf", b=2, bias=tensor("f32", np.where(pad[::-1] * [[[[0]]], [[[1]]]], 0.0, -np.inf)))
    add("mask_bias", b=2, mask=Tensor("bool", pad != 0), bias=tensor("f32", normal(1, 2, 1, 4)))
    add("empty_keys", t=0, s=2)
    add("empty_batch", b=0)
    for dtype in ("f16", "bf16", "f64"):
        add(dtype, dtype=dtype, causal=1, s=3, t=6, h=4, hkv=2)
    add("kv_f16", dtype="f32", kv="f16", s=3, t=6, causal=1)
    add("large", s=3, t=40, d=9, dv=5, h=1, hkv=1, causal=1)


def rope(c):
    def add(name, positions, f, interleaved=0, factor=1.0, dtype="f32", b=2, s=3, h=2, d=8, text=None, dims=None):
        x = tensor(dtype, normal(b, s, h, d), text)
        inv = tensor("f32", 10000.0 ** (-np.arange(f) / f))
        p = np.broadcast_to(np.asarray(positions, np.float64), (b, s))
        angle = (p[..., None] * f64(inv))[:, :, None]
        sin, cos = np.sin(angle) * factor, np.cos(angle) * factor
        v = f64(x).copy()
        first = np.s_[..., 0 : 2 * f : 2] if interleaved else np.s_[..., :f]
        second = np.s_[..., 1 : 2 * f : 2] if interleaved else np.s_[..., f : 2 * f]
        lo, hi = v[first].copy(), v[second].copy()
        v[first], v[second] = lo * cos - hi * sin, hi * cos + lo * sin
        ids = Tensor("i32", np.asarray(positions, np.int32), None if text is None else "S" if np.ndim(positions) == 1 else "B, S")
        attrs = "".join([", interleaved = true" * interleaved, f", factor = {factor}" * (factor != 1)])[2:]
        c.add(f"rope_{name}", "rope %a, %b, %c" + (f" {{{attrs}}}" if attrs else ""), [x, ids, inv], [tensor(dtype, v, text)], ulps(dtype, 4), dims)

    add("plain", [0, 1, 2], 4)
    add("far", [4095, 32767, 131071], 4)
    add("batch", [[0, 1, 2], [7, 8, 9]], 4)
    add("partial", [3, 4, 5], 3)
    add("interleaved", [3, 4, 5], 4, interleaved=1)
    add("interleaved_partial", [[3, 4, 5], [0, 0, 1]], 2, interleaved=1)
    add("factor", [0, 10, 20], 4, factor=1.25)
    add("f16", [0, 1, 2], 4, dtype="f16")
    add("symbolic", [5, 6, 7], 4, text="B, S, 2, 8", dims={"B": 2, "S": 3})
    # The rotation of transformers' Llama: cos and sin of concatenated angles with rotate_half.
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
    q = torch.from_numpy(normal(1, 2, 3, 8))
    inv = torch.from_numpy(tensor("f32", 10000.0 ** (-np.arange(4) / 4)).values.astype(np.float64))
    angle = torch.outer(torch.tensor([5.0, 6, 7], dtype=torch.float64), inv)
    emb = torch.cat([angle, angle], -1)[None]
    x = tensor("f32", q.numpy().transpose(0, 2, 1, 3))
    want, _ = apply_rotary_pos_emb(torch64(x).transpose(1, 2), torch64(x).transpose(1, 2), emb.cos(), emb.sin())
    c.add("rope_transformers", "rope %a, %b, %c", [x, Tensor("i64", np.array([5, 6, 7])), tensor("f32", inv.numpy())],
          [tensor("f32", want.transpose(1, 2).numpy())], ulps("f32", 4))


def kv_update(c):
    for state, dtype in (("f32", "f32"), ("f16", "f32"), ("bf16", "bf16")):
        s, x = tensor(state, normal(2, 6, 2, 3)), tensor(dtype, normal(2, 2, 2, 3))
        want = s.values.copy()
        want[:, 3:5] = to_type(f64(x), state)
        c.add(f"kv_update_{state}_{dtype}", "kv_update @s0, %a {pos = 3}", [x], [Tensor(state, want)], states=[s])
    s, x = tensor("f32", normal(2, 6, 1, 2), "B, C, 1, 2"), tensor("f32", normal(2, 2, 1, 2), "B, S, 1, 2")
    want = s.values.copy()
    want[:, 4:6] = x.values
    c.add("kv_update_symbolic", "kv_update @s0, %a {pos = P}", [x], [Tensor("f32", want, "B, C, 1, 2")], states=[s],
          dims={"B": 2, "S": 2, "P": 4, "C": 6})


FILES = {"unary": [unary], "cast": [cast], "binary": [binary, broadcasting], "compare": [compare], "leaf": [leaves],
         "view": [views], "reduce": [reductions], "axis": [along_axis], "linear": [matmul, norms], "quant": [dequant],
         "attention": [attention, rope, kv_update]}

if __name__ == "__main__":
    for file, parts in FILES.items():
        cases = Cases()
        for part in parts:
            part(cases)
        cases.write(f"{file}.cases")
        print(file, len(cases.text))
