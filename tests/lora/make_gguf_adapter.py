"""Writes a PEFT adapter of a Llama as a GGUF file: B's rows turned as those of the weight (tests/parity/make_gguf.py)."""
import json
import math
import os

import gguf
import numpy as np

import golden
import make_gguf


def convert(adapter, base, out):
    with open(os.path.join(adapter, "adapter_config.json")) as f:
        config = json.load(f)
    with open(os.path.join(base, "config.json")) as f:
        model = json.load(f)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model["num_hidden_layers"])
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_string(gguf.Keys.General.TYPE, "adapter")
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(config["lora_alpha"]))
    for key, w in golden.load(os.path.join(adapter, "adapter_model.safetensors")).items():
        module, which = key.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_", 1)
        rank = w.shape[0] if which == "A" else w.shape[1]
        if which == "B":  # GGUF has one alpha and no rslora: what differs goes into B
            alpha = next((v for k, v in config["alpha_pattern"].items() if module.endswith(k)), config["lora_alpha"])
            scale = alpha / math.sqrt(rank) if config["use_rslora"] else alpha / rank
            w = make_gguf.llama(model, module + ".", w) * np.float32(scale * rank / config["lora_alpha"])
        name = names.get_name(module + ".weight", try_suffixes=(".weight",))
        writer.add_tensor(f"{name}.lora_{which.lower()}", np.ascontiguousarray(w, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
