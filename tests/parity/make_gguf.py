#!/usr/bin/env python3
"""Writes a tiny folder's weights as a GGUF file, with the `gguf` package: names from its tables, values turned as
llama.cpp expects them.

    python3 make_gguf.py FOLDER OUT.gguf [F32|Q8_0]

Q8_0 is for matrices whose rows are multiples of 32; the rest stays F32. Facts by family: rows of q and k of Llama and
SmolLM3 are put so that features 2i and 2i + 1 turn together; norms of Gemma hold 1 + w; BLOOM's fused rows are all
queries, then keys, then values; GPT-2's matrices are [out, in]; the experts of a layer are one tensor, and DeepSeek-V3's
kv_b is in two, one matrix per head, that of the keys transposed.
"""
import json
import os
import re
import sys

try:
    import gguf
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: the gguf package is not there") or 77)

import golden


def pairs(heads, w):
    """Halves of each head's rows side by side."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama(c, name, w):
    if ".q_proj." in name:
        return pairs(c["num_attention_heads"], w)
    if ".k_proj." in name:
        return pairs(c["num_key_value_heads"], w)
    return w


def gemma(c, name, w):
    return w + 1 if name.endswith("norm.weight") else w


def bloom(c, name, w):
    if ".query_key_value." not in name:
        return w
    return w.reshape(c["n_head"], 3, w.shape[0] // c["n_head"] // 3, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)


def gpt2(c, name, w):
    return w.T if ".c_" in name and w.ndim == 2 else w


def mamba(c, name, w):
    """Rates instead of their logarithms; one row per head, or per group, where heads share them."""
    if name.endswith("A_log"):
        return -np.exp(w.astype(np.float64)).reshape(len(w), -1)
    if name.endswith(".D") and c["model_type"] == "mamba2":
        return w[:, None]
    if name.endswith("mixer.norm.weight"):
        return w.reshape(c["n_groups"], -1)
    return w.squeeze(1) if name.endswith("conv1d.weight") else w


def state_space(w, c):
    inner = int(c["expand"] * c["hidden_size"])
    w.add_context_length(2**20)
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(0)
    w.add_head_count(0)
    w.add_block_count(layers_of(c))
    w.add_ssm_conv_kernel(c["conv_kernel"])
    w.add_ssm_inner_size(inner)
    w.add_ssm_state_size(c["state_size"])
    w.add_ssm_time_step_rank(c["num_heads"] if c["model_type"] == "mamba2" else c["time_step_rank"])
    if c["model_type"] == "mamba2":
        w.add_ssm_group_count(c["n_groups"])
    w.add_layer_norm_rms_eps(c["layer_norm_epsilon"])
    w.add_vocab_size(c["vocab_size"])


def stacked(tensors):
    """Matrices of experts as one tensor per layer, under the names that the package's tables have for it."""
    out, experts = {}, {}
    for k, v in tensors.items():
        one = re.fullmatch(r"(.*\.experts)\.(\d+)\.(.*)", k)
        if one:
            experts.setdefault(f"{one[1]}.{one[3]}", {})[int(one[2])] = v
        elif k.endswith(".experts.gate_up_proj"):
            half = k.removesuffix("gate_up_proj")
            out[half + "gate_proj.weight"], out[half + "up_proj.weight"] = np.split(v, 2, 1)
        elif k.endswith(".experts.down_proj"):
            out[k + ".weight"] = v
        else:
            out[k.replace("e_score_correction_bias", "e_score_correction.bias")] = v
    out.update((k, np.stack([v[i] for i in range(len(v))])) for k, v in experts.items())
    return out


def apart(c, tensors):
    """DeepSeek-V3's kv_b in its parts; V2's stays whole, as in files of before."""
    out = {}
    for k, v in tensors.items():
        if c["model_type"] != "deepseek_v3" or ".kv_b_proj." not in k:
            out[k] = v
            continue
        v = v.reshape(c["num_attention_heads"], -1, c["kv_lora_rank"])
        keys, values = np.split(v, [c["qk_nope_head_dim"]], 1)
        out[k.replace("kv_b", "k_b")], out[k.replace("kv_b", "v_b")] = keys.swapaxes(1, 2), values
    return out


def experts(w, c):
    count = first(c, "num_experts", "num_local_experts", "n_routed_experts")
    if not count:
        return
    w.add_expert_count(count)
    w.add_expert_used_count(c["num_experts_per_tok"])
    for key, add in (("moe_intermediate_size", w.add_expert_feed_forward_length),
                     ("shared_expert_intermediate_size", w.add_expert_shared_feed_forward_length),
                     ("n_shared_experts", w.add_expert_shared_count), ("n_group", w.add_expert_group_count),
                     ("topk_group", w.add_expert_group_used_count), ("norm_topk_prob", w.add_expert_weights_norm),
                     ("routed_scaling_factor", w.add_expert_weights_scale),
                     ("first_k_dense_replace", w.add_leading_dense_block_count)):
        if first(c, key) is not None:
            add(c[key])


def latent(w, c):
    """Multi-head latent attention: what is cached is one key of latent and turning features."""
    whole = c["model_type"] == "deepseek_v2"
    keys = c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
    w.add_head_count_kv(c["num_attention_heads"] if whole else 1)
    w.add_key_length(keys if whole else c["kv_lora_rank"] + c["qk_rope_head_dim"])
    w.add_value_length(c["v_head_dim"] if whole else c["kv_lora_rank"])
    if not whole:
        w.add_key_length_mla(keys)
        w.add_value_length_mla(c["v_head_dim"])
    w.add_kv_lora_rank(c["kv_lora_rank"])
    if first(c, "q_lora_rank"):
        w.add_q_lora_rank(c["q_lora_rank"])
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX if whole else gguf.ExpertGatingFuncType.SIGMOID)


def same(c, name, w):
    return w


FAMILIES = {  # model_type: GGUF architecture, how values are turned
    "llama": ("llama", llama), "mistral": ("llama", llama), "smollm3": ("smollm3", llama), "gpt2": ("gpt2", gpt2),
    "qwen2": ("qwen2", same), "qwen3": ("qwen3", same), "gemma2": ("gemma2", gemma), "gemma3_text": ("gemma3", gemma),
    "phi": ("phi2", same), "phi3": ("phi3", same), "bloom": ("bloom", bloom), "modernbert": ("modern-bert", same),
    "bert": ("bert", same), "mixtral": ("llama", llama), "qwen2_moe": ("qwen2moe", same),
    "qwen3_moe": ("qwen3moe", same), "mamba": ("mamba", mamba), "mamba2": ("mamba2", mamba),
    "deepseek_v2": ("deepseek2", same), "deepseek_v3": ("deepseek2", same),
}


def first(c, *keys, default=None):
    return next((c[k] for k in keys if c.get(k) is not None), default)


def sizes(w, c):
    d, heads = first(c, "hidden_size", "n_embd"), first(c, "num_attention_heads", "n_head")
    w.add_block_count(layers_of(c))
    w.add_context_length(first(c, "max_position_embeddings", "n_positions", "seq_length"))
    w.add_embedding_length(d)
    w.add_feed_forward_length(first(c, "intermediate_size", "n_inner", default=4 * d))
    w.add_head_count(heads)
    deepseek = c["model_type"].startswith("deepseek")
    if deepseek:
        latent(w, c)
    elif c["model_type"] not in ("gpt2", "bert", "modernbert"):
        w.add_head_count_kv(first(c, "num_key_value_heads", default=heads))
    w.add_vocab_size(c["vocab_size"])
    if first(c, "head_dim") and not deepseek:
        w.add_key_length(c["head_dim"])
        w.add_value_length(c["head_dim"])
    if "rms_norm_eps" in c:
        w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    else:
        w.add_layer_norm_eps(first(c, "layer_norm_eps", "layer_norm_epsilon", "norm_eps"))
    if c["model_type"] in ("bert", "modernbert"):
        w.add_causal_attention(False)


def kinds(w, c):
    """What differs between layers."""
    local = "sliding_attention" in (first(c, "layer_types", default=[]))
    if c["model_type"] == "modernbert":
        w.add_sliding_window(c["local_attention"])
    elif c["model_type"] == "phi3":
        w.add_sliding_window(first(c, "sliding_window", default=0))
    elif first(c, "sliding_window") and (local or c["model_type"] in ("mistral", "gemma2", "gemma3_text")):
        w.add_sliding_window(c["sliding_window"])
    for key, add in (("attn_logit_softcapping", w.add_attn_logit_softcapping),
                     ("final_logit_softcapping", w.add_final_logit_softcapping)):
        if first(c, key):
            add(c[key])


def rope(w, c):
    """Returns the tensors that carry factors."""
    r = first(c, "rope_parameters", default=dict(first(c, "rope_scaling", default={}), rope_theta=c.get("rope_theta")))
    own = r.get("sliding_attention")
    r = r.get("full_attention", r)
    dims = first(c, "qk_rope_head_dim", "head_dim", default=first(c, "hidden_size", "n_embd") // first(c, "num_attention_heads", "n_head"))
    kind, factor = r.get("rope_type", r.get("type", "default")), r.get("factor")
    if r.get("rope_theta"):
        w.add_rope_freq_base(r["rope_theta"])
        w.add_rope_dimension_count(int(dims * r.get("partial_rotary_factor", 1.0)))
    if own and c["model_type"] == "modernbert":
        w.add_rope_freq_base_swa(own["rope_theta"])
    if kind == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(factor)
    elif kind == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(factor)
        w.add_rope_scaling_orig_ctx_len(r["original_max_position_embeddings"])
        if "mscale_all_dim" in r:
            w.add_rope_scaling_yarn_log_mul(0.1 * r["mscale_all_dim"])
    elif kind == "llama3":
        return {"rope_freqs.weight": bands(r, dims)}
    elif kind == "longrope":
        return long_factors(w, c, r)
    return {}


def bands(r, dims):
    """Llama 3.1: short waves stay, long ones are stretched, those between are blended."""
    wave = 2 * np.pi * r["rope_theta"] ** (np.arange(0, dims, 2) / dims)
    low, high, length = r["low_freq_factor"], r["high_freq_factor"], r["original_max_position_embeddings"]
    blend = np.clip((length / wave - low) / (high - low), 0, 1)
    return (1 / ((1 - blend) / r["factor"] + blend)).astype(np.float32)


def long_factors(w, c, r):
    before = first(c, "original_max_position_embeddings", default=r.get("original_max_position_embeddings"))
    scale = first(r, "factor", default=c["max_position_embeddings"] / before)
    w.add_rope_scaling_orig_ctx_len(before)
    w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
    w.add_rope_scaling_attn_factors(first(r, "attention_factor", default=np.sqrt(1 + np.log(scale) / np.log(before))))
    return {f"rope_factors_{k}.weight": np.asarray(r[f"{k}_factor"], np.float32) for k in ("long", "short")}


def layers_of(c):
    return first(c, "num_hidden_layers", "n_layer")


def name_of(names, name):
    name = name.replace(".dt_bias", ".dt_proj.bias")
    for prefix in ("", "model.", "transformer."):
        to = names.get_name(name.removeprefix(prefix), try_suffixes=(".weight", ".bias"))
        if to:
            return to
    raise ValueError(f"no GGUF name for {name}")


def convert(folder, out, kind="F32"):
    c = json.load(open(os.path.join(folder, "config.json")))
    name, turn = FAMILIES[c["model_type"]]
    arch = next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == name)
    names = gguf.get_tensor_name_map(arch, layers_of(c))
    w = gguf.GGUFWriter(out, name)
    w.add_name("tiny " + os.path.basename(folder.rstrip("/")))
    extra = {}
    if c["model_type"].startswith("mamba"):
        state_space(w, c)
    else:
        sizes(w, c)
        kinds(w, c)
        experts(w, c)
        extra = rope(w, c)
    w.add_tokenizer_model("none")
    for k, v in apart(c, stacked(golden.load_folder(folder))).items():
        if k.startswith("pooler."):  # these files leave BERT's pooler out
            continue
        to = name_of(names, k)
        v = np.ascontiguousarray(turn(c, k, v), np.float32)
        q8 = kind == "Q8_0" and v.ndim >= 2 and v.shape[-1] % 32 == 0 and not to.endswith(("_inp.weight", "_norm.weight"))
        t = gguf.GGMLQuantizationType.Q8_0 if q8 else gguf.GGMLQuantizationType.F32
        w.add_tensor(to, gguf.quants.quantize(v, t), raw_dtype=t)
    for k, v in extra.items():
        w.add_tensor(k, v)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    convert(*sys.argv[1:])
