#!/usr/bin/env python3
"""Convolutions, pools and samplers with random attributes and sizes against ONNX Runtime.

Each model is one node; its inputs have fixed sizes, a symbolic first dimension, or only symbolic ones. What neither
agrees on - ONNX Runtime differs from the onnx package's reference in a few corners - is decided by the reference.

  spatial.py TENON [--rounds N] [--seed N] [--only OP]
"""
import argparse, pathlib, subprocess, sys, tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}


class Generator:
    """One random model at a time: (op, attributes, inputs, constants, opset, names of all operands)."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def int(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def one(self, *values):
        return values[self.int(0, len(values) - 1)]

    def floats(self, *shape):
        return self.rng.standard_normal(shape).astype("f")

    def window(self, n, dilations=True, auto=True):
        a = {"kernel_shape": [self.int(1, 4) for _ in range(n)]}
        if self.int(0, 2):
            a["strides"] = [self.int(1, 3) for _ in range(n)]
        pads = self.int(0, 5)
        if auto and not pads:
            a["auto_pad"] = self.one("SAME_UPPER", "SAME_LOWER", "VALID")
        elif dilations and self.int(0, 1):
            a["dilations"] = [self.int(1, 3) for _ in range(n)]
        if pads > 2:
            a["pads"] = [self.int(0, min(2, a["kernel_shape"][i % n] - 1)) for i in range(2 * n)]
        return a

    def Conv(self):
        n, g, c, o = self.int(1, 3), self.one(1, 1, 2, 3), self.int(1, 5), self.int(1, 20)
        a = self.window(n) | {"group": g}
        x = self.floats(self.int(1, 2), c * g, *[self.int(10, 24 - 4 * n) for _ in range(n)])
        constants = {"w": self.floats(o * g, c, *a["kernel_shape"])}
        if self.int(0, 1):
            constants["b"] = self.floats(o * g)
        return a, {"x": x}, constants, 17, None

    def ConvTranspose(self):
        n, g, c, o = self.int(1, 3), self.one(1, 1, 2, 3), self.int(1, 5), self.int(1, 20)
        a = self.window(n, auto=False) | {"group": g}
        if "strides" in a and not self.int(0, 2):
            a["output_padding"] = [self.int(0, s - 1) for s in a["strides"]]
        x = self.floats(self.int(1, 2), c * g, *[self.int(3, 9) for _ in range(n)])
        constants = {"w": self.floats(c * g, o, *a["kernel_shape"])}
        if self.int(0, 1):
            constants["b"] = self.floats(o * g)
        return a, {"x": x}, constants, 17, None

    def ConvInteger(self):
        g, c, o = self.one(1, 1, 2), self.one(self.int(1, 5), self.int(40, 90)), self.int(1, 6)
        a = self.window(2) | {"group": g}
        x = self.rng.integers(0, 256, (1, c * g, self.int(10, 14), self.int(10, 14))).astype("u1")
        w = self.rng.integers(0, 256, (o * g, c, *a["kernel_shape"])).astype(self.one("u1", "i1"))
        return a, {"x": x}, {"w": w, "xz": np.array(self.int(0, 255), "u1"), "wz": np.array(3, w.dtype)}, 17, None

    def pool(self, **more):
        n = self.int(1, 3)
        a = self.window(n, dilations="storage_order" in more) | {k: v for k, v in more.items() if v is not None}
        if a.get("auto_pad", "").startswith("SAME"):
            a.pop("ceil_mode", None)
        return a, {"x": self.floats(self.int(1, 2), self.int(1, 3), *[self.int(10, 20) for _ in range(n)])}, {}, 17, None

    def MaxPool(self):
        return self.pool(ceil_mode=self.int(0, 1), storage_order=self.int(0, 1))

    def AveragePool(self):
        return self.pool(ceil_mode=self.int(0, 1), count_include_pad=self.int(0, 1))

    def LpPool(self):
        return self.pool(p=self.int(1, 3))

    def LRN(self):
        x = self.floats(self.int(1, 2), self.int(1, 9), self.int(1, 6), self.int(1, 6))
        return {"size": 2 * self.int(1, 3) - 1, "alpha": 0.1, "beta": 0.6, "bias": 1.5}, {"x": x}, {}, 17, None

    def Resize(self):
        mode, opset = self.one("nearest", "linear", "cubic"), self.one(11, 13, 18, 19)
        where = self.one("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")
        a = {"mode": mode, "coordinate_transformation_mode": where}
        x, order = self.floats(self.int(1, 2), self.int(1, 2), self.int(2, 12), self.int(2, 12)), ["x", "", "", ""]
        constants = {} if opset > 11 else {"roi": np.zeros(0, "f"), "scales": np.zeros(0, "f")}
        if mode == "nearest":
            a["nearest_mode"] = self.one("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        if mode == "cubic":
            a |= {"exclude_outside": self.int(0, 1), "cubic_coeff_a": self.one(-0.5, -0.75)}
        if where == "tf_crop_and_resize":
            constants["roi"] = np.array([0, 0, 0.11, 0.23, 1, 1, 0.83, 1.17], "f")
            a["extrapolation_value"] = 2.0
        elif opset > 17 and mode != "nearest" and not self.int(0, 2):
            a["antialias"] = 1
        if self.int(0, 1):
            scales = [self.one(0.5, 2, 3, 0.25) for _ in "hw"]
            whole = all(float(s * d).is_integer() for s, d in zip(scales, x.shape[2:]))
            constants["scales"] = np.array([1, 1, *(scales if whole else (2, 3))], "f")
        else:
            constants["sizes"] = np.array([*x.shape[:2], self.int(1, 20), self.int(1, 20)], "i8")
        order = [k if k == "x" or k in constants else "" for k in ("x", "roi", "scales", "sizes")]
        return a, {"x": x}, constants, opset, order[: 3 if not order[3] else 4]

    def Upsample(self):
        scales = np.array([1, 1, self.int(1, 3), self.int(1, 3)], "f")
        x = self.floats(1, 2, self.int(2, 6), self.int(2, 6))
        return {"mode": self.one("nearest", "linear")}, {"x": x}, {"s": scales}, 9, None

    def GridSample(self):
        a = {"mode": self.one("bilinear", "nearest", "bicubic"), "align_corners": self.int(0, 1)}
        a["padding_mode"] = self.one("zeros", "border", "reflection")
        x = self.floats(self.int(1, 2), self.int(1, 3), self.int(2, 8), self.int(2, 8))
        grid = (self.rng.random((x.shape[0], self.int(1, 6), self.int(1, 6), 2)) * 3 - 1.5).astype("f")
        return a, {"x": x, "grid": grid}, {}, 16, None

    def boxes(self):
        n = self.int(1, 4)
        return np.sort(self.rng.random((n, 2, 2)) * 14, axis=1).reshape(n, 4).astype("f")

    def RoiAlign(self):
        a = {"output_height": self.int(1, 4), "output_width": self.int(1, 4), "sampling_ratio": self.int(0, 3)}
        a |= {"spatial_scale": self.one(1.0, 0.5), "coordinate_transformation_mode": self.one("half_pixel", "output_half_pixel")}
        boxes = self.boxes()
        feeds = {"x": self.floats(2, self.int(1, 3), self.int(8, 16), self.int(8, 16)), "boxes": boxes}
        return a, feeds | {"images": self.rng.integers(0, 2, len(boxes))}, {}, 16, None

    def MaxRoiPool(self):
        boxes = self.boxes()
        boxes = np.concatenate([self.rng.integers(0, 2, (len(boxes), 1)).astype("f"), boxes], 1)
        x = self.floats(2, self.int(1, 3), self.int(8, 16), self.int(8, 16))
        a = {"pooled_shape": [self.int(1, 3), self.int(1, 3)], "spatial_scale": self.one(1.0, 0.5)}
        return a, {"x": x, "boxes": boxes}, {}, 17, None

    def DeformConv(self):
        g, parts = self.int(1, 2), self.int(1, 2)
        c, k = 2 * self.int(1, 2), [self.int(1, 3), self.int(1, 3)]
        a = {"group": g, "offset_group": parts, "kernel_shape": k, "strides": [self.int(1, 2), self.int(1, 2)]}
        a |= {"pads": [self.int(0, 1) for _ in range(4)], "dilations": [self.int(1, 2), self.int(1, 2)]}
        x = self.floats(self.int(1, 2), c * g, 9, 10)
        out = [
            (x.shape[2 + i] + a["pads"][i] + a["pads"][2 + i] - (k[i] - 1) * a["dilations"][i] - 1) // a["strides"][i] + 1
            for i in range(2)
        ]
        taps = k[0] * k[1]
        feeds = {"x": x, "w": self.floats(3 * g, c, *k), "offset": self.floats(len(x), 2 * parts * taps, *out)}
        if self.int(0, 1):
            feeds |= {"b": self.floats(3 * g), "mask": self.floats(len(x), parts * taps, *out)}
        return a, feeds, {}, 19, None


class NotRun(str):
    """ONNX Runtime does not take the model."""


OPS = [name for name in vars(Generator) if name[0].isupper()]


def shape_of(name, value, symbolic):
    dims = list(value.shape)
    count = {"none": 0, "first": 1, "all": len(dims)}[symbolic]
    return [f"{name}{i}" if i < count else d for i, d in enumerate(dims)]


def model_of(op, case, symbolic, results):
    attributes, feeds, constants, opset, order = case
    node = helper.make_node(op, order or [*feeds, *constants], [f"y{i}" for i in range(results)], **attributes)
    inputs = [
        helper.make_tensor_value_info(k, TYPES[v.dtype.name], shape_of(k, v, symbolic)) for k, v in feeds.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(o) for o in node.output]
    known = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    graph = helper.make_graph([node], "g", inputs, outputs, known)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def verify(tenon, folder, feeds, wanted):
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for old in data.iterdir():
        old.unlink()
    for kind, values in (("input", list(feeds.items())), ("output", [(f"y{i}", y) for i, y in enumerate(wanted)])):
        for i, (name, value) in enumerate(values):
            (data / f"{kind}_{i}.pb").write_bytes(numpy_helper.from_array(value, name).SerializeToString())
    run = [tenon, "verify", folder / "m.onnx", data, "--rtol", "1e-3", "--atol", "1e-5"]
    return subprocess.run(run, capture_output=True, text=True)


def check(tenon, folder, op, case, symbolic, results):
    """None: fine; else words."""
    attributes, feeds, constants, _, _ = case
    model = model_of(op, case, symbolic, results)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        runner = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        wanted = runner.run(None, feeds)
    except Exception as e:  # as for SAME with steps that leave something out
        return NotRun(str(e))
    for out, y in zip(model.graph.output, wanted):
        out.CopyFrom(helper.make_tensor_value_info(out.name, TYPES[y.dtype.name], None))
    onnx.save(model, folder / "m.onnx")
    r = verify(tenon, folder, feeds, wanted)
    if r.returncode == 0:
        return None
    try:
        decided = [np.asarray(y).astype(w.dtype) for y, w in zip(ReferenceEvaluator(model).run(None, feeds), wanted)]
        if verify(tenon, folder, feeds, decided).returncode == 0:
            return None
    except Exception:  # the reference does not know the opset, or this attribute
        pass
    shapes = {k: v.shape for k, v in (feeds | constants).items()}
    return f"{op}, symbolic {symbolic}: {attributes} {shapes}\n  " + (r.stdout + r.stderr).strip()[-400:]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tenon")
    p.add_argument("--rounds", type=int, default=6)
    p.add_argument("--seed", type=int, default=20261122)
    p.add_argument("--only", choices=OPS)
    args = p.parse_args()
    failed = count = skipped = 0
    with tempfile.TemporaryDirectory() as scratch:
        for i in range(args.rounds):
            for op in [args.only] if args.only else OPS:
                g = Generator([args.seed, i, OPS.index(op)])
                case = getattr(g, op)()
                symbolic = g.one("none", "first", "all")
                if "antialias" in case[0] or "sizes" in case[2] or op == "DeformConv":
                    symbolic = "none"  # sizes and groups are to be known
                bad = check(args.tenon, pathlib.Path(scratch), op, case, symbolic, 2 if "storage_order" in case[0] else 1)
                count += 1
                skipped += isinstance(bad, NotRun)
                failed += bad is not None and not isinstance(bad, NotRun)
                if bad:
                    print(f"round {i}: {bad}", flush=True)
    print(f"{count} models, {failed} failed, {skipped} not taken by ONNX Runtime (seed {args.seed})")
    return failed != 0 or skipped > count // 20


if __name__ == "__main__":
    sys.exit(main())
