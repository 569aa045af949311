"""Cases of the ops without operands and of those that only move elements."""

import numpy as np

from goldens import Tensor, normal, tensor, to_type, ulps


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
    c.add(
        "iota_axis1",
        "iota {shape = [2, 4], axis = 1, start = -3, dtype = i32}",
        [],
        [Tensor("i32", np.tile(np.arange(-3, 1, dtype=np.int32), (2, 1)))],
    )
    c.add(
        "iota_axis0", "iota {shape = [3, 2]}", [], [Tensor("i64", np.repeat(np.arange(3), 2).reshape(3, 2))]
    )
    c.add("iota_float", "iota {shape = [5], start = 7, dtype = f32}", [], [tensor("f32", np.arange(7.0, 12))])
    c.add(
        "iota_scalar",
        "iota {shape = [], start = P, dtype = i32}",
        [],
        [Tensor("i32", np.array(9, np.int32))],
        dims={"P": 9},
    )
    c.add(
        "iota_symbolic",
        "iota {shape = [S], start = P * 2 + 1, dtype = i64}",
        [],
        [Tensor("i64", np.arange(9, 12), "S")],
        dims={"S": 3, "P": 4},
    )
    for seed in (0, 1, 2**40 + 5):
        words = [philox([i, 0, 0, 0], [seed & 0xFFFFFFFF, seed >> 32])[0] for i in range(14)]
        want = np.array([(w >> 8) * 2.0**-24 for w in words]).reshape(2, 7)
        c.add(
            f"random_uniform_{seed}",
            f"random_uniform {{shape = [2, 7], seed = {seed}}}",
            [],
            [tensor("f32", want)],
        )
    for q, k, window in ((4, 4, 0), (3, 7, 0), (3, 7, 2), (1, 5, 0), (5, 3, 0), (4, 4, 1)):
        i, j = np.arange(q)[:, None], np.arange(k)
        want = (j <= i + k - q) & ((window == 0) | (i + k - q - j < window))
        c.add(
            f"causal_mask_{q}_{k}_{window}",
            f"causal_mask {{q = {q}, k = {k}, window = {window}}}",
            [],
            [Tensor("bool", want)],
        )
    for heads in (1, 4, 8, 6, 12, 20):
        want = np.array(alibi_slopes(heads))[None, :, None, None] * np.arange(5.0)
        c.add(f"alibi_{heads}", f"alibi {{heads = {heads}, k = 5}}", [], [tensor("f32", want)], ulps("f32"))


def alibi_slopes(n):
    """Slopes of ALiBi (Press et al. 2021): powers of two have a geometric sequence; other numbers take that of
    the power of two below, then every other one of twice that.
    """
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
        c.add(
            f"transpose_{dtype}",
            "transpose %a {perm = [2, 0, 1]}",
            [x],
            [Tensor(dtype, v.transpose(2, 0, 1))],
        )
        c.add(
            f"transpose_rows_{dtype}",
            "transpose %a {perm = [1, 0, 2]}",
            [x],
            [Tensor(dtype, v.transpose(1, 0, 2))],
        )
        c.add(f"reshape_{dtype}", "reshape %a {shape = [4, 6]}", [x], [Tensor(dtype, v.reshape(4, 6))])
        c.add(
            f"slice_{dtype}", "slice %a {axis = -1, start = 1, stop = 3}", [x], [Tensor(dtype, v[..., 1:3])]
        )
        c.add(
            f"slice_step_{dtype}",
            "slice %a {axis = 2, start = 0, stop = 4, step = 3}",
            [x],
            [Tensor(dtype, v[..., 0:4:3])],
        )
        c.add(
            f"slice_middle_{dtype}",
            "slice %a {axis = 1, start = 1, stop = 3}",
            [x],
            [Tensor(dtype, v[:, 1:3])],
        )
        c.add(
            f"broadcast_{dtype}",
            "broadcast %a {shape = [2, 2, 3, 4]}",
            [x],
            [Tensor(dtype, np.broadcast_to(v, (2, 2, 3, 4)))],
        )
        c.add(
            f"concat_{dtype}",
            "concat %a, %b, %a {axis = 1}",
            [x, Tensor(dtype, v[:, :1])],
            [Tensor(dtype, np.concatenate([v, v[:, :1], v], 1))],
        )
        c.add(
            f"split_{dtype}",
            "split %a {axis = 1, sizes = [1, 2]}",
            [x],
            [Tensor(dtype, v[:, :1]), Tensor(dtype, v[:, 1:])],
        )
        i = np.array([[0, 2, -1], [1, 3, -4]])
        rows = np.concatenate([v, np.zeros((2, 1, 4), v.dtype)], 1)
        want = rows[:, np.where((i >= 3) | (i < -3), 3, i % 3)]
        c.add(
            f"gather_{dtype}",
            "gather %a, %b {axis = 1}",
            [x, Tensor("i32", i.astype(np.int32))],
            [Tensor(dtype, want)],
        )
    x = tensor("f32", normal(2, 3))
    c.add("transpose_identity", "transpose %a {perm = [0, 1]}", [x], [x])
    c.add("transpose_scalar", "transpose %a {perm = []}", [tensor("f32", 2.5)], [tensor("f32", 2.5)])
    c.add(
        "broadcast_scalar",
        "broadcast %a {shape = [2, 2]}",
        [tensor("f32", 2.5)],
        [tensor("f32", np.full((2, 2), 2.5))],
    )
    c.add(
        "broadcast_ones",
        "broadcast %a {shape = [3, 2, 4]}",
        [tensor("f32", x.values[:, :1])],
        [Tensor("f32", np.broadcast_to(x.values[:, :1], (3, 2, 4)))],
    )
    c.add(
        "broadcast_empty",
        "broadcast %a {shape = [0, 2, 3]}",
        [x],
        [Tensor("f32", np.zeros((0, 2, 3), np.float32))],
    )
    c.add("slice_all", "slice %a {axis = 0, start = 0, stop = 2}", [x], [x])
    c.add("slice_none", "slice %a {axis = 0, start = 1, stop = 1}", [x], [Tensor("f32", x.values[1:1])])
    y = tensor("f32", normal(2, 6), "B, S")
    c.add(
        "slice_symbolic",
        "slice %a {axis = 1, start = S - 1, stop = S}",
        [y],
        [Tensor("f32", y.values[:, 5:], "B, 1")],
        dims={"B": 2, "S": 6},
    )
    c.add(
        "split_symbolic",
        "split %a {axis = 1, sizes = [1, S - 1]}",
        [y],
        [Tensor("f32", y.values[:, :1], "B, 1"), Tensor("f32", y.values[:, 1:], "B, S - 1")],
        dims={"B": 2, "S": 6},
    )
    c.add("concat_one", "concat %a {axis = 0}", [x], [x])
    c.add("concat_empty", "concat %a, %b {axis = 0}", [Tensor("f32", x.values[:0]), x], [x])
    c.add(
        "gather_scalar",
        "gather %a, %b {axis = 0}",
        [x, Tensor("i64", np.array(1))],
        [Tensor("f32", x.values[1])],
    )
    c.add(
        "gather_last",
        "gather %a, %b {axis = -1}",
        [x, Tensor("u8", np.array([2, 0], np.uint8))],
        [Tensor("f32", x.values[:, [2, 0]])],
    )
    for dtype, value in (("f32", -1.5), ("f16", 0.0), ("i32", 7.0), ("bool", 1.0)):
        z = tensor(dtype, normal(2, 3, scale=9))
        want = np.pad(z.values, ((1, 0), (2, 1)), constant_values=to_type(np.float64(value), dtype))
        c.add(
            f"pad_{dtype}",
            f"pad %a {{low = [1, 2], high = [0, 1], value = {value}}}",
            [z],
            [Tensor(dtype, want)],
        )
    c.add(
        "pad_empty",
        "pad %a {low = [1], high = [1]}",
        [Tensor("f32", np.zeros(0, np.float32))],
        [tensor("f32", [0, 0])],
    )
