#!/usr/bin/env python3
"""The com.microsoft ops, and quantised weights, through tenon and ONNX Runtime: small models with seeded inputs,
several for each op. ONNX Runtime's CPU kernels give the expected outputs (where it has none, NumPy by the op's definition).

  contrib.py TENON [--only REGEX] [--jobs N] [--keep DIR]
"""
import argparse, concurrent.futures, pathlib, re, subprocess, sys, tempfile, zlib

import numpy as np
import onnx
from onnx import TensorProto as T, helper, numpy_helper

F, F16, I32, I64, U8, I8 = np.float32, np.float16, np.int32, np.int64, np.uint8, np.int8
CASES = {}


class Case:
    """One node: inputs by name, of which those in `fixed` are initializers; outputs by name and type."""

    def __init__(self, op, inputs, outputs, attrs=None, fixed=(), domain="com.microsoft", expected=None, rtol=1e-3,
                 atol=1e-5, skip_outputs=(), loose=()):
        self.op, self.inputs, self.outputs, self.attrs = op, inputs, outputs, attrs or {}
        self.fixed, self.domain, self.expected, self.rtol, self.atol = set(fixed), domain, expected, rtol, atol
        self.skip_outputs, self.loose = set(skip_outputs), set(loose)  # loose: only ONNX Runtime has them

    def model(self, skip=()):
        skip = self.skip_outputs | set(skip)
        present = {k: v for k, v in self.inputs.items() if v is not None}
        names = [k if v is not None else "" for k, v in self.inputs.items()]
        while names and not names[-1]:
            names.pop()
        outs = [o if o not in skip else "" for o in self.outputs]
        node = helper.make_node(self.op, names, outs, domain=self.domain, **self.attrs)
        value = lambda n, a: helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        graph = helper.make_graph(
            [node], "g", [value(k, v) for k, v in present.items() if k not in self.fixed],
            [helper.make_tensor_value_info(o, t, None) for o, t in self.outputs.items() if o not in skip],
            [numpy_helper.from_array(v, k) for k, v in present.items() if k in self.fixed])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def feeds(self):
        return {k: v for k, v in self.inputs.items() if v is not None and k not in self.fixed}


class Graph(Case):
    """Several nodes of ai.onnx; initializers may be TensorProtos."""

    def __init__(self, nodes, inputs, outputs, fixed, **kw):
        super().__init__("", inputs, outputs, domain="", **kw)
        self.nodes, self.tensors = nodes, fixed

    def model(self, skip=()):
        value = lambda n, a: helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        held = [t if isinstance(t, onnx.TensorProto) else numpy_helper.from_array(t, n) for n, t in self.tensors.items()]
        graph = helper.make_graph(self.nodes, "g", [value(k, v) for k, v in self.inputs.items()],
                                  [helper.make_tensor_value_info(o, t, None) for o, t in self.outputs.items()], held)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def case(name, *args, **kw):
    assert name not in CASES, name
    CASES[name] = Case(*args, **kw)


def rng(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def normal(r, *shape, dtype=F, scale=1.0):
    return (r.standard_normal(shape) * scale).astype(dtype)


# ---- products ----

def pack_bits(codes, bits):
    """Codes [..., n] as bytes, low bits first; rows are padded to bytes."""
    per = 8 // bits
    n = codes.shape[-1]
    pad = np.zeros(codes.shape[:-1] + (-(-n // per) * per,), U8)
    pad[..., :n] = codes
    pad = pad.reshape(pad.shape[:-1] + (-1, per))
    return sum(pad[..., i] << i * bits for i in range(per)).astype(U8)


def matmul_nbits():
    for bits, block, k, n, zeros, dtype in (
            (4, 32, 64, 24, None, F), (4, 32, 256, 600, None, F), (4, 32, 256, 600, "packed", F), (4, 16, 64, 24, "packed", F),
            (4, 128, 512, 320, "packed", F), (4, 64, 512, 320, None, F), (4, 32, 90, 40, "packed", F), (4, 32, 200, 700, None, F),
            (4, 32, 96, 40, "float", F), (8, 32, 128, 600, None, F), (8, 32, 128, 600, "packed", F), (8, 128, 256, 300, "packed", F),
            (2, 64, 256, 1200, None, F), (4, 32, 256, 600, "packed", F16), (4, 256, 1024, 160, "packed", F)):
        name = f"matmul_nbits_{bits}_{block}_{k}x{n}_{zeros or 'mid'}_{dtype.__name__}"
        r, blocks = rng(name), -(-k // block)
        codes = r.integers(0, 1 << bits, (n, blocks, block)).astype(U8)
        b = np.stack([pack_bits(codes[:, i], bits) for i in range(blocks)], 1)
        z = None if zeros is None else normal(r, n, blocks, dtype=dtype, scale=3) + 8 if zeros == "float" else \
            pack_bits(r.integers(0, 1 << bits, (n, blocks)).astype(U8), bits)
        inputs = {"a": normal(r, 2, 3, k, dtype=dtype), "b": b, "s": (r.uniform(0.01, 0.1, (n, blocks))).astype(dtype), "z": z}
        case(name, "MatMulNBits", inputs, {"y": T.FLOAT if dtype is F else T.FLOAT16},
             {"K": k, "N": n, "bits": bits, "block_size": block}, fixed="bsz", atol=1e-3 if dtype is F else 0.1,
             rtol=1e-3 if dtype is F else 1e-2)
    r = rng("bias")
    case("matmul_nbits_bias", "MatMulNBits", {
        "a": normal(r, 5, 64), "b": r.integers(0, 256, (16, 2, 16)).astype(U8), "s": r.uniform(0.01, 0.1, (16, 2)).astype(F),
        "z": None, "g": None, "bias": normal(r, 16)}, {"y": T.FLOAT}, {"K": 64, "N": 16, "bits": 4, "block_size": 32},
        fixed=["b", "s", "bias"], atol=1e-3)


def matmul_bnb4():
    for kind in (0, 1):
        for block, n, k in ((64, 24, 128), (64, 300, 512), (32, 16, 64)):
            r = rng(f"bnb{kind}{block}{n}")
            case(f"matmul_bnb4_{kind}_{block}_{n}", "MatMulBnb4",
                 {"a": normal(r, 3, k), "b": r.integers(0, 256, n * k // 2).astype(U8),
                  "s": r.uniform(0.01, 0.1, n * k // block).astype(F)}, {"y": T.FLOAT},
                 {"K": k, "N": n, "block_size": block, "quant_type": kind}, fixed="bs", atol=1e-3)


def fused_products():
    r = rng("fused")
    a, b = normal(r, 2, 3, 4), normal(r, 2, 4, 5)
    case("fused_matmul", "FusedMatMul", {"a": a, "b": b}, {"y": T.FLOAT}, {"alpha": 0.5})
    case("fused_matmul_trans", "FusedMatMul", {"a": a.swapaxes(1, 2).copy(), "b": b.swapaxes(1, 2).copy()}, {"y": T.FLOAT},
         {"transA": 1, "transB": 1})
    case("fused_matmul_batch", "FusedMatMul", {"a": normal(r, 3, 2, 4), "b": normal(r, 4, 2, 5)}, {"y": T.FLOAT},
         {"transBatchA": 1, "transBatchB": 1})
    case("fused_matmul_batch_4d", "FusedMatMul", {"a": normal(r, 5, 2, 3, 4), "b": normal(r, 2, 3, 4, 6)}, {"y": T.FLOAT},
         {"transBatchA": 1})
    for act, extra in (("Relu", {}), ("Tanh", {}), ("LeakyRelu", {"activation_alpha": 0.1}), ("Sigmoid", {})):
        case(f"fused_gemm_{act}", "FusedGemm", {"a": normal(r, 3, 4), "b": normal(r, 5, 4), "c": normal(r, 5)}, {"y": T.FLOAT},
             {"transB": 1, "alpha": 0.5, "beta": 2.0, "activation": act, **extra})


def integer_products():
    r = rng("integer")
    for kind, dtype, lo, hi in (("u8", U8, 0, 256), ("i8", I8, -128, 128)):
        b = r.integers(lo, hi, (600, 7)).astype(dtype)
        for per in ("tensor", "column"):
            n = 7 if per == "column" else 1
            s = r.uniform(0.01, 0.1, n).astype(F)
            z = r.integers(lo // 4, hi // 4, n).astype(dtype)
            for bias in (None, normal(r, 7)):
                tail = f"{kind}_{per}_{'bias' if bias is not None else 'plain'}"
                case(f"dynamic_quantize_matmul_{tail}", "DynamicQuantizeMatMul",
                     {"a": normal(r, 2, 3, 600), "b": b, "s": s, "z": z, "bias": bias}, {"y": T.FLOAT}, fixed=["b", "s", "z"],
                     atol=1e-3)
                case(f"matmul_integer_to_float_{tail}", "MatMulIntegerToFloat",
                     {"a": r.integers(0, 256, (2, 3, 600)).astype(U8), "b": b, "sa": np.array(0.02, F), "s": s,
                      "za": np.array(120, U8), "z": z, "bias": bias}, {"y": T.FLOAT}, fixed=["b", "s", "z"], atol=1e-2)
    for out in (True, False):
        case(f"qgemm_{out}", "QGemm",
             {"a": r.integers(0, 256, (3, 9)).astype(U8), "sa": np.array(0.02, F), "za": np.array(120, U8),
              "b": r.integers(-128, 128, (5, 9)).astype(I8), "sb": r.uniform(0.01, 0.1, 5).astype(F), "zb": np.zeros(5, I8),
              "c": r.integers(-1000, 1000, 5).astype(I32), "sy": np.array(0.5, F) if out else None,
              "zy": np.array(100, U8) if out else None}, {"y": T.UINT8 if out else T.FLOAT}, {"transB": 1},
             fixed=["b", "sb", "zb", "za"], atol=1e-3)


def block_gather():
    for bits, block, zeros in ((4, 16, True), (4, 32, False), (8, 32, True), (8, 16, False)):
        r = rng(f"gather{bits}{block}")
        rows, k = 40, 64
        codes = r.integers(0, 1 << bits, (rows, k)).astype(U8)
        z = pack_bits(r.integers(0, 1 << bits, (rows, k // block)).astype(U8), bits) if zeros else None
        case(f"gather_block_quantized_{bits}_{block}", "GatherBlockQuantized",
             {"data": pack_bits(codes, bits), "i": np.array([[3, -1, 7], [0, 39, 3]], I64),
              "s": r.uniform(0.01, 0.1, (rows, k // block)).astype(F), "z": z}, {"y": T.FLOAT},
             {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}, fixed=["data", "s", "z"])


# ---- quantised weights of ai.onnx, which go into products packed ----

def four_bits(name, codes, kind):
    low = codes.reshape(-1).astype(np.int64) & 15
    return helper.make_tensor(name, kind, codes.shape, (low[0::2] | low[1::2] << 4).astype(U8).tobytes(), raw=True)


def quantised_weights():
    r = rng("qdq")
    node, k, n = helper.make_node, 512, 320
    x, w8 = normal(r, 2, 3, k), r.integers(-128, 128, (k, n)).astype(I8)
    scales, y = r.uniform(0.01, 0.02, n).astype(F), {"y": T.FLOAT}
    product = lambda **kw: [node("DequantizeLinear", ["w", "s", "z"] if kw.pop("zero", True) else ["w", "s"], ["f"], **kw),
                            node("MatMul", ["x", "f"], ["y"])]
    add = lambda name, nodes, ins, fixed, outs=y: CASES.update({f"weights_{name}": Graph(nodes, ins, outs, fixed, atol=1e-3)})
    add("i8_tensor", product(), {"x": x}, {"w": w8, "s": np.array(0.01, F), "z": np.array(3, I8)})
    add("i8_column", product(axis=1), {"x": x}, {"w": w8, "s": scales, "z": np.zeros(n, I8)})
    add("i8_column_zeros", product(axis=1), {"x": x}, {"w": w8, "s": scales, "z": r.integers(-9, 9, n).astype(I8)})
    add("u8_inner", product(axis=0), {"x": x}, {"w": w8.view(U8), "s": r.uniform(0.01, 0.02, k).astype(F), "z": np.full(k, 128, U8)})
    add("i8_gemm", [node("DequantizeLinear", ["w", "s"], ["f"], axis=0), node("Gemm", ["x", "f"], ["y"], transB=1)],
        {"x": x[0]}, {"w": np.ascontiguousarray(w8.T), "s": scales})
    codes, blocks = r.integers(-8, 8, (k, 2 * n)), r.uniform(0.01, 0.02, (k // 32, 2 * n)).astype(F)
    add("i4_blocks", product(axis=0, block_size=32, zero=False), {"x": x}, {"w": four_bits("w", codes, T.INT4), "s": blocks})
    add("u4_blocks", product(axis=0, block_size=32), {"x": x},
        {"w": four_bits("w", codes + 8, T.UINT4), "s": blocks, "z": four_bits("z", r.integers(0, 16, blocks.shape), T.UINT4)})
    add("i4_embedding", [node("DequantizeLinear", ["w", "s"], ["f"], axis=1, block_size=32), node("Gather", ["f", "i"], ["y"])],
        {"i": np.array([3, 511, 0], I64)}, {"w": four_bits("w", codes, T.INT4), "s": r.uniform(0.01, 0.02, (k, n // 16)).astype(F)})
    big, wide = normal(r, 2, 3, 1536), r.integers(-128, 128, (1536, 384)).astype(I8)
    ints = [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("MatMulInteger", ["q", "w", "z", "wz"], ["i"])]
    add("dynamic_i8", ints, {"x": big}, {"w": wide, "wz": np.array(0, I8)}, {"i": T.INT32})
    add("dynamic_u8", ints, {"x": big}, {"w": wide.view(U8), "wz": np.array(120, U8)}, {"i": T.INT32})
    add("dynamic_columns", ints, {"x": big[:, :, :200]}, {"w": wide[:200], "wz": r.integers(-9, 9, 384).astype(I8)}, {"i": T.INT32})


# ---- norms and activations ----

def norms():
    r = rng("norms")
    x, skip, g, b, bias = normal(r, 2, 3, 8), normal(r, 2, 3, 8), normal(r, 8), normal(r, 8), normal(r, 8)
    for name, beta, extra, sums in (("full", b, bias, True), ("no_bias", b, None, False), ("no_beta", None, bias, False)):
        case(f"skip_layer_norm_{name}", "SkipLayerNormalization", {"x": x, "skip": skip, "g": g, "b": beta, "bias": extra},
             {"y": T.FLOAT, "m": T.FLOAT, "v": T.FLOAT, "sum": T.FLOAT}, {"epsilon": 1e-5},
             skip_outputs=("m", "v") if sums else ("m", "v", "sum"))
        case(f"skip_rms_norm_{name}", "SkipSimplifiedLayerNormalization", {"x": x, "skip": skip, "g": g, "bias": extra},
             {"y": T.FLOAT, "m": T.FLOAT, "v": T.FLOAT, "sum": T.FLOAT}, {"epsilon": 1e-5},
             skip_outputs=("m", "v") if sums else ("m", "v", "sum"))
    case("skip_layer_norm_broadcast", "SkipLayerNormalization", {"x": x, "skip": skip[0], "g": g, "b": b}, {"y": T.FLOAT})
    case("simplified_layer_norm", "SimplifiedLayerNormalization", {"x": x, "g": g}, {"y": T.FLOAT}, {"axis": -1, "epsilon": 1e-6},
         domain="")
    ids, seg = r.integers(0, 20, (2, 5)).astype(I32), r.integers(0, 2, (2, 5)).astype(I32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], I32)
    tables = {"w": normal(r, 20, 8), "p": normal(r, 16, 8), "s": normal(r, 2, 8)}
    case("embed_layer_norm", "EmbedLayerNormalization", {"ids": ids, "seg": seg, **tables, "g": g, "b": b, "mask": mask},
         {"y": T.FLOAT, "index": T.INT32, "sum": T.FLOAT}, {"epsilon": 1e-5})
    case("embed_layer_norm_distil", "EmbedLayerNormalization",
         {"ids": ids, "seg": None, "w": tables["w"], "p": tables["p"], "s": None, "g": g, "b": b, "mask": None,
          "at": np.array([[0, 2, 4, 6, 1]], I32)}, {"y": T.FLOAT, "index": T.INT32}, {"epsilon": 1e-5})


def activations():
    r = rng("act")
    x, b = normal(r, 2, 3, 8, scale=3), normal(r, 8)
    case("gelu", "Gelu", {"x": x}, {"y": T.FLOAT})
    case("bias_gelu", "BiasGelu", {"x": x, "b": b}, {"y": T.FLOAT})
    case("fast_gelu", "FastGelu", {"x": x}, {"y": T.FLOAT})
    case("fast_gelu_bias", "FastGelu", {"x": x, "b": b}, {"y": T.FLOAT})
    case("quick_gelu", "QuickGelu", {"x": x}, {"y": T.FLOAT})
    case("quick_gelu_alpha", "QuickGelu", {"x": x}, {"y": T.FLOAT}, {"alpha": 1.2})
    erf = np.vectorize(__import__("math").erf)
    gelu = lambda v: (v * 0.5 * (1 + erf(v / np.sqrt(2)))).astype(F)
    case("bias_add", "BiasAdd", {"x": x, "b": b, "s": normal(r, 2, 3, 8)}, {"y": T.FLOAT},
         expected=lambda i: [i["x"] + i["b"] + i["s"]])
    case("bias_split_gelu", "BiasSplitGelu", {"x": x, "b": b}, {"y": T.FLOAT},
         expected=lambda i: [(i["x"] + i["b"])[..., :4] * gelu((i["x"] + i["b"])[..., 4:])])


def group_norm(x, g, b, groups, eps, last, silu):
    v = np.moveaxis(x, -1, 1) if last else x
    s = v.reshape(v.shape[0], groups, -1).astype(np.float64)
    s = (s - s.mean(-1, keepdims=True)) / np.sqrt(s.var(-1, keepdims=True) + eps)
    s = s.reshape(v.shape) * g[:, None, None] + b[:, None, None]
    s = s / (1 + np.exp(-s)) if silu else s
    return (np.moveaxis(s, 1, -1) if last else s).astype(F)


def group_norms():
    r = rng("groups")
    for last in (0, 1):
        for silu in (0, 1):
            shape = (2, 4, 3, 8) if last else (2, 8, 4, 3)
            x, g, b = normal(r, *shape), normal(r, 8), normal(r, 8)
            attrs = {"activation": silu, "channels_last": last, "groups": 4, "epsilon": 1e-5}
            case(f"group_norm_{last}{silu}", "GroupNorm", {"x": x, "g": g, "b": b}, {"y": T.FLOAT}, attrs,
                 expected=lambda i, l=last, s=silu: [group_norm(i["x"], i["g"], i["b"], 4, 1e-5, l, s)])
    x, skip, bias = normal(r, 2, 4, 3, 8), normal(r, 2, 8), normal(r, 8)

    def skipped(i):
        s = i["x"] + i["skip"][:, None, None, :] + i["bias"]
        return [group_norm(s, i["g"], i["b"], 2, 1e-5, 1, 1), s]
    case("skip_group_norm", "SkipGroupNorm", {"x": x, "g": normal(r, 8), "b": normal(r, 8), "skip": skip, "bias": bias},
         {"y": T.FLOAT, "s": T.FLOAT}, {"activation": 1, "groups": 2, "epsilon": 1e-5}, expected=skipped)


# ---- quantised elementwise ----

def qlinear():
    r = rng("qlinear")
    s = lambda v: np.array(v, F)
    for dtype, lo, hi, zero, out in ((U8, 0, 256, 128, T.UINT8), (I8, -128, 128, 3, T.INT8)):
        t, z = dtype.__name__, np.array(zero, dtype)
        a, b = r.integers(lo, hi, (2, 3, 8)).astype(dtype), r.integers(lo, hi, (3, 8)).astype(dtype)
        for op in ("QLinearAdd", "QLinearMul"):
            case(f"{op}_{t}", op, {"a": a, "sa": s(0.05), "za": z, "b": b, "sb": s(0.03), "zb": z, "sc": s(0.2), "zc": z},
                 {"y": out}, atol=1)
        one = {"a": a, "sa": s(0.05), "za": z, "sy": s(0.01), "zy": z}
        case(f"QLinearSigmoid_{t}", "QLinearSigmoid", one, {"y": out}, atol=1, fixed=["sa", "za", "sy", "zy"])
        case(f"QLinearLeakyRelu_{t}", "QLinearLeakyRelu", one, {"y": out}, {"alpha": 0.2}, atol=1, fixed=["sa", "za", "sy", "zy"])
        case(f"QLinearSoftmax_{t}", "QLinearSoftmax", {**one, "sy": s(1 / 256), "zy": np.array(lo, dtype)}, {"y": out},
             {"axis": -1, "opset": 13}, atol=1, fixed=["sa", "za", "sy", "zy"])
        image = r.integers(lo, hi, (2, 3, 6, 5)).astype(dtype)
        pool = {"a": image, "sa": s(0.05), "za": z, "sy": s(0.04), "zy": z}
        case(f"QLinearGlobalAveragePool_{t}", "QLinearGlobalAveragePool", pool, {"y": out}, {"channels_last": 0}, atol=1,
             fixed=["sa", "za", "sy", "zy"])
        case(f"QLinearAveragePool_{t}", "QLinearAveragePool", pool, {"y": out},
             {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}, atol=1, fixed=["sa", "za", "sy", "zy"])
        case(f"QLinearConcat_{t}", "QLinearConcat", {"sy": s(0.1), "zy": z, "a": a, "sa": s(0.05), "za": z, "b": a[:, :2],
                                                     "sb": s(0.2), "zb": z}, {"y": out}, {"axis": 1}, atol=1,
             fixed=["sy", "zy", "sa", "za", "sb", "zb"])
        case(f"QLinearWhere_{t}", "QLinearWhere", {"c": r.integers(0, 2, (2, 3, 8)).astype(bool), "x": a, "sx": s(0.05), "zx": z,
                                                   "y": b, "sy": s(0.03), "zy": z, "sz": s(0.06), "zz": z}, {"out": out}, atol=1,
             fixed=["sx", "zx", "sy", "zy", "sz", "zz"])
        v = normal(r, 2, 3, 8, scale=3)
        case(f"QuantizeLinear_{t}", "QuantizeLinear", {"x": v, "s": s(0.05), "z": z}, {"y": out}, atol=0)
        case(f"DequantizeLinear_{t}", "DequantizeLinear", {"x": a, "s": normal(r, 3), "z": np.full(3, zero, dtype)},
             {"y": T.FLOAT}, {"axis": 1}, fixed=["z"])


# ---- convolutions ----

def nhwc(v):
    return np.moveaxis(v, 1, -1).copy()


def convolutions():
    r = rng("conv")
    x, w, b = normal(r, 2, 4, 7, 6), normal(r, 6, 4, 3, 3), normal(r, 6)
    for act, params in (("Relu", None), ("LeakyRelu", [0.1]), ("Clip", [-0.5, 0.8]), ("HardSigmoid", [0.3, 0.4])):
        attrs = {"activation": act, "pads": [1, 1, 1, 1], **({"activation_params": params} if params else {})}
        case(f"fused_conv_{act}", "FusedConv", {"x": x, "w": w, "b": b}, {"y": T.FLOAT}, attrs, fixed="wb", atol=1e-4)
    case("fused_conv_add", "FusedConv", {"x": x, "w": w, "b": b, "z": normal(r, 2, 6, 5, 4)}, {"y": T.FLOAT},
         {"activation": "Relu"}, fixed="wb", atol=1e-4)

    def plain(i):
        import torch
        y = torch.nn.functional.conv2d(torch.tensor(np.moveaxis(i["x"], -1, 1).copy()), torch.tensor(i["w"]),
                                       torch.tensor(i["b"]), stride=2, padding=1)
        return [nhwc(y.numpy())]
    case("nhwc_conv", "NhwcConv", {"x": nhwc(x), "w": w, "b": b}, {"y": T.FLOAT}, {"pads": [1, 1, 1, 1], "strides": [2, 2]},
         fixed="wb", expected=plain, atol=1e-4)


# ---- attention ----

def multi_head():
    r = rng("mha")
    b, s, t, n, d = 2, 4, 6, 3, 8
    h = n * d
    q, k, v = normal(r, b, s, h), normal(r, b, t, h), normal(r, b, t, h)
    out = {"y": T.FLOAT}
    case("mha", "MultiHeadAttention", {"q": q, "k": k, "v": v}, out, {"num_heads": n})
    case("mha_bias_scale", "MultiHeadAttention", {"q": q, "k": k, "v": v, "b": normal(r, 3 * h)}, out,
         {"num_heads": n, "scale": 0.2})
    mask = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], I32)
    case("mha_mask2d", "MultiHeadAttention", {"q": q, "k": k, "v": v, "b": None, "m": mask}, out, {"num_heads": n})
    case("mha_mask1d", "MultiHeadAttention", {"q": q, "k": k, "v": v, "b": None, "m": np.array([4, 6], I32)}, out,
         {"num_heads": n})
    case("mha_mask3d", "MultiHeadAttention", {"q": q, "k": k, "v": v, "b": None, "m": np.repeat(mask[:, None], s, 1)}, out,
         {"num_heads": n, "mask_filter_value": -5.0})
    case("mha_masked_row", "MultiHeadAttention", {"q": q, "k": k, "v": v, "b": None, "m": mask * np.array([[0], [1]], I32)}, out,
         {"num_heads": n})
    case("mha_attention_bias", "MultiHeadAttention", {"q": q, "k": k, "v": v, "b": None, "m": mask, "ab": normal(r, 1, n, s, t)},
         out, {"num_heads": n})
    case("mha_causal", "MultiHeadAttention", {"q": q, "k": k[:, :s], "v": v[:, :s]}, out, {"num_heads": n, "unidirectional": 1})
    case("mha_heads_given", "MultiHeadAttention", {"q": q, "k": normal(r, b, n, t, d), "v": normal(r, b, n, t, d)}, out,
         {"num_heads": n})
    case("mha_other_v", "MultiHeadAttention", {"q": q, "k": k, "v": normal(r, b, t, n * 5)}, out, {"num_heads": n})
    past = {"pk": normal(r, b, n, 5, d), "pv": normal(r, b, n, 5, d)}
    none = {"b": None, "m": None, "ab": None}
    case("mha_past", "MultiHeadAttention", {"q": q, "k": k[:, :s], "v": v[:, :s], **none, **past},
         {**out, "nk": T.FLOAT, "nv": T.FLOAT}, {"num_heads": n})
    case("mha_past_causal", "MultiHeadAttention", {"q": q, "k": k[:, :s], "v": v[:, :s], **none, **past},
         {**out, "nk": T.FLOAT, "nv": T.FLOAT}, {"num_heads": n, "unidirectional": 1})
    one = {"q": q[:, :1], "k": k[:, :1], "v": v[:, :1]}
    cache = {"pk": normal(r, b, n, 9, d), "pv": normal(r, b, n, 9, d), "had": np.array([5], I32)}
    attrs = {"num_heads": n, "past_present_share_buffer": 1}
    case("decoder_masked", "DecoderMaskedMultiHeadAttention", {**one, "m": None, "ab": None, **cache},
         {**out, "nk": T.FLOAT, "nv": T.FLOAT}, attrs)
    case("decoder_masked_mask", "DecoderMaskedMultiHeadAttention",
         {**one, "m": np.array([[0, 1, 1, 1, 1, 1], [1] * 6], I32), "ab": None, **cache},
         {**out, "nk": T.FLOAT, "nv": T.FLOAT}, attrs)
    case("decoder_masked_cross", "DecoderMaskedMultiHeadAttention",
         {"q": q[:, :1], "k": normal(r, b, n, t, d), "v": normal(r, b, n, t, d), "m": mask}, out, {"num_heads": n})


def attention():
    r = rng("attention")
    b, s, n, d = 2, 5, 2, 4
    h = n * d
    x, w, bias = normal(r, b, s, 6), normal(r, 6, 3 * h), normal(r, 3 * h)
    out, a = {"y": T.FLOAT}, {"num_heads": n}
    case("attention", "Attention", {"x": x, "w": w, "b": bias}, out, a, fixed="wb")
    case("attention_causal", "Attention", {"x": x, "w": w, "b": bias}, out, {**a, "unidirectional": 1}, fixed="wb")
    case("attention_mask2d", "Attention", {"x": x, "w": w, "b": bias, "m": np.array([[1, 1, 1, 0, 0], [1] * 5], I32)}, out, a,
         fixed="wb")
    case("attention_mask1d", "Attention", {"x": x, "w": w, "b": bias, "m": np.array([3, 5], I32)}, out, a, fixed="wb")
    case("attention_mask_ends", "Attention", {"x": x, "w": w, "b": bias, "m": np.array([5, 5, 2, 0], I32)}, out, a, fixed="wb")
    case("attention_mask3d", "Attention",
         {"x": x, "w": w, "b": bias, "m": np.tril(np.ones((s, s), I32))[None].repeat(b, 0)}, out, a, fixed="wb")
    case("attention_past", "Attention", {"x": x, "w": w, "b": bias, "m": None, "p": normal(r, 2, b, n, 3, d)},
         {**out, "n": T.FLOAT}, {**a, "unidirectional": 1}, fixed="wb")
    case("attention_bias_input", "Attention",
         {"x": x, "w": w, "b": bias, "m": None, "p": None, "ab": normal(r, 1, n, s, s)}, out, a, fixed="wb")
    case("attention_sizes", "Attention", {"x": x, "w": normal(r, 6, 2 * h + 6), "b": normal(r, 2 * h + 6)}, out,
         {**a, "qkv_hidden_sizes": [h, h, 6]}, fixed="wb")
    for dtype, lo, hi, z in ((U8, 0, 256, 120), (I8, -128, 128, 0)):
        inputs = {"x": r.integers(0, 256, (b, s, 6)).astype(U8), "w": r.integers(lo, hi, (6, 3 * h)).astype(dtype), "b": bias,
                  "sx": np.array(0.01, F), "sw": np.array(0.02, F), "m": np.array([[1, 1, 1, 0, 0], [1] * 5], I32),
                  "zx": np.array(130, U8), "zw": np.array(z, dtype)}
        case(f"qattention_{dtype.__name__}", "QAttention", inputs, out, a, fixed=["w", "b", "sx", "sw", "zx", "zw"])
        case(f"qattention_past_{dtype.__name__}", "QAttention", {**inputs, "m": None, "p": normal(r, 2, b, n, 3, d)},
             {**out, "n": T.FLOAT}, {**a, "unidirectional": 1}, fixed=["w", "b", "sx", "sw", "zx", "zw"])


def group_query():
    r = rng("gqa")
    n, kv, d = 4, 2, 16
    angle = np.arange(32)[:, None] / 10000 ** (np.arange(d // 2) / (d // 2))
    cos, sin = np.cos(angle).astype(F), np.sin(angle).astype(F)
    outs = {"y": T.FLOAT, "nk": T.FLOAT, "nv": T.FLOAT}

    # loose: buffers have rows behind the keys, of which the op says nothing
    def add(name, b, s, past, lens, attrs=None, rotary=False, packed=False, room=0, loose=False, **extra):
        q, k, v = normal(r, b, s, n * d), normal(r, b, s, kv * d), normal(r, b, s, kv * d)
        total = max(lens) + 1
        inputs = {"q": np.concatenate([q, k, v], 2) if packed else q, "k": None if packed else k, "v": None if packed else v,
                  "pk": normal(r, b, kv, past + room, d), "pv": normal(r, b, kv, past + room, d),
                  "lens": np.array(lens, I32), "total": np.array(total, I32),
                  "cos": cos if rotary else None, "sin": sin if rotary else None, **extra}
        base = {"num_heads": n, "kv_num_heads": kv, **({"do_rotary": 1} if rotary else {})}
        case(f"gqa_{name}", "GroupQueryAttention", inputs, outs, {**base, **(attrs or {})}, fixed=["total", "cos", "sin"],
             loose=("nk", "nv") if loose else ())
    add("prompt", 2, 5, 0, [4, 4])
    add("prompt_packed_rotary", 2, 5, 0, [4, 4], rotary=True, packed=True)
    add("prompt_interleaved", 1, 5, 0, [4], {"rotary_interleaved": 1}, rotary=True)
    add("token", 2, 1, 6, [6, 6])
    add("token_rotary", 1, 1, 6, [6], rotary=True)
    add("token_ragged", 2, 1, 6, [6, 4], rotary=True, loose=True)
    add("chunk", 1, 3, 6, [8], rotary=True)
    add("window", 1, 6, 0, [5], {"local_window_size": 3})
    add("token_window", 1, 1, 9, [9], {"local_window_size": 4}, rotary=True)
    add("softcap_scale", 2, 4, 0, [3, 3], {"softcap": 2.0, "scale": 0.5})
    add("smooth", 2, 4, 0, [3, 3], {"smooth_softmax": 1})
    add("sink", 2, 4, 0, [3, 3], position=None, bias=None, head_sink=normal(r, n))
    add("bias", 2, 4, 0, [3, 3], position=None, attention_bias=normal(r, 1, n, 4, 4))
    add("room", 1, 1, 6, [6], rotary=True, room=8, loose=True)


def rotary():
    r = rng("rotary")
    angle = np.arange(16)[:, None] / 10000 ** (np.arange(4) / 4)
    cos, sin = np.cos(angle).astype(F), np.sin(angle).astype(F)
    ids = np.array([[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]], I64)
    x3, x4 = normal(r, 2, 5, 24), normal(r, 2, 3, 5, 8)
    for i in (0, 1):
        case(f"rotary_3d_{i}", "RotaryEmbedding", {"x": x3, "ids": ids, "c": cos, "s": sin}, {"y": T.FLOAT}, {"interleaved": i})
        case(f"rotary_4d_{i}", "RotaryEmbedding", {"x": x4, "ids": np.array([2], I64), "c": cos, "s": sin}, {"y": T.FLOAT},
             {"interleaved": i})
        case(f"rotary_partial_{i}", "RotaryEmbedding", {"x": x3, "ids": ids, "c": cos[:, :2], "s": sin[:, :2]}, {"y": T.FLOAT},
             {"interleaved": i, "num_heads": 3, "rotary_embedding_dim": 4})


def t5_bias(table, q, k, most, both):
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention
    rel = torch.arange(k)[None, :] - torch.arange(q)[:, None]
    bucket = T5Attention._relative_position_bucket(rel, both, table.shape[0], most)
    return table[bucket.numpy()].transpose(2, 0, 1)[None]


def relative_position():
    r = rng("t5")
    for both in (0, 1):
        case(f"relative_position_bias_{both}", "RelativePositionBias",
             {"t": normal(r, 32, 4), "q": np.array(20, I64), "k": np.array(150, I64)}, {"y": T.FLOAT},
             {"max_distance": 128, "is_bidirectional": both}, fixed="qk",
             expected=lambda i, both=both: [t5_bias(i["t"], 20, 150, 128, bool(both))])


def linear_attention():
    r = rng("linear")
    b, t, h, g, d, e = 2, 5, 4, 2, 8, 6
    q, k, v = normal(r, b, t, h * d), normal(r, b, t, g * d, scale=0.3), normal(r, b, t, g * e)
    decay, beta = -np.abs(normal(r, b, t, g * d)), r.uniform(0, 1, (b, t, g)).astype(F)
    for rule, gate, rate in (("linear", None, None), ("gated", decay, None), ("gated", decay[..., :g], None),
                             ("delta", None, beta), ("gated_delta", decay, beta), ("gated_delta", decay[..., :g], beta[..., :1])):
        for state in (None, normal(r, b, g, d, e)):
            name = f"linear_attention_{rule}_{0 if gate is None else gate.shape[2]}_{state is not None}"
            case(name, "LinearAttention", {"q": q, "k": k, "v": v, "st": state, "decay": gate, "beta": rate},
                 {"y": T.FLOAT, "n": T.FLOAT}, {"q_num_heads": h, "kv_num_heads": g, "update_rule": rule})


def causal_conv():
    r = rng("causal")
    for act in ("none", "silu"):
        for past in (None, normal(r, 2, 4, 3)):
            case(f"causal_conv_{act}_{past is not None}", "CausalConvWithState",
                 {"x": normal(r, 2, 4, 7), "w": normal(r, 4, 1, 4), "b": normal(r, 4), "p": past},
                 {"y": T.FLOAT, "n": T.FLOAT}, {"activation": act})


# ---- mixtures of experts ----

def mixtures():
    r = rng("moe")
    e, t, h, m = 4, 6, 32, 64
    x, scores = normal(r, t, h), normal(r, t, e)
    w1, w2 = normal(r, e, m, h, scale=0.2), normal(r, e, h, m, scale=0.2)
    for act in ("relu", "gelu", "silu", "identity"):
        case(f"moe_{act}", "MoE", {"x": x, "p": scores, "w1": w1, "b1": normal(r, e, m), "w2": w2, "b2": normal(r, e, h)},
             {"y": T.FLOAT}, {"k": 2, "activation_type": act, "normalize_routing_weights": 1}, atol=1e-3)
    case("moe_plain", "MoE", {"x": x, "p": scores, "w1": w1, "b1": None, "w2": w2}, {"y": T.FLOAT}, {"k": 1}, atol=1e-3)
    case("moe_swiglu", "MoE", {"x": x.reshape(2, 3, h), "p": scores, "w1": normal(r, e, 2 * m, h, scale=0.2), "b1": normal(r, e, 2 * m),
                               "w2": w2}, {"y": T.FLOAT},
         {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.702, "activation_beta": 1.0,
          "swiglu_limit": 7.0, "normalize_routing_weights": 1}, atol=1e-3)
    for bits in (4, 8):
        for block in (0, 32):
            codes = lambda *s: pack_bits(r.integers(0, 1 << bits, s).astype(U8), bits)
            scale = lambda rows, k: r.uniform(0.01, 0.05, (e, rows, k // block) if block else (e, rows)).astype(F)
            case(f"qmoe_{bits}_{block}", "QMoE",
                 {"x": x, "p": scores, "w1": codes(e, 2 * m, h), "s1": scale(2 * m, h), "b1": None, "w2": codes(e, h, m),
                  "s2": scale(h, m)}, {"y": T.FLOAT},
                 {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.702, "activation_beta": 1.0,
                  "expert_weight_bits": bits, "normalize_routing_weights": 1, **({"block_size": block} if block else {})},
                 fixed=["w1", "s1", "w2", "s2"], atol=1e-2,
                 expected=(lambda i, bits=bits: [qmoe(i, bits)]) if bits == 8 and block else None)


def qmoe(i, bits):
    """ONNX Runtime rounds activations to 8 bits where weights have 8 in blocks; this is the definition."""
    def matrix(codes, scales):
        per = 8 // bits
        c = np.stack([codes >> k * bits & (1 << bits) - 1 for k in range(per)], -1).reshape(*codes.shape[:2], -1)
        return (c.astype(np.float64) - (1 << bits - 1)) * np.repeat(scales, c.shape[2] // scales.shape[2], 2)
    w1, w2 = matrix(i["w1"], i["s1"]), matrix(i["w2"], i["s2"])
    y = np.zeros(i["x"].shape)
    for t, (row, score) in enumerate(zip(i["x"].astype(np.float64), i["p"].astype(np.float64))):
        best = np.argsort(-score)[:2]
        share = np.exp(score[best]) / np.exp(score[best]).sum()
        for e, part in zip(best, share):
            a = w1[e] @ row
            g, l = a[0::2], a[1::2]
            y[t] += part * (w2[e] @ (g / (1 + np.exp(-1.702 * g)) * (l + 1)))
    return y.astype(F)


for build in (matmul_nbits, matmul_bnb4, fused_products, integer_products, block_gather, quantised_weights, norms,
              activations, group_norms,
              qlinear, convolutions, multi_head, attention, group_query, rotary, relative_position, linear_attention,
              causal_conv, mixtures):
    build()


# ---- running ----

def expect(c):
    """Outputs by ONNX Runtime, or by the case's own definition."""
    if c.expected:
        return c.expected(c.inputs)
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(c.model().SerializeToString(), options, ["CPUExecutionProvider"]).run(None, c.feeds())


def check(tenon, name, c, root):
    folder = root / name
    data = folder / "data"
    data.mkdir(parents=True)
    onnx.save(c.model(c.loose), folder / "model.onnx")
    try:
        outputs = expect(c)
    except ImportError as e:  # torch or transformers, which the requirements do not ask for
        return "skipped", str(e)
    except Exception as e:
        return "no reference", str(e).strip().split("\n")[0][:200]
    for kind, values in (("input", list(c.feeds().values())), ("output", outputs)):
        for i, v in enumerate(values):
            (data / f"{kind}_{i}.pb").write_bytes(numpy_helper.from_array(np.array(v, order="C")).SerializeToString())
    command = [tenon, "verify", str(folder / "model.onnx"), str(data), "--rtol", str(c.rtol), "--atol", str(c.atol)]
    p = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return ("pass", "") if p.returncode == 0 else ("FAIL", (p.stdout + p.stderr).strip()[-600:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tenon")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep")
    a = parser.parse_args()
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        print("skipped: there is no onnxruntime")
        return 77
    names = [n for n in CASES if re.search(a.only, n)]
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        root = pathlib.Path(a.keep or scratch)
        results = dict(zip(names, pool.map(lambda n: check(a.tenon, n, CASES[n], root), names)))
    for name, (status, words) in results.items():
        if status != "pass":
            print(f"{status}: {name}\n  " + words.replace("\n", "\n  "))
    passed = sum(status == "pass" for status, _ in results.values())
    skipped = sum(status == "skipped" for status, _ in results.values())
    print(f"{passed} of {len(results)} cases pass, {skipped} are skipped")
    return 0 if passed and passed + skipped == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
