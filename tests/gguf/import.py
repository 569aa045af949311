#!/usr/bin/env python3
"""What tenon makes of sound GGUF files: metadata of the module, warnings, parts that are one model, weights in every
place that --weights knows.

    import.py TENON
"""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "hostile"))
from gguf_file import ARRAY, BOOL, F32, I32, STRING, TOKENS, U32, split, tiny_llama  # noqa: E402

FAILURES = []


def expect(ok, what, said=""):
    print(f"{'ok  ' if ok else 'FAIL'} {what}")
    if not ok:
        print(said)
        FAILURES.append(what)


def run(tenon, *args):
    p = subprocess.run([tenon, *args], capture_output=True, text=True, timeout=300, env=dict(os.environ, NO_COLOR="1"))
    return p.returncode, p.stdout, p.stderr


def save(path, g):
    with open(path, "wb") as f:
        f.write(g.bytes())
    return path


def random_llama(layers=1):
    """With weights that make every token's logits differ."""
    g, r = tiny_llama(layers), random.Random(1)
    for t in g.tensors:
        n = len(t[3]) // 4
        t[3] = struct.pack(f"<{n}f", *(1.0 if "norm" in t[0] else r.gauss(0, 1) for _ in range(n)))
    return g


def meta(tenon, path):
    status, out, err = run(tenon, "inspect", path)
    rows = [line.split(None, 2) for line in out.splitlines() if line.startswith("meta")]
    return {r[1]: r[2] if len(r) > 2 else "" for r in rows} if not status else err


def check_meta(tenon, tmp):
    g = random_llama()
    g.kv("tokenizer.chat_template", STRING, "{{ x }}")
    g.kv("tokenizer.ggml.tokens", ARRAY, (STRING, TOKENS[:3] + ["<|im_end|>"] + TOKENS[4:]))
    g.kv("tokenizer.ggml.token_type", ARRAY, (I32, [2, 3, 3, 3, 1, 1]))
    g.kv("llama.attention.head_count_kv", ARRAY, (I32, [1]))
    m = meta(tenon, save(os.path.join(tmp, "1-Tiny.Q8.gguf"), g))
    want = dict(source="1-Tiny.Q8", architecture="LlamaForCausalLM", model_type="llama", task="text-generation",
                tokenizer="gguf", max_positions="64", vocab="6", eos="2,3", bos="1", chat_template="{{ x }}")
    expect(isinstance(m, dict) and all(m.get(k) == v for k, v in want.items()) and "pad" not in m, "metadata", m)


def check_warnings(tenon, tmp):
    def said(change, *words):
        g = random_llama()
        change(g)
        status, _, err = run(tenon, "check", save(os.path.join(tmp, "m.gguf"), g))
        lines = [x for x in err.splitlines() if "warning:" in x]
        expect(status == 0 and len(lines) == len(words) and all(w in x for w, x in zip(words, lines)),
               f"warning {words or 'none'}", err)
    said(lambda g: None)
    said(lambda g: g.kv("general.anything", U32, 1))
    said(lambda g: g.kv("llama.rope.odd.key", F32, 1.0), "key 'llama.rope.odd.key'")
    said(lambda g: g.tensor("extra.weight", [4]), "1 tensor is not used: extra.weight")
    said(lambda g: g.kv("tokenizer.ggml.eos_token_id", U32, 99), "is none of the 6 tokens")


def generate(tenon, path):
    status, out, err = run(tenon, "run", path, "--ids", "1,3,4", "-n", "20", "--json")
    return json.loads(out)[0]["ids"] if not status else err


def check_places(tenon, tmp):
    whole = generate(tenon, save(os.path.join(tmp, "whole.gguf"), random_llama(2)))
    expect(isinstance(whole, list) and len(set(whole)) > 1, f"tokens {whole}")
    for i, part in enumerate(split(random_llama(2), 3)):
        save(os.path.join(tmp, f"p-{i + 1:05}-of-00003.gguf"), part)
    first = os.path.join(tmp, "p-00001-of-00003.gguf")
    expect(generate(tenon, first) == whole, "three parts")
    expect(meta(tenon, first)["source"] == "p", "name of the parts")
    for where in ("embed", "external", "inplace"):
        library = os.path.join(tmp, f"lib{where}.so")
        status, _, err = run(tenon, "compile", first, "-o", library, "--weights", where)
        expect(status == 0 and generate(tenon, library) == whole, f"--weights {where}", err)


def check_alignment(tenon, tmp):
    """Tensors at another alignment, and a file that is not called .gguf."""
    g = random_llama(2)
    g.alignment = 256
    g.kv("general.alignment", U32, 256)
    g.kv("general.flag", BOOL, 1)
    expect(generate(tenon, save(os.path.join(tmp, "model.bin"), g)) ==
           generate(tenon, os.path.join(tmp, "whole.gguf")), "alignment 256, another name")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tenon = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as tmp:
        check_meta(tenon, tmp)
        check_warnings(tenon, tmp)
        check_places(tenon, tmp)
        check_alignment(tenon, tmp)
    sys.exit(bool(FAILURES))


if __name__ == "__main__":
    main()
