#!/usr/bin/env python3
"""Packed folders that `tenon quantize` writes: unpacked here after the formats' descriptions, they are what tenon reads.

    write.py TENON

For each scheme a plain Llama folder is quantized. The written tensors are unpacked by NumPy and put into a plain folder:
both folders must give the same logits, and the matrices must be as near to the original as the format allows. Where the
methods' own packages are installed (compressed-tensors, gptqmodel, bitsandbytes, transformers), they must unpack the same
numbers, and transformers must load the folder. One line per scheme; exits 1 if one is wrong.
"""
import json
import os
import struct
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: numpy is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
import golden  # noqa: E402

HIDDEN, MLP, VOCAB = 256, 512, 96
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN,
    "intermediate_size": MLP, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
}  # fmt: skip
MATRICES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (128, HIDDEN), "self_attn.v_proj": (128, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (MLP, HIDDEN), "mlp.up_proj": (MLP, HIDDEN),
    "mlp.down_proj": (HIDDEN, MLP),
}  # fmt: skip
TYPES = {"F32": "<f4", "F16": "<f2", "I32": "<i4", "I64": "<i8", "I8": "i1", "U8": "u1"}


# ---- safetensors ----


def save(path, tensors):
    head, at = {}, 0
    for name, x in tensors.items():
        head[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
    text = json.dumps({"__metadata__": {"format": "pt"}, **head}).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for x in tensors.values():
            f.write(np.ascontiguousarray(x, "<f4").tobytes())


def load(path):
    """name -> array; bf16 as f32, f8 as its bytes."""
    with open(path, "rb") as f:
        head = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    out = {}
    for name, row in head.items():
        if name == "__metadata__":
            continue
        raw = data[slice(*row["data_offsets"])]
        if row["dtype"] == "BF16":
            x = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        else:
            x = np.frombuffer(raw, TYPES.get(row["dtype"], "u1"))
        out[name] = x.reshape(row["shape"])
    return out


def write_folder(folder, tensors, config):
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    save(os.path.join(folder, "model.safetensors"), tensors)


def plain_model():
    r = np.random.default_rng(5)
    t = {"model.embed_tokens.weight": r.standard_normal((VOCAB, HIDDEN)), "model.norm.weight": np.ones(HIDDEN)}
    for name in ("input_layernorm", "post_attention_layernorm"):
        t[f"model.layers.0.{name}.weight"] = 1 + r.standard_normal(HIDDEN) / 10
    for name, shape in MATRICES.items():
        t[f"model.layers.0.{name}.weight"] = r.standard_normal(shape) / 12 * (1 + r.random((shape[0], 1)))
    return {k: v.astype("f4") for k, v in t.items()}


# ---- unpacking, after the descriptions of the formats ----


def fields(words, bits, axis):
    """Codes of `bits` bits, lowest first, out of i32 words along an axis; they may lie across two words."""
    w = np.moveaxis(words.view("<u4"), axis, -1)
    one = (w[..., None] >> np.arange(32, dtype="u4")) & 1
    one = one.reshape(*w.shape[:-1], -1)
    n = one.shape[-1] // bits
    codes = (one[..., : n * bits].reshape(*w.shape[:-1], n, bits) << np.arange(bits)).sum(-1)
    return np.moveaxis(codes, -1, axis).astype("i4")


def spread(x, k):
    return np.repeat(x, k // x.shape[1], 1)


def compressed(t, name, args):
    bits = args["num_bits"]
    scale = t[name + "weight_scale"]
    zero = t.get(name + "weight_zero_point")
    if name + "weight" in t:  # bytes
        codes = t[name + "weight"].astype("i4")
        zero = 0 if zero is None else zero.astype("i4")
    else:
        rows, k = t[name + "weight_shape"]
        codes = fields(t[name + "weight_packed"], bits, 1)[:, :k] - 2 ** (bits - 1)
        zero = 0 if zero is None else fields(zero, bits, 0)[:rows] - 2 ** (bits - 1)
    k = codes.shape[1]
    zero = spread(zero, k) if isinstance(zero, np.ndarray) else 0
    return (codes - zero).astype("f4") * spread(scale.astype("f4"), k)


def gptq(t, name, config):
    bits, k = config["bits"], t[name + "g_idx"].size
    codes = fields(t[name + "qweight"], bits, 0)[:k]
    zeros = t[name + "qzeros"].view("<u4")
    if bits == 3:
        zeros = (fields(zeros, 3, 1) + 1) & 7
    else:
        zeros = fields(zeros + np.uint32(sum(1 << i for i in range(0, 32, bits))), bits, 1)
    g = t[name + "g_idx"]
    return ((codes - zeros[g]).astype("f4") * t[name + "scales"].astype("f4")[g]).T


def awq(t, name, config):
    order = [0, 4, 1, 5, 2, 6, 3, 7]

    def nibbles(words):
        w = words.view("<u4")
        return np.stack([w >> np.uint32(4 * p) & 15 for p in order], -1).reshape(w.shape[0], -1).astype("i4")

    g = np.arange(t[name + "qweight"].shape[0]) // config["group_size"]
    codes, zeros = nibbles(t[name + "qweight"]), nibbles(t[name + "qzeros"])
    return ((codes - zeros[g]).astype("f4") * t[name + "scales"].astype("f4")[g]).T


def bnb(t, name, config):
    state = json.loads(bytes(t[f"{name}weight.quant_state.bitsandbytes__{config['bnb_4bit_quant_type']}"]))
    b = t[name + "weight"].reshape(-1)
    codes = np.stack([b >> 4, b & 15], -1).reshape(-1)
    values = t[name + "weight.quant_map"][codes].reshape(-1, 64) * t[name + "weight.absmax"][:, None]
    return values.reshape(state["shape"])


def f8e4m3(b):
    sign, e, m = np.where(b >> 7, -1.0, 1.0), (b >> 3 & 15).astype(int), (b & 7) / 8
    return (sign * np.where(e, (1 + m) * 2.0 ** (e - 7), m * 2.0**-6)).astype("f4")


FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], "f4")


def fp4(packed):
    return FP4[np.stack([packed & 15, packed >> 4], -1).reshape(packed.shape[0], -1)]


def unpack(t, module, config):
    name = module + "."
    if config["quant_method"] == "gptq":
        return gptq(t, name, config)
    if config["quant_method"] == "awq":
        return awq(t, name, config)
    if config["quant_method"] == "bitsandbytes":
        return bnb(t, name, config)
    args = config["config_groups"]["group_0"]["weights"]
    if args["type"] == "int":
        return compressed(t, name, args)
    if args["num_bits"] == 8:
        return f8e4m3(t[name + "weight"]) * t[name + "weight_scale"]
    values = fp4(t[name + "weight_packed"])
    scale = t[name + "weight_scale"]
    if args["group_size"] == 16:
        return values * spread(f8e4m3(scale), values.shape[1]) / t[name + "weight_global_scale"]
    return values * spread(np.ldexp(np.float32(1), scale.astype(int) - 127), values.shape[1])


# ---- the methods' own packages ----


def of_package(t, module, config):
    """The matrix as the method's package unpacks it; None: it is not installed, or unpacks to narrower types."""
    name = module + "."
    try:
        import torch

        own = {k[len(name) :]: torch.from_numpy(v.copy()) for k, v in t.items() if k.startswith(name)}
        if config["quant_method"] == "compressed-tensors":
            from compressed_tensors.compressors import BaseCompressor
            from compressed_tensors.quantization import QuantizationScheme

            if config["format"] not in ("pack-quantized", "int-quantized"):
                return None
            scheme = QuantizationScheme(targets=["Linear"], weights=config["config_groups"]["group_0"]["weights"])
            own["weight_scale"] = own["weight_scale"].float()
            return BaseCompressor.get_value_from_registry(config["format"]).decompress(own, scheme)["weight"].numpy()
        if config["quant_method"] == "bitsandbytes":
            import bitsandbytes.functional as F

            kind = config["bnb_4bit_quant_type"]
            parts = {k[len("weight.") :]: v for k, v in own.items() if k.startswith("weight.")}
            parts = {k if k != f"quant_state.bitsandbytes__{kind}" else k: v for k, v in parts.items()}
            state = F.QuantState.from_dict(parts, device=torch.device("cpu"))
            return F.dequantize_4bit(own["weight"], state).numpy()
        if config["quant_method"] == "awq":
            from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

            out = dequantize_gemm(own["qweight"], own["qzeros"], own["scales"].float(), 4, config["group_size"])
            return out.float().T.numpy()
    except ImportError:
        pass
    return None


def transformers_logits(folder, ids):
    """None: transformers is not here."""
    try:
        import compressed_tensors  # noqa: F401
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError:
        return None
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.from_numpy(ids.astype("i8"))).logits.float().numpy()


# ---- one scheme ----

# Scheme and options -> root mean squared error of the matrices over their deviation, at most.
SCHEMES = {
    "INT8": 0.008, "W8A8": 0.008, "INT8 --group-size 32": 0.006, "INT8 --group-size 64 --asymmetric": 0.007,
    "INT4": 0.12, "INT4 --asymmetric": 0.12, "INT4 --group-size 32": 0.1, "INT4 --group-size 64 --asymmetric": 0.11,
    "INT4 --group-size 0": 0.14, "INT4 --pack gptq": 0.12, "INT4 --asymmetric --pack gptq": 0.12,
    "INT8 --group-size 64 --asymmetric --pack gptq": 0.007, "INT4 --asymmetric --group-size 64 --pack awq": 0.11,
    "INT3": 0.24, "INT2": 0.55, "NF4": 0.1, "FP4": 0.12, "FP8": 0.03,
    "MXFP4 --token-embedding-type f32": 0.12, "NVFP4 --token-embedding-type f32": 0.11,
}  # fmt: skip
# Loaded by transformers. Not those with zeros: it (5.23) refuses packed zeros, also as compressed-tensors writes them.
TRANSFORMERS = {"INT8", "INT4", "INT4 --group-size 32", "FP8"}


def logits(tenon, folder, tmp):
    rc, _, err = golden.run(tenon, ["run", folder, "--entry", "logits", "--backend", "ref", "--output-dir", tmp,
                                    "--input", f"ids={tmp}/ids.npy"])  # fmt: skip
    return (None, err.strip().splitlines()[0]) if rc else (np.load(os.path.join(tmp, "logits.npy")), None)


def check_matrices(got, plain, config, most):
    error = 0
    for name in MATRICES:
        module = "model.layers.0." + name
        w = plain[module + ".weight"]
        u = unpack(got, module, config)
        if u.shape != w.shape:
            return None, f"{name} unpacks to {u.shape}"
        theirs = of_package(got, module, config)
        if theirs is not None and not np.array_equal(theirs, u):
            return None, f"{name}: the package unpacks other numbers, by {np.abs(theirs - u).max():.1e}"
        error = max(error, float(np.sqrt(np.mean((u - w) ** 2)) / w.std()))
    return error, f"an error of {error:.3f}, at most {most} was expected" if error > most else None


def check(tenon, words, plain, folder, tmp):
    scheme, *options = words.split()
    out = os.path.join(tmp, "packed")
    rc, _, err = golden.run(tenon, ["quantize", folder, out + "/", scheme, *options])
    if rc:
        return err.strip().splitlines()[0]
    with open(os.path.join(out, "config.json")) as f:
        config = json.load(f)
    got = load(os.path.join(out, "model.safetensors"))
    error, why = check_matrices(got, plain, config["quantization_config"], SCHEMES[words])
    if why:
        return why
    same = {k: v for k, v in got.items() if k in plain and v.dtype == np.float32 and v.shape == plain[k].shape}
    same |= {f"model.layers.0.{n}.weight": unpack(got, "model.layers.0." + n, config["quantization_config"]) for n in MATRICES}
    write_folder(os.path.join(tmp, "unpacked"), same, CONFIG)
    a, why = logits(tenon, out, tmp)
    b, why2 = logits(tenon, os.path.join(tmp, "unpacked"), tmp)
    if why or why2:
        return why or why2
    d = golden.Difference(a, b)
    if not d.ok:
        return f"logits differ from those of the unpacked matrices: NMSE {d.nmse:.1e}"
    theirs = transformers_logits(out, np.load(os.path.join(tmp, "ids.npy"))) if words in TRANSFORMERS else None
    if theirs is not None and np.square(theirs - b).sum() > 1e-6 * np.square(b).sum():
        return f"transformers gives other logits: NMSE {np.square(theirs - b).sum() / np.square(b).sum():.1e}"
    return ""


def main():
    tenon, *only = sys.argv[1:]
    plain, failures = plain_model(), 0
    for words in only or SCHEMES:
        with tempfile.TemporaryDirectory() as tmp:
            folder = os.path.join(tmp, "plain")
            write_folder(folder, plain, CONFIG)
            np.save(os.path.join(tmp, "ids.npy"), np.arange(3, 19, dtype="i4").reshape(1, -1))
            why = check(tenon, words, plain, folder, tmp)
        failures += bool(why)
        print("FAIL" if why else "ok  ", words, why or "", flush=True)
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
