"""Cases of matmul, the block formats and the norms."""

import gguf
import numpy as np
import torch.nn.functional as F

from goldens import Tensor, f64, normal, rng, rounded, tensor, torch64, ulps


def matmul(c):
    def add(name, a, b, attrs="", out=None, dims=None):
        ta, tb = "trans_a" in attrs, "trans_b" in attrs
        x, y = f64(a), f64(b)
        want = np.matmul(np.swapaxes(x, -1, -2) if ta else x, np.swapaxes(y, -1, -2) if tb else y)
        c.add(name, f"matmul %a, %b{attrs}", [a, b], [tensor(a.dtype, want, out)], ulps(a.dtype, 2), dims)

    for dtype in ("f32", "f64", "f16", "bf16"):
        add(f"matmul_{dtype}", tensor(dtype, normal(3, 7)), tensor(dtype, normal(7, 5)))
        add(
            f"matmul_tb_{dtype}",
            tensor(dtype, normal(3, 20)),
            tensor(dtype, normal(5, 20)),
            " {trans_b = true}",
        )
        add(
            f"matmul_ta_{dtype}",
            tensor(dtype, normal(20, 3)),
            tensor(dtype, normal(20, 5)),
            " {trans_a = true}",
        )
        add(
            f"matmul_tatb_{dtype}",
            tensor(dtype, normal(4, 3)),
            tensor(dtype, normal(5, 4)),
            " {trans_a = true, trans_b = true}",
        )
    for rhs in ("bf16", "f16", "f8e4m3", "f8e5m2", "f64"):
        add(f"matmul_f32_{rhs}", tensor("f32", normal(2, 5)), tensor(rhs, normal(33, 5)), " {trans_b = true}")
        add(f"matmul_nt_f32_{rhs}", tensor("f32", normal(2, 5)), tensor(rhs, normal(5, 33)))
    add("matmul_batch", tensor("f32", normal(2, 1, 3, 4)), tensor("f32", normal(5, 4, 2)))
    add("matmul_batch_rhs", tensor("f32", normal(3, 4)), tensor("f32", normal(2, 4, 2)))
    add("matmul_batch_lhs", tensor("f32", normal(2, 3, 4)), tensor("f32", normal(4, 33)))
    add("matmul_one", tensor("f32", normal(1, 1)), tensor("f32", normal(1, 1)))
    add("matmul_empty_k", tensor("f32", normal(2, 0)), tensor("f32", normal(0, 3)))
    add("matmul_empty_m", tensor("f32", normal(0, 4)), tensor("f32", normal(4, 3)))
    add(
        "matmul_symbolic",
        tensor("f32", normal(2, 3, 8), "B, S, 8"),
        tensor("f32", normal(6, 8)),
        " {trans_b = true}",
        "B, S, 6",
        {"B": 2, "S": 3},
    )
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
            c.add(
                f"matmul_{fmt}_{'tb' if trans else 'nt'}",
                f"matmul %a, %b{flag}",
                [x, w],
                [tensor("f32", want)],
                ulps("f32", 2),
            )


def experts(c):
    def add(name, x, w, ids, dims=None):
        blocks = w.dtype not in ("f32", "f16", "bf16", "f64")
        matrices = w.plain if blocks else f64(w)
        want = np.zeros((*ids.values.shape, matrices.shape[1]))
        for t, row in enumerate(ids.values):
            for j, e in enumerate(row):
                if 0 <= e < len(matrices):
                    want[t, j] = matrices[e] @ (f64(x)[t, j] if len(x.shape) == 3 else f64(x)[t])
        sizes = None if dims is None else f"T, {want.shape[1]}, {want.shape[2]}"
        c.add(name, "expert_matmul %a, %b, %c", [x, w, ids], [tensor("f32", want, sizes)], ulps("f32", 2), dims)

    ids = Tensor("i64", np.array([[0, 3], [3, 3], [1, 0], [3, 1], [0, 1]]))
    for x, w in (("f32", "f32"), ("f32", "bf16"), ("f16", "f16"), ("f64", "f32")):
        add(f"expert_matmul_{x}_{w}", tensor(x, normal(5, 7)), tensor(w, normal(4, 33, 7)), ids)
        add(f"expert_matmul_each_{x}_{w}", tensor(x, normal(5, 2, 7)), tensor(w, normal(4, 3, 7)), ids)
    outside = Tensor("i32", np.array([[4, -1, 2], [0, -2147483648, 1000]], np.int32))
    add("expert_matmul_outside", tensor("f32", normal(2, 8)), tensor("f32", normal(4, 3, 8)), outside)
    nobody = Tensor("i32", np.zeros((0, 2), np.int32))
    add("expert_matmul_none", tensor("f32", normal(0, 8)), tensor("f32", normal(4, 3, 8)), nobody)
    add("expert_matmul_symbolic", tensor("f32", normal(5, 6), "T, 6"), tensor("bf16", normal(4, 5, 6)),
        Tensor("i64", ids.values, "T, 2"), {"T": 5})
    for name in ("Q4_0", "Q8_0"):
        blocks = np.stack([quantized(name, 3, 64) for _ in range(4)])
        w = Tensor(name.lower(), blocks, shape=(4, 3, 64))
        w.plain = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name]).astype(np.float64)
        add(f"expert_matmul_{name.lower()}", tensor("f32", normal(5, 64)), w, ids)


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
        c.add(
            f"slice_{fmt}",
            "slice %a {axis = 0, start = 1, stop = 3}",
            [w],
            [Tensor(fmt, blocks[1:3], shape=(2, 32))],
        )


def norms(c):
    for dtype, scales in (("f32", "f32"), ("f16", "f16"), ("f16", "f32"), ("bf16", "bf16"), ("f64", "f32")):
        x = tensor(dtype, normal(1, 3, 17) + 1)
        s, b = tensor(scales, normal(17)), tensor(scales, normal(17))
        suffix = f"{dtype}_{scales}"
        want = F.layer_norm(torch64(x), (17,), torch64(s), torch64(b), 1e-5).numpy()
        c.add(
            f"layer_norm_{suffix}",
            "layer_norm %a, %b, %c {eps = 1e-5}",
            [x, s, b],
            [tensor(dtype, want)],
            ulps(dtype, 4),
        )
        want = F.rms_norm(torch64(x), (17,), torch64(s), 1e-6).numpy()
        c.add(
            f"rms_norm_{suffix}",
            "rms_norm %a, %b {eps = 1e-6}",
            [x, s],
            [tensor(dtype, want)],
            ulps(dtype, 4),
        )
        want = F.rms_norm(torch64(x), (17,), torch64(s) + 1, 1e-6).numpy()
        c.add(
            f"rms_norm_offset_{suffix}",
            "rms_norm %a, %b {eps = 1e-6, offset = 1}",
            [x, s],
            [tensor(dtype, want)],
            ulps(dtype, 4),
        )
    x, s = tensor("f32", normal(4, 5)), tensor("f32", normal(5))
    c.add(
        "layer_norm_bare",
        "layer_norm %a {eps = 1e-5}",
        [x],
        [tensor("f32", F.layer_norm(torch64(x), (5,)).numpy())],
        ulps("f32", 4),
    )
    c.add(
        "layer_norm_scale",
        "layer_norm %a, %b {eps = 1e-5}",
        [x, s],
        [tensor("f32", F.layer_norm(torch64(x), (5,), torch64(s)).numpy())],
        ulps("f32", 4),
    )
    c.add(
        "rms_norm_bare",
        "rms_norm %a {eps = 1e-6}",
        [x],
        [tensor("f32", F.rms_norm(torch64(x), (5,), eps=1e-6).numpy())],
        ulps("f32", 4),
    )
    z = tensor("f32", np.zeros((2, 5)))
    c.add("layer_norm_zero", "layer_norm %a {eps = 1e-5}", [z], [z])
    big = tensor("f32", 1e4 + normal(1, 64))
    c.add(
        "layer_norm_shifted",
        "layer_norm %a {eps = 1e-5}",
        [big],
        [tensor("f32", F.layer_norm(torch64(big), (64,)).numpy())],
        ulps("f32", 4),
    )
