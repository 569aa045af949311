#!/usr/bin/env python3
"""Real models from one format to the other: MiniLM as a GGUF file and back as a folder, SmolLM2 135M from GGUF.

    run_real.py TENON MINILM_FOLDER LLM_FOLDER

tenon runs what it wrote: embeddings of sentences and scores of texts must be those of the original. Where llama.cpp and
transformers are there, they read the files as well: llama.cpp's embeddings have a cosine of 0.9999 to the folder's where
it makes the same tokens (it has its own way with Hangul and Devanagari), AutoTokenizer and AutoModelForCausalLM give
llama.cpp's ids and, but for its 8-bit activations, its scores.
"""
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = os.path.join(os.path.dirname(HERE), "parity")
sys.path.insert(0, PARITY)
import golden
import numpy as np

SMOLLM = "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = "The quick brown fox jumps over the lazy dog. In 1969 two men walked on the moon"
failures = 0


def line(what, ok, text=""):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {what:44} {text}", flush=True)


def tenon(*args):
    rc, out, err = golden.run(sys.argv[1], list(args))
    if rc:
        raise RuntimeError(f"{args[0]}: {err.strip()}")
    return out


def embeddings(model, texts):
    args = [x for t in texts for x in ("--text", t)]
    rows = json.loads(tenon("run", model, "--json", *args))
    return np.array([r["values"] for r in rows])


def minilm(folder, tmp):
    texts = [t.strip() for t in open(os.path.join(PARITY, "minilm_sentences.txt")) if t.strip()][:16]
    gguf, back = os.path.join(tmp, "minilm.gguf"), os.path.join(tmp, "minilm")
    tenon("export", "gguf", folder, gguf)
    tenon("export", "safetensors", gguf, back)
    a = embeddings(folder, texts)
    for what, model in (("as GGUF", gguf), ("and back", back)):
        d = np.abs(embeddings(model, texts) - a).max()
        line(f"MiniLM {what}", d <= 1e-5, f"max abs {d:.1e}")
    try:
        import llama_cpp
    except ImportError:
        return
    model = llama_cpp.Llama(gguf, embedding=True, verbose=False, n_ctx=512, n_threads=2)
    cosines, other = [], 0
    for t, x in zip(texts, a):
        y = np.array(model.embed(t, normalize=True))
        c = float(x @ y / np.linalg.norm(x))
        other += c < 0.999
        cosines.append(c)
    line("MiniLM in llama.cpp", other <= 3 and sorted(cosines)[other] >= 0.9999,
         f"cosine {sorted(cosines)[other]:.6f}, other tokens in {other} of {len(texts)}")


def smollm(gguf, tmp):
    folder = os.path.join(tmp, "smollm")
    tenon("export", "safetensors", gguf, folder, "--outtype", "f32")
    ids = "--ids", ",".join(map(str, [1, 504, 2365, 6354, 16438, 27003, 690, 260, 23790, 2767, 30]))
    a, b = (json.loads(tenon("run", m, "--task", "text-generation", *ids, "-n", "24", "--json"))[0]["ids"] for m in (gguf, folder))
    line("SmolLM2 as a folder: 24 greedy tokens", a == b, f"{sum(x == y for x, y in zip(a, b))} equal")
    try:
        import llama_cpp
        import torch
        import transformers
    except ImportError:
        return
    transformers.logging.set_verbosity_error()
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    theirs = llama_cpp.Llama(gguf, n_ctx=256, logits_all=True, verbose=False, n_threads=2)
    want = theirs.tokenize(TEXT.encode(), add_bos=True, special=True)
    line("SmolLM2: AutoTokenizer", tok(TEXT)["input_ids"] == want, f"{len(want)} ids")
    theirs.eval(want)
    x = np.array(theirs.scores[:len(want)])
    with torch.no_grad():
        y = model(torch.tensor([want])).logits[0].numpy()
    nmse = float(((x - y) ** 2).sum() / (y**2).sum())
    keys = [k for k, v in info.items() if v]
    line("SmolLM2: AutoModelForCausalLM", nmse <= 1e-2 and not keys and (x.argmax(-1) == y.argmax(-1)).mean() > 0.9,
         f"NMSE {nmse:.1e} {keys}")


def main():
    _, _, mini, llm = sys.argv
    gguf = os.path.join(llm, SMOLLM)
    have = os.path.exists(os.path.join(mini, "config.json")), os.path.exists(gguf)
    if not any(have):
        sys.exit(print("SKIPPED: neither MiniLM nor SmolLM2 is there") or 77)
    with tempfile.TemporaryDirectory() as tmp:
        if have[0]:
            minilm(mini, tmp)
        if have[1]:
            smollm(gguf, tmp)
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
