"""Cases of the reductions and of the ops along one axis."""

import itertools

import numpy as np
import torch

from goldens import FLOATS, INTS, PLAIN, Tensor, f64, normal, rng, tensor, torch64, ulps


def reductions(c):
    fs = {
        "reduce_sum": np.sum,
        "reduce_mean": np.mean,
        "reduce_max": np.max,
        "reduce_min": np.min,
        "reduce_prod": np.prod,
    }
    for (op, f), dtype in itertools.product(fs.items(), ("f32", "f16", "bf16", "f64")):
        x = tensor(dtype, normal(3, 5, 2))
        for axes, keep in (((1,), 0), ((0, 2), 1), ((-1,), 1), ((0, 1, 2), 0))[: 4 if dtype == "f32" else 2]:
            name = f"{op}_{dtype}_{''.join(map(str, axes)).replace('-', 'm')}"
            want = f(f64(x), axis=axes, keepdims=bool(keep))
            c.add(
                name,
                f"{op} %a {{axes = {list(axes)}, keep = {'true' if keep else 'false'}}}",
                [x],
                [tensor(dtype, want)],
                ulps(dtype),
            )
    x = tensor("f32", [[1, np.nan, 2], [3, 4, 5], [np.inf, -np.inf, 1]])
    for op, f in fs.items():
        c.add(
            f"{op}_special", f"{op} %a {{axes = [1]}}", [x], [tensor("f32", f(f64(x), axis=1))], ulps("f32")
        )
        c.add(f"{op}_no_axes", f"{op} %a {{axes = []}}", [x], [x])
    empty = {
        "reduce_sum": 0,
        "reduce_mean": np.nan,
        "reduce_max": -np.inf,
        "reduce_min": np.inf,
        "reduce_prod": 1,
    }
    for op, v in empty.items():
        c.add(
            f"{op}_empty",
            f"{op} %a {{axes = [1]}}",
            [tensor("f32", np.zeros((2, 0)))],
            [tensor("f32", [v, v])],
        )
    for op, v in (("reduce_sum", 0), ("reduce_max", -128), ("reduce_min", 127), ("reduce_prod", 1)):
        c.add(
            f"{op}_empty_i8",
            f"{op} %a {{axes = [0]}}",
            [Tensor("i8", np.zeros(0, np.int8))],
            [Tensor("i8", np.array(v, np.int8))],
        )
    for dtype in INTS:
        x = rng.integers(0, 100, (4, 3)).astype(PLAIN[dtype])
        x[0, 0] = np.iinfo(PLAIN[dtype]).max
        for op, f in (
            ("reduce_sum", np.sum),
            ("reduce_max", np.max),
            ("reduce_min", np.min),
            ("reduce_prod", np.prod),
        ):
            kw = {"dtype": x.dtype} if op in ("reduce_sum", "reduce_prod") else {}
            c.add(
                f"{op}_{dtype}",
                f"{op} %a {{axes = [0]}}",
                [Tensor(dtype, x)],
                [Tensor(dtype, f(x, axis=0, **kw))],
            )
    m = np.array([[7, 8], [-7, -8]], np.int32)
    c.add(
        "reduce_mean_i32",
        "reduce_mean %a {axes = [1]}",
        [Tensor("i32", m)],
        [Tensor("i32", np.array([7, -7], np.int32))],
    )


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
                c.add(
                    f"sort_{name}_{dtype}_{down}",
                    f"sort %a {{descending = {'true' if down else 'false'}}}",
                    [x],
                    [tensor(dtype, s.numpy()), Tensor("i64", i.numpy())],
                )
            s, i = torch.sort(torch64(x), dim=-1, stable=True, descending=True)
            c.add(
                f"top_k_{name}_{dtype}",
                "top_k %a {k = 3}",
                [x],
                [tensor(dtype, s[:, :3].numpy()), Tensor("i64", i[:, :3].numpy())],
            )
    x = tensor("f32", normal(3, 4, 2))
    c.add(
        "argmax_axis",
        "argmax %a {axis = 1, keep = true}",
        [x],
        [Tensor("i64", np.argmax(x.values, 1, keepdims=True))],
    )
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
            c.add(
                f"cumsum_{dtype}_{exclusive}{reverse}",
                f"cumsum %a {{axis = 0, exclusive = {flag[exclusive]}, reverse = {flag[reverse]}}}",
                [x],
                [want],
                ulps(dtype),
            )
    for dtype in ("f32", "f16", "bf16", "f64"):
        x = tensor(dtype, np.concatenate([normal(3, 9, scale=5), np.zeros((1, 9)), 1e4 * normal(1, 9)]))
        c.add(
            f"softmax_{dtype}",
            "softmax %a",
            [x],
            [tensor(dtype, torch.softmax(torch64(x), -1).numpy())],
            ulps(dtype, 2),
        )
    x = tensor("f32", normal(2, 5, 3))
    c.add(
        "softmax_axis",
        "softmax %a {axis = 1}",
        [x],
        [tensor("f32", torch.softmax(torch64(x), 1).numpy())],
        ulps("f32", 2),
    )
    inf = -np.inf
    x = tensor("f32", [[inf, inf, inf], [inf, 0, 0], [np.nan, 1, 2]])
    c.add("softmax_masked", "softmax %a", [x], [tensor("f32", [[0, 0, 0], [0, 0.5, 0.5], [np.nan] * 3])])
