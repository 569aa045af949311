#!/usr/bin/env python3
"""Writes goldens.json: what transformers' modules are called with, summed up, on tiny folders and on the demo model
(chunks of 64 tokens of text.txt). Needs torch and transformers; run by hand."""
import json
import pathlib
import sys

import torch
from safetensors.numpy import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHUNK = 64


def watch(model, calls):
    """Rows and sums of squares by column of what each linear layer gets."""
    seen = {}

    def hook(name):
        def before(module, args):
            x = args[0].detach().double().reshape(-1, args[0].shape[-1])
            entry = seen.setdefault(name + ".weight", [0, torch.zeros(x.shape[1], dtype=torch.double)])
            entry[0] += len(x)
            entry[1] += (x * x).sum(0)
        return before

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D":
            module.register_forward_pre_hook(hook(name))
    with torch.no_grad():
        for inputs in calls:
            model(**inputs)
    return {k: {"rows": n, "squares": [float(f"{x:.6g}") for x in s]} for k, (n, s) in seen.items()}


def tiny(name, kind):
    folder = ROOT / "tests/parity/models" / name
    given = {k[5:]: torch.tensor(v).long() for k, v in load_file(folder / "goldens.safetensors").items()
             if k.startswith("a.in.")}
    names = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
    return watch(kind.from_pretrained(folder, dtype=torch.float32).eval(), [{names[k]: v for k, v in given.items()}])


def demo():
    folder = ROOT / "tools/demo-model/model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer((HERE / "text.txt").read_text())["input_ids"]
    first = tokenizer("")["input_ids"]
    chunks = [ids[i:i + CHUNK] for i in range(0, len(ids) - CHUNK + 1, CHUNK)]
    for c in chunks:
        c[:1] = first[:1] or c[:1]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return watch(model, [{"input_ids": torch.tensor([c])} for c in chunks]), len(chunks)


def main():
    out = {"llama": tiny("llama", AutoModelForCausalLM), "gpt2": tiny("gpt2", AutoModelForCausalLM),
           "sentence-mean": tiny("sentence-mean", AutoModel)}
    out["demo"], out["demo_chunks"] = demo()
    (HERE / "goldens.json").write_text(json.dumps(out, separators=(",", ":")).replace("},", "},\n") + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
