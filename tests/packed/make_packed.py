"""Writes models/METHOD: a Llama (or a Qwen3-MoE) of one layer, packed as that method packs it, and expected.safetensors: ids and the
logits that transformers computes in float32 from the matrices as the method's own package unpacks them.

gptq, awq: gptqmodel 7.7; compressed-tensors 0.20; bitsandbytes 0.50; torch 2.13 and transformers 5.23. fp8 and mxfp4 are
written from their descriptions (DeepSeek-V3's README, OCP Microscaling 1.0). Run it in this folder: make_packed.py [METHOD...]
"""

import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

HIDDEN, MLP = 128, 256


def config():
    return LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=MLP, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, vocab_size=96, max_position_embeddings=64, tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"], bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def moe_config():
    return Qwen3MoeConfig(
        hidden_size=HIDDEN, intermediate_size=MLP, moe_intermediate_size=128, num_hidden_layers=1, num_experts=2,
        num_experts_per_tok=1, num_attention_heads=4, num_key_value_heads=2, head_dim=32, vocab_size=96,
        max_position_embeddings=64, tie_word_embeddings=True, norm_topk_prob=False, decoder_sparse_step=1,
        mlp_only_layers=[], architectures=["Qwen3MoeForCausalLM"], bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


# ---- one function per way to pack: (name, weight [out, in] f32) -> tensors of the module, weight as it unpacks


def gptq(bits, group, v1=True, sym=True, act=False):
    def pack(name, w):
        from gptqmodel.nn_modules.qlinear.torch import TorchLinear
        from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

        out, k = w.shape
        size = k if group == -1 else group
        g_idx = torch.arange(k, dtype=torch.int32) // size
        if act:
            g_idx = g_idx[torch.randperm(k, generator=torch.Generator().manual_seed(len(name)))]
        top = 2**bits - 1
        low = torch.stack([w[:, g_idx == g].amin(1) for g in range(k // size)], 1)
        high = torch.stack([w[:, g_idx == g].amax(1) for g in range(k // size)], 1)
        scales = ((torch.maximum(high, -low) * 2 if sym else high - low) / top).half().float()
        zeros = torch.full_like(scales, 2 ** (bits - 1)) if sym else torch.round(-low / scales).clamp(1, top)
        linear = torch.nn.Linear(k, out, bias=False)
        linear.weight.data = w.clone()
        m = TorchLinear(bits=bits, group_size=group, sym=sym, desc_act=act, in_features=k, out_features=out)
        m.pack_original(linear, scales, zeros, g_idx)
        m.scales = m.scales.float()
        plain = (m.dequantize_weight().float().T).contiguous()
        if v1:
            from types import SimpleNamespace

            convert_gptq_v2_to_v1_format_module(m, SimpleNamespace(bits=bits, runtime_bits=bits, pack_dtype=torch.int32))
        return {"qweight": m.qweight, "qzeros": m.qzeros, "scales": m.scales.half(), "g_idx": g_idx}, plain

    form = "gptq" if v1 else "gptq_v2"
    return pack, {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act, "sym": sym,
                  "checkpoint_format": form, "lm_head": False}, torch.float16  # fmt: skip


def awq(group):
    def pack(name, w):
        from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
        from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

        out, k = w.shape
        g = w.reshape(out, k // group, group)
        scales = ((g.amax(-1) - g.amin(-1)) / 15).half()
        zeros = torch.round(-g.amin(-1) / scales.float()).clamp(0, 15)
        linear = torch.nn.Linear(k, out, bias=False)
        linear.weight.data = w.clone()
        m = AwqTorchLinear(bits=4, group_size=group, sym=False, desc_act=False, in_features=k, out_features=out)
        m.pack(linear, scales.float(), zeros)
        plain = dequantize_gemm(m.qweight, m.qzeros, m.scales.float(), 4, group).float().T.contiguous()
        return {"qweight": m.qweight, "qzeros": m.qzeros, "scales": m.scales.half()}, plain

    return pack, {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm",
                  "modules_to_not_convert": ["lm_head"]}, torch.float16  # fmt: skip


def compressed(form, args, act=False):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    weights = QuantizationArgs(**args)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)

    def pack(name, w):
        w = w.bfloat16().float()
        out, k = w.shape
        parts = {"weight": w}
        strategy = args["strategy"]
        group = args.get("group_size") or k
        if strategy == "tensor":
            low, high = w.amin().reshape(1), w.amax().reshape(1)
        elif strategy == "block":
            tiles = w.reshape(out // 64, 64, k // 128, 128)
            low, high = tiles.amin((1, 3)), tiles.amax((1, 3))
        else:
            low, high = (f(w.reshape(out, k // group, group), -1) for f in (torch.amin, torch.amax))
        if act:  # columns belong to groups out of order
            g = (torch.arange(k) // group)[torch.randperm(k, generator=torch.Generator().manual_seed(len(name)))]
            parts["weight_g_idx"] = g.int()
            low, high = (torch.stack([f(w[:, g == i], 1) for i in range(k // group)], 1) for f in (torch.amin, torch.amax))
        if strategy == "tensor_group":
            parts["weight_global_scale"] = (448 * 6 / w.abs().max()).reshape(1)
            scale, zero = calculate_qparams(low, high, weights, global_scale=parts["weight_global_scale"])
        else:
            scale, zero = calculate_qparams(low, high, weights)
        parts["weight_scale"] = scale.bfloat16().float()
        if not args.get("symmetric", True):
            parts["weight_zero_point"] = zero.to(torch.int8)
        if act:  # packed in order of the groups, which the package sorts away
            return act_order(parts, g, group)
        compressor = BaseCompressor.get_value_from_registry(form)
        stored = compressor.compress(parts, scheme)
        plain = exact_fp4(stored, weights) if strategy == "tensor_group" else compressor.decompress(dict(stored), scheme)["weight"]
        if stored["weight_scale"].dtype == torch.float32:
            stored["weight_scale"] = stored["weight_scale"].bfloat16()
        return stored, plain

    def exact_fp4(stored, weights):  # the package's own unpacking rounds to bf16
        from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
        from compressed_tensors.quantization.lifecycle.forward import dequantize

        m, n = stored["weight_packed"].shape
        codes = unpack_fp4_from_uint8(stored["weight_packed"], m, 2 * n, dtype=torch.float32)
        scale, whole = stored["weight_scale"].float(), stored["weight_global_scale"]
        return dequantize(codes, scale, None, weights, torch.float32, whole)

    def act_order(parts, g, group):
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
        from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize

        columns = [parts[n].float()[:, g] for n in ("weight_scale", "weight_zero_point")]
        each = QuantizationArgs(**{**args, "group_size": 1})
        codes = quantize(parts["weight"], columns[0], columns[1], each, dtype=torch.int8)
        plain = dequantize(codes, columns[0], columns[1], each).float()
        return {
            "weight_packed": pack_to_int32(codes, args["num_bits"]), "weight_scale": parts["weight_scale"].bfloat16(),
            "weight_zero_point": pack_to_int32(parts["weight_zero_point"], args["num_bits"], packed_dim=0).contiguous(),
            "weight_shape": torch.tensor(codes.shape), "weight_g_idx": parts["weight_g_idx"],
        }, plain  # fmt: skip

    group = {"targets": ["Linear"], "weights": args, "input_activations": None, "output_activations": None}
    return pack, {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
                  "config_groups": {"group_0": group}, "ignore": ["lm_head"], "kv_cache_scheme": None}, torch.bfloat16  # fmt: skip


def bnb4(kind, nested):
    def pack(name, w):
        import bitsandbytes.functional as F

        codes, state = F.quantize_4bit(w.half(), blocksize=64, quant_type=kind, compress_statistics=nested)
        state.dtype = torch.float32  # unpacked without rounding to the type of the activations
        plain = F.dequantize_4bit(codes, state).float()
        state.dtype = torch.float16
        parts = {f"weight.{key}": value for key, value in state.as_dict(packed=True).items()}
        return {"weight": codes, **parts}, plain

    return pack, {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False,
                  "bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": nested,
                  "bnb_4bit_quant_storage": "uint8", "bnb_4bit_compute_dtype": "float16"}, torch.float16  # fmt: skip


def bnb8():
    def pack(name, w):
        import bitsandbytes.functional as F

        codes, scale, _ = F.int8_vectorwise_quant(w.half())
        plain = F.int8_vectorwise_dequant(codes, scale).float()
        return {"weight": codes, "SCB": scale, "weight_format": torch.tensor(0, dtype=torch.uint8)}, plain

    return pack, {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False,
                  "llm_int8_threshold": 6.0}, torch.float16  # fmt: skip


def fp8_tiles(dtype):
    """W = codes * scale of the tile of 128 x 128 they lie in; the last tiles may be cut off."""

    def pack(name, w):
        out, k = w.shape
        rows = (out + 127) // 128
        scale = torch.stack([
            torch.stack([w[r * 128 : r * 128 + 128, c * 128 : c * 128 + 128].abs().max() / 448 for c in range(k // 128)])
            for r in range(rows)
        ]).to(dtype)  # fmt: skip
        each = scale.float().repeat_interleave(128, 0)[:out].repeat_interleave(128, 1)
        codes = (w / each).to(torch.float8_e4m3fn)
        return {"weight": codes, "weight_scale_inv": scale}, codes.float() * each

    return pack, {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                  "weight_block_size": [128, 128]}, torch.bfloat16  # fmt: skip


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def mxfp4():
    def pack(name, w):
        out, k = w.shape
        g = w.reshape(out, k // 32, 32)
        exponent = torch.floor(torch.log2(g.abs().amax(-1))) - 2
        scaled = g / torch.exp2(exponent)[..., None]
        codes = (scaled[..., None] - FP4).abs().argmin(-1)
        plain = (FP4[codes] * torch.exp2(exponent)[..., None]).reshape(out, k)
        blocks = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
        return {"weight_blocks": blocks, "weight_scales": (exponent + 127).to(torch.uint8)}, plain

    return pack, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, torch.bfloat16


def int_args(bits, strategy, group=None, symmetric=True):
    return {"num_bits": bits, "type": "int", "strategy": strategy, "group_size": group, "symmetric": symmetric}


def float_args(bits, strategy, group=None):
    return {"num_bits": bits, "type": "float", "strategy": strategy, "group_size": group, "symmetric": True}


METHODS = {
    "gptq4-g128": lambda: gptq(4, 128),
    "gptq4-g32-act": lambda: gptq(4, 32, v1=False, sym=False, act=True),
    "gptq4-row": lambda: gptq(4, -1, sym=False),
    "gptq2-g64": lambda: gptq(2, 64, sym=False),
    "gptq3-g32": lambda: gptq(3, 32, sym=False),
    "gptq8-g64": lambda: gptq(8, 64, v1=False),
    "awq-g64": lambda: awq(64),
    "ct-int4-g128": lambda: compressed("pack-quantized", int_args(4, "group", 128)),
    "ct-int4-g32-act": lambda: compressed("pack-quantized", int_args(4, "group", 32, False), act=True),
    "ct-int4-row": lambda: compressed("pack-quantized", int_args(4, "channel")),
    "ct-int4-row-zero": lambda: compressed("pack-quantized", int_args(4, "channel", symmetric=False)),
    "ct-int8-g64": lambda: compressed("pack-quantized", int_args(8, "group", 64)),
    "ct-int8-row": lambda: compressed("int-quantized", int_args(8, "channel")),
    "ct-int8-row-zero": lambda: compressed("int-quantized", int_args(8, "channel", symmetric=False)),
    "ct-fp8-row": lambda: compressed("float-quantized", float_args(8, "channel")),
    "ct-fp8-tensor": lambda: compressed("naive-quantized", float_args(8, "tensor")),
    "ct-nvfp4": lambda: compressed("nvfp4-pack-quantized", float_args(4, "tensor_group", 16)),
    "ct-mxfp4": lambda: compressed("mxfp4-pack-quantized", float_args(4, "group", 32)),
    "bnb-nf4": lambda: bnb4("nf4", False),
    "bnb-nf4-nested": lambda: bnb4("nf4", True),
    "bnb-fp4": lambda: bnb4("fp4", False),
    "bnb-int8": lambda: bnb8(),
    "fp8-tiles": lambda: fp8_tiles(torch.float32),
    "fp8-tiles-bf16": lambda: fp8_tiles(torch.bfloat16),
    "mxfp4": lambda: mxfp4(),
    "gptq4-moe": lambda: gptq(4, 64, sym=False),
    "fp8-moe": lambda: fp8_tiles(torch.bfloat16),
}


def experts_of(name, value):
    """The matrices that a checkpoint has for a merged one of transformers."""
    head = name.rsplit(".", 1)[0]
    for e, w in enumerate(value):
        parts = {"down_proj": w} if "down" in name else dict(zip(("gate_proj", "up_proj"), w.chunk(2)))
        for part, one in parts.items():
            yield f"{head}.{e}.{part}", one


def make(folder, pack, quantization, dtype):
    torch.manual_seed(7)
    shape = moe_config() if "moe" in folder else config()
    model = (Qwen3MoeForCausalLM if "moe" in folder else LlamaForCausalLM)(shape).eval()
    tensors = {}
    for name, value in model.state_dict().items():
        if ".experts." in name:
            stacked = []
            for module, one in experts_of(name, value * 3):
                parts, plain = pack(module, one)
                stacked.append(plain)
                tensors.update({f"{module}.{key}": part.contiguous() for key, part in parts.items()})
            if "down" not in name:
                stacked = [torch.cat(stacked[i : i + 2]) for i in range(0, len(stacked), 2)]
            value.copy_(torch.stack(stacked))
            continue
        if name == "lm_head.weight":
            continue
        if "proj" not in name:
            value = (torch.ones_like(value) if "norm" in name else value * 8).to(dtype)
            model.state_dict()[name].copy_(value.float())
            tensors[name] = value
            continue
        module = name.removesuffix(".weight")
        parts, plain = pack(module, value * 3)
        model.state_dict()[name].copy_(plain)
        tensors.update({f"{module}.{key}": part.contiguous() for key, part in parts.items()})
    ids = torch.tensor([[1, 5, 90, 33, 5, 7, 64, 2, 40]], dtype=torch.int32)
    with torch.no_grad():
        logits = model(ids.long()).logits
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
    save_file({"ids": ids, "logits": logits.contiguous()}, f"{folder}/expected.safetensors")
    with open(f"{folder}/config.json", "w") as f:
        json.dump({**shape.to_dict(), "quantization_config": quantization}, f, indent=1, default=str)


if __name__ == "__main__":
    for method in sys.argv[1:] or METHODS:
        make(f"models/{method}", *METHODS[method]())
        print(method, sum(os.path.getsize(f"models/{method}/{f}") for f in os.listdir(f"models/{method}")))
