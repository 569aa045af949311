"""Writes a LLaMA-shaped folder with random bf16 weights, sharded, without holding more than one tensor in memory.

make_llama.py FOLDER [--layers 22]     22 layers: 1.1 billion parameters (the shape of TinyLlama), 2.2 GB.
Standard library and NumPy only."""
import argparse
import json
import pathlib
import struct

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--layers", type=int, default=22)
parser.add_argument("--shards", type=int, default=3)
args = parser.parse_args()

D, FF, HEADS, KV, VOCAB = 2048, 5632, 32, 4, 32000
config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": D, "intermediate_size": FF, "num_attention_heads": HEADS,
          "num_key_value_heads": KV, "num_hidden_layers": args.layers, "vocab_size": VOCAB, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
          "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}
tensors = [("model.embed_tokens.weight", (VOCAB, D))]
for i in range(args.layers):
    p = f"model.layers.{i}."
    tensors += [(p + "input_layernorm.weight", (D,)), (p + "post_attention_layernorm.weight", (D,)),
                (p + "self_attn.q_proj.weight", (D, D)), (p + "self_attn.k_proj.weight", (D // HEADS * KV, D)),
                (p + "self_attn.v_proj.weight", (D // HEADS * KV, D)), (p + "self_attn.o_proj.weight", (D, D)),
                (p + "mlp.gate_proj.weight", (FF, D)), (p + "mlp.up_proj.weight", (FF, D)), (p + "mlp.down_proj.weight", (D, FF))]
tensors += [("model.norm.weight", (D,)), ("lm_head.weight", (VOCAB, D))]

args.folder.mkdir(parents=True, exist_ok=True)
(args.folder / "config.json").write_text(json.dumps(config, indent=1))
rng = np.random.default_rng(1)
per_shard = -(-len(tensors) // args.shards)
weight_map, total = {}, 0
for s in range(args.shards):
    name = f"model-{s + 1:05}-of-{args.shards:05}.safetensors"
    part, header, at = tensors[s * per_shard:(s + 1) * per_shard], {}, 0
    for tensor, shape in part:
        size = 2 * int(np.prod(shape))
        header[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        weight_map[tensor] = name
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(args.folder / name, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for tensor, shape in part:
            values = np.ones(shape, np.float32) if len(shape) == 1 else rng.standard_normal(shape, np.float32) * 0.02
            f.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    total += at
(args.folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
print(f"{args.folder}: {total / 1e9:.2f} GB in {args.shards} shards, {total // 2 / 1e9:.2f} billion parameters")
