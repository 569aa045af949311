#!/usr/bin/env python3
"""Attention maps of a report: those of the first layer of the demo model (a Llama) against NumPy, and all layers against
transformers where it is installed. Every row sums to one; what cannot be drawn is refused.

    attention.py TENON DEMO_FOLDER
"""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "verify"))
from models import MODELS, load_wide, np

try:
    import tokenizers
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e}") or 77)

TEXT = "And God said, Let there be light"
ROUNDED = 1e-4  # four digits are written


class Checks:
    failed = 0

    def __call__(self, what, ok, text=""):
        self.failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {what} {text}", flush=True)


def report(tenon, model, *options):
    with tempfile.TemporaryDirectory() as work:
        r = subprocess.run([tenon, "inspect", model, "--report", work, *options], capture_output=True, text=True)
        path = f"{work}/report.json"
        return r.returncode, json.load(open(path)) if os.path.exists(path) else {}, r.stderr


def maps(r):
    return {(h["layer"], h["head"]): np.array(h["weights"]) for h in r.get("attention", [])}


def first_layer(folder, ids):
    """softmax(q k^T / sqrt(d)) under a causal mask, after RMSNorm and rotation in halves (Su et al. 2021)."""
    c = json.load(open(f"{folder}/config.json"))
    w = {k: v.astype(np.float64) for k, v in load_wide(f"{folder}/model.safetensors").items()}
    heads, groups = c["num_attention_heads"], c["num_key_value_heads"]
    d = c.get("head_dim") or c["hidden_size"] // heads
    x = w["model.embed_tokens.weight"][ids]
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + c["rms_norm_eps"]) * w["model.layers.0.input_layernorm.weight"]
    theta = (c.get("rope_parameters") or c).get("rope_theta", 10000.0)
    angle = np.arange(len(ids))[:, None] * theta ** (-np.arange(0, d, 2) / d)
    sine, cosine = np.sin(angle), np.cos(angle)

    def turned(name, n):
        y = (x @ w[f"model.layers.0.self_attn.{name}_proj.weight"].T).reshape(len(ids), n, d)
        a, b = y[..., :d // 2], y[..., d // 2:]
        return np.concatenate([a * cosine[:, None] - b * sine[:, None], b * cosine[:, None] + a * sine[:, None]], -1)

    q, k = turned("q", heads), turned("k", groups)
    out = []
    for h in range(heads):
        s = q[:, h] @ k[:, h // (heads // groups)].T / np.sqrt(d)
        s = np.where(np.tril(np.ones_like(s)) > 0, s, -np.inf)
        e = np.exp(s - s.max(-1, keepdims=True))
        out.append(e / e.sum(-1, keepdims=True))
    return out


def against_numpy(check, tenon, demo):
    rc, r, err = report(tenon, demo, "--attention", TEXT)
    got, tokenizer = maps(r), tokenizers.Tokenizer.from_file(f"{demo}/tokenizer.json")
    ids = tokenizer.encode(TEXT).ids
    wanted = first_layer(demo, ids)
    worst = max(np.abs(got[0, h] - x).max() for h, x in enumerate(wanted))
    check("the first layer is NumPy's", rc == 0 and worst < ROUNDED, f"{worst:.2g} {err.strip()}")
    c = json.load(open(f"{demo}/config.json"))
    check("every layer and head", sorted(got) == [(i, h) for i in range(c["num_hidden_layers"]) for h in range(c["num_attention_heads"])])
    check("rows sum to one", all(np.abs(x.sum(-1) - 1).max() < 2e-3 for x in got.values()))
    check("a token for each row", all(len(h["tokens"]) == len(ids) for h in r["attention"]))
    return got


def against_transformers(check, got, demo):
    try:
        import torch
        import transformers
    except ImportError:
        return print("transformers is not there: its attentions are not compared")
    model = transformers.AutoModelForCausalLM.from_pretrained(demo, attn_implementation="eager", dtype=torch.float32).eval()
    ids = torch.tensor([tokenizers.Tokenizer.from_file(f"{demo}/tokenizer.json").encode(TEXT).ids])
    with torch.no_grad():
        wanted = model(ids, output_attentions=True).attentions
    worst = max(np.abs(x - wanted[i][0, h].numpy()).max() for (i, h), x in got.items())
    check("all layers are those of transformers", worst < ROUNDED, f"{worst:.2g}")


def refused(check, tenon, words, *args):
    rc, r, err = report(tenon, *args)
    check(" ".join(args[1:])[:60], rc == 1 and words in err and not r, err.strip()[:100])


def main(tenon, demo):
    check = Checks()
    got = against_numpy(check, tenon, demo)
    against_transformers(check, got, demo)
    some = maps(report(tenon, demo, "--attention", TEXT, "--layers", "2,0")[1])
    check("chosen layers only", {i for i, _ in some} == {0, 2} and all(np.array_equal(x, got[k]) for k, x in some.items()))
    refused(check, tenon, "layers 0 to 3", demo, "--attention", TEXT, "--layers", "9")
    refused(check, tenon, "can be drawn", demo, "--attention", "And God said " * 100)
    refused(check, tenon, "no attention", f"{MODELS}/mamba", "--attention", TEXT)
    return check.failed > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
