"""Makes tests/newarch/model and goldens.safetensors: a LLaMA whose attention and MLP run in parallel, an architecture
that no library has, in plain PyTorch. Written with torch 2.13, safetensors 0.8; run it only to regenerate."""
import json
import math
import pathlib

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
D, FF, LAYERS, HEADS, KV, HD, VOCAB, EPS, THETA = 48, 80, 2, 4, 2, 12, 131, 1e-6, 10000.0
torch.manual_seed(11)


def make_weights():
    w = {"model.embed_tokens.weight": torch.randn(VOCAB, D), "model.norm.weight": 1 + 0.1 * torch.randn(D), "lm_head.weight": 0.3 * torch.randn(VOCAB, D)}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        w[p + "input_layernorm.weight"] = 1 + 0.1 * torch.randn(D)
        for name, rows, cols in (("self_attn.q_proj", HEADS * HD, D), ("self_attn.k_proj", KV * HD, D), ("self_attn.v_proj", KV * HD, D), ("self_attn.o_proj", D, HEADS * HD),
                                 ("mlp.gate_proj", FF, D), ("mlp.up_proj", FF, D), ("mlp.down_proj", D, FF)):
            w[p + name + ".weight"] = torch.randn(rows, cols) / math.sqrt(cols)
    return w


def norm(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * w


def rotate(x):  # [B, S, H, HD], the half-split layout
    s, half = x.shape[1], HD // 2
    angle = torch.arange(s, dtype=torch.float64)[:, None] * THETA ** (-torch.arange(half, dtype=torch.float64) / half)
    cos, sin = angle.cos()[None, :, None], angle.sin()[None, :, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def forward(w, ids):
    w = {k: v.double() for k, v in w.items()}
    x = w["model.embed_tokens.weight"][ids]
    b, s, _ = x.shape
    mask = torch.full((s, s), float("-inf")).triu(1)
    for i in range(LAYERS):
        def linear(h, name):
            return h @ w[f"model.layers.{i}.{name}.weight"].T
        h = norm(x, w[f"model.layers.{i}.input_layernorm.weight"])
        q = rotate(linear(h, "self_attn.q_proj").view(b, s, HEADS, HD))
        k = rotate(linear(h, "self_attn.k_proj").view(b, s, KV, HD)).repeat_interleave(HEADS // KV, 2)
        v = linear(h, "self_attn.v_proj").view(b, s, KV, HD).repeat_interleave(HEADS // KV, 2)
        p = (torch.einsum("bshd,bthd->bhst", q, k) / math.sqrt(HD) + mask).softmax(-1)
        attention = linear(torch.einsum("bhst,bthd->bshd", p, v).reshape(b, s, -1), "self_attn.o_proj")
        mlp = linear(torch.nn.functional.silu(linear(h, "mlp.gate_proj")) * linear(h, "mlp.up_proj"), "mlp.down_proj")
        x = x + attention + mlp
    return (norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T).float()


folder = HERE / "model"
folder.mkdir(exist_ok=True)
config = {"architectures": ["ParallelLlamaForCausalLM"], "model_type": "parallel_llama", "hidden_size": D, "intermediate_size": FF, "num_hidden_layers": LAYERS,
          "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": HD, "vocab_size": VOCAB, "max_position_embeddings": 64, "rms_norm_eps": EPS,
          "rope_theta": THETA, "hidden_act": "silu", "tie_word_embeddings": False, "eos_token_id": 0}
(folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
weights = make_weights()
save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
ids = torch.randint(1, VOCAB, (2, 13))
save_file({"ids": ids.int(), "logits": forward(weights, ids)}, HERE / "goldens.safetensors")
