#!/usr/bin/env python3
"""Writes what llama.cpp says to the prompts of prompts.txt, for run_gguf.py. By hand, and slow.

    make_goldens.py MODEL.gguf OUT.safetensors

Needs the packages llama-cpp-python (0.3.36 made the files here), gguf (0.19) and safetensors. Two runs:

  exact    the same weights, rebuilt as float32 by the gguf package: llama.cpp then multiplies floats, as tenon does
  quick    the file as it is: llama.cpp rounds activations to 8 bits, which moves its logits by far more than all
           other differences together

I.tokens, I.gaps: 64 greedy tokens behind prompt I and by how much the likeliest was ahead. I.logits: behind the
prompt, every step-th of the vocabulary. Caches are float32. texts: ids of the lines of tests/tokenizer/texts.txt.
"""
import os
import sys
import tempfile

import gguf
import numpy as np
from llama_cpp import Llama
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENS, SAMPLES, F32 = 64, 2048, 0
LEFT_OUT = ("general.architecture", "general.file_type", "general.quantization_version")


def write_float(source, path):
    """The file with every tensor as float32."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in LEFT_OUT:
            continue
        array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(key, field.contents(), field.types[0], field.types[-1] if array else None)
    for t in reader.tensors:
        writer.add_tensor(t.name, gguf.dequantize(t.data, t.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def last(model):
    return np.array(model.scores[model.n_tokens - 1], np.float32)


def greedy(model, ids):
    """Logits behind the prompt, the tokens, their gaps."""
    model.reset()
    model.eval(ids)
    first = logits = last(model)
    tokens, gaps = [], []
    for _ in range(TOKENS):
        top = np.sort(np.partition(logits, -2)[-2:])
        tokens.append(int(logits.argmax()))
        gaps.append(float(top[1] - top[0]))
        model.eval(tokens[-1:])
        logits = last(model)
    return first, np.array(tokens, np.int32), np.array(gaps, np.float32)


def run(path, prompts, name, out):
    model = Llama(path, n_ctx=256, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False, type_k=F32,
                  type_v=F32)
    for i, prompt in enumerate(prompts):
        ids = model.tokenize(prompt.encode(), add_bos=True, special=True)
        logits, tokens, gaps = greedy(model, ids)
        out[f"{i}.ids"] = np.array(ids, np.int32)
        out[f"{name}.{i}.logits"] = logits[::len(logits) // SAMPLES].copy()
        out[f"{name}.{i}.tokens"], out[f"{name}.{i}.gaps"] = tokens, gaps
        print(name, i, model.detokenize(tokens[:12].tolist()))
    return model


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, out = sys.argv[1], {}
    with open(os.path.join(HERE, "prompts.txt"), encoding="utf-8") as f:
        prompts = f.read().splitlines()
    model = run(source, prompts, "quick", out)
    with open(os.path.join(HERE, "..", "tokenizer", "texts.txt"), encoding="utf-8") as f:
        texts = [model.tokenize(line.rstrip("\n").encode(), add_bos=True, special=True) for line in f]
    out["texts"] = np.array([i for ids in texts for i in ids], np.int32)
    out["text.lengths"] = np.array([len(ids) for ids in texts], np.int32)
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "float.gguf")
        write_float(source, path)
        run(path, prompts, "exact", out)
    save_file(out, sys.argv[2])


if __name__ == "__main__":
    main()
