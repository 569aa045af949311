"""Cases of convolutions and pools, from PyTorch in float64."""

import numpy as np
import torch
import torch.nn.functional as F

from goldens import normal, rng, tensor, torch64, ulps

CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def padded(x, low, high, value=0.0):
    """Zeros around the spatial dims; negative numbers cut off."""
    pads = [p for pair in reversed(list(zip(low, high))) for p in pair]
    return F.pad(x, pads, value=value)


def text(**attrs):
    def one(v):
        return str(v) if isinstance(v, int) else f'"{v}"' if isinstance(v, str) else "[" + ", ".join(map(str, v)) + "]"

    parts = [k if v is True else f"{k} = {one(v)}" for k, v in attrs.items()]
    return " {" + ", ".join(parts) + "}" if parts else ""


def convs(c):
    def add(name, x, w, bias=None, op="conv", **attrs):
        n = len(x.values.shape) - 2
        low, high = attrs.get("low", [0] * n), attrs.get("high", [0] * n)
        stride, dilation = attrs.get("strides", [1] * n), attrs.get("dilations", [1] * n)
        groups, b = attrs.get("groups", 1), torch64(bias) if bias else None
        if op == "conv":
            y = CONVS[n](padded(torch64(x), low, high), torch64(w), b, stride, 0, dilation, groups)
        else:
            y = TRANSPOSED[n](torch64(x), torch64(w), None, stride, 0, 0, groups, dilation)
            y = padded(y, [-p for p in low], [-p for p in high])
            y = y if b is None else y + b.reshape(1, -1, *[1] * n)
        ins = [x, w] + ([bias] if bias else [])
        names = ", ".join(f"%{chr(97 + i)}" for i in range(len(ins)))
        c.add(name, f"{op} {names}{text(**attrs)}", ins, [tensor(x.dtype, y.numpy())], ulps(x.dtype, 4))

    def t(*shape, dtype="f32"):
        return tensor(dtype, normal(*shape))

    for dtype in ("f32", "f64", "f16", "bf16"):
        add(f"conv_{dtype}", t(2, 3, 5, 6, dtype=dtype), t(4, 3, 3, 2, dtype=dtype), t(4, dtype=dtype))
    add("conv_mixed", t(1, 3, 5, 6), t(4, 3, 3, 2, dtype="bf16"), t(4, dtype="f16"))
    add("conv_same", t(1, 2, 6, 7), t(3, 2, 3, 3), low=[1, 1], high=[1, 1])
    add("conv_strides", t(1, 2, 9, 8), t(3, 2, 3, 2), strides=[2, 3], low=[1, 0], high=[0, 2])
    add("conv_dilated", t(1, 2, 9, 8), t(3, 2, 3, 2), dilations=[3, 2], strides=[1, 2], low=[2, 1], high=[2, 0])
    add("conv_groups", t(2, 6, 5, 5), t(9, 2, 2, 2), t(9), groups=3)
    add("conv_depthwise", t(1, 5, 6, 6), t(5, 1, 3, 3), groups=5, low=[1, 1], high=[1, 1])
    add("conv_1d", t(2, 3, 20), t(4, 3, 5), t(4), strides=[3], low=[2], high=[1])
    add("conv_3d", t(1, 2, 4, 5, 6), t(3, 2, 2, 3, 2), strides=[1, 2, 2], low=[0, 1, 1], high=[1, 1, 0])
    add("conv_none", t(0, 2, 4, 4), t(3, 2, 2, 2))
    tr = {"op": "conv_transpose"}
    for dtype in ("f32", "f64", "f16"):
        add(f"conv_transpose_{dtype}", t(2, 3, 4, 5, dtype=dtype), t(3, 2, 3, 2, dtype=dtype), t(2, dtype=dtype), **tr)
    add("conv_transpose_strides", t(1, 2, 4, 5), t(2, 3, 3, 4), strides=[3, 2], low=[1, 1], high=[0, 2], **tr)
    add("conv_transpose_more", t(1, 2, 4, 5), t(2, 3, 2, 2), t(3), strides=[3, 2], low=[-1, 0], high=[-2, -1], **tr)
    add("conv_transpose_dilated", t(1, 2, 4, 5), t(2, 3, 3, 2), strides=[2, 1], dilations=[2, 3], **tr)
    add("conv_transpose_groups", t(1, 6, 4, 5), t(6, 2, 3, 2), t(6), groups=3, strides=[2, 2], **tr)
    add("conv_transpose_1d", t(1, 2, 7), t(2, 3, 8), strides=[4], low=[2], high=[2], **tr)
    add("conv_transpose_3d", t(1, 2, 2, 3, 4), t(2, 1, 2, 2, 3), strides=[2, 1, 2], **tr)


def pools(c):
    def numbers(dtype, *shape):
        if dtype in ("i8", "u8", "i32", "i64"):
            return tensor(dtype, rng.integers(0 if dtype == "u8" else -100, 100, shape))
        return tensor(dtype, normal(*shape))

    def windows(x, attrs, value):
        n = len(x.shape) - 2
        low, high = attrs.get("low", [0] * n), attrs.get("high", [0] * n)
        return n, padded(x, low, high, value), attrs.get("strides", [1] * n), attrs.get("dilations", [1] * n)

    def add(name, dtype, shape, **attrs):
        x, kind, size = numbers(dtype, *shape), attrs.get("kind", "max"), attrs["size"]
        n, wide, stride, dilation = windows(torch64(x), attrs, -np.inf if kind == "max" else 0.0)
        if kind == "max":
            y = MAX[n](wide, size, stride, 0, dilation, attrs.get("ceil", False))
        else:
            assert not attrs.get("ceil") and set(dilation) == {1}
            total = int(np.prod(size))
            y = MEAN[n](wide, size, stride) * total
            inside = torch.ones_like(wide) if attrs.get("count_pad") else windows(torch.ones(*shape, dtype=torch.float64), attrs, 0.0)[1]
            if kind == "mean":
                y = y / (MEAN[n](inside, size, stride) * total)
        c.add(name, f"pool %a{text(**attrs)}", [x], [tensor(dtype, y.numpy())], (0, 0) if kind == "max" else ulps(dtype, 2))

    for dtype in ("f32", "f64", "bf16", "i8", "u8", "i32", "i64"):
        add(f"pool_max_{dtype}", dtype, (2, 2, 5, 6), size=[3, 2], strides=[2, 1])
    same = {"low": [1, 1], "high": [1, 1]}
    add("pool_max_same", "f32", (1, 2, 6, 6), size=[3, 3], strides=[2, 2], **same)
    add("pool_max_dilated", "f32", (1, 2, 8, 9), size=[3, 2], dilations=[2, 3], strides=[1, 2])
    add("pool_max_ceil", "f32", (1, 2, 6, 8), size=[3, 3], strides=[2, 2], ceil=True)
    add("pool_max_1d", "f32", (2, 2, 11), size=[4], strides=[3])
    add("pool_max_3d", "f32", (1, 2, 4, 5, 6), size=[2, 3, 2], strides=[2, 1, 2])
    for dtype in ("f32", "f64", "f16"):
        add(f"pool_mean_{dtype}", dtype, (1, 2, 5, 6), size=[3, 2], kind="mean", low=[1, 0], high=[0, 1])
    add("pool_mean_counted", "f32", (1, 2, 5, 6), size=[3, 3], kind="mean", count_pad=True, **same)
    add("pool_sum", "f32", (1, 2, 5, 6), size=[3, 3], kind="sum", strides=[2, 2], **same)
    add("pool_sum_3d", "f32", (1, 2, 3, 4, 5), size=[2, 2, 3], kind="sum")

    def ceil_mean(name, shape, size, stride, pad, counted):
        x, n = numbers("f32", *shape), len(shape) - 2
        y = MEAN[n](torch64(x), size, stride, pad, True, counted)
        attrs = {"size": size, "strides": stride, "low": pad, "high": pad, "kind": "mean", "ceil": True}
        attrs.update({"count_pad": True} if counted else {})
        c.add(name, f"pool %a{text(**attrs)}", [x], [tensor("f32", y.numpy())], ulps("f32", 2))

    ceil_mean("pool_mean_ceil", (1, 2, 6, 7), [3, 3], [2, 4], [1, 1], False)
    ceil_mean("pool_mean_ceil_counted", (1, 2, 6, 7), [3, 3], [2, 4], [1, 1], True)
    ceil_mean("pool_mean_ceil_1d", (1, 2, 8), [3], [4], [0], True)

    def arg(name, dtype, shape, size, stride, pad, dilation):
        x, n = numbers(dtype, *shape), len(shape) - 2
        at = MAX[n](torch64(x), size, stride, pad, dilation, False, return_indices=True)[1]
        attrs = text(size=size, strides=stride, low=pad, high=pad, dilations=dilation)
        c.add(name, f"argpool %a{attrs}", [x], [tensor("i64", at.numpy())])

    arg("argpool", "f32", (2, 2, 5, 6), [2, 3], [1, 2], [0, 1], [1, 1])
    arg("argpool_dilated", "f32", (1, 2, 9, 8), [3, 2], [2, 1], [1, 1], [2, 3])
    arg("argpool_ties", "i8", (1, 1, 4, 4), [2, 2], [1, 1], [0, 0], [1, 1])
    arg("argpool_3d", "f32", (1, 2, 4, 4, 5), [2, 2, 2], [2, 1, 2], [0, 1, 1], [1, 1, 1])
    nan = tensor("f32", [[[1.0, np.nan, 2.0, np.inf, np.nan, -np.inf]]])
    c.add("pool_max_nan", "pool %a {size = [2]}", [nan], [tensor("f32", [[[np.nan, np.nan, np.inf, np.nan, np.nan]]])])
