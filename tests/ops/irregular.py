"""Cases of scatter, nonzero, unique, nms, det and dft: NumPy, and ONNX Runtime for non-maximum suppression."""

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime

from goldens import INTS, f64, normal, rng, tensor, ulps


def scatter(c):
    how = {"none": None, "add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}
    for dtype in ("f32", "f16", "f64", "bool", *INTS):
        for name, fn in how.items():
            values = normal(5, 3) * 3 if dtype[0] == "f" else rng.integers(0, 2 if dtype == "bool" else 9, (5, 3))
            updates = normal(6, 3) * 3 if dtype[0] == "f" else rng.integers(0, 2 if dtype == "bool" else 9, (6, 3))
            data, up = tensor(dtype, values), tensor(dtype, updates)
            at = tensor("i64", [1, -1, 4, 9, 1, -6])
            out = f64(data).copy() if dtype[0] == "f" else np.array(data.values)
            for i, k in enumerate(at.values):
                if -5 <= k < 5:
                    row = np.asarray(up.values[i]).astype(out.dtype)
                    out[k] = row if fn is None else fn(out[k], row)
                    if dtype[0] == "f":
                        out[k] = f64(tensor(dtype, out[k]))  # rounded after each row
            text = "scatter %a, %b, %c" + (f' {{reduce = "{name}"}}' if fn else "")
            c.add(f"scatter_{name}_{dtype}", text, [data, at, up], [tensor(dtype, out)])
    data = tensor("f32", normal(3))
    c.add("scatter_empty", "scatter %a, %b, %c", [data, tensor("u8", []), tensor("f32", [])], [data])


def nonzero(c):
    for dtype in ("f32", "f64", "f16", "i32", "u8", "bool", "i64"):
        x = rng.integers(0, 3, (4, 5)) * (rng.integers(0, 2, (4, 5)) if dtype != "f32" else np.array(-0.0))
        x = tensor(dtype, x if dtype != "f32" else np.where(rng.integers(0, 2, (4, 5)), -0.0, normal(4, 5)))
        at = np.flatnonzero(np.asarray(x.values).astype(np.float64))
        out = np.zeros(20, np.int64)
        out[: len(at)] = at
        c.add(f"nonzero_{dtype}", "nonzero %a", [x], [tensor("i64", out), tensor("i64", np.int64(len(at)))])


def unique(c):
    for dtype in ("f32", "i32", "u64"):
        for name, shape in {"flat": (12,), "rows": (9, 2), "one": (1,), "none": (0, 2)}.items():
            for is_sorted in (True, False):
                values = rng.integers(0, 3, shape)
                x = tensor(dtype, values if dtype != "f32" else np.where(values == 2, np.nan, values - 0.5))
                plain = np.asarray(x.values)
                keys = np.where(np.isnan(plain), 9, plain) if dtype == "f32" else plain
                n = shape[0]
                _, first, inverse, counts = np.unique(keys, True, True, True, axis=0)
                inverse = inverse.reshape(-1)
                if not is_sorted:
                    order = np.argsort(first)
                    place = np.argsort(order)
                    first, counts, inverse = first[order], counts[order], place[inverse] if n else inverse
                pad = lambda v: np.concatenate([v, np.zeros(n - len(v), np.int64)])
                outs = [pad(first), inverse, pad(counts), np.int64(len(first))]
                text = "unique %a" + ("" if is_sorted else " {sorted = false}")
                label = f"unique_{name}_{'sorted' if is_sorted else 'as_seen'}_{dtype}"
                c.add(label, text, [x], [tensor("i64", v) for v in outs])


def runtime(op, attrs, ins, nout, domain="", opset=20):
    """The outputs of one ONNX node in ONNX Runtime; ins: arrays, or None for an absent one."""
    names = [f"i{i}" if v is not None else "" for i, v in enumerate(ins)]
    node = oh.make_node(op, names, [f"o{i}" for i in range(nout)], domain=domain, **attrs)
    given = [oh.make_tensor_value_info(n, oh.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in zip(names, ins) if n]
    outs = [onnx.ValueInfoProto(name=f"o{i}") for i in range(nout)]
    graph = oh.make_graph([node], "g", given, outs)
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid(domain, opset)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {n: v for n, v in zip(names, ins) if n})


def nms(c):
    for center in (0, 1):
        for limit, iou, least in ((3, 0.4, None), (9, 0.1, 0.2), (0, 0.5, None)):
            corner = rng.uniform(0, 4, (2, 12, 2))
            boxes = np.concatenate([corner, rng.uniform(0.5, 3, (2, 12, 2)) + (0 if center else corner)], 2)
            if not center:
                boxes[:, ::3] = boxes[:, ::3][..., [2, 3, 0, 1]]
            b, s = tensor("f32", boxes), tensor("f32", rng.uniform(0, 1, (2, 3, 12)))
            ins = [b, s, tensor("i64", np.int64(limit)), tensor("f32", np.float32(iou))]
            if least is not None:
                ins.append(tensor("f32", np.float32(least)))
            raw = [np.reshape(t.values, t.shape or (1,)) for t in ins]
            got = runtime("NonMaxSuppression", {"center_point_box": center}, raw, 1)[0]
            out = np.zeros((80, 3), np.int64)
            out[: len(got)] = got
            text = f"nms {', '.join('%' + 'abcde'[i] for i in range(len(ins)))} {{rows = 80{', center' if center else ''}}}"
            label = f"nms_{'center' if center else 'corners'}_{limit}"
            c.add(label, text, ins, [tensor("i64", out), tensor("i64", np.int64(len(got)))])


def det(c):
    for dtype in ("f32", "f64", "f16"):
        for n in (1, 2, 5):
            x = tensor(dtype, normal(3, n, n))
            c.add(f"det_{n}_{dtype}", "det %a", [x], [tensor(dtype, np.linalg.det(f64(x)))], ulps(dtype, 4))
    x = tensor("f32", np.arange(9.0).reshape(1, 3, 3))
    c.add("det_singular", "det %a", [x], [tensor("f32", [0])], (1e-6, 0))


def dft(c):
    def add(name, x, y, text):
        y = np.stack([y.real, y.imag], -1) if np.iscomplexobj(y) else y[..., None]
        c.add(f"dft_{name}_{x.dtype}", f"dft %a {{{text}}}", [x], [tensor(x.dtype, y)], (1e-6, 1e-5) if x.dtype == "f32" else (1e-13, 1e-12))

    for dtype in ("f32", "f64"):
        for n in (1, 2, 7, 12, 37):
            z = tensor(dtype, normal(2, n, 2))
            v = f64(z)[..., 0] + 1j * f64(z)[..., 1]
            add(f"forward_{n}", z, np.fft.fft(v), f"n = {n}")
            add(f"inverse_{n}", z, np.fft.ifft(v), f"n = {n}, inverse")
            r = tensor(dtype, normal(3, n, 1))
            add(f"real_{n}", r, np.fft.fft(f64(r)[..., 0]), f"n = {n}")
            add(f"half_{n}", r, np.fft.rfft(f64(r)[..., 0]), f"n = {n}, onesided")
            add(f"real_inverse_{n}", r, np.fft.ifft(f64(r)[..., 0]), f"n = {n}, inverse")
            if n > 1:
                add(f"from_half_{n}", z, np.fft.irfft(v, 2 * n - 2), f"n = {2 * n - 2}, inverse, onesided")
                add(f"from_half_odd_{n}", z, np.fft.irfft(v, 2 * n - 1), f"n = {2 * n - 1}, inverse, onesided")
        z = tensor(dtype, normal(4, 6, 2))
        v = f64(z)[..., 0] + 1j * f64(z)[..., 1]
        add("axis", z, np.fft.fft(v, axis=0), "axis = 0, n = 4")
        add("cut", z, np.fft.fft(v, 5), "n = 5")
        add("filled", z, np.fft.fft(v, 11), "n = 11")
