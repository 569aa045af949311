#!/usr/bin/env python3
"""Makes the tiny model folders of this directory, their expected outputs, and manifest.json.

Every model is seeded, every expected output is computed by transformers in float32 with eager attention, on the
weights as they are stored (a bf16 or f16 folder is read back and run in float32). Sizes are off every vector width:
hidden 48, 3 heads, vocabulary 257 or 101.

    python3 make_tiny.py [NAME...]          # all folders, or those named (the manifest is always of all)

Per folder, goldens.safetensors holds for each case (`a`: 3 sequences of 33, 20 and 5 tokens, padded on the right;
`b`: one of 7; `c`: one of 1) `CASE.in.NAME` (int32) and `CASE.ENTRY.OUTPUT` (float32), and for causal models

    generate.prompt, .tokens (greedy), .gaps (top-1 logit minus top-2 logit, per step)
    batch.ids [3, 20], .pads [3]   sequences of different lengths, each run alone, padded on the left afterwards
    batch.logits [4, 3, vocab]     behind the last four tokens of each
    long.ids [1, n]                with the option `long`: past the window and what its cache may hold, or past the
    long.logits [5, vocab]         switch of the rotation; behind the last five tokens

A family is a dict of sizes and entries in FOLDERS: name, class, config, entry points, options. Options: dtype, shard
(max_shard_size), v4 (config.json as transformers 4 wrote it), long, gguf (not the folder's own files but a GGUF file
with matrices of this type), pooling and normalize (sentence encoders),
hub_gpt2 and old_bert (names of old files), merged and hub_deepseek (other forms of experts and of DeepSeek's files).
"""
import argparse
import json
import math
import os
import shutil
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
import transformers
from safetensors.torch import load_file, save_file

import gguf
import make_gguf

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "models")
LENGTHS, SEQ, SHORT = (33, 20, 5), 33, 7
NEW_TOKENS, PROMPT = 64, 5

BERT = dict(vocab_size=257, hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=84,
            max_position_embeddings=40, type_vocab_size=2)
ROBERTA = dict(BERT, type_vocab_size=1, max_position_embeddings=42, pad_token_id=1, layer_norm_eps=1e-5)
DISTIL = dict(vocab_size=257, dim=48, n_layers=2, n_heads=3, hidden_dim=84, max_position_embeddings=40)
GPT2 = dict(vocab_size=257, n_embd=48, n_layer=2, n_head=3, n_positions=96, bos_token_id=None, eos_token_id=None)
LLAMA = dict(vocab_size=257, hidden_size=48, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
             intermediate_size=68, max_position_embeddings=96, tie_word_embeddings=False, bos_token_id=None,
             eos_token_id=None, pad_token_id=None)
SMALL = dict(LLAMA, vocab_size=101, tie_word_embeddings=True)
QWEN = dict(SMALL, head_dim=16)
WINDOW = dict(sliding_window=8, max_position_embeddings=1024)
GEMMA = dict(SMALL, hidden_size=32, num_attention_heads=2, head_dim=12, intermediate_size=36, query_pre_attn_scalar=12,
             **WINDOW)
SMOL3 = dict(SMALL, hidden_size=40, num_hidden_layers=4, head_dim=12, intermediate_size=52)
PHI = dict(vocab_size=101, hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=100,
           max_position_embeddings=96, bos_token_id=None, eos_token_id=None, pad_token_id=None)
PHI3 = dict(SMALL, num_key_value_heads=1, tie_word_embeddings=False)
BLOOM = dict(vocab_size=101, hidden_size=40, n_layer=2, n_head=5, seq_length=96, bos_token_id=None, eos_token_id=None)
MODERN = dict(vocab_size=101, hidden_size=48, num_hidden_layers=4, num_attention_heads=3, intermediate_size=32,
              max_position_embeddings=40, local_attention=8, pad_token_id=1, bos_token_id=None, eos_token_id=None,
              cls_token_id=None, sep_token_id=None)
MIXED = dict(SMALL, hidden_size=32, num_attention_heads=2, intermediate_size=36, num_experts_per_tok=2)
MIXTRAL = dict(MIXED, num_local_experts=5, intermediate_size=32)
QWEN_MOE = dict(MIXED, num_experts=6, moe_intermediate_size=32)
DEEPSEEK = dict(MIXED, num_key_value_heads=2, n_routed_experts=8, moe_intermediate_size=24, n_shared_experts=1,
                first_k_dense_replace=1, kv_lora_rank=32, q_lora_rank=None, qk_nope_head_dim=12, qk_rope_head_dim=8,
                v_head_dim=10, n_group=1, topk_group=1)
GROUPS = dict(n_group=4, topk_group=2, num_experts_per_tok=3)
Q8 = dict(SMALL, hidden_size=64, num_attention_heads=2, head_dim=32, intermediate_size=96)
LABELS3 = {0: "bad", 1: "fair", 2: "good"}
TAGS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}

ENCODE = {"encode": {"hidden": "last_hidden_state"}}
FILL = {"fill_mask": {"logits": "logits"}}
CLASSIFY = {"classify": {"logits": "logits"}}
TOKENS = {"classify_tokens": {"logits": "logits"}}
ANSWER = {"answer": {"start": "start_logits", "end": "end_logits"}}
CAUSAL = {"logits": {"logits": "logits"}, "next": {"logits": "logits"}}

MAMBA = dict(vocab_size=101, hidden_size=40, state_size=12, num_hidden_layers=2, time_step_rank=3, bos_token_id=None,
             eos_token_id=None, pad_token_id=None)
MAMBA2 = dict(MAMBA, num_heads=5, head_dim=16, n_groups=5, chunk_size=8)


def rope(kind, **more):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=10000.0, **more))


# name: class, config, entries, options
FOLDERS = {
    "bert-model": ("BertModel", BERT, ENCODE, {}),
    "bert-bf16": ("BertModel", dict(BERT, hidden_act="gelu_new"), ENCODE, dict(dtype="bfloat16")),
    "bert-mlm": ("BertForMaskedLM", BERT, FILL, {}),
    "bert-mlm-old": ("BertForMaskedLM", dict(BERT, vocab_size=101), FILL, dict(old_bert=True, v4=True)),
    "bert-cls": ("BertForSequenceClassification", dict(BERT, id2label=LABELS3), CLASSIFY, {}),
    "bert-tokens": ("BertForTokenClassification", dict(BERT, id2label=TAGS), TOKENS, {}),
    "bert-qa": ("BertForQuestionAnswering", BERT, ANSWER, {}),
    "roberta-mlm": ("RobertaForMaskedLM", ROBERTA, FILL, {}),
    "roberta-cls": ("RobertaForSequenceClassification", dict(ROBERTA, vocab_size=101), CLASSIFY, {}),
    "xlm-roberta": ("XLMRobertaModel", ROBERTA, ENCODE, {}),
    "distilbert": ("DistilBertModel", DISTIL, ENCODE, {}),
    "distilbert-cls-f16": ("DistilBertForSequenceClassification", DISTIL, CLASSIFY, dict(dtype="float16", v4=True)),
    "distilbert-qa": ("DistilBertForQuestionAnswering", dict(DISTIL, activation="relu"), ANSWER, {}),
    "sentence-mean": ("BertModel", BERT, ENCODE, dict(pooling="mean", normalize=True)),
    "sentence-cls": ("BertModel", dict(BERT, vocab_size=101), ENCODE, dict(pooling="cls", normalize=False)),
    "gpt2": ("GPT2LMHeadModel", GPT2, CAUSAL, {}),
    "gpt2-hub": ("GPT2LMHeadModel", dict(GPT2, vocab_size=101, n_inner=70), CAUSAL, dict(hub_gpt2=True, v4=True)),
    "llama": ("LlamaForCausalLM", LLAMA, CAUSAL, dict(shard="70KB")),
    "llama-bf16": ("LlamaForCausalLM", LLAMA, CAUSAL, dict(dtype="bfloat16")),
    "llama-tied": ("LlamaForCausalLM", dict(SMALL, num_key_value_heads=3, rms_norm_eps=1e-5), CAUSAL, {}),
    "llama-bias": ("LlamaForCausalLM", dict(SMALL, attention_bias=True, mlp_bias=True), CAUSAL, {}),
    "llama-rope-llama3": ("LlamaForCausalLM", dict(SMALL, **rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
        CAUSAL, dict(v4=True)),
    "llama-rope-linear": ("LlamaForCausalLM", dict(SMALL, **rope("linear", factor=2.5)), CAUSAL, dict(v4=True)),
    "llama-rope-yarn": ("LlamaForCausalLM", dict(SMALL, **rope(
        "yarn", factor=4.0, original_max_position_embeddings=24)), CAUSAL, {}),
    "llama-rope-dynamic": ("LlamaForCausalLM", dict(SMALL, **rope("dynamic", factor=4.0)), CAUSAL, dict(long=150)),
    "llama-rope-longrope": ("LlamaForCausalLM", dict(SMALL, max_position_embeddings=320, **rope(
        "longrope", original_max_position_embeddings=80, factor=4.0,
        short_factor=[1.0, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2.0],
        long_factor=[1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0])),
        CAUSAL, dict(long=120)),
    "mistral-window": ("MistralForCausalLM", dict(SMALL, head_dim=20, sliding_window=12), CAUSAL, {}),
    "mistral-ring-bf16": ("MistralForCausalLM", dict(SMALL, **WINDOW), CAUSAL, dict(dtype="bfloat16", long=560)),
    "qwen2": ("Qwen2ForCausalLM", SMALL, CAUSAL, {}),
    "qwen2-bf16": ("Qwen2ForCausalLM", dict(SMALL, tie_word_embeddings=False), CAUSAL, dict(dtype="bfloat16")),
    "qwen2-window": ("Qwen2ForCausalLM", dict(SMALL, use_sliding_window=True, max_window_layers=1, **WINDOW), CAUSAL,
                     dict(v4=True, long=560)),
    "qwen3": ("Qwen3ForCausalLM", dict(QWEN, head_dim=20), CAUSAL, {}),
    "qwen3-bf16": ("Qwen3ForCausalLM", dict(QWEN, attention_bias=True, tie_word_embeddings=False), CAUSAL,
                   dict(dtype="bfloat16")),
    "gemma2": ("Gemma2ForCausalLM", dict(GEMMA, num_hidden_layers=4, attn_logit_softcapping=4.0,
                                         final_logit_softcapping=5.0), CAUSAL, dict(long=560)),
    "gemma2-bf16": ("Gemma2ForCausalLM", dict(GEMMA, num_hidden_layers=3, query_pre_attn_scalar=20,
                                              final_logit_softcapping=None), CAUSAL, dict(dtype="bfloat16")),
    "gemma3": ("Gemma3ForCausalLM", dict(GEMMA, num_hidden_layers=7, rope_parameters=dict(
        full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0),
        sliding_attention=dict(rope_type="default", rope_theta=1e4))), CAUSAL, dict(long=560)),
    "gemma3-bf16": ("Gemma3ForCausalLM", dict(GEMMA, num_hidden_layers=3, query_pre_attn_scalar=20,
                                              sliding_window_pattern=3), CAUSAL, dict(dtype="bfloat16", v4=True)),
    "gemma3-images": ("Gemma3ForConditionalGeneration", dict(
        text_config=dict(GEMMA, num_hidden_layers=3,
                         layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        vision_config=dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=1, intermediate_size=12,
                           image_size=28, patch_size=14)), CAUSAL, {}),
    "smollm3": ("SmolLM3ForCausalLM", SMOL3, CAUSAL, {}),
    "smollm3-bf16": ("SmolLM3ForCausalLM", dict(SMOL3, no_rope_layers=[0, 1, 1, 0], use_sliding_window=True, **WINDOW),
                     CAUSAL, dict(dtype="bfloat16", long=560)),
    "phi": ("PhiForCausalLM", PHI, CAUSAL, {}),
    "phi-bf16": ("PhiForCausalLM", dict(PHI, qk_layernorm=True, num_key_value_heads=1), CAUSAL,
                 dict(dtype="bfloat16", v4=True)),
    "phi3": ("Phi3ForCausalLM", dict(PHI3, **WINDOW), CAUSAL, dict(long=560)),
    "phi3-bf16": ("Phi3ForCausalLM", dict(PHI3, num_key_value_heads=3), CAUSAL, dict(dtype="bfloat16")),
    "phi3-longrope": ("Phi3ForCausalLM", dict(
        PHI3, max_position_embeddings=320, original_max_position_embeddings=80, tie_word_embeddings=True, **rope(
            "longrope", partial_rotary_factor=0.75, short_factor=[1.0, 1.1, 1.3, 1.5, 1.6, 2.0],
            long_factor=[1.0, 1.5, 4.0, 8.0, 16.0, 32.0])), CAUSAL, dict(long=120)),
    "mixtral": ("MixtralForCausalLM", MIXTRAL, CAUSAL, {}),
    "mixtral-bf16": ("MixtralForCausalLM", dict(MIXTRAL, num_experts_per_tok=1, **WINDOW), CAUSAL, dict(
        dtype="bfloat16", merged=True, long=560)),
    "qwen2-moe": ("Qwen2MoeForCausalLM", dict(QWEN_MOE, shared_expert_intermediate_size=20, tie_word_embeddings=False),
                  CAUSAL, {}),
    "qwen2-moe-bf16": ("Qwen2MoeForCausalLM", dict(
        QWEN_MOE, num_hidden_layers=4, num_experts=3, shared_expert_intermediate_size=28, decoder_sparse_step=2,
        mlp_only_layers=[3], norm_topk_prob=True), CAUSAL, dict(dtype="bfloat16", v4=True)),
    "qwen3-moe": ("Qwen3MoeForCausalLM", dict(QWEN_MOE, head_dim=20, norm_topk_prob=True), CAUSAL, {}),
    "qwen3-moe-bf16": ("Qwen3MoeForCausalLM", dict(QWEN_MOE, head_dim=12, num_experts=17, num_experts_per_tok=4),
                       CAUSAL, dict(dtype="bfloat16")),
    "deepseek-v2": ("DeepseekV2ForCausalLM", DEEPSEEK, CAUSAL, {}),
    "deepseek-v2-bf16": ("DeepseekV2ForCausalLM", dict(
        DEEPSEEK, q_lora_rank=24, n_shared_experts=2, topk_method="group_limited_greedy", routed_scaling_factor=3.0,
        **GROUPS, **rope("yarn", factor=4.0, original_max_position_embeddings=24, mscale=0.9, mscale_all_dim=0.7)),
        CAUSAL, dict(dtype="bfloat16", v4=True, hub_deepseek=True)),
    "deepseek-v3": ("DeepseekV3ForCausalLM", dict(DEEPSEEK, q_lora_rank=24, **GROUPS), CAUSAL, {}),
    "deepseek-v3-bf16": ("DeepseekV3ForCausalLM", dict(
        DEEPSEEK, n_shared_experts=2, norm_topk_prob=False, routed_scaling_factor=1.5, num_hidden_layers=3, **rope(
            "yarn", factor=4.0, original_max_position_embeddings=24, mscale=1.0, mscale_all_dim=1.0)),
        CAUSAL, dict(dtype="bfloat16", v4=True, hub_deepseek=True)),
    "bloom": ("BloomForCausalLM", BLOOM, CAUSAL, {}),
    "bloom-bf16": ("BloomForCausalLM", dict(BLOOM, n_head=4, apply_residual_connection_post_layernorm=True), CAUSAL,
                   dict(dtype="bfloat16", v4=True)),
    "mamba": ("MambaForCausalLM", MAMBA, CAUSAL, {}),
    "mamba-bf16": ("MambaForCausalLM", dict(MAMBA, use_bias=True, use_conv_bias=False, conv_kernel=3), CAUSAL,
                   dict(dtype="bfloat16")),
    "mamba2": ("Mamba2ForCausalLM", MAMBA2, CAUSAL, {}),
    "mamba2-bf16": ("Mamba2ForCausalLM", dict(MAMBA2, n_groups=1, state_size=20, tie_word_embeddings=True,
                                              time_step_limit=[0.3, 0.9]), CAUSAL, dict(dtype="bfloat16")),
    "modernbert": ("ModernBertModel", dict(MODERN, norm_bias=True, attention_bias=True, mlp_bias=True), ENCODE, {}),
    "modernbert-mlm": ("ModernBertForMaskedLM", MODERN, FILL, {}),
    "modernbert-bf16": ("ModernBertForMaskedLM", dict(MODERN, global_attn_every_n_layers=2, decoder_bias=False), FILL,
                        dict(dtype="bfloat16", v4=True)),
    "modernbert-cls": ("ModernBertForSequenceClassification", dict(
        MODERN, id2label=LABELS3, classifier_pooling="mean", classifier_bias=True), CLASSIFY, {}),
    "modernbert-tokens": ("ModernBertForTokenClassification", dict(MODERN, id2label=TAGS), TOKENS, {}),
    # GGUF files with matrices in Q8_0; the expected outputs are those of the values that come out of the blocks
    "llama-q8": ("LlamaForCausalLM", dict(Q8, num_key_value_heads=2), CAUSAL, dict(gguf="Q8_0")),
    "qwen2-q8": ("Qwen2ForCausalLM", Q8, CAUSAL, dict(gguf="Q8_0")),
    "qwen3-q8": ("Qwen3ForCausalLM", dict(Q8, tie_word_embeddings=False), CAUSAL, dict(gguf="Q8_0")),
    "gemma2-q8": ("Gemma2ForCausalLM", dict(Q8, query_pre_attn_scalar=32, **WINDOW), CAUSAL, dict(gguf="Q8_0")),
    "gemma3-q8": ("Gemma3ForCausalLM", dict(
        Q8, hidden_size=32, num_attention_heads=1, intermediate_size=64, num_hidden_layers=7, query_pre_attn_scalar=32,
        **WINDOW), CAUSAL, dict(gguf="Q8_0")),
    "smollm3-q8": ("SmolLM3ForCausalLM", dict(Q8, num_hidden_layers=4), CAUSAL, dict(gguf="Q8_0")),
    "phi-q8": ("PhiForCausalLM", dict(PHI, hidden_size=64, num_attention_heads=2, intermediate_size=96), CAUSAL,
               dict(gguf="Q8_0")),
    "phi3-q8": ("Phi3ForCausalLM", {k: v for k, v in Q8.items() if k != "head_dim"}, CAUSAL, dict(gguf="Q8_0")),
    "bloom-q8": ("BloomForCausalLM", dict(BLOOM, hidden_size=64, n_head=2), CAUSAL, dict(gguf="Q8_0")),
    "gpt2-q8": ("GPT2LMHeadModel", dict(GPT2, vocab_size=101, n_embd=64, n_head=2), CAUSAL, dict(gguf="Q8_0")),
    "mamba-q8": ("MambaForCausalLM", dict(MAMBA, hidden_size=32, time_step_rank=4), CAUSAL, dict(gguf="Q8_0")),
    "mamba2-q8": ("Mamba2ForCausalLM", dict(MAMBA2, hidden_size=32, num_heads=4, n_groups=2), CAUSAL,
                  dict(gguf="Q8_0")),
    "modernbert-q8": ("ModernBertModel", dict(MODERN, hidden_size=64, num_attention_heads=2), ENCODE,
                      dict(gguf="Q8_0")),
}


def seed_of(name):
    seed = 17
    for c in name.encode():
        seed = (seed * 131 + c) % (2 ** 31)
    return seed


def init(model, g):
    """Weights that make every part of the graph visible in the outputs: no zeros, no ones, no tiny logits."""
    centred = model.config.model_type.startswith("gemma")  # norms hold their distance from 1
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if p.dim() == 1:
                p.normal_(0.0, 0.2, generator=g)
                if not centred and ("norm" in name.lower() or ".ln_" in name):
                    p.add_(0.0 if name.endswith("bias") else 1.0)
            elif "embed" in name or ".wte" in name or ".wpe" in name:
                p.normal_(0.0, 0.7, generator=g)
            else:
                p.normal_(0.0, 1.5 / math.sqrt(p.shape[0] if ".c_" in name else p.shape[-1]), generator=g)
        for name, b in sorted(model.named_buffers()):
            if name.endswith("e_score_correction_bias"):
                b.normal_(0.0, 0.2, generator=g)


def make_inputs(config, causal, pooled, g):
    config = config.get_text_config()
    pad = getattr(config, "pad_token_id", None) or 0
    cases = {}
    for case, (n, s) in {"a": (len(LENGTHS), SEQ), "b": (1, SHORT), "c": (1, 1)}.items():
        ids = torch.randint(2, config.vocab_size, (n, s), generator=g)
        mask = torch.ones(n, s, dtype=torch.long)
        if case == "a" and not causal:
            for row, length in enumerate(LENGTHS):
                ids[row, length:], mask[row, length:] = pad, 0
        cases[case] = {"ids": ids}
        if not causal:
            cases[case]["mask"] = mask
        if config.model_type == "bert":
            types = 1 if pooled else config.type_vocab_size  # sentence encoders see single texts
            cases[case]["types"] = torch.randint(types, (n, s), generator=g) * mask
    return cases


def forward(model, inputs):
    kwargs = {"input_ids": inputs["ids"]}
    if "mask" in inputs:
        kwargs["attention_mask"] = inputs["mask"]
    if "types" in inputs:
        kwargs["token_type_ids"] = inputs["types"]
    with torch.no_grad():
        return model(**kwargs)


def pool(hidden, mask, pooling, normalize):
    m = mask.unsqueeze(-1).float()
    e = hidden[:, 0] if pooling == "cls" else (hidden * m).sum(1) / m.sum(1).clamp(min=1e-9)
    return torch.nn.functional.normalize(e, p=2, dim=1) if normalize else e


def greedy(model, prompt):
    ids, gaps = prompt.clone(), []
    for _ in range(NEW_TOKENS):
        with torch.no_grad():
            top = model(input_ids=ids[None]).logits[0, -1].topk(2)
        gaps.append((top.values[0] - top.values[1]).item())
        ids = torch.cat([ids, top.indices[:1]])
    return ids[len(prompt):], torch.tensor(gaps)


def best_generation(model, vocab, g):
    """Of a few prompts, the one whose tokens vary most among those without a near tie."""
    found = None
    for _ in range(12):
        prompt = torch.randint(2, vocab, (PROMPT,), generator=g)
        tokens, gaps = greedy(model, prompt)
        score = (gaps.min().item() > 2e-3, len(set(tokens.tolist())))
        if found is None or score > found[0]:
            found = (score, prompt, tokens, gaps)
    return found[1:]


def ragged(model, vocab, g, out):
    """Three sequences, each run alone; then side by side, the padding in front."""
    n, lengths = 20, (20, 13, 6)
    out["batch.ids"], out["batch.pads"] = torch.zeros(3, n, dtype=torch.int32), torch.zeros(3, dtype=torch.int32)
    rows = []
    for row, length in enumerate(lengths):
        ids = torch.randint(2, vocab, (1, length), generator=g)
        out["batch.ids"][row, n - length:], out["batch.pads"][row] = ids[0], n - length
        with torch.no_grad():
            rows.append(model(input_ids=ids).logits[0, -4:].float())
    out["batch.logits"] = torch.stack(rows, 1)


def long_run(model, vocab, n, g, out):
    ids = torch.randint(2, vocab, (1, n), generator=g)
    with torch.no_grad():
        out["long.ids"], out["long.logits"] = ids.to(torch.int32), model(input_ids=ids).logits[0, -5:].float().clone()


def goldens(name, model, entries, options, g):
    causal, vocab = "logits" in entries, model.config.get_text_config().vocab_size
    out = {}
    cases = make_inputs(model.config, causal, "pooling" in options, g)
    for case, inputs in cases.items():
        result = forward(model, inputs)
        for k, v in inputs.items():
            out[f"{case}.in.{k}"] = v.to(torch.int32)
        for entry, outputs in entries.items():
            for output, field in outputs.items():
                value = result[field]
                out[f"{case}.{entry}.{output}"] = (value[:, -1] if entry == "next" else value).float().clone()
        if "pooling" in options:
            out[f"{case}.embed.embedding"] = pool(result.last_hidden_state, inputs["mask"], options["pooling"],
                                                  options["normalize"]).clone()
    if causal:
        prompt, tokens, gaps = best_generation(model, vocab, g)
        out["generate.prompt"], out["generate.tokens"] = prompt.to(torch.int32), tokens.to(torch.int32)
        out["generate.gaps"] = gaps
        ragged(model, vocab, g, out)
        if "long" in options:
            long_run(model, vocab, options["long"], g, out)
    for k, v in out.items():
        assert v.isfinite().all(), f"{name}: {k} is not finite"
    return out


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def rope_of_v4(c, r):
    """rope_parameters as the keys of transformers 4."""
    if "full_attention" in r:  # two sets, by the kind of layer
        gemma = c["model_type"].startswith("gemma")
        c["rope_theta" if gemma else "global_rope_theta"] = r["full_attention"]["rope_theta"]
        c["rope_local_base_freq" if gemma else "local_rope_theta"] = r["sliding_attention"]["rope_theta"]
        return
    c["rope_theta"] = r.pop("rope_theta")
    if "partial_rotary_factor" in r:
        c["partial_rotary_factor"] = r.pop("partial_rotary_factor")
    if r["rope_type"] != "default":
        c["rope_scaling"] = r if r["rope_type"] == "llama3" else dict(type=r.pop("rope_type"), **r)


def as_v4(folder):
    """config.json as transformers 4 wrote it."""
    path = os.path.join(folder, "config.json")
    c = json.load(open(path))
    c["torch_dtype"] = c.pop("dtype", "float32")
    rope = c.pop("rope_parameters", None)
    if rope:
        rope_of_v4(c, rope)
    c["transformers_version"] = "4.44.2"
    kinds = c.pop("layer_types", None) or []  # said by numbers then
    if c["model_type"].startswith("gemma3"):
        c["sliding_window_pattern"] = kinds.index("full_attention") + 1
    elif c["model_type"] == "modernbert":
        c["global_attn_every_n_layers"] = kinds.index("full_attention", 1)
    elif c["model_type"] == "bloom":
        c["n_embed"] = c.pop("hidden_size")
        c.update(offset_alibi=100, attention_softmax_in_fp32=True, skip_bias_add=True, masked_softmax_fusion=True)
    if c.get("head_dim") == c.get("hidden_size", 0) // max(1, c.get("num_attention_heads", 1)):
        del c["head_dim"]
    for key in ("add_cross_attention", "is_decoder"):
        c.pop(key, None)
    write_json(path, c)


def as_hub_gpt2(folder):
    """Names without prefix, and the mask buffers that the hub's file has."""
    path = os.path.join(folder, "model.safetensors")
    tensors = {k.removeprefix("transformer."): v for k, v in load_file(path).items()}
    c = json.load(open(os.path.join(folder, "config.json")))
    n = c["n_positions"]
    for i in range(c["n_layer"]):
        tensors[f"h.{i}.attn.bias"] = torch.tril(torch.ones(1, 1, n, n, dtype=torch.uint8))
        tensors[f"h.{i}.attn.masked_bias"] = torch.tensor(-10000.0)
    save_file(tensors, path, metadata={"format": "pt"})
    c["n_ctx"] = n
    c["architectures"] = ["GPT2LMHeadModel"]
    c["task_specific_params"] = {"text-generation": {"do_sample": True, "max_length": 50}}
    write_json(os.path.join(folder, "config.json"), c)


def as_old_bert(folder):
    """LayerNorm's gamma and beta, the position_ids buffer and both copies of the tied decoder."""
    path = os.path.join(folder, "model.safetensors")
    tensors = {}
    for k, v in load_file(path).items():
        k = k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors[k] = v
    n = json.load(open(os.path.join(folder, "config.json")))["max_position_embeddings"]
    tensors["bert.embeddings.position_ids"] = torch.arange(n)[None]
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    save_file(tensors, path, metadata={"format": "pt"})


def as_merged(folder):
    """Experts as transformers 5 has them in memory: gate and up side by side, all experts in one tensor."""
    path = os.path.join(folder, "model.safetensors")
    old, new = load_file(path), {}
    for k, v in old.items():
        prefix, _, rest = k.partition(".block_sparse_moe.")
        if not rest.startswith("experts."):
            new[f"{prefix}.mlp.{rest}" if rest else k] = v
            continue
        n = sum(x.startswith(prefix + ".") and x.endswith(".w1.weight") for x in old)
        w1, w2, w3 = ([old[f"{prefix}.block_sparse_moe.experts.{e}.{w}.weight"] for e in range(n)]
                      for w in ("w1", "w2", "w3"))
        new[f"{prefix}.mlp.experts.gate_up_proj"] = torch.stack([torch.cat(p) for p in zip(w1, w3)])
        new[f"{prefix}.mlp.experts.down_proj"] = torch.stack(w2)
    save_file(new, path, metadata={"format": "pt"})


def as_hub_deepseek(folder):
    """The keys that DeepSeek's own files have, and one layer more, which predicts a second token."""
    path = os.path.join(folder, "config.json")
    c = json.load(open(path))
    v3 = c["model_type"] == "deepseek_v3"
    c.update(scoring_func="sigmoid" if v3 else "softmax", moe_layer_freq=1, ep_size=1, aux_loss_alpha=0.001,
             seq_aux=True, auto_map={"AutoConfig": "configuration_deepseek.DeepseekConfig"})
    if v3:
        c.update(topk_method="noaux_tc", num_nextn_predict_layers=1)
    for key in ("qk_head_dim", "head_dim", "mlp_bias", "rope_interleave", "layer_types"):
        c.pop(key, None)
    write_json(path, c)
    if v3:
        path = os.path.join(folder, "model.safetensors")
        tensors, d, last = load_file(path), c["hidden_size"], c["num_hidden_layers"]
        extra = {k.replace(f".{last - 1}.", f".{last}.", 1): v.clone() for k, v in tensors.items()
                 if f".layers.{last - 1}." in k}
        for name, shape in (("eh_proj", (d, 2 * d)), ("enorm", (d,)), ("hnorm", (d,)), ("shared_head.norm", (d,)),
                            ("shared_head.head", (c["vocab_size"], d)), ("embed_tokens", (c["vocab_size"], d))):
            extra[f"model.layers.{last}.{name}.weight"] = torch.ones(shape, dtype=torch.bfloat16)
        save_file({**tensors, **extra}, path, metadata={"format": "pt"})


def as_sentence(folder, pooling, normalize):
    kind = "sentence_transformers.models."
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")] + ([("Normalize", "2_Normalize")] if normalize else [])
    write_json(os.path.join(folder, "modules.json"),
               [dict(idx=i, name=str(i), path=p, type=kind + t) for i, (t, p) in enumerate(modules)])
    os.makedirs(os.path.join(folder, "1_Pooling"))
    write_json(os.path.join(folder, "1_Pooling", "config.json"), dict(
        word_embedding_dimension=48, pooling_mode_cls_token=pooling == "cls",
        pooling_mode_mean_tokens=pooling == "mean", pooling_mode_max_tokens=False,
        pooling_mode_mean_sqrt_len_tokens=False))
    write_json(os.path.join(folder, "sentence_bert_config.json"), dict(max_seq_length=36, do_lower_case=False))


def through_q8(model):
    """Rounds every matrix of whole blocks to what Q8_0 gives back (writing it again changes nothing)."""
    turned = model.config.model_type == "gpt2"
    kind = gguf.GGMLQuantizationType.Q8_0
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2 and p.shape[-1] % 32 == 0:
                w = p.T if turned and ".c_" in name else p
                blocks = gguf.quants.quantize(w.contiguous().numpy(), kind)
                w.copy_(torch.from_numpy(gguf.quants.dequantize(blocks, kind)))


def make(name):
    cls_name, config, entries, options = FOLDERS[name]
    cls = getattr(transformers, cls_name)
    folder = os.path.join(MODELS, name)
    shutil.rmtree(folder, ignore_errors=True)
    g = torch.Generator().manual_seed(seed_of(name))
    model = cls(cls.config_class(**config)).eval()
    init(model, g)
    model.tie_weights()
    if "gguf" in options:
        through_q8(model)
    model.to(getattr(torch, options.get("dtype", "float32")))
    model.save_pretrained(folder, max_shard_size=options.get("shard", "1GB"))
    if os.path.exists(os.path.join(folder, "generation_config.json")):
        os.remove(os.path.join(folder, "generation_config.json"))
    for option, rewrite in (("hub_gpt2", as_hub_gpt2), ("old_bert", as_old_bert), ("v4", as_v4),
                            ("merged", as_merged), ("hub_deepseek", as_hub_deepseek)):
        if options.get(option):
            rewrite(folder)
    if "pooling" in options:
        as_sentence(folder, options["pooling"], options["normalize"])
    model, info = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                      output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], f"{name}: {info}"
    model.eval()
    save_file(goldens(name, model, entries, options, g), os.path.join(folder, "goldens.safetensors"))
    if "gguf" in options:
        make_gguf.convert(folder, os.path.join(folder, "model.gguf"), options["gguf"])
        os.remove(os.path.join(folder, "model.safetensors"))
        os.remove(os.path.join(folder, "config.json"))
    files = [os.path.join(d, f) for d, _, names in os.walk(folder) for f in names]
    for f in files:
        os.chmod(f, 0o644)
    size = sum(os.path.getsize(f) for f in files)
    print(f"{name}: {size / 1024:.0f} KiB", flush=True)
    assert size <= 500 * 1024, f"{name} is larger than 500 KiB"
    return size


def inputs_of(cls_name, entries):
    if "logits" in entries:
        return ["ids"]
    return ["ids", "mask", "types"] if cls_name.startswith("Bert") else ["ids", "mask"]


def manifest():
    rows = []
    for name, (cls_name, _, entries, options) in FOLDERS.items():
        outputs = {e: list(o) for e, o in entries.items()}
        if "pooling" in options:
            outputs["embed"] = ["embedding"]
        inputs = inputs_of(cls_name, entries)
        rows.append(dict(folder=f"models/{name}", architecture=cls_name, dtype=options.get("dtype", "float32"),
                         entries={e: dict(inputs=inputs, outputs=o) for e, o in outputs.items()},
                         cases=["a", "b", "c"], generate="logits" in entries,
                         **(dict(file="model.gguf") if "gguf" in options else {})))
    write_json(os.path.join(HERE, "manifest.json"), rows)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("names", nargs="*")
    names = p.parse_args().names or list(FOLDERS)
    unknown = [n for n in names if n not in FOLDERS]
    if unknown:
        sys.exit(f"no such folder: {', '.join(unknown)}; there are {', '.join(FOLDERS)}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    total = sum(make(n) for n in names)
    manifest()
    print(f"{total / 1024:.0f} KiB in all")


if __name__ == "__main__":
    main()
