"""Writes encode/: numbers, and the error that other encoders have on them, type by type.

    make_encode.py LIBGGML_BASE MINILM_FOLDER

samples.bin: three matrices of 8 x 1536 numbers as f16 (weights of all-MiniLM-L6-v2: a layer's output and word
embeddings; numbers with outliers from a generator), then the importance of the columns of each, f32.
errors.txt: TYPE MATRIX IMPORTANCE RMSE WEIGHTED: of GGUF types from ggml_quantize_chunk of ggml 0.25 (llama.cpp), read
back by the gguf package; of the other types from rounding to the nearest code of the range's scale, in NumPy.
q8_0.bin: the bytes that ggml writes for the first matrix, which everybody writes alike.
"""

import ctypes
import os
import re
import sys

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from safetensors.numpy import load_file

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS, COLUMNS = 8, 1536
GGUF = ("q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4 nvfp4 tq1_0 tq2_0 "
        "iq3_s iq3_xxs iq2_s iq2_xs iq2_xxs iq1_s iq1_m q1_0 q2_0").split()  # fmt: skip
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
       -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
       0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]  # fmt: skip
FP4 = [0, 0.0625 / 12, 8 / 12, 1, 4 / 12, 0.5, 2 / 12, 0.25]


def samples(folder):
    w = load_file(os.path.join(folder, "model.safetensors"))
    rng = np.random.default_rng(7)
    odd = rng.standard_normal((ROWS, COLUMNS)) * 0.02
    odd[rng.random(odd.shape) < 0.003] *= 12
    take = [
        w["encoder.layer.3.output.dense.weight"][:ROWS],
        w["embeddings.word_embeddings.weight"][2000:2032].reshape(ROWS, COLUMNS),
        odd,
    ]
    numbers = np.stack([t.astype(np.float16) for t in take])
    return numbers, np.exp(rng.standard_normal((3, COLUMNS)) * 1.2).astype(np.float32)


def shape(name):
    """Number in ggml, values and bytes of a block. The gguf package does not have all of the last two yet."""
    late = {"q1_0": (41, 128, 18), "q2_0": (42, 64, 18)}
    return late[name] if name in late else (T[name.upper()], *GGML_QUANT_SIZES[T[name.upper()]])


def rebuilt(lib, name, blocks):
    if name not in ("q1_0", "q2_0"):
        return gguf.quants.dequantize(blocks, T[name.upper()])
    got = np.zeros((ROWS, COLUMNS), np.float32)
    getattr(lib, "dequantize_row_" + name)(
        ctypes.c_void_p(blocks.ctypes.data), ctypes.c_void_p(got.ctypes.data), ctypes.c_int64(got.size)
    )
    return got


def by_ggml(lib, name, x, importance):
    """The blocks, or None where this type needs an importance matrix."""
    kind, values, size = shape(name)
    if importance is None and lib.ggml_quantize_requires_imatrix(int(kind)):
        return None
    out = np.zeros((ROWS, COLUMNS // values * size), np.uint8)
    lib.ggml_quantize_init(int(kind))
    lib.ggml_quantize_chunk(int(kind), x.ctypes.data, out.ctypes.data, 0, ROWS, COLUMNS,
                            None if importance is None else importance.ctypes.data)  # fmt: skip
    return out


def by_levels(x, group, levels):
    y = x.reshape(-1, group).astype(np.float64)
    levels = np.sort(np.array(levels))
    scale = np.abs(y).max(1, keepdims=True) / np.abs(levels).max()
    near = np.abs((y / scale)[..., None] - levels).argmin(-1)
    return (levels[near] * scale).reshape(x.shape)


def by_rounding(name, x):
    """Group formats, each as its packages round without data."""
    kind, bits, group = re.match(r"([usf]|nf|fp)(\d)_(\d+)", name).groups()
    bits, group = int(bits), int(group)
    y = x.reshape(-1, group).astype(np.float64)
    if kind == "u":
        low, high = np.minimum(y.min(1, keepdims=True), 0), np.maximum(y.max(1, keepdims=True), 0)
        s = (high - low) / (2**bits - 1)
        z = np.round(-low / s)
        return ((np.clip(np.round(y / s) + z, 0, 2**bits - 1) - z) * s).reshape(x.shape)
    if kind == "s":
        s = np.abs(y).max(1, keepdims=True) / (2 ** (bits - 1) - 0.5)
        return (np.clip(np.round(y / s), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * s).reshape(x.shape)
    if kind == "f":  # f8
        levels = [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8)][:-1]
        levels = [0, *[m / 8 * 2.0**-6 for m in range(1, 8)], *levels]
        return by_levels(x, group, levels + [-v for v in levels])
    return by_levels(x, group, NF4 if kind == "nf" else FP4 + [-v for v in FP4])


def error(x, got, weight):
    d = (x.astype(np.float64) - got) ** 2
    return np.sqrt(d.mean()), np.sqrt((d * weight).mean())


def main():
    lib = ctypes.CDLL(sys.argv[1])
    lib.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [
        ctypes.c_void_p
    ]
    numbers, importance = samples(sys.argv[2])
    with open(os.path.join(HERE, "encode", "samples.bin"), "wb") as f:
        f.write(numbers.tobytes() + importance.tobytes())
    groups = re.findall(r"^TN_QUANT\w*\(([us]\d_\d+(?:_f32)?|[nf][fp]4_64|f8_128),",
                        open(os.path.join(HERE, "../../ir/quant/quant.def")).read(), re.M)  # fmt: skip
    with open(os.path.join(HERE, "encode", "errors.txt"), "w") as f:
        for i in range(3):
            x = numbers[i].astype(np.float32)
            for name in GGUF:
                for with_importance in 0, 1:
                    blocks = by_ggml(lib, name, x, importance[i] if with_importance else None)
                    if blocks is None:
                        continue
                    if name == "q8_0" and not i:
                        blocks.tofile(os.path.join(HERE, "encode", "q8_0.bin"))
                    got = rebuilt(lib, name, blocks)
                    f.write("%s %d %d %.6e %.6e\n" % (name, i, with_importance, *error(x, got, importance[i])))
            for name in groups:
                f.write("%s %d 0 %.6e %.6e\n" % (name, i, *error(x, by_rounding(name, x), importance[i])))


main()
