#!/usr/bin/env python3
"""Makes the adapters of this folder and what peft and transformers compute with them.

    make_lora.py        (torch 2.13, transformers 5.23, peft 0.21, safetensors)

data/NAME: a PEFT adapter for a tiny folder of tests/parity. goldens.safetensors: ids, and per case of run_lora.py
the logits; sums of several adapters come from merging each alone and adding the weighted differences.
"""
import os
import re
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from cases import CASES

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "parity", "models")
IDS = torch.arange(5, 25)[None]
ADAPTERS = {  # base, rank, alpha, modules, more
    "attention": ("llama", 4, 8, ["q_proj", "v_proj"], {}),
    "mlp": ("llama", 8, 4, ["gate_proj", "down_proj", "k_proj"],
            {"use_rslora": True, "alpha_pattern": {"k_proj": 12}}),
    "gpt2": ("gpt2", 4, 6, ["c_attn", "c_proj"], {"fan_in_fan_out": True}),
}

def base(name):
    model = AutoModelForCausalLM.from_pretrained(os.path.join(MODELS, name), dtype=torch.float32)
    return model.eval()


def make_adapter(name, model, rank, alpha, modules, more):
    folder = os.path.join(HERE, "data", name)
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(len(name))
    tuned = get_peft_model(base(model), LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules,
                                                   init_lora_weights=False, **more))
    for key, p in tuned.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(p, std=0.2)
    tuned.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    config = os.path.join(folder, "adapter_config.json")
    with open(config) as f:
        text = f.read()
    with open(config, "w") as f:
        f.write(re.sub(r'"base_model_name_or_path": ".*?"', f'"base_model_name_or_path": "{model}"', text) + "\n")


def logits(model_name, weights):
    model = base(model_name)
    state = {k: v.double() for k, v in model.state_dict().items()}
    total = {k: v.clone() for k, v in state.items()}
    for adapter, weight in weights.items():
        merged = PeftModel.from_pretrained(base(model_name).double(), os.path.join(HERE, "data", adapter))
        for k, v in merged.merge_and_unload().state_dict().items():
            total[k] += weight * (v - state[k])
    model = model.double()
    model.load_state_dict(total)
    return model(IDS).logits.detach().float()


if __name__ == "__main__":
    for name, row in ADAPTERS.items():
        make_adapter(name, *row)
    out = {case: logits(model, weights).contiguous() for case, (model, weights) in CASES.items()}
    out["ids"] = IDS.int()
    save_file(out, os.path.join(HERE, "goldens.safetensors"))
