#!/usr/bin/env python3
"""Pairs that compute the same in another way: `tenon verify` must say that they are equal.

    equal.py TENON
"""
import sys
import tempfile

from models import MODELS, Checks, copy, np, save

try:
    import gguf
    import onnx
    import make_gguf
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e}") or 77)


def levels(t):
    t.equal("O0 on the judge, O3 on the CPU", f"{MODELS}/llama@O0,ref", f"{MODELS}/llama@O3,cpu")
    t.equal("the same, value by value", f"{MODELS}/qwen3@O0,ref", f"{MODELS}/qwen3@O3,cpu", "--per-node")
    t.equal("O1, O2", f"{MODELS}/gpt2@O1", f"{MODELS}/gpt2@O2")
    t.equal("one token at a time", f"{MODELS}/phi3@O0", f"{MODELS}/phi3@O3", "--prompt-tokens", "1")


def formats(t, work):
    for name in "llama", "gemma3", "bloom":
        make_gguf.convert(f"{MODELS}/{name}", f"{work}/{name}.gguf")
        t.equal(f"folder, GGUF: {name}", f"{MODELS}/{name}", f"{work}/{name}.gguf", "--per-node")
    for name in "bert-model", "bert-cls", "llama", "modernbert", "bert-qa":
        t.run("export", "onnx", f"{MODELS}/{name}", f"{work}/{name}.onnx")
        t.equal(f"folder, ONNX: {name}", f"{MODELS}/{name}", f"{work}/{name}.onnx", "--per-node")
    t.equal("GGUF, ONNX: llama", f"{work}/llama.gguf", f"{work}/llama.onnx")
    t.run("optimize", f"{work}/bert-cls.onnx", f"{work}/small.onnx", "-O3")
    t.equal("ONNX, ONNX optimized", f"{work}/bert-cls.onnx", f"{work}/small.onnx")


def libraries(t, work):
    t.run("compile", f"{MODELS}/roberta-mlm", "-o", f"{work}/libmlm.so")
    t.run("compile", f"{MODELS}/roberta-mlm", "-o", f"{work}/libref.so", "-O0")
    t.equal("folder, library", f"{MODELS}/roberta-mlm", f"{work}/libmlm.so")
    t.equal("library, library", f"{work}/libref.so", f"{work}/libmlm.so")


def stored(t, work):
    """Inputs and outputs in a file; and two files against each other."""
    ids = (np.arange(12, dtype=np.int32) * 7 % 250).reshape(2, 6)
    np.save(f"{work}/ids.npy", ids)
    t.run("run", f"{MODELS}/llama", "--entry", "logits", "--input", f"ids={work}/ids.npy", "--output-dir", work, "-O0", "--backend", "ref")
    save(f"{work}/said.safetensors", {"ids": ids, "logits": np.load(f"{work}/logits.npy")})
    t.equal("model, stored", f"{MODELS}/llama", f"{work}/said.safetensors")
    t.equal("stored, stored", f"{work}/said.safetensors", f"{work}/said.safetensors")
    t.equal("a folder in one file", f"{MODELS}/llama", copy("llama", f"{work}/copy"))
    t.equal("given inputs", f"{MODELS}/llama", f"{work}/copy@O0", "--entry", "logits", "--input", f"ids={work}/ids.npy")


def main(tenon):
    t = Checks(tenon)
    with tempfile.TemporaryDirectory() as work:
        levels(t)
        formats(t, work)
        libraries(t, work)
        stored(t, work)
    return t.end(18)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
