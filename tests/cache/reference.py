"""Llama, Mistral and GPT-2 in NumPy, float64, with a cache of keys and values and attention by blocks of keys
(Milakov and Gimelshein 2018), so that long inputs need no score matrix. `check` compares with transformers."""
import json
import math
import os

import numpy as np


def softmax_blocks(q, k, v, visible, block=512):
    """q [h, s, d], k and v [h, t, d]; visible(i, j) for arrays of queries and keys. Rows that see nothing are zero."""
    h, s, _ = q.shape
    top, total, out = np.full((h, s), -np.inf), np.zeros((h, s)), np.zeros((h, s, v.shape[2]))
    for at in range(0, k.shape[1], block):
        j = np.arange(at, min(at + block, k.shape[1]))
        seen = visible(np.arange(s)[:, None], j[None])
        rows = seen.any(1)
        if not rows.any():
            continue
        x = np.where(seen[rows], q[:, rows] @ k[:, j].transpose(0, 2, 1), -np.inf)
        now = np.maximum(top[:, rows], x.max(-1))
        p, keep = np.exp(x - now[..., None]), np.exp(top[:, rows] - now)
        out[:, rows] = out[:, rows] * keep[..., None] + p @ v[:, j]
        total[:, rows] = total[:, rows] * keep + p.sum(-1)
        top[:, rows] = now
    return out / np.where(total == 0, 1, total)[..., None]


def frequencies(config, length):
    """Inverse frequencies of a call after which there are `length` tokens, in single precision, and the factor of sine
    and cosine; as modeling_rope_utils.py of transformers 5 has them."""
    d, p = config["head_dim"], config["rope_parameters"]
    base, kind, most, factor = p["rope_theta"], p.get("rope_type", "default"), config["max_position_embeddings"], 1.0
    exponents = np.arange(0, d, 2) / d
    divisor = np.ones(d // 2)
    if kind == "dynamic":
        grown = p["factor"] * max(length, most) / most - (p["factor"] - 1)
        base *= grown ** (d / (d - 2))
    elif kind == "longrope":
        original = p["original_max_position_embeddings"]
        divisor = np.array(p["long_factor"] if length > original else p["short_factor"])
        scale = p.get("factor", most / original)
        factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    return (1 / (divisor * base**exponents)).astype(np.float32).astype(np.float64), factor


def turn(x, positions, inv, factor):
    """x [s, h, d]"""
    angle = positions[:, None] * inv
    cos, sin = np.cos(angle)[:, None] * factor, np.sin(angle)[:, None] * factor
    lo, hi = np.split(x, 2, -1)
    return np.concatenate([lo * cos - hi * sin, hi * cos + lo * sin], -1)


def rms(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


class Llama:
    """One sequence; call(ids) gives the logits of these tokens and remembers them."""

    def __init__(self, config, weights):
        self.c = config
        self.w = {k: v.astype(np.float64) for k, v in weights.items()}
        self.cache = [None] * config["num_hidden_layers"]
        self.past = 0

    def attention(self, i, x):
        c, w = self.c, lambda n: self.w[f"model.layers.{i}.self_attn.{n}_proj.weight"]
        heads, kv, d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        q, k, v = ((x @ w(n).T).reshape(len(x), -1, d) for n in "qkv")
        inv, factor = frequencies(c, self.past + len(x))
        positions = self.past + np.arange(len(x), dtype=np.float64)
        q, k = turn(q, positions, inv, factor), turn(k, positions, inv, factor)
        if self.cache[i] is not None:
            k, v = np.concatenate([self.cache[i][0], k]), np.concatenate([self.cache[i][1], v])
        self.cache[i] = (k, v)
        window, past = c.get("sliding_window") or 1 << 60, self.past
        k, v = (np.repeat(x.transpose(1, 0, 2), heads // kv, 0) for x in (k, v))
        out = softmax_blocks(q.transpose(1, 0, 2) / math.sqrt(d), k, v,
                             lambda a, j: (j <= a + past) & (a + past - j < window))
        return out.transpose(1, 0, 2).reshape(len(x), -1) @ w("o").T

    def layer(self, i, x):
        w, eps = lambda n: self.w[f"model.layers.{i}.{n}.weight"], self.c["rms_norm_eps"]
        x = x + self.attention(i, rms(x, w("input_layernorm"), eps))
        h = rms(x, w("post_attention_layernorm"), eps)
        g = h @ w("mlp.gate_proj").T
        return x + (g / (1 + np.exp(-g)) * (h @ w("mlp.up_proj").T)) @ w("mlp.down_proj").T

    def __call__(self, ids):
        x = self.w["model.embed_tokens.weight"][ids]
        for i in range(self.c["num_hidden_layers"]):
            x = self.layer(i, x)
        self.past += len(ids)
        return rms(x, self.w["model.norm.weight"], self.c["rms_norm_eps"]) @ self.w["lm_head.weight"].T


def llama(seed, sharp=1.0, **changes):
    """A config and weights; sharp: how much larger the scores of attention are than in a plain initialisation."""
    c = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 96, "hidden_size": 64,
         "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "head_dim": 32, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "hidden_act": "silu",
         "tie_word_embeddings": False, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    c.update(changes)
    rng = np.random.default_rng(seed)
    d, hd, f = c["hidden_size"], c["head_dim"], c["intermediate_size"]
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    shapes = {"model.embed_tokens": (c["vocab_size"], d), "lm_head": (c["vocab_size"], d)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        shapes |= {p + "self_attn.q_proj": (heads * hd, d), p + "self_attn.k_proj": (kv * hd, d),
                   p + "self_attn.v_proj": (kv * hd, d), p + "self_attn.o_proj": (d, heads * hd),
                   p + "mlp.gate_proj": (f, d), p + "mlp.up_proj": (f, d), p + "mlp.down_proj": (d, f)}
    w = {k + ".weight": rng.normal(size=s) / math.sqrt(s[1]) for k, s in shapes.items()}
    for k in w:
        if k.endswith(("q_proj.weight", "k_proj.weight")):
            w[k] *= math.sqrt(sharp)
    w["model.embed_tokens.weight"] *= math.sqrt(d)
    norms = ["model.norm"] + [f"model.layers.{i}.{n}" for i in range(c["num_hidden_layers"])
                              for n in ("input_layernorm", "post_attention_layernorm")]
    w |= {n + ".weight": 1 + 0.1 * rng.normal(size=d) for n in norms}
    return c, {k: v.astype(np.float32) for k, v in w.items()}


def write(folder, config, weights):
    """A Hugging Face folder."""
    header, at = {}, 0
    for k, v in weights.items():
        header[k] = {"dtype": "F32", "shape": list(v.shape), "data_offsets": [at, at + v.nbytes]}
        at += v.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(v.tobytes() for v in weights.values()))
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)


def check(folder, config, ids, parts):
    """The largest difference between this file and transformers, over `parts` of the tokens given in turn."""
    import torch
    from transformers import AutoModelForCausalLM


    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    import safetensors.numpy

    ours = Llama(config, safetensors.numpy.load_file(os.path.join(folder, "model.safetensors")))
    past, at, worst = None, 0, 0.0
    for n in parts:
        with torch.no_grad():
            out = model(torch.tensor(ids[None, at:at + n]), past_key_values=past, use_cache=True)
        past = out.past_key_values
        worst = max(worst, float(np.abs(out.logits[0].numpy() - ours(ids[at:at + n])).max()))
        at += n
    return worst
