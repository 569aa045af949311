"""Writes vectors/TYPE.bin for every block format of ir/quant/quant.def: some blocks, then their values as f32.

GGUF types: the gguf package rebuilds the values. Blocks come from its quantisers where it has one and are random
otherwise; the first ones of every type have extreme scales. The formats of packed checkpoints are rebuilt here in
NumPy from their description. Run it in this folder (gguf 0.19, NumPy 2).
"""


import zlib

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

# 0, -0, smallest and a larger denormal, smallest normal, -1, largest, -largest
F16_EDGES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0xBC00, 0x7BFF, 0xFBFF]
BF16_EDGES = [0x0000, 0x8000, 0x0001, 0x807F, 0x0080, 0xBF80, 0x7A80, 0xFA80]
F32_EDGES = [0.0, -0.0, 1e-45, -1e-39, 1.2e-38, -1.0, 3e35, -3e35]

# Where a block keeps its f16 numbers.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0],
    "IQ3_S": [0], "IQ1_S": [0], "IQ1_M": [], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64],
    "MXFP4": [], "NVFP4": [],
}  # fmt: skip


def halves(rng, n):
    """n f16 bit patterns: the edges, then scales as weights have them."""
    normal = (rng.standard_normal(n) * 0.02).astype(np.float16).view(np.uint16)
    normal[: len(F16_EDGES)] = F16_EDGES[:n]
    return normal


def count_for(values):
    return max(8, 512 // values) + 2


def gguf_blocks(name, rng):
    qtype = T[name]
    values, size = GGML_QUANT_SIZES[qtype]
    n = count_for(values)
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in HALVES[name]:
        blocks[:, at : at + 2] = rng.permutation(halves(rng, n)).view(np.uint8).reshape(n, 2)
    if name == "IQ1_M":  # d is in the high four bits of four u16
        scale, words = halves(rng, n), blocks[:, 48:56].copy().view(np.uint16)
        for k in range(4):
            words[:, k] = (words[:, k] & 0x0FFF) | ((scale >> (4 * k)) & 15) << 12
        blocks[:, 48:56] = words.view(np.uint8)
    if name == "MXFP4":
        blocks[:8, 0] = [0, 1, 2, 3, 126, 127, 253, 255]
    if name == "NVFP4":
        blocks[:3, :4] = [[0, 1, 7, 8], [0x7E, 0x7F, 0x80, 0xFF], [0x77, 0x78, 0x87, 0xFE]]
    try:
        made = gguf.quants.quantize((rng.standard_normal((2, values)) * 0.05).astype(np.float32), qtype)
        blocks[-2:] = made.reshape(2, size)
    except NotImplementedError:
        pass
    with np.errstate(over="ignore"):
        return blocks, gguf.quants.dequantize(blocks, qtype).reshape(-1)


def scales_of(kind, rng, n):
    """n scales as bytes and as f32."""
    if kind == "f16":
        bits = halves(rng, n)
        return bits.view(np.uint8).reshape(n, 2), bits.view(np.float16).astype(np.float32)
    if kind == "bf16":
        bits = ((rng.standard_normal(n) * 0.02).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        bits[: len(BF16_EDGES)] = BF16_EDGES[:n]
        return bits.view(np.uint8).reshape(n, 2), (bits.astype(np.uint32) << 16).view(np.float32)
    values = (rng.standard_normal(n) * 0.02).astype(np.float32)
    values[: len(F32_EDGES)] = F32_EDGES[:n]
    return values.view(np.uint8).reshape(n, 4), values


def pack_bits(codes, bits):
    """Codes [n, k] of `bits` bits, low bits first, in bytes."""
    planes = (codes[..., None] >> np.arange(bits)) & 1
    return np.packbits(planes.reshape(len(codes), -1).astype(np.uint8), axis=-1, bitorder="little")


def pack_codes(codes, bits):
    return np.concatenate([pack_bits(codes & 3, 2), pack_bits(codes >> 2, 1)], -1) if bits == 3 else pack_bits(codes, bits)


def fp8(codes):
    import torch

    return torch.from_numpy(codes).view(torch.float8_e4m3fn).float().numpy()


def integers(bits, group, kind, zeros, rng):
    """uB_G and sB_G: scales, zeros, codes. kind None: no scales."""
    runs = {(2, 32): 4, (2, 64): 2, (2, 128): 2, (3, 32): 2, (3, 64): 2, (4, 32): 2}.get((bits, group), 1) if zeros and kind != "f32" else 1
    n = count_for(runs * group)
    codes = rng.integers(0, 1 << bits, (n, runs * group), dtype=np.uint8)
    parts, scales = [], np.ones(n * runs, np.float32)
    if kind:
        raw, scales = scales_of(kind, rng, n * runs)
        parts.append(raw.reshape(n, -1))
    shift = np.full((n, runs), 0 if bits == 8 else 1 << (bits - 1))
    if zeros:
        shift = rng.integers(0, 1 << bits, (n, runs), dtype=np.uint8)
        parts.append(pack_bits(shift, 8 // runs))
    parts.append(pack_codes(codes, bits))
    signed = codes.view(np.int8) if bits == 8 and not zeros else codes.astype(int)
    q = signed.reshape(n, runs, group) - shift.astype(int)[:, :, None]
    return np.concatenate(parts, -1), (q.astype(np.float32) * scales.reshape(n, runs, 1)).reshape(-1)


def floats(kind, group, rng):
    """Codes of eight bits without the two NaNs of e4m3."""
    n = count_for(group)
    codes = rng.integers(0, 127, (n, group), dtype=np.uint8) | rng.integers(0, 2, (n, group), dtype=np.uint8) << 7
    if not kind:
        return codes, fp8(codes).reshape(-1)
    raw, scales = scales_of(kind, rng, n)
    return np.concatenate([raw, codes], -1), (fp8(codes) * scales[:, None]).reshape(-1)


def table(name, rng):
    """nf4, fp4: the levels as bitsandbytes has them, low nibble first."""
    import bitsandbytes.functional as F

    levels = F.get_4bit_type(name, device="cpu").numpy()
    n = count_for(64)
    codes = rng.integers(0, 16, (n, 64), dtype=np.uint8)
    raw, scales = scales_of("f32", rng, n)
    return np.concatenate([raw, pack_bits(codes, 4)], -1), (levels[codes] * scales[:, None]).reshape(-1)


def low_bits(name, rng):
    """q1_0: a bit is d or -d; q2_0: (code - 1) d. The gguf package has no code for them."""
    values, bits = (128, 1) if name == "q1_0" else (64, 2)
    n = count_for(values)
    codes = rng.integers(0, 1 << bits, (n, values), dtype=np.uint8)
    raw, d = scales_of("f16", rng, n)
    levels = 2 * codes.astype(np.float32) - 1 if bits == 1 else codes.astype(np.float32) - 1
    return np.concatenate([raw, pack_bits(codes, bits)], -1), (levels * d[:, None]).reshape(-1)


def formats():
    for name in HALVES:
        yield name.lower(), gguf_blocks, (name,)
    for name in "q1_0", "q2_0":
        yield name, low_bits, (name,)
    for kind, tail in ("f16", ""), ("bf16", "_bf16"):
        for bits in 2, 3, 4, 8:
            for group in 32, 64, 128:
                yield f"u{bits}_{group}{tail}", integers, (bits, group, kind, True)
                if bits >= 4:
                    yield f"s{bits}_{group}{tail}", integers, (bits, group, kind, False)
    for bits, group in (2, 32), (2, 128), *((b, g) for b in (4, 8) for g in (32, 64, 128)):
        yield f"u{bits}_{group}_f32", integers, (bits, group, "f32", True)
        if bits >= 4:
            yield f"s{bits}_{group}_f32", integers, (bits, group, "f32", False)
    for bits, group in (2, 256), (3, 256), (4, 128), (8, 128):
        yield f"u{bits}_row", integers, (bits, group, None, True)
    yield "s4_row", integers, (4, 32, None, False)
    yield "s8_row", integers, (8, 32, None, False)
    yield "f8_row", floats, (None, 32)
    yield "f8_128", floats, ("f32", 128)
    yield "f8_128_bf16", floats, ("bf16", 128)
    yield "nf4_64", table, ("nf4",)
    yield "fp4_64", table, ("fp4",)


if __name__ == "__main__":
    for name, make, args in formats():
        blocks, values = make(*args, np.random.default_rng(zlib.crc32(name.encode())))
        assert values.dtype == np.float32 and not np.isnan(values).any(), name
        with open(f"vectors/{name}.bin", "wb") as f:
            f.write(blocks.tobytes() + values.astype("<f4").tobytes())
