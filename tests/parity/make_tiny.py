#!/usr/bin/env python3
"""Makes the tiny model folders of this directory, their expected outputs, and manifest.json.

Every model is seeded, every expected output is computed by transformers in float32 with eager attention, on the
weights as they are stored (a bf16 or f16 folder is read back and run in float32). Sizes are off every vector width:
hidden 48, 3 heads, vocabulary 257 or 101.

    python3 make_tiny.py [NAME...]          # all folders, or those named (the manifest is always of all)

Per folder, goldens.safetensors holds for each case (`a`: 3 sequences of 33, 20 and 5 tokens, padded on the right;
`b`: one of 7; `c`: one of 1) `CASE.in.NAME` (int32) and `CASE.ENTRY.OUTPUT` (float32), and for causal models
`generate.prompt`, `generate.tokens` (greedy) and `generate.gaps` (top-1 logit minus top-2 logit, per step).
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
LABELS3 = {0: "bad", 1: "fair", 2: "good"}
TAGS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}

ENCODE = {"encode": {"hidden": "last_hidden_state"}}
FILL = {"fill_mask": {"logits": "logits"}}
CLASSIFY = {"classify": {"logits": "logits"}}
TOKENS = {"classify_tokens": {"logits": "logits"}}
ANSWER = {"answer": {"start": "start_logits", "end": "end_logits"}}
CAUSAL = {"logits": {"logits": "logits"}, "next": {"logits": "logits"}}


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
    "mistral-window": ("MistralForCausalLM", dict(SMALL, head_dim=20, sliding_window=12), CAUSAL, {}),
}


def seed_of(name):
    seed = 17
    for c in name.encode():
        seed = (seed * 131 + c) % (2 ** 31)
    return seed


def init(model, g):
    """Weights that make every part of the graph visible in the outputs: no zeros, no ones, no tiny logits."""
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if p.dim() == 1:
                p.normal_(0.0, 0.2, generator=g)
                if "norm" in name.lower() or ".ln_" in name:
                    p.add_(0.0 if name.endswith("bias") else 1.0)
            elif "embed" in name or ".wte" in name or ".wpe" in name:
                p.normal_(0.0, 0.7, generator=g)
            else:
                p.normal_(0.0, 1.5 / math.sqrt(p.shape[0] if ".c_" in name else p.shape[1]), generator=g)


def make_inputs(config, causal, pooled, g):
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


def goldens(name, model, entries, options, g):
    causal = "logits" in entries
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
        prompt, tokens, gaps = best_generation(model, model.config.vocab_size, g)
        out["generate.prompt"], out["generate.tokens"] = prompt.to(torch.int32), tokens.to(torch.int32)
        out["generate.gaps"] = gaps
    for k, v in out.items():
        assert v.isfinite().all(), f"{name}: {k} is not finite"
    return out


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def as_v4(folder):
    """config.json as transformers 4 wrote it."""
    path = os.path.join(folder, "config.json")
    c = json.load(open(path))
    c["torch_dtype"] = c.pop("dtype", "float32")
    r = c.pop("rope_parameters", None)
    if r:
        c["rope_theta"] = r.pop("rope_theta")
        c["rope_scaling"] = r if r["rope_type"] == "llama3" else dict(type=r["rope_type"], factor=r["factor"])
    c["transformers_version"] = "4.44.2"
    for key in ("add_cross_attention", "is_decoder", "head_dim"):
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


def make(name):
    cls_name, config, entries, options = FOLDERS[name]
    cls = getattr(transformers, cls_name)
    folder = os.path.join(MODELS, name)
    shutil.rmtree(folder, ignore_errors=True)
    g = torch.Generator().manual_seed(seed_of(name))
    model = cls(cls.config_class(**config)).eval()
    init(model, g)
    model.tie_weights()
    model.to(getattr(torch, options.get("dtype", "float32")))
    model.save_pretrained(folder, max_shard_size=options.get("shard", "1GB"))
    if os.path.exists(os.path.join(folder, "generation_config.json")):
        os.remove(os.path.join(folder, "generation_config.json"))
    for option, rewrite in (("hub_gpt2", as_hub_gpt2), ("old_bert", as_old_bert), ("v4", as_v4)):
        if options.get(option):
            rewrite(folder)
    if "pooling" in options:
        as_sentence(folder, options["pooling"], options["normalize"])
    model, info = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                      output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], f"{name}: {info}"
    model.eval()
    save_file(goldens(name, model, entries, options, g), os.path.join(folder, "goldens.safetensors"))
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
                         cases=["a", "b", "c"], generate="logits" in entries))
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
